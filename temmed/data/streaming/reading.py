"""Images out of shards, as if they were read from the files that the images table names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from temmed.data.streaming.cache import ShardCache
from temmed.data.streaming.layout import INDEX, WHOLE, Blob, Manifest, StoredArray, read_index
from temmed.data.streaming.remote import Remote
from temmed.errors import InputError
from temmed.timelines.image_files import ImageFiles
from temmed.timelines.implant.geometry import Affine

R = TypeVar("R")


class LocalShards:
    """Shards that lie on this machine, read where they are.

    Args:
        root: the folder of ``shards.json``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def use(self, shard: Blob, read: Callable[[Path], R]) -> R:
        """Open a shard.

        Raises:
            InputError: it is not there, or is not whole.
        """
        path = self.root / shard.name
        found = f"{path.stat().st_size:,}" if path.is_file() else "nothing"
        # A mapped file that is shorter than it should be ends the process.
        if found != f"{shard.size:,}":
            raise InputError(f"a shard of {shard.size:,} bytes", found, str(path), "Copy or write the shards again.")
        return read(path)


class ShardedFiles(ImageFiles):
    """The pixels of a timeline whose images are in shards.

    Args:
        root: the folder with the tables and the index.
        manifest: of the shards.
        shards: where they are.
    """

    def __init__(self, root: Path, manifest: Manifest, shards: LocalShards | ShardCache) -> None:
        super().__init__(root)
        self.manifest, self.shards = manifest, shards
        self._open()

    def _open(self) -> None:
        index = read_index(self.root / INDEX)
        self._index: pa.Table = index.drop_columns("sequence_id")
        self._first: dict[str, tuple[int, int]] = {}
        if len(index):
            names = index["sequence_id"].combine_chunks().dictionary_encode()
            codes = names.indices.to_numpy()
            # Rows are sorted by sequence.
            starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
            ends = np.r_[starts[1:], len(codes)]
            rows = zip(starts.tolist(), ends.tolist(), strict=True)
            self._first = dict(zip(names.dictionary.to_pylist(), rows, strict=True))
        # The images of the sequence that was read last: several files of one sequence are read in turn.
        self._last: tuple[str, dict[tuple[str, int], tuple[int, int]], list[StoredArray]] | None = None
        self._arrays: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        """The places alone: each worker opens the index itself."""
        return {"root": self.root, "manifest": self.manifest, "shards": self.shards}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the index again."""
        self.__dict__.update(state)
        self._open()

    @property
    def address(self) -> str:
        """The URL, or the folder."""
        return str(self.root) if isinstance(self.shards, LocalShards) else self.shards.remote.url

    def shard_of(self, sequence_id: str) -> int:
        """Number of the shard where a sequence begins; that of the first for a sequence without images."""
        row = self._first.get(sequence_id, (0, 0))[0]
        return int(self._index["shard"][row].as_py()) if len(self._index) else 0

    def read(self, sequence_id: str, path: str, frames: Sequence[int] | None = None) -> np.ndarray:
        """As `ImageFiles.read`, from the shards.

        Raises:
            InputError: the shard cannot be had, or does not hold the image.
        """
        places, stored = self._sequence(sequence_id)
        wanted = [WHOLE] if frames is None else list(frames)
        try:
            found = [places[path, frame] for frame in wanted]
        except KeyError as error:
            raise self._absent(sequence_id, path) from error
        numbers = {number for number, _ in found}
        for number in numbers - set(self._arrays):
            self._arrays[number] = self._pixels(stored[number])
        if len(numbers) == 1:
            return _rows(self._arrays[found[0][0]], [row for _, row in found])
        return np.stack([self._arrays[number][row] for number, row in found])

    def affine(self, sequence_id: str, path: str) -> Affine | None:
        """As `ImageFiles.affine`.

        Raises:
            InputError: the shards do not hold the image.
        """
        for stored in self._sequence(sequence_id)[1]:
            if path in stored.paths:
                affine = stored.affines[stored.paths.index(path)]
                return np.array(affine).reshape(4, 4) if affine else None
        raise self._absent(sequence_id, path)

    def _absent(self, sequence_id: str, path: str) -> InputError:
        return InputError(
            "an image in the shards",
            "nothing",
            f"{self.address}, sequence {sequence_id}, {path}",
            "The tables are of other data than the shards: write them again with `temmed data shard`.",
        )

    def _sequence(self, sequence_id: str) -> tuple[dict[tuple[str, int], tuple[int, int]], list[StoredArray]]:
        """Where the images of a sequence are: array and row by path and frame; and the arrays."""
        if self._last is None or self._last[0] != sequence_id:
            start, end = self._first.get(sequence_id, (0, 0))
            rows = self._index.slice(start, end - start).to_pylist()
            stored = [StoredArray(sequence_id=sequence_id, **row) for row in rows]
            places = {image: (n, row) for n, array in enumerate(stored) for row, image in enumerate(array.images)}
            self._last, self._arrays = (sequence_id, places, stored), {}
        return self._last[1:]

    def _pixels(self, stored: StoredArray) -> np.ndarray:
        shard = self.manifest.shards[stored.shard]
        shape, dtype = tuple(stored.shape), np.dtype(stored.dtype)
        if self.manifest.compression == "none":

            def mapped(path: Path) -> np.ndarray:
                # Copy on write: who writes into an image does not write into the shard.
                return np.memmap(path, dtype, mode="c", offset=stored.offset + stored.header, shape=shape)

            return self.shards.use(shard, mapped)

        def unpacked(path: Path) -> np.ndarray:
            with path.open("rb") as stream:
                stream.seek(stored.offset)
                content = stream.read(stored.size)
            raw = pa.decompress(content, stored.raw_bytes, codec=self.manifest.compression)
            return np.frombuffer(raw, dtype, offset=stored.header).reshape(shape).copy()

        return self.shards.use(shard, unpacked)


def _rows(array: np.ndarray, rows: list[int]) -> np.ndarray:
    """Rows of an array, without a copy if they follow each other."""
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return array[rows[0] : rows[0] + len(rows)]
    return array[rows]


def remote_manifest(remote: Remote, name: str) -> Manifest:
    """The manifest of remote shards.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    return Manifest.read(remote.read(name).decode("utf-8", errors="replace"), remote.address(name))
