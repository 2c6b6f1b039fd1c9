"""Pixels of a sequence, decoded from the files and brought to one size."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from temmed.data.fitted import Fitted, Source
from temmed.data.followups import FollowUps, Place
from temmed.data.pixels import PixelStack
from temmed.data.preparation import Preparation
from temmed.data.resampling import cut_or_pad, resample, resize, spread_slices
from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.implant.geometry import spacing_of
from temmed.timelines.validate import image_path
from temmed.timelines.windows import read_windows

_RGB = ("red", "green", "blue")


class ImageSource:
    """Reads images by sequence and position, as the files hold them.

    Args:
        timeline: the data.
        windows: for a modality, the windows that become channels in place of the image itself, as
            `temmed.timelines.windows.read_windows` takes them.
    """

    def __init__(self, timeline: Timeline, windows: Mapping[str, Sequence[Any]] | None = None) -> None:
        images = timeline.table("images")
        known = read_windows(windows)
        modalities = timeline.table("sequences").set_index("sequence_id")["modality"]
        self._windows = {key: tuple(known[name]) for key, name in modalities.items() if name in known}
        self.root: Path = timeline.root
        self.files = timeline.files
        dims = timeline.table("sequences").set_index("sequence_id")["spatial_dims"]
        self._dims = dims.astype(int).to_dict()
        self._rows: dict[str, list[tuple[int, str, str, int | None]]] = {}
        self._spacings: dict[tuple[str, int], tuple[float, ...] | None] = {}
        frames = [None if frame != frame or frame is None else int(frame) for frame in images["frame"].astype(float)]
        rows = zip(images["sequence_id"], images["position"], images["channel"], images["path"], frames, strict=True)
        for sequence, position, channel, path, frame in rows:
            self._rows.setdefault(sequence, []).append((int(position), channel, path, frame))

    def positions(self, sequence_id: str) -> list[int]:
        """Positions of a sequence that have an image, in order."""
        return sorted({row[0] for row in self._rows.get(sequence_id, [])})

    def only(self, sequences: Collection[str]) -> ImageSource:
        """The same for some of the sequences: little to send to another process."""
        part = copy.copy(self)
        part._rows = {key: self._rows[key] for key in sequences}
        part._dims = {key: self._dims[key] for key in sequences}
        part._windows = {key: self._windows[key] for key in sequences if key in self._windows}
        return part

    def read(self, sequence_id: str, positions: Collection[int] | None = None) -> dict[int, dict[Source, NDArray]]:
        """Pixels by position and source; every file is read once.

        Args:
            sequence_id: the sequence.
            positions: only these; all by default.

        Raises:
            InputError: a file cannot be read, or has other dimensions than the sequences table says.
        """
        found: dict[int, dict[Source, NDArray]] = {}
        by_file: dict[str, list[tuple[int, str, int | None]]] = {}
        wanted = None if positions is None else set(positions)
        for position, channel, path, frame in self._rows.get(sequence_id, []):
            if wanted is None or position in wanted:
                by_file.setdefault(path, []).append((position, channel, frame))
        dims, windows = self._dims[sequence_id], self._windows.get(sequence_id, ())
        for path, rows in by_file.items():
            whole = [row for row in rows if row[2] is None]
            framed = [row for row in rows if row[2] is not None]
            pixels = [self.files.read(sequence_id, path)[0]] * len(whole) if whole else []
            if framed:
                pixels.extend(self.files.read(sequence_id, path, [row[2] for row in framed]))  # type: ignore[misc]
            for (position, channel, _), image in zip([*whole, *framed], pixels, strict=True):
                slot = found.setdefault(position, {})
                if image.ndim == dims + 1:
                    slot.update({Source(f"{channel}.{name}"): image[..., n] for n, name in enumerate(_RGB)})
                elif image.ndim == dims:
                    slot[Source(channel, windows)] = image
                else:
                    raise InputError(
                        f"an image of {dims} dimensions, as the sequences table says",
                        f"shape {image.shape}",
                        str(image_path(self.root, path)),
                        "Correct spatial_dims of the sequence, or the file.",
                    )
        return found

    def dims(self, sequence_id: str) -> int:
        """Dimensions of the images of a sequence."""
        return self._dims[sequence_id]

    def spacing(self, sequence_id: str, position: int, kind: Source) -> tuple[float, ...] | None:
        """Millimetres between the pixels of an image along its axes, if its file's header tells."""
        path, dims = self.path(sequence_id, position, kind), self._dims[sequence_id]
        if (path, dims) not in self._spacings:
            affine = self.files.affine(sequence_id, path)
            spacing = () if affine is None else spacing_of(affine, dims)
            told = bool(spacing) and all(0 < step < np.inf for step in spacing)
            self._spacings[path, dims] = spacing if told else None
        return self._spacings[path, dims]

    def path(self, sequence_id: str, position: int, kind: Source) -> str:
        """The path of an image, as the images table has it."""
        channels = (kind.channel, kind.channel.rpartition(".")[0])  # the second, of a colour image
        return next(row[2] for row in self._rows[sequence_id] if row[0] == position and row[1] in channels)


