"""One entry of a cache: the arrays of many sequences, one after the other in a few large files that are mapped.

A folder, named by its key, that appears under this name when it is complete:

- ``part-00000.bin`` …: the array of each sequence, ``(m, *shape)``, starting at a multiple of 64 bytes;
- ``index.npz``: where each sequence lies, its number type and shape, and the positions of its rows;
- ``entry.json``: what it is, and the sizes and checksums of the other files;
- ``used``: its time is that of the last use; readers hold a lock on it.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import mmap
import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

FORMAT = "temmed-cache/1"
ABOUT, INDEX, USED = "entry.json", "index.npz", "used"
#: Arrays start at multiples of this many bytes, so that every number type is aligned.
_ALIGN = 64
_BLOCK = 1 << 20


class DamagedError(Exception):
    """An entry that is not what was written."""


@dataclass(frozen=True)
class Layout:
    """How the array of a sequence is laid out.

    Attributes:
        dtype: number type, as NumPy writes it.
        shape: of one row, such as ``(C, H, W)``.
        columns: of images, which of the sources the first axis of a row holds.
    """

    dtype: str
    shape: tuple[int, ...]
    columns: tuple[int, ...] = ()


@dataclass(frozen=True)
class Slab:
    """The array of a sequence on its way into an entry.

    Attributes:
        sequence_id: the sequence.
        positions: of the rows, ascending.
        array: ``(m, *shape)``.
        columns: of images, which of the sources the second axis holds.
        mask: ``(m, len(columns))`` whether a position has a source.
    """

    sequence_id: str
    positions: Sequence[int]
    array: NDArray
    columns: tuple[int, ...] = ()
    mask: NDArray[np.bool_] | None = None

    @property
    def layout(self) -> Layout:
        """How it is laid out."""
        return Layout(self.array.dtype.str, tuple(self.array.shape[1:]), self.columns)


@dataclass
class Index:
    """Where the sequences of a part, or of a whole entry, lie.

    Attributes:
        ids: of the N sequences.
        layouts: those that occur.
        layout: ``(N,)`` which of them a sequence has.
        part: ``(N,)`` which file it lies in.
        offset: ``(N,)`` where in the file, in bytes.
        rows: ``(N,)`` how many rows it has.
        positions: of all rows, one sequence after the other.
        mask: likewise, of each row as many values as its layout has columns.
    """

    ids: list[str]
    layouts: list[Layout]
    layout: NDArray[np.int32]
    part: NDArray[np.int32]
    offset: NDArray[np.int64]
    rows: NDArray[np.int64]
    positions: NDArray[np.int64]
    mask: NDArray[np.bool_]

    _ARRAYS = ("layout", "part", "offset", "rows", "positions", "mask")

    @classmethod
    def joined(cls, parts: Sequence[Index]) -> Index:
        """The index of a whole entry from those of its parts, which are numbered as they are given."""
        layouts = list(dict.fromkeys(layout for part in parts for layout in part.layouts))
        number = {layout: n for n, layout in enumerate(layouts)}
        renumbered = [np.array([number[k] for k in p.layouts], np.int32)[p.layout] for p in parts]
        return cls(
            ids=[sequence for part in parts for sequence in part.ids],
            layouts=layouts,
            layout=np.concatenate(renumbered),
            part=np.repeat(np.arange(len(parts), dtype=np.int32), [len(part.ids) for part in parts]),
            offset=np.concatenate([part.offset for part in parts]),
            rows=np.concatenate([part.rows for part in parts]),
            positions=np.concatenate([part.positions for part in parts]),
            mask=np.concatenate([part.mask for part in parts]),
        )

    def to_bytes(self) -> bytes:
        """As the bytes of an ``.npz`` file."""
        words = json.dumps({"ids": self.ids, "layouts": [asdict(layout) for layout in self.layouts]})
        stream = io.BytesIO()
        arrays = {name: getattr(self, name) for name in self._ARRAYS}
        np.savez(stream, words=np.frombuffer(words.encode(), np.uint8), **arrays)
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Index:
        """The inverse of `to_bytes`."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            words = json.loads(arrays["words"].tobytes())
            layouts = [Layout(k["dtype"], tuple(k["shape"]), tuple(k["columns"])) for k in words["layouts"]]
            return cls(words["ids"], layouts, **{name: arrays[name] for name in cls._ARRAYS})


