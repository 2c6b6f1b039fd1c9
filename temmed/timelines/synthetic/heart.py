"""A beating heart in the apical four-chamber view, as a phased array shows it.

Coordinates are in millimetres from the probe: x to the image's right, where the left ventricle lies by convention, and
depth downwards. Echoes are a random field of scatterers, blurred by the beam and log-compressed: fully developed
speckle whose grains widen with depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from temmed.timelines.synthetic.shapes import Points, ellipse, over, step, tube

#: Side of the square image in mm, and the depth that the sector reaches.
FIELD_OF_VIEW, DEPTH = 170.0, 160.0
#: Half of the sector's angle, in radians.
HALF_ANGLE = np.deg2rad(42.0)
_RANGES, _BEAMS = 200, 112
#: Echo of each tissue in dB.
BLOOD, CONTRAST, MUSCLE, PERICARDIUM, VALVE, SURROUNDINGS = -48.0, -7.0, -20.0, -3.0, -9.0, -33.0
DYNAMIC_RANGE = 56.0


@dataclass(frozen=True)
class Heart:
    """The shape of one heart.

    Attributes:
        length: of the left ventricle at end-diastole in mm.
        wall: thickness of its wall at end-diastole in mm.
        tilt: of its axis, in radians.
        apex: depth of the apex in mm.
        right: width of the right ventricle in mm.
        atrium: half width of the left atrium in mm.
    """

    length: float
    wall: float
    tilt: float
    apex: float
    right: float
    atrium: float


def draw_heart(rng: np.random.Generator) -> Heart:
    """Draw a heart."""
    return Heart(*rng.normal((82.0, 9.5, 0.06, 24.0, 30.0, 19.0), (4.0, 0.8, 0.05, 2.5, 3.0, 2.0)).tolist())


@lru_cache(maxsize=1)
def beams() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """X and depth in mm of the samples along each beam, ``(ranges, beams)``."""
    radius = np.linspace(1.0, DEPTH, _RANGES)[:, None]
    angle = np.linspace(-HALF_ANGLE, HALF_ANGLE, _BEAMS)[None, :]
    return radius * np.sin(angle), radius * np.cos(angle)


def echoes(
    heart: Heart, diameter: float, relaxed: float, level: float, right_level: float = 0.0
) -> NDArray[np.float64]:
    """Mean echo in dB at every sample of every beam.

    Args:
        heart: the shape.
        diameter: short diameter of the left ventricle's cavity in mm.
        relaxed: that diameter at end-diastole.
        level: contrast in the left ventricle and atrium, 0 to 1.
        right_level: contrast in the right ventricle and atrium.
    """
    x, depth = beams()
    turned = np.cos(heart.tilt) * (x - 14) - np.sin(heart.tilt) * (depth - heart.apex)
    below = np.sin(heart.tilt) * (x - 14) + np.cos(heart.tilt) * (depth - heart.apex)
    at: Points = [turned, below]
    squeeze = diameter / relaxed
    length = ventricle_length(heart, squeeze)
    base = length  # depth of the valves below the apex
    # Muscle keeps its volume: the wall thickens as the cavity narrows.
    wall = heart.wall * (1 + 0.9 * (1 - squeeze))
    echo = np.full(x.shape, SURROUNDINGS)
    outer = _cavity(at, diameter / 2 + wall, length + wall * 0.8, -wall * 0.8)
    right = ellipse(at, (-diameter / 2 - wall - heart.right / 2 + 3, base * 0.60), (heart.right / 2, base * 0.42), 3.0)
    right_wall = ellipse(
        at, (-diameter / 2 - wall - heart.right / 2 + 3, base * 0.60), (heart.right / 2 + 5, base * 0.42 + 5), 3.0
    )
    left_atrium = ellipse(at, (2, base + 26), (heart.atrium * (1 + 0.35 * (1 - squeeze)), 24), 3.0)
    right_atrium = ellipse(at, (-diameter / 2 - wall - 16, base + 24), (18 * (1 + 0.25 * (1 - squeeze)), 22), 3.0)
    over(echo, ellipse(at, (-16, base + 24), (50, 32), 4.0), MUSCLE - 4)
    over(echo, right_wall, MUSCLE)
    over(echo, outer, MUSCLE)
    rim = np.clip(_cavity(at, diameter / 2 + wall + 3, length + wall, -wall - 2.5) - outer, 0, 1) * step(-turned, 8.0)
    over(echo, rim * step(below - base - 10, 8.0), PERICARDIUM)
    blood, venous = (BLOOD + share * (CONTRAST - BLOOD) for share in (level, right_level))
    over(echo, right, venous)
    over(echo, left_atrium, blood)
    over(echo, right_atrium, venous)
    over(echo, _cavity(at, diameter / 2, length, 0.0), blood)
    opened = np.clip((squeeze - 0.8) / 0.2, 0, 1) * 0.9
    half = diameter * 0.42
    for side in (-1.0, 1.0):  # leaflets of the mitral valve
        tip = (side * half * (1 - 0.9 * (1 - opened)), base - 16 * opened - 3)
        over(echo, tube(at, (side * half, base), tip, (1.4, 1.0), 1.5), VALVE)
    over(
        echo,
        tube(at, (-diameter / 2 - wall, base - 4), (-diameter / 2 - wall - 26, base - 7), (1.4, 1.0), 1.5),
        VALVE - 3,
    )
    return echo - 0.04 * depth


def ventricle_length(heart: Heart, squeeze: float) -> float:
    """Length of the cavity in mm: it shortens less than the diameter does."""
    return heart.length * (1 - 0.45 * (1 - squeeze))


def _cavity(at: Points, half: float, length: float, top: float) -> NDArray[np.float64]:
    """A bullet: half an ellipse at the apex, and sides that run in a little towards the valves."""
    across, along = at[0], at[1] - top
    u = along / max(length, 1e-6)
    width = (
        half
        * np.sqrt(np.clip(1 - np.clip(1 - u / 0.62, 0, 1) ** 2, 0, 1))
        * (1 - 0.16 * np.clip(u - 0.62, 0, 1) ** 2 / 0.14)
    )
    return step(np.abs(across) - width, 2.0) * step(-along, 2.0) * step(along - length, 2.0)


class Speckle:
    """Scatterers of one loop: those of tissue stay with it, those of blood change from frame to frame.

    Args:
        rng: the generator.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.tissue = self._scatterers()

    def _scatterers(self) -> NDArray[np.complex128]:
        return self.rng.standard_normal((_RANGES, _BEAMS)) + 1j * self.rng.standard_normal((_RANGES, _BEAMS))

    def image(self, echo: NDArray[np.float64], squeeze: float, gain: float) -> NDArray[np.float64]:
        """One frame before scan conversion, 0 to 1, ``(ranges, beams)``.

        Args:
            echo: mean echo in dB.
            squeeze: diameter over that at end-diastole; tissue moves towards the probe as it contracts.
            gain: in dB.
        """
        rows = np.arange(_RANGES) * (1 + 0.12 * (1 - squeeze))
        moved = self.tissue[rows.astype(int) % _RANGES]
        steady = 1 / (1 + np.exp(-(echo + 35) / 2))  # of tissue, but not of blood
        field = np.sqrt(steady) * moved + np.sqrt(1 - steady) * self._scatterers()
        field = field * 10 ** (echo / 20)
        lateral = 1.1
        blurred = ndimage.gaussian_filter(field.real, (1.0, lateral)) + 1j * ndimage.gaussian_filter(
            field.imag, (1.0, lateral)
        )
        noise = 10 ** (-57 / 20) * self._scatterers() * np.linspace(0.5, 2.2, _RANGES)[:, None]
        level = 20 * np.log10(np.abs(blurred + noise) + 1e-6) + gain
        clutter = 9 * np.exp(-np.linspace(0, DEPTH, _RANGES) / 9)[:, None]
        return np.clip((level + clutter + DYNAMIC_RANGE) / DYNAMIC_RANGE, 0, 1)


@lru_cache(maxsize=4)
def _conversion(size: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Where each pixel lies among ranges and beams, and whether it is inside the sector."""
    spacing = FIELD_OF_VIEW / size
    line = (np.arange(size) + 0.5) * spacing
    depth, x = np.meshgrid(line - 4.0, line - FIELD_OF_VIEW / 2, indexing="ij")
    radius, angle = np.hypot(x, depth), np.arctan2(x, depth)
    places = np.stack([(radius - 1) / (DEPTH - 1) * (_RANGES - 1), (angle / HALF_ANGLE + 1) / 2 * (_BEAMS - 1)])
    inside = (radius <= DEPTH) & (np.abs(angle) <= HALF_ANGLE) & (radius >= 1)
    return places, inside


def scan_convert(polar: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
    """The sector as a picture of ``size`` pixels along each side, black around it."""
    places, inside = _conversion(size)
    factor = 2 if size < 128 else 1  # several samples fall into a large pixel: average them
    picture = ndimage.map_coordinates(ndimage.uniform_filter(polar, factor), places, order=1, mode="nearest")
    return np.where(inside, np.rint(255 * picture), 0).astype(np.uint8)
