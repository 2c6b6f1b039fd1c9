"""Where a finding may lie: in tissue that every position shows, away from air, writing and the border.

All of it is found from the pixels, on a coarse grid: CT by its Hounsfield units, anything else by what stands out from
the dark. Positions are laid over the first one by their shift, as visits are rarely registered.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from temmed.timelines.implant.motion import displacement, resampled
from temmed.timelines.implant.scene import Scene

#: Longest side of the coarse grid, in and across the slices.
_GRID, _SLICES = 160, 96
#: Frames of a loop that are looked at, and the share of them that must show tissue.
_FRAMES, _SHARE = 12, 0.8
#: Soft tissue in Hounsfield units; a least value below the last is air, and the image calibrated.
_SOFT, _AIR = (-60.0, 160.0), -300.0
#: What stands out from the dark, as a share of the range of an image.
_DARK = 0.18
#: A pixel with more between its colours, in grey levels, is Doppler or writing.
_COLOURED = 16
#: A pixel that is above its surroundings, of so many pixels, by so much of the range of the image is writing.
_LINE, _STANDS_OUT = 3.0, 0.4
#: Grey values of a recorded screen that change by less than this share of the range stand still.
_STILL = 0.01
#: Pieces of tissue smaller than this share of the largest are none.
_PIECE = 0.15
#: Longest shift between visits, as a share of the image.
_SHIFT = 0.15
#: Only the calmest candidates are taken.
_CALM = 0.35
_ROWS, _COLUMNS = ("upper", "middle", "lower"), ("left", "middle", "right")

Place = NDArray[np.float64]


def location_names() -> list[str]:
    """The nine parts of an image, row by row."""
    named = [f"{row} {column} of the image" for row in _ROWS for column in _COLUMNS]
    return [name.replace("middle middle", "centre") for name in named]


def calibrated(scene: Scene, modality: str) -> bool:
    """Whether values are Hounsfield units."""
    return modality.lower() == "ct" and min(float(scene.grey(p).min()) for p in scene.positions) < _AIR


@dataclass
class Grounds:
    """The tissue of a sequence, on the coarse grid of its first image.

    Attributes:
        clearance: distance of each point to what is no tissue, ``(*coarse)``, in the unit of spacing.
        unrest: how much the image varies around each point, in space and, in loops, in time.
        step: size of a coarse pixel along each axis.
        corner: where the first coarse pixel lies, from the middle of the first pixel.
        calibrated: whether values are Hounsfield units.
        offsets: by position, where a point of the first image lies, less where it lies in the first image.
        taken: centres and radii of places given away.
    """

    clearance: NDArray[np.float32]
    unrest: NDArray[np.float32]
    step: Place
    corner: Place
    calibrated: bool
    offsets: dict[int, Place]
    taken: list[tuple[Place, float]] = field(default_factory=list)

    @property
    def extent(self) -> float:
        """Side of a square as large as the tissue in the slice that shows most of it."""
        area = (self.clearance > 0).sum(axis=(-2, -1)).max() * self.step[-1] * self.step[-2]
        return float(np.sqrt(area))

    @property
    def widest(self) -> float:
        """Radius of the largest ball in the tissue."""
        return float(self.clearance.max())

    def choose(self, cell: int, radius: float, rng: np.random.Generator) -> Place | None:
        """A calm place for a ball in a part of the image, ``None`` where there is none.

        Args:
            cell: number of the part, as in `location_names`.
            radius: of the ball.
            rng: the generator.

        Returns:
            Its centre in the first image, along the axes of the array, from the middle of the first pixel.
        """
        tissue = np.nonzero((self.clearance > 0).any(axis=tuple(range(self.clearance.ndim - 2))))
        free = np.argwhere(self.clearance >= radius)
        if not len(free):
            return None
        for axis, part in ((0, cell // 3), (1, cell % 3)):
            low, high = tissue[axis].min(), tissue[axis].max() + 1
            own = free[:, axis - 2]
            third = (high - low) / 3
            free = free[(own >= low + part * third) & (own < low + (part + 1) * third)]
        places = self.corner + free * self.step
        for centre, other in self.taken:
            apart = np.linalg.norm(places - centre, axis=1) > 1.15 * (radius + other)
            free, places = free[apart], places[apart]
        if not len(free):
            return None
        unrest = self.unrest[tuple(free.T)]
        calm = np.flatnonzero(unrest <= np.quantile(unrest, _CALM))
        place: Place = places[int(rng.choice(calm))]
        return place


def survey(scene: Scene, modality: str) -> Grounds:
    """Find the tissue of a sequence.

    Args:
        scene: its images.
        modality: as in the sequences table.
    """
    first = scene.positions[0]
    spacing = np.array(scene.spacing(first))
    shape = scene.grey(first).shape
    factors = [-(-length // (_SLICES if axis < len(shape) - 2 else _GRID)) for axis, length in enumerate(shape)]
    step = spacing * factors
    looked = scene.positions
    if scene.is_loop:
        looked = [looked[k] for k in np.unique(np.linspace(0, len(looked) - 1, _FRAMES).round().astype(int))]
    ct = calibrated(scene, modality)
    offsets: dict[int, Place] = {}
    levels: list[NDArray[np.float32]] = []
    masks: list[NDArray[np.bool_]] = []
    for position in looked:
        level, mask = _coarse(scene, position, ct, shape, factors)
        shift = np.zeros(len(shape)) if scene.is_loop else _shift(scene, position, levels, level, step)
        if not scene.is_loop:
            middle = (np.array(scene.grey(position).shape) - 1) / 2 * scene.spacing(position)
            offsets[position] = middle - (np.array(shape) - 1) / 2 * spacing + shift
        levels.append(ndimage.shift(level, -shift / step, order=1, mode="nearest"))
        masks.append(ndimage.shift(mask.astype(np.float32), -shift / step, order=1, mode="constant") > 0.5)
    tissue = np.mean(masks, axis=0) >= (_SHARE if scene.is_loop else 1.0)
    if scene.is_loop and scene.images[first][scene.main].dtype == np.uint8:
        # On a screen that was recorded, writing and graphs stand still, and tissue never does.
        tissue &= np.std(levels, axis=0) > _STILL * np.ptp(levels)
    clearance = ndimage.distance_transform_edt(np.pad(tissue, 1), sampling=step)[(slice(1, -1),) * tissue.ndim]
    if scene.is_loop:
        offsets = {position: np.zeros(len(shape)) for position in scene.positions}
    corner = (np.array(factors) - 1) / 2 * spacing
    unrest = _unrest(levels, scene.is_loop)
    if not ct:
        # Noise and structure are stronger where there is more signal.
        mean = np.mean(levels, axis=0)
        unrest = unrest / np.maximum(mean - mean.min(), 1e-6)
    return Grounds(clearance.astype(np.float32), unrest, step, corner, ct, offsets)


def _coarse(
    scene: Scene, position: int, ct: bool, shape: tuple[int, ...], factors: list[int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Mean grey value and tissue of a position on the coarse grid."""
    grey, spacing, first = scene.grey(position), scene.spacing(position), scene.positions[0]
    target = scene.spacing(first)
    image = scene.images[position][scene.main]
    # Writing and lines stand out from what is around them as nothing in a body does.
    flat = [0.0] * (grey.ndim - 2) + [_LINE, _LINE]
    strange = (grey - ndimage.gaussian_filter(grey, flat) > _STANDS_OUT * np.ptp(grey)).astype(np.float32)
    if image.ndim > scene.dims:
        strange[(image.max(axis=-1).astype(int) - image.min(axis=-1)) > _COLOURED] = 1
    grey, strange = (resampled(one, spacing, shape, target) for one in (grey, strange))
    level, share = (_blocks(one, factors) for one in (grey, strange))
    smooth = ndimage.gaussian_filter(level, [0.0] * (level.ndim - 2) + [1.0, 1.0])
    if ct:
        tissue = (smooth > _SOFT[0]) & (smooth < _SOFT[1])
    else:
        low, high = np.percentile(smooth, (1.0, 99.0))
        tissue = smooth > low + _DARK * (high - low)
    square = np.ones((1,) * (level.ndim - 2) + (3, 3), bool)
    tissue = _large(ndimage.binary_closing(tissue, square)) & ~ndimage.binary_dilation(share > 0.05, square)
    return level, tissue


