"""A parametric axial brain: tissue classes and their T1 and FLAIR intensities.

Coordinates are in millimetres, origin at the centre of the brain: x to the image's right (the patient's left, the
radiological convention), y to the front of the head, z to the top. Contrast values follow the usual ordering (T1: fat >
white > grey > CSF; FLAIR: grey > white > CSF, which is suppressed).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

#: Side of the square field of view, in mm.
FIELD_OF_VIEW = 192.0
CHANNELS = ("t1", "flair")

#: Relative intensity of each tissue in (T1, FLAIR).
TISSUES: dict[str, tuple[float, float]] = {
    "scalp": (0.95, 0.55),
    "skull": (0.10, 0.08),
    "csf": (0.18, 0.07),
    "grey": (0.56, 0.56),
    "white": (0.82, 0.42),
    "deep_grey": (0.62, 0.52),
}

#: Centre of each region in mm. The patient's left is on the image's right.
REGIONS: dict[str, tuple[float, float, float]] = {
    "left frontal lobe": (29.0, 46.0, 0.0),
    "right frontal lobe": (-29.0, 46.0, 0.0),
    "left temporal lobe": (43.0, 9.0, 0.0),
    "right temporal lobe": (-43.0, 9.0, 0.0),
    "left parietal lobe": (38.0, -27.0, 0.0),
    "right parietal lobe": (-38.0, -27.0, 0.0),
    "left occipital lobe": (20.0, -57.0, 0.0),
    "right occipital lobe": (-20.0, -57.0, 0.0),
}


@dataclass(frozen=True)
class Head:
    """The shape of one patient's head.

    Attributes:
        scale: half axes of the brain in mm, (x, y, z).
        ventricle: width factor of the lateral ventricles.
        folding: amplitudes and phases of the cortical folds, shape (6, 2).
    """

    scale: tuple[float, float, float]
    ventricle: float
    folding: NDArray[np.float64]


def draw_head(rng: np.random.Generator, age: float) -> Head:
    """Draw a head; ventricles widen with age (years)."""
    x, y, z = rng.normal((63.0, 80.0, 62.0), (1.5, 2.0, 2.0)).tolist()
    ventricle = float(np.clip(0.75 + 0.008 * (age - 40) + rng.normal(0, 0.12), 0.6, 1.6))
    folding = np.stack([rng.uniform(0.5, 1.5, 6), rng.uniform(0, 2 * np.pi, 6)], axis=1)
    return Head((x, y, z), ventricle, folding)


def grid(shape: tuple[int, ...], field: float = FIELD_OF_VIEW) -> list[NDArray[np.float64]]:
    """Coordinates in mm, (x, y) or (x, y, z), of every pixel of an image of ``shape`` over a ``field`` in mm.

    Rows run from front to back and columns from the patient's right to left; slices, if any, from bottom to top.
    """
    axes = []
    for axis, length in enumerate(shape):
        spacing = field / length
        line = (np.arange(length) - (length - 1) / 2) * spacing
        axes.append(-line if axis == len(shape) - 2 else line)
    return list(np.meshgrid(*axes, indexing="ij"))[::-1]


def _ellipse(
    points: list[NDArray[np.float64]], centre: tuple[float | NDArray[np.float64], ...], axes: tuple[float, ...]
) -> NDArray:
    return np.sqrt(sum(((p - c) / a) ** 2 for p, c, a in zip(points, centre, axes, strict=False)))


def _layer(radius: NDArray, bound: float | NDArray, softness: float = 0.012) -> NDArray:
    """1 inside ``radius < bound``, 0 outside, with a soft edge (partial volume)."""
    return 1.0 / (1.0 + np.exp(np.clip((radius - bound) / softness, -40, 40)))


def render_head(head: Head, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Noise-free T1 and FLAIR of a head without findings.

    Args:
        head: the shape to draw.
        shape: ``(H, W)`` or ``(D, H, W)``.

    Returns:
        Intensities of shape ``(2, *shape)``, white matter in T1 about 0.8.
    """
    points = grid(shape)
    x, y = points[0], points[1]
    z = points[2] if len(points) == 3 else np.zeros_like(x)
    points = [x, y, z]
    radius = _ellipse(points, (0, 0, 0), head.scale)
    angle = np.arctan2(y / head.scale[1], x / head.scale[0])
    weight, phase = head.folding[:, 0], head.folding[:, 1]
    fold = (
        sum(weight[k] * np.cos((9 + 4 * k) * angle + phase[k] + 0.05 * z + 5 * radius) for k in range(6)) / weight.sum()
    )
    images = np.zeros((2, *shape))

    def paint(mask: NDArray, tissue: str) -> None:
        for channel, value in enumerate(TISSUES[tissue]):
            images[channel] += mask * (value - images[channel])

    paint(_layer(radius, 1.26), "scalp")
    paint(_layer(radius, 1.17), "skull")
    paint(_layer(radius, 1.06), "csf")
    paint(_layer(radius, 0.995 + 0.02 * fold), "grey")
    sulci = np.clip(fold - 0.32, 0, None) * np.clip((radius - 0.74) / 0.2, 0, 1)
    paint(np.clip(3.2 * sulci, 0, 0.85) * _layer(radius, 1.03), "csf")
    paint(_layer(radius, 0.87 + 0.075 * fold, 0.02), "white")
    fissure = np.exp(-((x / 1.6) ** 2)) * np.clip((np.abs(y) - 34) / 10, 0, 1) * _layer(radius, 1.03)
    paint(fissure, "csf")
    for side in (-1.0, 1.0):
        thalamus = _ellipse(points, (side * 13, -8, 0), (8.5, 13, 12))
        paint(_layer(thalamus, 1.0, 0.06), "deep_grey")
        putamen = _ellipse(points, (side * 24 + 0.12 * side * y, 9, 0), (4.5, 15, 12))
        paint(_layer(putamen, 1.0, 0.06), "deep_grey")
        caudate = _ellipse(points, (side * 13, 22, 4), (4.5, 8, 9))
        paint(_layer(caudate, 1.0, 0.06), "deep_grey")
        # The lateral ventricle: a frontal and an occipital horn that bend away from the midline.
        for centre, axes, bend in (((6.5, 22), (4.2, 15), 0.010), ((10.5, -28), (4.6, 17), 0.012)):
            bent = side * (x * side - bend * (y - centre[1]) ** 2 - (centre[0] + head.ventricle))
            horn = np.sqrt(
                (bent / (axes[0] * head.ventricle)) ** 2 + ((y - centre[1]) / axes[1]) ** 2 + ((z - 2) / 16) ** 2
            )
            paint(_layer(horn, 1.0, 0.07), "csf")
    third = _ellipse(points, (0, -4, -4), (1.6 * head.ventricle, 11, 12))
    paint(_layer(third, 1.0, 0.1), "csf")
    smooth = (0.0, *(0.55 for _ in shape))
    return ndimage.gaussian_filter(images, smooth).astype(np.float32)
