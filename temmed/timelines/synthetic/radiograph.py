"""A parametric chest radiograph, frontal or lateral, in optical density: the more is absorbed, the brighter.

Coordinates are in millimetres, origin in the middle of the film. Frontal: x to the image's right (the patient's left),
y up. Lateral: x to the image's right (the patient's front), y up. Values add up along the ray, as attenuation does; 1
is about what the middle of the chest absorbs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from temmed.timelines.synthetic.shapes import Points, ellipse, smooth_noise, step, tube

#: Side of the square film in mm.
FIELD_OF_VIEW = 380.0
VIEWS = ("frontal", "lateral")
#: Mean height of the left diaphragm in mm.
_BASE = -98.0
#: Normal transverse diameter of the heart in mm; from 140 on it is enlarged.
NORMAL_HEART = (112.0, 126.0)

#: Centre of each location in mm on the frontal film, and its x on the lateral one in place of z.
PLACES: dict[str, tuple[float, float, float]] = {
    "right upper zone": (-62.0, 84.0, 0.0),
    "left upper zone": (62.0, 84.0, 5.0),
    "right mid zone": (-82.0, 24.0, -25.0),
    "left mid zone": (88.0, 24.0, -30.0),
    "right lower zone": (-78.0, -34.0, -40.0),
    "right pleural space": (-105.0, -86.0, -60.0),
    "left pleural space": (108.0, -92.0, -60.0),
    "right apex": (-62.0, 128.0, 0.0),
    "left apex": (62.0, 128.0, 0.0),
    "mediastinum": (12.0, -45.0, 30.0),
}
ZONES = tuple(place for place in PLACES if place.endswith("zone"))
PLEURA = tuple(place for place in PLACES if place.endswith("space"))
APICES = tuple(place for place in PLACES if place.endswith("apex"))


@dataclass(frozen=True)
class Thorax:
    """The shape of one patient's chest as it is projected.

    Attributes:
        width: half width of the thoracic cage in mm.
        height: of the lungs above the diaphragm in mm.
        heart: normal transverse diameter of the heart in mm.
        soft_tissue: thickness of the chest wall, relative.
        ribs: (y where it leaves the spine, slope, thickness) of each posterior rib.
        vessels: tubes of the frontal view: start, end, radii.
        texture: seed of the fine structure.
    """

    width: float
    height: float
    heart: float
    soft_tissue: float
    ribs: tuple[tuple[float, float, float], ...]
    vessels: tuple[tuple[tuple[float, float], tuple[float, float], tuple[float, float]], ...]
    texture: int


def draw_thorax(rng: np.random.Generator, age: float) -> Thorax:
    """Draw a chest; the heart widens a little with age (years), within the normal range."""
    width = float(rng.normal(138, 5))
    ribs = tuple(
        tuple((rng.normal((138 - 25.5 * k, 0.20 + 0.045 * k, 4.5), (1.5, 0.02, 0.3))).tolist()) for k in range(10)
    )
    vessels = []
    for side, root in ((-1.0, (-26.0, 6.0)), (1.0, (32.0, 16.0))):
        for angle in np.linspace(-1.4, 1.3, 12) + rng.normal(0, 0.1, 12):
            (x, y), heading, radius = root + rng.normal(0, (4.0, 9.0)), float(angle), float(rng.uniform(2.6, 4.6))
            for _ in range(5):
                length = float(rng.uniform(12, 22))
                heading += float(rng.normal(0, 0.25))
                end = (x + side * float(np.cos(heading)) * length, y + float(np.sin(heading)) * length)
                vessels.append(((float(x), float(y)), end, (radius, radius * 0.75)))
                (x, y), radius = end, radius * 0.75
    return Thorax(
        width=width,
        height=float(rng.normal(225, 8)),
        heart=float(np.clip(rng.normal(117 + 0.06 * (age - 50), 3), *NORMAL_HEART)),
        soft_tissue=float(np.clip(rng.normal(1.0, 0.15), 0.7, 1.4)),
        ribs=ribs,
        vessels=tuple(vessels),
        texture=int(rng.integers(2**31)),
    )


def diaphragm(x: NDArray[np.float64], side: float, base: float) -> NDArray[np.float64]:
    """Height of one dome of the frontal view; the right one is the higher."""
    beyond = side * x - 62.0  # towards the wall from the top of the dome
    lift = 6.0 if side < 0 else 0.0
    return base + lift + 34.0 * (1 - (beyond / np.where(beyond > 0, 70.0, 150.0)) ** 2)


def lungs(at: Points, thorax: Thorax, base: float, soft: float) -> dict[float, NDArray[np.float64]]:
    """Cover of the air of the right (−1) and the left (1) lung on the frontal view."""
    x, y = at[0], at[1]
    top = thorax.height + _BASE
    found = {}
    for side in (-1.0, 1.0):
        level = np.clip((top - y) / thorax.height, 1e-3, None)
        outer = (thorax.width - 10) * np.minimum(1.0, 1.06 * level**0.25) * (1 + 0.03 * np.clip(level, 0, 1.4))
        lateral = step(side * x - outer, soft) * step(-side * x, soft)
        found[side] = lateral * step(y - top, soft) * step(diaphragm(x, side, base) - y, soft)
    return found


def markings(thorax: Thorax, at: Points, soft: float) -> NDArray[np.float64]:
    """What the lungs' vessels and fine structure add to the frontal view, where there is lung."""
    vessels = sum(tube(at, *vessel, soft) * 0.036 * vessel[2][0] for vessel in thorax.vessels)
    texture = smooth_noise(np.random.default_rng(thorax.texture), at, 9.0, 24)
    return np.minimum(vessels, 0.24) + 0.014 * texture