class PreparedImages:
    """Images after every step of a preparation, each time anew.

    Args:
        source: reads the images.
        preparation: the steps.
        motions: a folder that keeps how follow-ups are moved onto the first visit.
    """

    def __init__(self, source: ImageSource, preparation: Preparation, motions: Path | None = None) -> None:
        self.source, self.preparation, self.motions = source, preparation, motions
        how = preparation.register
        self._follow_ups = None if how is None else FollowUps(source, how, motions)
        self._sizes: dict[str, tuple[int, ...]] = {}

    def read(self, sequence_id: str, positions: Collection[int] | None = None) -> dict[int, dict[Source, NDArray]]:
        """As `ImageSource.read`; all images of a sequence have one size.

        Raises:
            InputError: a file cannot be read, does not say how large its pixels are, or is no volume to take slices of;
                or SimpleITK is needed and not installed.
        """
        size = self.size(sequence_id)
        return {
            position: {kind: self._sized(image, size) for kind, image in images.items()}
            for position, images in self._gridded(sequence_id, positions).items()
        }

    def size(self, sequence_id: str) -> tuple[int, ...]:
        """The size of the images of a sequence: that of the model, or, if each keeps its own, of the first image."""
        if self.preparation.size is not None:
            return self.preparation.size
        if sequence_id not in self._sizes:
            self._sizes[sequence_id] = self._first_size(sequence_id)
        return self._sizes[sequence_id]

    def _first_size(self, sequence_id: str) -> tuple[int, ...]:
        positions = self.source.positions(sequence_id)
        if not positions:
            return (0,) * (self.source.dims(sequence_id) - (self.preparation.slices is not None))
        images = self._gridded(sequence_id, positions[:1])[positions[0]]
        return images[min(images)].shape

    def _sized(self, image: NDArray, size: tuple[int, ...]) -> NDArray:
        # Resizing would undo the spacing.
        return resize(image, size) if self.preparation.spacing is None else cut_or_pad(image, size)

    def _gridded(self, sequence_id: str, positions: Collection[int] | None) -> dict[int, dict[Source, NDArray]]:
        """Images with the spacing and slices asked for, of the size they have then."""
        grids: dict[Place, Place] = {}
        if self._follow_ups is None:
            found = self.source.read(sequence_id, positions)
        else:
            found, grids = self._follow_ups.read(sequence_id, positions)
        if self.preparation.spacing is not None:
            found = {
                position: {
                    kind: self._resampled(sequence_id, *grids.get((position, kind), (position, kind)), image)
                    for kind, image in images.items()
                }
                for position, images in found.items()
            }
        if self.preparation.slices is not None:
            found = {position: self._sliced(sequence_id, images) for position, images in found.items()}
        return found

    def _resampled(self, sequence_id: str, position: int, kind: Source, image: NDArray) -> NDArray:
        wanted, spacing = self._spacing(image.ndim), self.source.spacing(sequence_id, position, kind)
        if spacing is None:
            raise InputError(
                "a header that says how many millimetres lie between pixels",
                "none",
                str(image_path(self.source.root, self.source.path(sequence_id, position, kind))),
                "Set data.spacing=null, or import files that say so: NIfTI, or DICOM with PixelSpacing.",
            )
        return resample(image, spacing, wanted)

    def _spacing(self, dims: int) -> tuple[float, ...]:
        spacing = self.preparation.spacing or ()
        if len(spacing) not in (1, dims):
            raise InputError(
                f"one number, or {dims} for images of {dims} dimensions",
                f"{len(spacing)}",
                "data.spacing",
                "Give the millimetres between slices (of volumes), rows and columns.",
            )
        return spacing * dims if len(spacing) == 1 else spacing

    def _sliced(self, sequence_id: str, images: Mapping[Source, NDArray]) -> dict[Source, NDArray]:
        count = self.preparation.slices or 0
        slices: dict[Source, NDArray] = {}
        for kind, image in images.items():
            if image.ndim != 3:
                raise InputError(
                    "volumes to take slices of",
                    f"an image of {image.ndim} dimensions",
                    f"{self.source.root}, sequence {sequence_id}",
                    "Leave data.slices out.",
                )
            names = (f"{kind.channel}.slice{n:0{len(str(count))}d}" for n in range(1, count + 1))
            slices |= {
                Source(name, kind.windows): s for name, s in zip(names, spread_slices(image, count), strict=True)
            }
        return slices


