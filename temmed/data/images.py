"""Pixels of a sequence as a normalised tensor, or the stored features of a frozen backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from temmed.data.fitted import Fitted
from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.pixels import read_frames
from temmed.timelines.validate import image_path
from temmed.timelines.windows import read_windows

_RGB = ("red", "green", "blue")


class ImageSource:
    """Reads images by sequence and position.

    Args:
        timeline: the data.
        windows: for a modality, the windows that become channels of the tensor in place of the image itself, as
            `temmed.timelines.windows.read_windows` takes them.
    """

    def __init__(self, timeline: Timeline, windows: Mapping[str, Sequence[Any]] | None = None) -> None:
        images = timeline.table("images")
        known = read_windows(windows)
        modalities = timeline.table("sequences").set_index("sequence_id")["modality"]
        self._windows = {key: known[name] for key, name in modalities.items() if name in known}
        self.root: Path = timeline.root
        dims = timeline.table("sequences").set_index("sequence_id")["spatial_dims"]
        self._dims = dims.astype(int).to_dict()
        self._rows: dict[str, list[tuple[int, str, str, int | None]]] = {}
        frames = [None if frame != frame or frame is None else int(frame) for frame in images["frame"].astype(float)]
        rows = zip(images["sequence_id"], images["position"], images["channel"], images["path"], frames, strict=True)
        for sequence, position, channel, path, frame in rows:
            self._rows.setdefault(sequence, []).append((int(position), channel, path, frame))

    def read(self, sequence_id: str, positions: set[int] | None = None) -> dict[int, dict[str, NDArray]]:
        """Pixels by position and tensor channel.

        A colour image becomes three channels, and an image of a modality with windows one channel for each of them.

        Args:
            sequence_id: the sequence.
            positions: only these; all by default.
        """
        found: dict[int, dict[str, NDArray]] = {}
        by_file: dict[str, list[tuple[int, str, int | None]]] = {}
        for position, channel, path, frame in self._rows.get(sequence_id, []):
            if positions is None or position in positions:
                by_file.setdefault(path, []).append((position, channel, frame))
        dims = self._dims[sequence_id]
        for path, rows in by_file.items():
            file = image_path(self.root, path)
            whole = [row for row in rows if row[2] is None]
            framed = [row for row in rows if row[2] is not None]
            pixels = [read_frames(file, None)[0]] * len(whole) if whole else []
            if framed:
                pixels.extend(read_frames(file, [row[2] for row in framed]))  # type: ignore[misc]
            for (position, channel, _), image in zip([*whole, *framed], pixels, strict=True):
                slot = found.setdefault(position, {})
                if image.ndim == dims and sequence_id in self._windows:
                    for name, centre, width in self._windows[sequence_id]:
                        scaled = (np.asarray(image, dtype=np.float32) - (centre - width / 2)) / width
                        slot[f"{channel}.{name}"] = scaled.clip(0, 1)
                elif image.ndim == dims + 1:
                    slot.update({f"{channel}.{name}": image[..., n] for n, name in enumerate(_RGB)})
                elif image.ndim == dims:
                    slot[channel] = image
                else:
                    raise InputError(
                        f"an image of {dims} dimensions, as the sequences table says",
                        f"shape {image.shape}",
                        str(file),
                        "Correct spatial_dims of the sequence, or the file.",
                    )
        return found


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
        found |= set(source.read(sequence, {position})[position])
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


def resize(image: NDArray, spatial: tuple[int, ...]) -> Tensor:
    """One image as float32 in the size of the tensor; smaller ones are antialiased (2D) or interpolated (3D)."""
    tensor = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))
    if tuple(tensor.shape) == tuple(spatial):
        return tensor
    mode = "bilinear" if len(spatial) == 2 else "trilinear"
    return functional.interpolate(
        tensor[None, None], size=tuple(spatial), mode=mode, antialias=mode == "bilinear", align_corners=False
    )[0, 0]


def to_tensor(found: dict[int, dict[str, NDArray]], positions: list[int], fitted: Fitted) -> tuple[Tensor, Tensor]:
    """Normalised images of some positions.

    Args:
        found: from `ImageSource.read`.
        positions: which, in order; each must have an image.
        fitted: channels, size and normalisation.

    Returns:
        ``(n, C, *spatial)`` float32, 0 where a channel is absent, and its mask ``(n, C)``.
    """
    images = torch.zeros(len(positions), len(fitted.channels), *fitted.spatial)
    mask = torch.zeros(len(positions), len(fitted.channels), dtype=torch.bool)
    for row, position in enumerate(positions):
        for column, channel in enumerate(fitted.channels):
            if channel in found[position]:
                image = resize(found[position][channel], fitted.spatial)
                images[row, column] = (image - fitted.mean[column]) / fitted.deviation[column]
                mask[row, column] = True
    return images, mask
