"""Pixels of a sequence, decoded from the files and brought to one size."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from temmed.data.fitted import Fitted, Source
from temmed.data.pixels import PixelStack
from temmed.errors import InputError
from temmed.timelines.folder import Timeline
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
        frames = [None if frame != frame or frame is None else int(frame) for frame in images["frame"].astype(float)]
        rows = zip(images["sequence_id"], images["position"], images["channel"], images["path"], frames, strict=True)
        for sequence, position, channel, path, frame in rows:
            self._rows.setdefault(sequence, []).append((int(position), channel, path, frame))

    def positions(self, sequence_id: str) -> list[int]:
        """Positions of a sequence that have an image, in order."""
        return sorted({row[0] for row in self._rows.get(sequence_id, [])})

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


class DecodedPixels:
    """Pixels straight from the files, each time anew.

    Args:
        source: reads the images.
        fitted: sources and image size.
    """

    def __init__(self, source: ImageSource, fitted: Fitted) -> None:
        self.source, self.spatial = source, fitted.spatial
        self._columns = {source: n for n, source in enumerate(fitted.sources)}

    def stack(self, sequence_id: str, positions: Sequence[int]) -> PixelStack:
        """See `temmed.data.pixels.Pixels`; images of sources that were not fitted are left out."""
        found = self.source.read(sequence_id, positions)
        kept = [{s: image for s, image in found[position].items() if s in self._columns} for position in positions]
        columns = tuple(sorted({self._columns[source] for images in kept for source in images}))
        place = {column: n for n, column in enumerate(columns)}
        kinds = {image.dtype for images in kept for image in images.values()}
        array = np.zeros((len(kept), len(columns), *self.spatial), np.result_type(*kinds) if kinds else np.uint8)
        mask = np.zeros((len(kept), len(columns)), dtype=bool)
        for row, images in enumerate(kept):
            for source, image in images.items():
                column = place[self._columns[source]]
                array[row, column] = resize(image, self.spatial)
                mask[row, column] = True
        return PixelStack(array, np.arange(len(kept)), columns, mask)


def check_images(timeline: Timeline, fitted: Fitted) -> None:
    """Refuse a folder whose images have other channels, or another number of dimensions, than a model was fitted to.

    Without this a channel that the model knows would be taken for absent everywhere, and others would not be read.

    Raises:
        InputError: they differ.
    """
    source = ImageSource(timeline, fitted.windows)
    found: set[str] = set()
    # Whether a channel is in colour, and so three channels of the tensor, only its pixels tell.
    samples = timeline.table("images").drop_duplicates("channel")
    for sequence, position in zip(samples["sequence_id"].tolist(), samples["position"].tolist(), strict=True):
        found |= {name for kind in source.read(sequence, {position})[position] for name, _ in kind.channels}
    dims = sorted(set(timeline.table("sequences")["spatial_dims"].astype(int)))
    for expected, instead, same in (
        (
            f"channels {', '.join(fitted.channels)}",
            ", ".join(sorted(found)) or "no images",
            found == set(fitted.channels),
        ),
        (
            f"images of {len(fitted.spatial)} dimensions",
            " and ".join(map(str, dims)),
            dims == [len(fitted.spatial)],
        ),
    ):
        if not same:
            raise InputError(
                f"{expected}, which the checkpoint was fitted to",
                instead,
                str(timeline.root),
                "Use a checkpoint that was trained on such images, or import the folder with the same channel names.",
            )


def resize(image: NDArray, spatial: tuple[int, ...]) -> NDArray:
    """One image in another size, in its own number type: antialiased (2D) or interpolated (3D), and rounded."""
    if image.shape == tuple(spatial):
        return image
    mode = "bilinear" if len(spatial) == 2 else "trilinear"
    tensor = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))
    sized = functional.interpolate(
        tensor[None, None], size=tuple(spatial), mode=mode, antialias=mode == "bilinear", align_corners=False
    )[0, 0].numpy()
    if np.issubdtype(image.dtype, np.floating):
        return sized.astype(image.dtype)
    limits = np.iinfo(image.dtype)
    return np.rint(sized).clip(limits.min, limits.max).astype(image.dtype)