def _body(thorax: Thorax, at: Points) -> NDArray[np.float64]:
    """Cover of the frontal silhouette: the chest, which widens to the arms above the armpits, shoulders and neck."""
    x, y = np.abs(at[0]), at[1]
    wide = thorax.width + 17 - 0.08 * np.clip(y, -200, 30) + 70 * np.clip((y - 30) / 60, 0, None) ** 2
    aside = np.clip(x - 44, 0, None)
    return step(x - wide, 8.0) * step(y - 166 + 0.0022 * aside**1.9 - 40 * np.exp(-aside / 9), 6.0)


def render_frontal(thorax: Thorax, at: Points, base: float, heart: float, soft: float) -> NDArray[np.float64]:
    """Optical density of the frontal view without findings but the size of the heart.

    Args:
        thorax: the shape.
        at: coordinates in mm, in the patient's frame.
        base: height of the left diaphragm in mm.
        heart: transverse diameter of the heart in mm.
        soft: width of edges in mm.
    """
    x, y = at[0], at[1]
    body = _body(thorax, at)
    film = (0.62 + 0.10 * thorax.soft_tissue) * body * (1 - 0.28 * (np.abs(x) / 190) ** 3)
    bones = _bones(thorax, at, base, soft, body)
    air = lungs(at, thorax, base, soft)
    for side, cover in air.items():
        # Lungs hold most air in the middle and behind; towards the wall more tissue is in the way.
        depth = 1 - 0.22 * ((np.abs(x) - 66) / 66) ** 2
        film -= cover * 0.50 * np.clip(depth, 0.4, 1)
        below = step(y - diaphragm(x, side, base), soft) * step(-side * x, 12.0)
        film += (0.16 if side < 0 else 0.13) * below * step(side * x - thorax.width - 6, 8.0) * body
        bones *= 1 - 0.6 * below
    film -= 0.16 * ellipse(at, (60, base + 12), (20, 9), 6.0, angle=-0.15)  # gas of the stomach
    both = air[-1.0] + air[1.0]
    # The mediastinum takes the place of lung.
    middle = _mediastinum(at, heart, base, soft)
    film += both * markings(thorax, at, soft) * np.clip(1 - middle / 0.4, 0.1, 1)
    return film + middle * np.clip(both, 0.12, 1) + bones


def _mediastinum(at: Points, heart: float, base: float, soft: float) -> NDArray[np.float64]:
    x, y = at[0], at[1]
    # A third of the heart lies to the right of the midline. Its long axis is tilted, which the half axis makes up for.
    tilt, tall = -0.22, 50.0
    half = np.sqrt((heart / 2) ** 2 - (tall * np.sin(tilt)) ** 2) / np.cos(tilt)
    shadow = ellipse(at, (0.16 * heart, base + 52), (half, tall), 2.0 * soft, angle=tilt)
    shadow = np.maximum(shadow, ellipse(at, (-0.16 * heart, base + 50), (0.18 * heart, 42), 2.0 * soft))
    shadow = np.maximum(shadow, ellipse(at, (0.33 * heart, base + 38), (0.32 * heart, 30), 2.0 * soft))  # apex
    upper = step(np.abs(x + 2) - 25 + 0.05 * y, 2 * soft) * step(base + 40 - y, 20.0) * step(y - 150, 10.0)
    knob = ellipse(at, (21, 66), (19, 20), 2.0 * soft)
    trunk = ellipse(at, (26, 34), (20, 24), 2.5 * soft)
    hila = ellipse(at, (-34, 10), (13, 22), 14.0) + ellipse(at, (38, 20), (12, 19), 14.0)
    soft_parts = np.maximum.reduce([0.46 * shadow, 0.40 * upper, 0.41 * knob, 0.38 * trunk])
    airways = np.maximum.reduce(
        [
            0.13 * tube(at, (-1, 190), (1, 58), (8.5, 8), soft),
            0.09 * tube(at, (1, 58), (-30, 28), (6.5, 5), soft),
            0.09 * tube(at, (1, 58), (34, 34), (6, 4.5), soft),
        ]
    )
    return soft_parts + 0.10 * hila - airways


