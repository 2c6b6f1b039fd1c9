"""One shard after another: a tar file of samples, each of which holds images of one sequence."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from temmed.data.streaming.layout import SHARDS, WHOLE, Blob, StoredArray
from temmed.data.streaming.remote import Remote
from temmed.files import sync
from temmed.timelines.image_files import ImageFiles

#: A shard may be so many times larger than asked for, before another is begun.
_SLACK = 2

#: Position, channel, path and frame of an image, as the images table has them.
Row = tuple[int, str, str, int]


@dataclass(frozen=True)
class Plan:
    """What the workers need to know.

    Attributes:
        files: the images.
        staging: the folder that shards are written into.
        remote: where they go from there; ``None`` if they stay.
        shard_size: bytes of a shard, about.
        compression: ``none`` or a codec of Arrow.
    """

    files: ImageFiles
    staging: Path
    remote: Remote | None
    shard_size: int
    compression: str


def pieces(plan: Plan, sequence: str, rows: Sequence[Row]) -> list[tuple[np.ndarray, list[int]]]:
    """Images of one shape and number type together, of no more bytes than a shard; and which rows they are."""
    by_file: dict[tuple[str, bool], list[int]] = {}
    for n, (_, _, path, frame) in enumerate(rows):
        by_file.setdefault((path, frame == WHOLE), []).append(n)
    images: dict[int, np.ndarray] = {}
    for (path, whole), numbers in by_file.items():
        if whole:
            images |= dict.fromkeys(numbers, plan.files.read(sequence, path)[0])
        else:
            images |= zip(numbers, plan.files.read(sequence, path, [rows[n][3] for n in numbers]), strict=True)
    alike: dict[tuple, list[int]] = {}
    for n in range(len(rows)):
        alike.setdefault((images[n].shape, images[n].dtype.str), []).append(n)
    found = []
    for numbers in alike.values():
        most = max(1, plan.shard_size // images[numbers[0]].nbytes)
        for start in range(0, len(numbers), most):
            part = numbers[start : start + most]
            found.append((np.stack([images[n] for n in part]), part))
    return found


class ShardWriter:
    """Appends samples to shards, beginning another when one is full.

    Args:
        plan: what to write, and where to.
        task: number that the names of its shards begin with.

    Attributes:
        blobs: the shards that are finished.
        arrays: what they hold, and where.
    """

    def __init__(self, plan: Plan, task: int) -> None:
        self.plan, self.task = plan, task
        self.blobs: list[Blob] = []
        self.arrays: list[StoredArray] = []
        self._samples = 0
        self._tar: tarfile.TarFile | None = None
        self._affines: dict[tuple[str, str], list[float]] = {}

    @property
    def _name(self) -> str:
        return f"{SHARDS}/{self.task:06d}-{len(self.blobs):02d}.tar"

    def add(self, sequence: str, rows: Sequence[Row], pieces: Sequence[tuple[np.ndarray, list[int]]]) -> None:
        """Append images of a sequence: one sample in each shard that they come into."""
        begun = ""
        for array, numbers in pieces:
            self._make_room(array.nbytes)
            if begun != self._name:
                begun, self._samples, member = self._name, self._samples + 1, 0
                about = {"sequence_id": sequence, "images": [row[:2] for row in rows]}
                self._append(f"{self._samples:06d}.json", json.dumps(about).encode())
            of_rows = [rows[n] for n in numbers]
            self._add_array(sequence, array, of_rows, f"{self._samples:06d}.{member}.npy")
            member += 1

    def _make_room(self, size: int) -> None:
        if self._tar is not None and self._tar.offset and self._tar.offset + size > _SLACK * self.plan.shard_size:
            self.close()
        if self._tar is None:
            file = self.plan.staging / self._name
            file.parent.mkdir(exist_ok=True)
            self._tar = tarfile.open(file, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115  # closed by `close`

    def _add_array(self, sequence: str, array: np.ndarray, rows: Sequence[Row], name: str) -> None:
        stream = io.BytesIO()
        np.save(stream, array)
        content: bytes = stream.getvalue()
        header = len(content) - array.nbytes
        if self.plan.compression != "none":
            content = pa.compress(content, codec=self.plan.compression, asbytes=True)
            name += ".zst"
        paths = [row[2] for row in rows]
        paths = paths[:1] if len(set(paths)) == 1 else paths
        self.arrays.append(
            StoredArray(
                sequence,
                len(self.blobs),
                self._append(name, content),
                len(content),
                header,
                array.dtype.str,
                list(array.shape),
                paths,
                [row[3] for row in rows],
                [self._affine(sequence, path) for path in paths],
            )
        )

    def _affine(self, sequence: str, path: str) -> list[float]:
        if (sequence, path) not in self._affines:
            affine = self.plan.files.affine(sequence, path)
            self._affines = {(sequence, path): [] if affine is None else affine.ravel().tolist()}
        return self._affines[sequence, path]

    def _append(self, name: str, content: bytes) -> int:
        """Add a member; where its content begins."""
        assert self._tar is not None
        info = tarfile.TarInfo(name)
        info.size = len(content)
        start = self._tar.offset + tarfile.BLOCKSIZE
        self._tar.addfile(info, io.BytesIO(content))
        return start

    def close(self) -> None:
        """Finish the shard that is open, and upload it if it goes elsewhere."""
        if self._tar is None:
            return
        self._tar.close()
        self._tar = None
        file = self.plan.staging / self._name
        sync(file)  # before the note that it is done
        blob = Blob.of(file, self._name)
        if self.plan.remote is not None:
            self.plan.remote.upload(file, blob.name)
            file.unlink()
        self.blobs.append(blob)