class PartWriter:
    """Writes the arrays of sequences one after the other, and notes where they are.

    Args:
        stream: an empty file.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._checksum = stream, hashlib.blake2b(digest_size=16)
        self._slabs: list[tuple[str, Layout, int, Sequence[int], NDArray[np.bool_] | None]] = []
        self.size = 0

    def add(self, slab: Slab) -> None:
        """Write one."""
        self._write(bytes(-self.size % _ALIGN))
        entry = (slab.sequence_id, slab.layout, self.size, slab.positions, slab.mask)
        self._write(np.ascontiguousarray(slab.array).reshape(-1).view(np.uint8).data)
        self._slabs.append(entry)

    def _write(self, content: bytes | memoryview) -> None:
        self._stream.write(content)
        self._checksum.update(content)
        self.size += len(content)

    @property
    def checksum(self) -> str:
        """BLAKE2b of what was written."""
        return self._checksum.hexdigest()

    def index(self) -> Index:
        """Where the sequences are."""
        layouts = list(dict.fromkeys(layout for _, layout, *_ in self._slabs))
        masks = [mask.ravel() for *_, mask in self._slabs if mask is not None]
        positions = [np.asarray(rows, np.int64) for *_, rows, _ in self._slabs]
        return Index(
            ids=[slab[0] for slab in self._slabs],
            layouts=layouts,
            layout=np.array([layouts.index(layout) for _, layout, *_ in self._slabs], np.int32),
            part=np.zeros(len(self._slabs), np.int32),
            offset=np.array([slab[2] for slab in self._slabs], np.int64),
            rows=np.array([len(rows) for rows in positions], np.int64),
            positions=np.concatenate([np.zeros(0, np.int64), *positions]),
            mask=np.concatenate([np.zeros(0, bool), *masks]),
        )


def checksum(path: Path) -> str:
    """BLAKE2b of a file's bytes, as `PartWriter` notes it."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def part_name(number: int) -> str:
    """Of the file of a part."""
    return f"part-{number:05d}.bin"