def _bones(thorax: Thorax, at: Points, base: float, soft: float, body: NDArray) -> NDArray[np.float64]:
    x, y = at[0], at[1]
    bones = np.zeros_like(x)
    for start, slope, thick in thorax.ribs:
        reach = thorax.width + 4
        for side in (-1.0, 1.0):
            u = np.clip(side * x / reach, 0, 1.0)
            inside = step(side * x - reach, soft) * step(6 - side * x, soft)
            # A rib rises a little from the spine and then falls to the side; its lower edge is the denser one.
            path = start + 10 * np.sin(np.pi * u * 0.8) - slope * 95 * u**2.2
            off = y - path
            bones += inside * (0.075 * step(np.abs(off) - thick, soft) + 0.06 * step(np.abs(off + thick) - 1.0, soft))
            front = start - 62 + 58 * u**1.3  # the anterior part, fainter, crossing the other way
            bones += 0.035 * step(np.abs(y - front) - 5.5, 2 * soft) * step(36 - side * x, 8.0) * inside
    for side in (-1.0, 1.0):
        bones += 0.20 * tube(at, (side * 16, 116), (side * 70, 130), (6.0, 5.0), soft)
        bones += 0.20 * tube(at, (side * 70, 130), (side * 138, 142), (5.0, 6.0), soft)
        edge = tube(at, (side * 132, 118), (side * 146, 28), (3.0, 2.0), soft)  # of the shoulder blade
        bones += 0.06 * edge + 0.05 * ellipse(at, (side * 156, 84), (18, 52), 8.0, angle=side * 0.15)
        bones += 0.20 * ellipse(at, (side * 168, 126), (18, 19), 4.0)  # head of the humerus
        bones += 0.16 * tube(at, (side * 178, 118), (side * 205, 40), (11, 11), soft)
    spine = step(np.abs(x) - 15, soft)
    discs = 0.5 + 0.5 * np.tanh(4 * np.cos(2 * np.pi * (y + 8) / 26.0) + 3.0)
    bones += spine * (0.03 + 0.04 * discs)
    for level in np.arange(-180.0, 190.0, 26.0):
        bones += 0.03 * ellipse(at, (0, level), (3, 7), soft)  # spinous processes
    return bones * body


def _lateral_outline(thorax: Thorax, y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Front and back of the thoracic cavity on the lateral view, at heights y."""
    height = np.clip((thorax.height + _BASE - y) / thorax.height, 0, 1.5)
    front = 26 + 72 * np.sin(np.pi * np.clip(0.03 + 0.52 * height, 0, 0.5)) ** 0.8
    back = -(50 + 52 * np.sin(np.pi * np.clip(0.06 + 0.46 * height, 0, 0.62)) ** 0.8)
    return front, back


def lateral_lung(thorax: Thorax, at: Points, base: float, soft: float) -> NDArray[np.float64]:
    """Cover of the lungs' air on the lateral view."""
    x, y = at[0], at[1]
    front, back = _lateral_outline(thorax, y)
    top = thorax.height + _BASE
    between = step(x - front, 2 * soft) * step(back - x, 2 * soft) * step(y - top + 0.009 * (x + 12) ** 2, 8.0)
    return between * step(_lateral_dome(x, base) - y, soft)


def _lateral_dome(x: NDArray[np.float64], base: float) -> NDArray[np.float64]:
    return base + 32 - 0.0055 * (x - 22) ** 2


def render_lateral(thorax: Thorax, at: Points, base: float, heart: float, soft: float) -> NDArray[np.float64]:
    """Optical density of the lateral view; arguments as of `render_frontal`."""
    x, y = at[0], at[1]
    rng = np.random.default_rng(thorax.texture + 1)
    front, back = _lateral_outline(thorax, y)
    neck = 28 * np.clip((y - 110) / 60, 0, 1)
    body = step(x - front - 20 + neck, 8.0) * step(back - 44 + neck - x, 8.0)
    film = (0.62 + 0.08 * thorax.soft_tissue + 0.16 * ellipse(at, (-14, 128), (72, 34), 40.0)) * body  # shoulders
    inside = lateral_lung(thorax, at, base, soft)
    film -= 0.44 * inside * (1 - 0.35 * step(90 - y, 60.0))
    film += 0.10 * step(y - _lateral_dome(x, base), soft) * body
    # The heart lies on the diaphragm behind the breastbone; its front border is lost against the chest wall.
    shadow = ellipse(at, (46, base + 40), (heart * 0.46, 50), 12.0, angle=-0.45)
    film += 0.30 * shadow * np.maximum(inside, 0.2) * body
    film += 0.14 * ellipse(at, (2, 58), (24, 26), 16.0) + 0.14 * ellipse(at, (-2, 16), (20, 20), 14.0)
    film -= 0.12 * tube(at, (12, 165), (-6, 56), (8, 7.5), soft) * body
    spine = back + 8
    discs = 0.5 + 0.5 * np.tanh(4 * np.cos(2 * np.pi * (y + 8) / 27.0) + 2.2)
    film += step(np.abs(x - spine) - 15, soft) * (0.06 + 0.09 * discs) * body
    film += 0.14 * step(np.abs(x - front - 6) - 4, soft) * body * step(y - 110, 6.0)  # sternum
    for k in range(9):
        path = 118 - 27 * k - 0.35 * (x - spine) + 0.0006 * (x - spine) ** 2
        film += 0.045 * step(np.abs(y - path) - 4.5, soft) * body
    return film + inside * 0.014 * smooth_noise(rng, at, 10.0, 24)
