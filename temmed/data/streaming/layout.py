"""What a folder of shards holds, whether on a disk or in an object store.

The tables, ``dataset.json`` and splits of a timeline folder as they are; ``shards/*.tar`` in the WebDataset format,
one sample a sequence; ``samples.parquet``, which says where in which shard the images of a sequence lie; and
``shards.json``, the list of all of them with sizes and checksums, which is written last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from temmed.errors import InputError
from temmed.timelines.folder import SHARD_LIST

MANIFEST = SHARD_LIST
INDEX = "samples.parquet"
SHARDS = "shards"
FORMAT = "temmed-shards/1"
COMPRESSIONS = ("none", "zstd")
#: In place of a frame number, for a file that is one image.
WHOLE = -1
_BLOCK = 1 << 20

_SCHEMA = pa.schema(
    [
        ("sequence_id", pa.string()),
        ("shard", pa.int32()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("header", pa.int32()),
        ("dtype", pa.string()),
        ("shape", pa.list_(pa.int32())),
        ("paths", pa.list_(pa.string())),
        ("frames", pa.list_(pa.int32())),
        ("affines", pa.list_(pa.list_(pa.float64()))),
    ]
)


@dataclass(frozen=True)
class StoredArray:
    """Some images of one sequence, of one shape and number type, in one member of a shard.

    Attributes:
        sequence_id: the sequence.
        shard: number of the shard.
        offset: of the member's first byte in the shard.
        size: bytes of the member.
        header: bytes of the NumPy header, before the pixels and before compression.
        dtype: number type, as NumPy writes it.
        shape: ``(n, *spatial)``, or ``(n, *spatial, 3)`` for colour.
        paths: of the n images, as the images table has them; one if they are all of one file.
        frames: of the n images; `WHOLE` for a file that is one image.
        affines: of the paths: 16 numbers, or none where a file does not say how large its pixels are.
    """

    sequence_id: str
    shard: int
    offset: int
    size: int
    header: int
    dtype: str
    shape: list[int]
    paths: list[str]
    frames: list[int]
    affines: list[list[float]]

    @property
    def raw_bytes(self) -> int:
        """Bytes of header and pixels before compression."""
        return self.header + int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    @property
    def images(self) -> list[tuple[str, int]]:
        """Path and frame of each image."""
        paths = self.paths * len(self.frames) if len(self.paths) == 1 else self.paths
        return list(zip(paths, self.frames, strict=True))


def write_index(path: Path, arrays: Iterable[StoredArray]) -> None:
    """Write ``samples.parquet``, sorted by sequence."""
    rows = sorted((asdict(array) for array in arrays), key=lambda row: (row["sequence_id"], row["shard"]))
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), path, compression="zstd")


def read_index(path: Path) -> pa.Table:
    """Read ``samples.parquet``: one row for each `StoredArray`."""
    return pq.read_table(path, schema=_SCHEMA)


@dataclass(frozen=True)
class Blob:
    """A file: its name below the folder, with slashes; its bytes; and the checksum of its content."""

    name: str
    size: int
    digest: str

    @classmethod
    def of(cls, file: Path, name: str) -> Blob:
        """Describe a file of this machine."""
        return cls(name, file.stat().st_size, digest_of(file))


def digest_of(file: Path) -> str:
    """Checksum of a file's content."""
    result = hashlib.blake2b(digest_size=16)
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            result.update(block)
    return result.hexdigest()


@dataclass(frozen=True)
class Manifest:
    """``shards.json``.

    Attributes:
        fingerprint: of the timeline.
        compression: of the members of the shards: ``none`` or ``zstd``.
        shards: in the order of their numbers.
        files: all others: tables, splits, the index.
    """

    fingerprint: str
    compression: str
    shards: tuple[Blob, ...]
    files: tuple[Blob, ...]

    def to_json(self) -> str:
        """As it is written."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n"

    @property
    def key(self) -> str:
        """Changes with the content of any file."""
        return hashlib.blake2b(self.to_json().encode(), digest_size=16).hexdigest()

    @classmethod
    def read(cls, text: str, where: str) -> Manifest:
        """The inverse of `to_json`.

        Args:
            text: of the file.
            where: named in errors.

        Raises:
            InputError: it is of another format, or damaged.
        """
        remedy = "Write the shards again with `temmed data shard`."
        try:
            raw: Any = json.loads(text)
        except ValueError as error:
            raise InputError("a JSON object", str(error), where, remedy) from error
        found = raw.get("format") if isinstance(raw, dict) else type(raw).__name__
        if found != FORMAT:
            raise InputError(f"format {FORMAT!r}", repr(found), where, remedy)
        try:
            lists = {name: tuple(Blob(**blob) for blob in raw[name]) for name in ("shards", "files")}
            manifest = cls(str(raw["fingerprint"]), str(raw["compression"]), **lists)
        except (KeyError, TypeError) as error:
            raise InputError("a list of files with sizes and checksums", repr(error), where, remedy) from error
        names = [blob.name for blob in (*manifest.shards, *manifest.files)]
        # The names become paths of this machine.
        if strange := [name for name in names if name.startswith(("/", "\\")) or ".." in Path(name).parts]:
            raise InputError("names of files below the folder", repr(strange[0]), where, remedy)
        return manifest