def _large(tissue: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tissue without its small pieces."""
    labels, _ = ndimage.label(tissue)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= _PIECE * sizes.max())[labels] & tissue)


def _blocks(image: NDArray[np.float32], factors: list[int]) -> NDArray[np.float32]:
    """Means of blocks; a rest at the end of an axis is left out."""
    cut = image[tuple(slice(0, length // f * f) for length, f in zip(image.shape, factors, strict=True))]
    split = [number for length, f in zip(cut.shape, factors, strict=True) for number in (length // f, f)]
    return np.asarray(cut.reshape(split).mean(axis=tuple(range(1, 2 * image.ndim, 2))), dtype=np.float32)


def _shift(scene: Scene, position: int, levels: list[NDArray], level: NDArray, step: Place) -> Place:
    """How far the anatomy of a position is from where the first image has it."""
    if scene.moved is not None:
        return scene.moved[position]
    if not levels:
        return np.zeros(level.ndim)
    return displacement(levels[0], level, [_SHIFT * length for length in level.shape]) * step


def _unrest(levels: list[NDArray], is_loop: bool) -> NDArray[np.float32]:
    size = [1] * (levels[0].ndim - 2) + [7, 7]
    total = np.zeros(levels[0].shape, np.float32)
    for level in levels:
        mean = ndimage.uniform_filter(level, size)
        total += np.sqrt(np.clip(ndimage.uniform_filter(level**2, size) - mean**2, 0, None))
    if is_loop and len(levels) > 1:
        total += len(levels) * ndimage.uniform_filter(np.std(levels, axis=0), size)
    return total