class DecodedPixels:
    """Pixels straight from the files, each time anew.

    Args:
        source: reads the images.
        fitted: sources and preparation.
        motions: see `PreparedImages`.
    """

    def __init__(self, source: ImageSource, fitted: Fitted, motions: Path | None = None) -> None:
        self.images = PreparedImages(source, fitted.preparation, motions)
        #: Size of the images; of the first one if each sequence keeps its own.
        self.spatial = fitted.spatial
        self._columns = {source: n for n, source in enumerate(fitted.sources)}

    def size(self, sequence_id: str) -> tuple[int, ...]:
        """See `PreparedImages.size`."""
        return self.images.size(sequence_id)

    def stack(self, sequence_id: str, positions: Sequence[int]) -> PixelStack:
        """See `temmed.data.pixels.Pixels`; images of sources that were not fitted are left out."""
        found = self.images.read(sequence_id, positions)
        kept = [{s: image for s, image in found[position].items() if s in self._columns} for position in positions]
        columns = tuple(sorted({self._columns[source] for images in kept for source in images}))
        place = {column: n for n, column in enumerate(columns)}
        kinds = {image.dtype for images in kept for image in images.values()}
        shape = (len(kept), len(columns), *self.images.size(sequence_id))
        array = np.zeros(shape, np.result_type(*kinds) if kinds else np.uint8)
        mask = np.zeros((len(kept), len(columns)), dtype=bool)
        for row, images in enumerate(kept):
            for source, image in images.items():
                column = place[self._columns[source]]
                array[row, column] = image
                mask[row, column] = True
        return PixelStack(array, np.arange(len(kept)), columns, mask)


def check_images(timeline: Timeline, fitted: Fitted) -> None:
    """Refuse a folder whose images have other channels, or another number of dimensions, than a model was fitted to.

    Without this a channel that the model knows would be taken for absent everywhere, and others would not be read.

    Raises:
        InputError: they differ.
    """
    prepared = fitted.preparation
    needed = len(fitted.spatial) + (prepared.slices is not None)
    dims = sorted(set(timeline.table("sequences")["spatial_dims"].astype(int)))
    if dims != [needed]:
        raise _other_kind(timeline, f"images of {needed} dimensions", " and ".join(map(str, dims)))
    # Whether a channel is in colour, and so three channels of the tensor, only its pixels tell. Where they lie, and how
    # many there are, has no part in it.
    source = PreparedImages(ImageSource(timeline, fitted.windows), Preparation(slices=prepared.slices))
    samples = timeline.table("images").drop_duplicates("channel")
    found: set[str] = set()
    for sequence, position in zip(samples["sequence_id"].tolist(), samples["position"].tolist(), strict=True):
        found |= {name for kind in source.read(sequence, {position})[position] for name, _ in kind.channels}
    if found != set(fitted.channels):
        raise _other_kind(timeline, f"channels {', '.join(fitted.channels)}", ", ".join(sorted(found)) or "no images")


def _other_kind(timeline: Timeline, expected: str, found: str) -> InputError:
    return InputError(
        f"{expected}, which the checkpoint was fitted to",
        found,
        str(timeline.root),
        "Use a checkpoint that was trained on such images, or import the folder with the same channel names.",
    )
