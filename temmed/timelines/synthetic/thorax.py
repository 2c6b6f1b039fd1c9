"""A parametric axial chest in Hounsfield units, at the height of the heart.

Coordinates are in millimetres: x to the image's right (the patient's left), y to the front, z to the head. Values
follow the usual ones of contrast-enhanced CT: air −1000, lung about −860, fat −100, muscle 55, blood 40 to 180, bone
above 200.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from temmed.timelines.synthetic.shapes import Points, ellipse, over, smooth_noise, step, tube

#: Side of the square field of view in mm.
FIELD_OF_VIEW = 360.0
AIR = -1000.0
FAT, MUSCLE, MARROW, CORTEX = -100.0, 55.0, 170.0, 620.0

#: Centre of each location in mm.
PLACES: dict[str, tuple[float, float, float]] = {
    "right middle lobe": (-84.0, 36.0, 0.0),
    "right lower lobe": (-82.0, -32.0, 0.0),
    "left upper lobe": (92.0, 40.0, 0.0),
    "left lower lobe": (84.0, -32.0, 0.0),
    "right axilla": (-134.0, 34.0, 0.0),
    "left axilla": (134.0, 34.0, 0.0),
    "anterior mediastinum": (-12.0, 68.0, 0.0),
}
LUNG = tuple(place for place in PLACES if place.endswith("lobe"))
FATTY = tuple(place for place in PLACES if place not in LUNG)


@dataclass(frozen=True)
class Chest:
    """The shape of one patient's chest.

    Attributes:
        wall: half axes of the body in mm, (x, y).
        cavity: half axes of the thoracic cavity in mm.
        heart: half axes of the heart in mm.
        ribs: (angle, half length, obliquity) of each rib's section: radians in the wall, mm, and mm per mm.
        vessels: (start, end, radii) of the lung's vessels.
        texture: seed of the lung's fine structure.
        smoker: how much emphysema thins the lung, 0 to 1.
    """

    wall: tuple[float, float]
    cavity: tuple[float, float]
    heart: tuple[float, float]
    ribs: tuple[tuple[float, float, float], ...]
    vessels: tuple[tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float]], ...]
    texture: int
    smoker: float


def draw_chest(rng: np.random.Generator, age: float) -> Chest:
    """Draw a chest; the heart widens a little with age (years)."""
    fat = rng.gamma(3.0, 2.2)
    cavity = (float(rng.normal(130, 4)), float(rng.normal(88, 3)))
    heart = (float(rng.normal(58, 4) + 0.08 * (age - 50)), float(rng.normal(43, 3)))
    vessels = []
    for side in (-1.0, 1.0):
        for angle in np.linspace(-1.9, 1.9, 9) + rng.normal(0, 0.12, 9):
            x, y, radius = side * 40.0, -4.0, float(rng.uniform(3.0, 4.6))
            z, heading = float(rng.normal(0, 4)), float(angle)
            for _ in range(4):
                length = float(rng.uniform(14, 24))
                heading += float(rng.normal(0, 0.28))
                end = (x + side * np.cos(heading) * length, y + np.sin(heading) * length, z + float(rng.normal(0, 6)))
                vessels.append(((x, y, z), end, (radius, radius * 0.72)))
                (x, y, z), radius = end, radius * 0.72
        for _ in range(34):
            # Vessels that cross the slice: dots.
            spot = (side * float(rng.uniform(45, 125)), float(rng.uniform(-70, 70)))
            radius = float(rng.uniform(0.7, 2.2)) * (1.25 - (abs(spot[0]) - 45) / 130)
            tilt = rng.normal(0, 6, 2).tolist()
            low, high = (spot[0] - tilt[0], spot[1] - tilt[1], -25.0), (spot[0] + tilt[0], spot[1] + tilt[1], 25.0)
            vessels.append((low, high, (radius, radius)))
    ribs = []
    for middle in (0.0, np.pi):  # left, right
        for angle in np.linspace(-1.9, 1.9, 10) + rng.normal(0, 0.06, 10):
            ribs.append((float(middle + angle), float(rng.uniform(6, 13)), float(rng.normal(0, 0.09))))
    return Chest(
        wall=(cavity[0] + 24 + 0.7 * fat, cavity[1] + 20 + fat),
        cavity=cavity,
        heart=heart,
        ribs=tuple(ribs),
        vessels=tuple(vessels),
        texture=int(rng.integers(2**31)),
        smoker=float(np.clip(rng.normal(0.25, 0.25), 0, 1)),
    )


def render_chest(chest: Chest, points: Points, soft: float, enhancement: float, inspiration: float) -> NDArray:
    """Noise-free Hounsfield units of a chest without findings, and without the table.

    Args:
        chest: the shape to draw.
        points: coordinates in mm, (x, y) or (x, y, z), in the patient's own frame.
        soft: width of edges in mm, about a pixel.
        enhancement: Hounsfield units that contrast medium adds to blood.
        inspiration: relative volume of air, around 1.
    """
    x, y = points[0], points[1]
    z = points[2] if len(points) == 3 else np.zeros_like(x)
    at = [x, y, z]
    hu = np.full(x.shape, AIR)
    over(hu, ellipse(at, (0, 0), chest.wall, soft, power=2.35), 20.0)  # skin
    within = ellipse(at, (0, 0), (chest.wall[0] - 2.5, chest.wall[1] - 2.5), soft, power=2.35)
    over(hu, within, FAT)
    _muscles(hu, at, chest, within, soft)
    radius, angle = _polar(at, chest)
    _ribs(hu, at, chest, radius, angle, soft)
    lungs = _lungs(at, chest, radius, soft)
    rng = np.random.default_rng(chest.texture)
    inside = -855.0 - 30 * (inspiration - 1) / 0.1 * 0.5 + 0.28 * (-y) - 35 * chest.smoker
    inside = inside + 14 * smooth_noise(rng, at, 22.0) + 12 * smooth_noise(rng, at, 7.0)
    # The mediastinum is fat; the lungs are what of the cavity it leaves.
    over(hu, step((radius - 1) * min(chest.cavity), soft), FAT + 8)
    _mediastinum(hu, at, chest, soft, enhancement)
    over(hu, lungs, inside)
    blood = 42.0 + enhancement
    vessels = np.zeros_like(hu)
    for start, end, radii in chest.vessels:
        vessels = np.maximum(vessels, tube(at, start, end, radii, soft))
    over(hu, vessels * lungs, blood)
    for where in ((-33, -14), (37, -25)):  # lower lobe bronchi behind the hilum
        over(hu, ellipse(at, where, (7.5, 6.5), soft), 40.0)
        over(hu, ellipse(at, where, (5.5, 4.5), soft), -950.0)
    return hu


def _polar(at: Points, chest: Chest) -> tuple[NDArray, NDArray]:
    """Radius (1 on the wall of the cavity) and angle; the wall is dented by the spine."""
    x, y = at[0] / chest.cavity[0], at[1] / chest.cavity[1]
    dent = 0.16 * np.exp(-((at[0] / 34) ** 2)) * (at[1] < 0)
    return (np.abs(x) ** 2.3 + np.abs(y) ** 2.3) ** (1 / 2.3) + dent, np.arctan2(y, x)


def _lungs(at: Points, chest: Chest, radius: NDArray, soft: float) -> NDArray:
    cavity = step((radius - 0.985) * min(chest.cavity), soft)
    # Right and left border of the mediastinum; the heart bulges to the left in front.
    right = -30 - 14 * np.exp(-(((at[1] - 12) / 30) ** 2))
    left = 30 + (chest.heart[0] * 0.85) * np.exp(-(((at[1] - 24) / 30) ** 2))
    front = np.clip((at[1] - 58) / 20, 0, 1)
    right, left = right * (1 - front) - 10 * front, left * (1 - front) + 12 * front
    behind = np.clip((-38 - at[1]) / 25, 0, 1)
    right, left = right * (1 - 0.25 * behind), left * (1 + 0.1 * behind)
    outside = step(at[0] - right, soft) + step(left - at[0], soft)
    return cavity * np.clip(outside, 0, 1)


def _muscles(hu: NDArray, at: Points, chest: Chest, within: NDArray, soft: float) -> None:
    a, b = chest.cavity
    over(hu, ellipse(at, (0, 0), (a + 9, b + 8), soft, power=2.3), MUSCLE)
    for side in (-1.0, 1.0):
        for where, axes, tilt, value in (
            ((side * 36, -b - 6), (30, 16), side * 0.1, MUSCLE),  # erector spinae
            ((side * 62, b - 2), (44, 7), -side * 0.36, MUSCLE),  # pectoralis
            ((side * (a + 4), -36), (9, 38), side * 0.25, MUSCLE),  # latissimus
            ((side * (a - 2), 36), (12, 20), side * 0.5, FAT),  # of the armpit
        ):
            over(hu, within * ellipse(at, where, axes, soft, angle=tilt), value)


def _ribs(hu: NDArray, at: Points, chest: Chest, radius: NDArray, angle: NDArray, soft: float) -> None:
    """Ribs run forwards and down: a slice cuts a short piece of each, whose place in the wall moves with z."""
    distance = np.hypot(at[0], at[1])
    off = (1 - 1.06 / np.maximum(radius, 1e-6)) * distance
    beside = step((np.abs(np.sin(angle)) - 0.93) * 60, 3.0)  # none in front of or behind the midline
    for where, half, oblique in chest.ribs:
        along = (np.mod(angle - where - 0.012 * at[2] + np.pi, 2 * np.pi) - np.pi) * distance
        depth = np.hypot(np.clip(np.abs(along) - half, 0, None), off + oblique * along) - 4.2
        over(hu, step(depth, soft) * beside, CORTEX * 0.85)
        over(hu, step(depth + 1.8, soft) * beside, MARROW + 80)


def _mediastinum(hu: NDArray, at: Points, chest: Chest, soft: float, enhancement: float) -> None:
    blood = 42.0 + enhancement
    a, b = chest.heart
    tilt = 0.42
    centre = (20.0, 22.0)
    over(hu, ellipse(at, centre, (a + 3, b + 3), soft, angle=tilt), FAT + 30)  # pericardial fat
    over(hu, ellipse(at, centre, (a, b), soft, angle=tilt), 55 + 0.3 * enhancement)  # myocardium
    for offset, axes, more in (
        ((22, -6), (0.46 * a, 0.30 * b), 1.0),  # left ventricle
        ((6, 21), (0.50 * a, 0.24 * b), 0.8),  # right ventricle
        ((-33, 0), (0.30 * a, 0.40 * b), 0.8),  # right atrium
        ((-12, -27), (0.40 * a, 0.26 * b), 1.0),  # left atrium
    ):
        where = (centre[0] + offset[0], centre[1] + offset[1])
        over(hu, ellipse(at, where, axes, soft, angle=tilt), 42 + more * 1.3 * enhancement)
    over(hu, ellipse(at, (24, -42), (12.5, 12.5), soft), blood)  # descending aorta
    over(hu, ellipse(at, (7, -34), (7, 5), soft), 38.0)  # oesophagus
    over(hu, ellipse(at, (6, -34), (2, 1.2), soft), -300.0)
    spine = -chest.cavity[1] + 22
    over(hu, ellipse(at, (0, spine), (18, 14.5), soft), CORTEX)
    over(hu, ellipse(at, (0, spine), (16, 12.5), soft), MARROW)
    over(hu, ellipse(at, (0, spine - 26), (17, 13), soft), CORTEX * 0.8)  # arch
    over(hu, ellipse(at, (0, spine - 23), (10, 8.5), soft), 25.0)  # canal
    for side in (-1.0, 1.0):
        over(hu, tube(at, (side * 12, spine - 24, 0), (side * 34, spine - 32, 0), (5, 3.5), soft), 420.0)
    over(hu, tube(at, (0, spine - 36, 0), (0, spine - 54, 0), (4, 2.5), soft), 450.0)
    front = chest.cavity[1] + 5
    over(hu, ellipse(at, (0, front), (17, 6), soft), CORTEX * 0.8)  # sternum
    over(hu, ellipse(at, (0, front), (15, 4), soft), MARROW - 40)


def render_table(points: Points, height: float, soft: float) -> NDArray[np.float64]:
    """Hounsfield units above air that the table adds: a curved carbon shell with a foam core.

    Args:
        points: coordinates in mm, in the scanner's own frame.
        height: y of the middle of its upper surface.
        soft: width of edges in mm.
    """
    x, y = points[0], points[1]
    top = height + (x / 210) ** 2 * 46
    thickness = 24.0
    wide = step(np.abs(x) - 170, soft)
    shell = step(np.abs(y - top) - 1.4, soft) + step(np.abs(y - top + thickness) - 1.4, soft)
    core = step(np.abs(y - top + thickness / 2) - thickness / 2, soft)
    return wide * np.clip(820 * np.clip(shell, 0, 1) + 55 * core, 0, 900)
