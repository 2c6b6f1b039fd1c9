"""The images of one sequence, read whole, with what is known of where and when they were taken."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temmed.timelines.folder import read_rows
from temmed.timelines.implant.geometry import Affine, affine_of, plain, spacing_of, turned
from temmed.timelines.schema import TIME_UNITS
from temmed.timelines.validate import image_path

#: Projections show one place at different pixels in each view.
PROJECTIONS = ("angiography", "cr", "cxr", "dx", "fluoroscopy", "mammography", "mg", "rf", "rg", "xa", "xray")
_INT16 = np.iinfo(np.int16)


class UnusableError(Exception):
    """A sequence into which nothing can be implanted, and why."""


@dataclass(frozen=True)
class Task:
    """One sequence of the source.

    Attributes:
        index: its number in the source.
        sequence_id: its id.
        modality: as in the sequences table.
        time_unit: of its times.
        spatial_dims: of its images.
        times: of its positions.
        images: its rows of the images table: ``position, channel, path, frame``.
    """

    index: int
    sequence_id: str
    modality: str
    time_unit: str
    spatial_dims: int
    times: tuple[float, ...]
    images: pd.DataFrame


@dataclass
class Scene:
    """The images of a sequence.

    Attributes:
        images: pixels by position and channel, ``(*spatial)`` or ``(*spatial, 3)``; only positions that have some.
        main: the channel that places are looked for in; every position has it.
        affines: where the images of each position lie.
        known: whether affines are in mm; else a pixel is taken to be 1 wide.
        dims: number of spatial axes.
        times: of all positions, ``(T,)``.
        time_unit: of the times.
        moved: by how much the anatomy of a position lies away from where the first image has it, in mm along the axes
            of the array; known only of repeated images.
        notes: what was left out.
    """

    images: dict[int, dict[str, NDArray]]
    main: str
    affines: dict[int, Affine]
    known: bool
    dims: int
    times: NDArray[np.float64]
    time_unit: str
    moved: dict[int, NDArray[np.float64]] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def is_loop(self) -> bool:
        """Whether positions are the frames of a cine loop, and not visits."""
        return is_loop(self.time_unit)

    @property
    def positions(self) -> list[int]:
        """The positions that have images."""
        return sorted(self.images)

    def spacing(self, position: int) -> tuple[float, ...]:
        """Size of a pixel along the axes of the array."""
        return spacing_of(self.affines[position], self.dims)

    def grey(self, position: int, channel: str | None = None) -> NDArray[np.float32]:
        """The pixels of a channel, the main one by default, ``(*spatial)``: colour is averaged."""
        image = self.images[position][channel or self.main]
        return (image.mean(axis=-1) if image.ndim > self.dims else image).astype(np.float32)


def is_loop(time_unit: str) -> bool:
    """Whether a sequence in this unit is a cine loop."""
    return TIME_UNITS[time_unit][0] == "second" or time_unit == "frame"


def read_scene(root: Path, task: Task) -> Scene:
    """Read the images of a sequence.

    Raises:
        InputError: a file cannot be read.
        UnusableError: the images cannot be used.
    """
    if task.images.empty:
        raise UnusableError("no image")
    counts = task.images.groupby("channel").size()
    main = str(min(counts.index[counts == counts.max()]))
    images: dict[int, dict[str, NDArray]] = {}
    for position, channel, pixels in read_rows(root, task.images):
        images.setdefault(int(position), {})[str(channel)] = pixels
    left = {position for position in images if main not in images[position]}
    notes = [f"{len(left)} positions without the channel {main}"] if left else []
    images = {position: images[position] for position in images.keys() - left}
    paths = task.images[task.images["channel"] == main].set_index("position")["path"].to_dict()
    found = {path: affine_of(image_path(root, path)) for path in sorted(set(paths.values()))}
    known = all(affine is not None for affine in found.values())
    dims = task.spatial_dims
    affines = {}
    for position in sorted(images):
        affine = found[paths[position]] if known else None
        affine = plain((1.0,) * 3) if affine is None else affine
        images[position], affines[position] = _aligned(images[position], main, affine, dims, task.modality, notes)
    flat = [dims == 3 and image[main].shape[0] == 1 for image in images.values()]
    if any(flat) and not all(flat):
        raise UnusableError("volumes beside single slices")
    if all(flat):
        dims = 2
        images = {position: {name: one[0] for name, one in image.items()} for position, image in images.items()}
    scene = Scene(images, main, affines, known, dims, np.array(task.times), task.time_unit, notes=sorted(set(notes)))
    shapes = {image[main].shape for image in images.values()}
    if scene.is_loop and len(shapes) > 1:
        raise UnusableError("frames of different size")
    if not all(np.isfinite(one).all() for image in images.values() for one in image.values()):
        raise UnusableError("values that are no finite numbers")
    return scene


def _aligned(
    image: dict[str, NDArray], main: str, affine: Affine, dims: int, modality: str, notes: list[str]
) -> tuple[dict[str, NDArray], Affine]:
    """The channels that show the same place at the same pixel, of one position, as they will be read back."""
    shape = image[main].shape[:dims]
    kept = {name: one for name, one in image.items() if one.shape[:dims] == shape}
    if modality.lower() in PROJECTIONS:
        kept = {main: image[main]}
    lost = sorted(set(image) - set(kept))
    if lost:
        notes.append(f"channels left out, as where {main} has a pixel is not known in them: {', '.join(lost)}")
    kept = {name: _storable(one) for name, one in kept.items()}
    if dims == 3 and shape[0] > 1:
        turns = {name: turned(one, affine) for name, one in kept.items()}
        return {name: one for name, (one, _) in turns.items()}, turns[main][1]
    return kept, affine


def _storable(image: NDArray) -> NDArray:
    """The image in the smallest type of NIfTI that holds it: whole numbers as such, others as 32-bit floats."""
    if image.dtype in (np.uint8, np.int16, np.uint16, np.int32):
        return image
    low, high = image.min(), image.max()
    if np.isfinite([low, high]).all() and (image.dtype.kind in "iub" or (image == np.rint(image)).all()):
        if _INT16.min <= low and high <= _INT16.max:
            return image.astype(np.int16)
        if abs(low) < 2**24 and abs(high) < 2**24:
            return image.astype(np.int32)
    return image.astype(np.float32)
