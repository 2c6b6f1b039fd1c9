"""Read every image file of a folder once, and keep what the audit's rules need of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from temmed.errors import InputError
from temmed.processes import processors
from temmed.timelines.folder import Timeline
from temmed.timelines.pixels import read_frames
from temmed.timelines.progress import Progress
from temmed.timelines.readers.dicom import study_date
from temmed.timelines.validate import image_path

#: Side of the small grey picture that is kept of every image, in pixels.
SIDE = 32
#: Volumes are large, so that few are held at a time.
_THREADS = min(4, processors())
_COLOURS = 3
_COLUMNS = ["sequence_id", "position", "channel", "path", "frame"]
_TYPES = {
    "sequence_id": "str",
    "position": "Int64",
    "channel": "str",
    "path": "str",
    "frame": "Int64",
    "patient_id": "str",
    "digest": "str",
    "height": "int64",
    "width": "int64",
    "is_blank": "bool",
    "is_finite": "bool",
    "date": "str",
}


@dataclass(frozen=True)
class ImageScan:
    """What the image files hold.

    Attributes:
        images: one row per readable image: ``sequence_id, position, channel, path, frame``, ``patient_id``,
            ``digest`` (equal for equal pixels), ``height`` and ``width``, ``is_blank`` (one value everywhere),
            ``is_finite``, ``date`` (of the study, where the file says it).
        thumbnails: a small picture of each row of ``images``, ``(N, SIDE, SIDE)`` uint8, the darkest point 0 and the
            brightest 255; of a volume, its middle slice.
        unreadable: path and reason of files that cannot be read, masks included.
        misshapen: path and shape of images whose axes are not those of their sequence.
        masks: one row per readable mask file: the columns of the masks table, ``shape``.
        shapes: spatial shape by (sequence_id, position, channel).
    """

    images: pd.DataFrame
    thumbnails: np.ndarray
    unreadable: list[str]
    misshapen: list[str]
    masks: pd.DataFrame
    shapes: dict[tuple[str, int, str], tuple[int, ...]]


class _Look(NamedTuple):
    """One image: see :class:`ImageScan`."""

    digest: str
    shape: tuple[int, ...]
    is_blank: bool
    is_finite: bool
    thumbnail: np.ndarray


class _File(NamedTuple):
    """One file: what is wrong with it, the rows that show it, and a look at each."""

    unreadable: str = ""
    misshapen: str = ""
    rows: pd.DataFrame | None = None
    looks: tuple[_Look, ...] = ()
    date: str | None = None


def scan_images(timeline: Timeline, progress: Progress, skip: bool = False) -> ImageScan:
    """Read the files of the images and masks tables.

    Args:
        timeline: the folder, which may be broken.
        progress: told how many files are read.
        skip: read nothing.

    Returns:
        What they hold; files that are absent are left out, for those are told elsewhere.
    """
    masks = timeline.table("masks").dropna(subset=["path"])
    if skip:
        return ImageScan(_table([]), np.zeros((0, SIDE, SIDE), np.uint8), [], [], masks.head(0).assign(shape=None), {})
    table = timeline.table("images").dropna(subset=["sequence_id", "position", "channel", "path"])
    sequences = timeline.table("sequences").drop_duplicates("sequence_id").set_index("sequence_id")
    table = table[_COLUMNS].assign(
        dims=table["sequence_id"].map(sequences["spatial_dims"]),
        patient_id=table["sequence_id"].map(sequences["patient_id"]),
    )
    items = list(table.groupby("path", sort=False))
    total = len(items) + len(masks)

    def look(item: tuple[Any, pd.DataFrame]) -> _File:
        return _read(image_path(timeline.root, str(item[0])), *item)

    files = list(_told(look, items, 0, total, progress))

    def shape_of(path: str) -> str | tuple[int, ...]:
        return _mask_shape(image_path(timeline.root, path), path)

    shapes = list(_told(shape_of, masks["path"].tolist(), len(items), total, progress))
    broken = [shape for shape in shapes if isinstance(shape, str) and shape]
    masks = masks.assign(shape=pd.Series(shapes, index=masks.index, dtype="object"))
    return ImageScan(
        images=_table(files),
        thumbnails=np.stack([one.thumbnail for file in files for one in file.looks])
        if any(file.looks for file in files)
        else np.zeros((0, SIDE, SIDE), np.uint8),
        unreadable=[file.unreadable for file in files if file.unreadable] + broken,
        misshapen=[file.misshapen for file in files if file.misshapen],
        masks=masks[np.array([isinstance(shape, tuple) for shape in shapes], bool)],
        shapes=_shapes(files),
    )


def _told(
    function: Callable[[Any], Any],
    items: list[Any],
    before: int,
    total: int,
    progress: Progress,
) -> Iterable[Any]:
    with ThreadPoolExecutor(_THREADS) as pool:
        for done, result in enumerate(pool.map(function, items), start=before + 1):
            yield result
            progress("Reading images", done, total)


def _read(file: Path, path: str, rows: pd.DataFrame) -> _File:
    if not file.exists():
        return _File()
    # A file of frames is one read, in the order of its rows; a row without a frame is the whole file.
    looks, dims = [], set()
    try:
        for part in (rows[rows["frame"].isna()], rows[rows["frame"].notna()]):
            if part.empty:
                continue
            frames = None if part["frame"].isna().all() else part["frame"].astype("int64").tolist()
            pixels = read_frames(file, frames)
            dims |= {pixels.ndim - 1, pixels.ndim - 1 - (pixels.shape[-1] == _COLOURS)}
            shape = pixels.shape[1:]
            seen = [_look(image) for image in pixels]
            looks += seen * len(part) if frames is None else seen
        date = study_date(file)
    except InputError as error:
        return _File(unreadable=f"{path}: {error.found}")
    wrong = sorted(set(rows["dims"].dropna().astype("int64")) - dims)
    if wrong:
        return _File(misshapen=f"{path}: shape {shape}, spatial_dims {wrong[0]}")
    ordered = pd.concat([rows[rows["frame"].isna()], rows[rows["frame"].notna()]])
    return _File(rows=ordered, looks=tuple(looks), date=date)


def _mask_shape(file: Path, path: str) -> str | tuple[int, ...]:
    """The mask's shape, or what is wrong with it; nothing when it is absent."""
    if not file.exists():
        return ""
    try:
        return tuple(read_frames(file).shape[1:])
    except InputError as error:
        return f"{path}: {error.found}"