def read_about(folder: Path) -> dict[str, Any]:
    """What ``entry.json`` says.

    Raises:
        DamagedError: it cannot be read, or files are absent or of another size than it says.
    """
    try:
        about: dict[str, Any] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        files: Mapping[str, Mapping[str, Any]] = about["files"]
        sizes = {name: ((folder / name).stat().st_size, int(file["bytes"])) for name, file in files.items()}
        checksums = {name: str(file["checksum"]) for name, file in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{folder}: {error}") from error
    if about.get("format") != FORMAT:
        raise DamagedError(f"{folder}: format {about.get('format')!r}")
    if INDEX not in checksums:
        raise DamagedError(f"{folder}: no index")
    for name, (size, written) in sizes.items():
        if size != written:
            raise DamagedError(f"{folder / name}: {size:,} bytes in place of {written:,}")
    return about


def damage(folder: Path) -> list[str]:
    """Read all of an entry and name what is not as it was written; nothing if it is sound."""
    try:
        about = read_about(folder)
    except DamagedError as error:
        return [str(error)]
    wrong = [name for name, file in about["files"].items() if checksum(folder / name) != file["checksum"]]
    return [f"{folder / name}: its bytes are not those that were written" for name in wrong]


class Entry:
    """An entry, open for reading. While one is open, no process of this machine removes it.

    Only its place is pickled: a worker process maps the files itself.

    Args:
        folder: of the entry.

    Raises:
        DamagedError: it is not what was written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        weakref.finalize(self, use(folder).close)
        self.about = read_about(folder)
        content = (folder / INDEX).read_bytes()
        if hashlib.blake2b(content, digest_size=16).hexdigest() != self.about["files"][INDEX]["checksum"]:
            raise DamagedError(f"{folder / INDEX}: its bytes are not those that were written")
        self.index = index = Index.from_bytes(content)
        self.numbers = {sequence: n for n, sequence in enumerate(index.ids)}
        columns = np.array([len(layout.columns) for layout in index.layouts], np.int64)
        self._first = np.concatenate([[0], np.cumsum(index.rows)])
        self._first_mask = np.concatenate([[0], np.cumsum(index.rows * columns[index.layout])])
        self._kinds = [np.dtype(layout.dtype) for layout in index.layouts]
        # Most entries have all sources at all positions, and most sequences an image at each: no search then.
        self._whole = bool(index.mask.all())
        self._everywhere = np.ones((index.rows.max(initial=0), columns.max(initial=0)), bool)
        self._everywhere.flags.writeable = False
        steps = np.arange(len(index.positions)) - np.repeat(self._first[:-1], index.rows)
        gaps = np.concatenate([[0], np.cumsum(index.positions != steps)])
        self._counted = gaps[self._first[1:]] == gaps[self._first[:-1]]
        self._maps: dict[int, mmap.mmap] = {}
        self._views: dict[int, NDArray] = {}

    def __getstate__(self) -> dict[str, Path]:
        """The place alone."""
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Path]) -> None:
        """Open the files again."""
        self.__init__(state["folder"])  # type: ignore[misc]

    def layout(self, number: int) -> Layout:
        """How the array of a sequence is laid out."""
        return self.index.layouts[self.index.layout.item(number)]

    def array(self, number: int) -> NDArray:
        """The array ``(m, *shape)`` of a sequence: a view of the file that cannot be written to."""
        view = self._views.get(number)
        if view is None:
            # Some hundred bytes, as much as its name in the index takes.
            view = self._views[number] = self._view(number)
        return view

    def _view(self, number: int) -> NDArray:
        index = self.index
        kind = index.layout.item(number)
        shape = (index.rows.item(number), *index.layouts[kind].shape)
        if 0 in shape:
            return np.empty(shape, self._kinds[kind])
        part = index.part.item(number)
        mapped = self._maps.get(part) or self._map(part)
        return np.ndarray(shape, self._kinds[kind], mapped, index.offset.item(number))

    def rows(self, number: int, positions: Sequence[int]) -> NDArray[np.int64]:
        """Which rows of a sequence's array are of these positions.

        Raises:
            KeyError: it has no such position.
        """
        wanted = np.array(positions, np.int64)
        last = self.index.rows.item(number) - 1
        if self._counted.item(number) and len(wanted) and min(positions) >= 0 and max(positions) <= last:
            return wanted
        held = self.index.positions[self._first.item(number) : self._first.item(number + 1)]
        rows = held.searchsorted(wanted)
        if held.take(rows, mode="clip").tobytes() != wanted.tobytes():
            absent = sorted(set(wanted.tolist()) - set(held.tolist()))
            raise KeyError(f"sequence {self.index.ids[number]} has no image at {absent}")
        return rows

    def mask(self, number: int, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """``(n, len(columns))`` whether a source is there, at some rows of a sequence."""
        if self._whole and len(rows) <= len(self._everywhere):
            return self._everywhere[: len(rows), : len(self.layout(number).columns)]
        flat = self.index.mask[self._first_mask.item(number) : self._first_mask.item(number + 1)]
        return flat.reshape(-1, len(self.layout(number).columns)).take(rows, axis=0)

    def _map(self, part: int) -> mmap.mmap:
        with (self.folder / part_name(part)).open("rb") as stream:
            self._maps[part] = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return self._maps[part]


def use(folder: Path) -> BinaryIO:
    """Note that an entry is used now, and hold a lock on it that is shared with other readers until it is closed.

    Raises:
        DamagedError: there is no such entry.
    """
    path = folder / USED
    try:
        stream = path.open("rb")
    except OSError as error:
        raise DamagedError(f"{folder}: {error}") from error
    fcntl.flock(stream, fcntl.LOCK_SH)
    if os.access(path, os.W_OK):  # a cache may be another user's, to be read and not to be changed
        os.utime(path)
    return stream
