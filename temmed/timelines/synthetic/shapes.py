"""Soft-edged shapes that anatomy is drawn from; coordinates and lengths in mm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Points = Sequence[NDArray[np.float64]]


def step(distance: NDArray[np.float64], soft: float) -> NDArray[np.float64]:
    """1 where the signed distance is well below 0, 0 well above; ``soft`` is the width of the edge."""
    return 0.5 - 0.5 * np.tanh(distance / (0.5 * soft))


def ellipse(
    points: Points, centre: Sequence[float], axes: Sequence[float], soft: float, angle: float = 0.0, power: float = 2.0
) -> NDArray[np.float64]:
    """How much of each pixel an ellipse (ellipsoid) covers.

    Args:
        points: coordinates; as many are used as ``axes`` has.
        centre: of the shape.
        axes: half axes.
        soft: width of the edge.
        angle: of the first axis in the plane of the first two coordinates, in radians.
        power: 2 for an ellipse, more for rounder corners.
    """
    x, y = points[0] - centre[0], points[1] - centre[1]
    cosine, sine = np.cos(angle), np.sin(angle)
    parts = [cosine * x + sine * y, cosine * y - sine * x]
    if len(axes) == 3:
        parts.append(points[2] - centre[2])
    shares = [part / axis for part, axis in zip(parts, axes, strict=True)]
    if power == 2:
        radius = np.sqrt(sum(share * share for share in shares))
    else:
        radius = sum(np.abs(share) ** power for share in shares) ** (1 / power)
    return step((radius - 1) * min(axes[:2]), soft)


def tube(
    points: Points, start: Sequence[float], end: Sequence[float], radii: tuple[float, float], soft: float
) -> NDArray[np.float64]:
    """How much of each pixel a straight tube covers, whose radius changes from its start to its end.

    A tube thinner than its edge fades instead of vanishing, as thin structures do in large pixels.
    """
    first, last = np.asarray(start, dtype=float), np.asarray(end, dtype=float)
    direction, reach = last - first, max(radii) + 3 * soft
    cover = np.zeros(points[0].shape)
    # Most of an image is far from a thin tube.
    ends = zip(points, np.minimum(first, last) - reach, np.maximum(first, last) + reach, strict=False)
    near = np.nonzero(np.logical_and.reduce([(low < p) & (p < high) for p, low, high in ends]))
    offset = [p[near] - o for p, o in zip(points, first, strict=False)]
    along = sum(o * d for o, d in zip(offset, direction, strict=False)) / max(float(direction @ direction), 1e-9)
    along = np.clip(along, 0, 1)
    distance = np.sqrt(sum((o - along * d) ** 2 for o, d in zip(offset, direction, strict=False)))
    radius = radii[0] + along * (radii[1] - radii[0])
    cover[near] = step(distance - radius, soft) * np.minimum(1.0, 2 * radius / soft)
    return cover


def over(below: NDArray[np.float64], cover: NDArray[np.float64], value: float | NDArray[np.float64]) -> None:
    """Put ``value`` over an image where ``cover`` is 1, mixed where it is less."""
    below += cover * (value - below)


def smooth_noise(rng: np.random.Generator, points: Points, length: float, waves: int = 12) -> NDArray[np.float64]:
    """A smooth random field of about unit variance whose structures are ``length`` mm wide.

    A sum of plane waves: the same tissue whatever the pixels, and it moves with the coordinates.
    """
    directions = rng.normal(0, 2 * np.pi / (3 * length), (waves, len(points)))
    phases = rng.uniform(0, 2 * np.pi, waves)
    field = sum(
        np.cos(sum(k * p for k, p in zip(wave, points, strict=True)) + phase)
        for wave, phase in zip(directions, phases, strict=True)
    )
    return np.asarray(field * np.sqrt(2 / waves))