def _look(image: np.ndarray) -> _Look:
    """What is kept of one image, grey or colour, slice or volume."""
    is_finite = bool(np.isfinite(image).all())
    spatial = image.shape[:-1] if image.ndim > 2 and image.shape[-1] == _COLOURS else image.shape
    digest = hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16)
    digest.update(repr((image.shape, image.dtype.str)).encode())
    return _Look(
        digest=digest.hexdigest(),
        shape=tuple(spatial),
        is_blank=bool(image.min() == image.max()),
        is_finite=is_finite,
        thumbnail=_thumbnail(image, spatial),
    )


def _thumbnail(image: np.ndarray, spatial: tuple[int, ...]) -> np.ndarray:
    if len(spatial) == 3:
        axis = int(np.argmin(spatial))
        image = image.take(spatial[axis] // 2, axis=axis)
    grey = image.mean(axis=-1) if image.ndim == 3 else image
    grey = np.nan_to_num(grey.astype(np.float32), posinf=0.0, neginf=0.0)
    small = np.asarray(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BOX))
    low, high = float(small.min()), float(small.max())
    return np.round((small - low) * (255.0 / max(high - low, 1e-12))).astype(np.uint8)


def _table(files: list[_File]) -> pd.DataFrame:
    parts = [file.rows for file in files if file.rows is not None]
    if not parts:
        return pd.DataFrame({column: pd.Series(dtype=kind) for column, kind in _TYPES.items()})
    looks = [one for file in files for one in file.looks]
    table = pd.concat(parts, ignore_index=True)
    table = table.assign(
        digest=[one.digest for one in looks],
        height=[one.shape[-2] for one in looks],
        width=[one.shape[-1] for one in looks],
        is_blank=[one.is_blank for one in looks],
        is_finite=[one.is_finite for one in looks],
        date=pd.Series([file.date for file in files for _ in file.looks], dtype="str"),
    )
    return table[list(_TYPES)].astype(_TYPES)


def _shapes(files: list[_File]) -> dict[tuple[str, int, str], tuple[int, ...]]:
    shapes: dict[tuple[str, int, str], tuple[int, ...]] = {}
    for file in files:
        if file.rows is not None:
            keys = zip(file.rows["sequence_id"], file.rows["position"], file.rows["channel"], strict=True)
            shapes |= {key: one.shape for key, one in zip(keys, file.looks, strict=True)}
    return shapes
