"""How one finding looks: an ellipse with a lobed, soft margin, bright or dark against the tissue around it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

#: Edge softness in mm, by default.
MARGIN = 1.1


@dataclass(frozen=True)
class Look:
    """The fixed looks of one finding; only its longest diameter changes over time.

    Attributes:
        centre: in mm, (x, y, z).
        aspect: shortest over longest axis.
        angle: of the longest axis, in radians.
        lobes: relative amplitude of a three-lobed margin.
        phase: of the lobes, in radians.
        contrast: added intensity in each channel; in MRI (T1, FLAIR), before the bias field.
        harmonics: amplitude and phase of further lobes of the margin, four and more.
        margin: edge softness in mm: the width over which the margin fades.
    """

    centre: tuple[float, float, float]
    aspect: float
    angle: float
    lobes: float
    phase: float
    contrast: tuple[float, ...]
    harmonics: tuple[tuple[float, float], ...] = ()
    margin: float = MARGIN


def _outline(look: Look, angle: NDArray) -> NDArray:
    """Radius of the outline at ``angle`` (measured from the longest axis), for unit half length."""
    ellipse = look.aspect / np.sqrt((look.aspect * np.cos(angle)) ** 2 + np.sin(angle) ** 2)
    lobes = 1.0 + look.lobes * np.cos(3 * angle + look.phase)
    for count, (amplitude, phase) in enumerate(look.harmonics, start=4):
        lobes = lobes + amplitude * np.cos(count * angle + phase)
    return ellipse * lobes


@lru_cache(maxsize=256)
def longest_chord(look: Look) -> float:
    """The longest chord through the centre of the outline with unit half length; 2 for a plain ellipse."""
    angle = np.linspace(0, np.pi, 181)
    return float((_outline(look, angle) + _outline(look, angle + np.pi)).max())


def coverage(
    look: Look, diameter: float, points: list[NDArray[np.float64]], aspect_factor: float = 1.0
) -> NDArray[np.float64]:
    """How much of each pixel the finding covers.

    Args:
        look: its fixed looks.
        diameter: the longest diameter in mm; 0 for absent.
        points: coordinates in mm, (x, y) or (x, y, z).
        aspect_factor: multiplies the aspect; used for the sensitivity to shape.

    Returns:
        Values in 0…1 with the shape of the coordinates.
    """
    if diameter <= 0:
        return np.zeros(points[0].shape)
    if aspect_factor != 1.0:
        look = replace(look, aspect=look.aspect * aspect_factor)
    dx, dy = points[0] - look.centre[0], points[1] - look.centre[1]
    in_plane = np.hypot(dx, dy)
    outline = _outline(look, np.arctan2(dy, dx) - look.angle) * diameter / longest_chord(look)
    if len(points) == 3:
        # Out of plane the finding is a spheroid: the outline shrinks towards its poles.
        half = 0.5 * diameter * look.aspect
        height = (points[2] - look.centre[2]) / half
        outline = outline * np.sqrt(np.clip(1 - height**2, 0.0, None))
        # Beyond the poles the margin fades as it does around them.
        in_plane = np.hypot(in_plane, half * np.clip(np.abs(height) - 1, 0.0, None))
    return 1.0 / (1.0 + np.exp(np.clip((in_plane - outline) / (look.margin / 2), -40, 40)))


def sensitivities(
    look: Look, diameter: float, points: list[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Coverage, and its derivatives by ln(diameter) and by ln(aspect); each with the shape of the coordinates."""
    step = 0.02
    base = coverage(look, diameter, points)
    size = (coverage(look, diameter * np.exp(step), points) - coverage(look, diameter * np.exp(-step), points)) / (
        2 * step
    )
    shape = (coverage(look, diameter, points, 1 + step) - coverage(look, diameter, points, 1 - step)) / (2 * step)
    return base, size, shape


def log_diameter_error(
    look: Look, diameter: float, points: list[NDArray[np.float64]], noise: tuple[float, ...]
) -> float:
    """The least standard error of ln(diameter) that the image noise allows (Cramér-Rao bound).

    The reader is taken to know the anatomy and the place of the finding, and to estimate from the pixels its
    diameter, its aspect, and in each channel its contrast and the level of the background. Noise is independent and
    Gaussian per pixel (the high-intensity limit of the Rician law).

    Args:
        look: the finding's fixed looks.
        diameter: in mm, > 0.
        points: pixel coordinates in mm around the finding.
        noise: standard deviation of the noise per channel, in the units of the contrast.

    Returns:
        The standard error of ln(diameter), dimensionless.
    """
    base, size, shape = (part.ravel() for part in sensitivities(look, diameter, points))
    channels = len(look.contrast)
    jacobian = np.zeros((channels, base.size, 2 + 2 * channels))
    for channel, (contrast, sigma) in enumerate(zip(look.contrast, noise, strict=True)):
        jacobian[channel, :, 0] = contrast * size / sigma
        jacobian[channel, :, 1] = contrast * shape / sigma
        jacobian[channel, :, 2 + channel] = base / sigma
        jacobian[channel, :, 2 + channels + channel] = 1.0 / sigma
    flat = jacobian.reshape(-1, jacobian.shape[-1])
    information = flat.T @ flat
    return float(np.sqrt(np.linalg.pinv(information, hermitian=True)[0, 0]))
