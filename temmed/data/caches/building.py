"""Building an entry: one process builds, others wait; what a killed build had finished is used by the next."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from temmed import __version__
from temmed.data.caches.entry import (
    ABOUT,
    FORMAT,
    INDEX,
    USED,
    DamagedError,
    Entry,
    Index,
    PartWriter,
    Slab,
    checksum,
    part_name,
)
from temmed.errors import InputError
from temmed.files import atomic_stream, atomic_write, sync_folder

_LOG = logging.getLogger(__name__)
#: At most so many parts, so that a process can map them all.
_MOST_PARTS = 4096
#: No part is planned smaller, in bytes.
_SMALLEST_PART = 16 << 20


@dataclass(frozen=True)
class PartRecord:
    """What is known of a part that is complete.

    Attributes:
        size: of its file, in bytes.
        checksum: BLAKE2b of its bytes.
        index: where its sequences lie.
    """

    size: int
    checksum: str
    index: Index

    def to_bytes(self) -> bytes:
        """A line of JSON, then the index."""
        content = self.index.to_bytes()
        own = hashlib.blake2b(content, digest_size=16).hexdigest()
        head = {"bytes": self.size, "checksum": self.checksum, "index": own}
        return json.dumps(head).encode() + b"\n" + content

    @classmethod
    def from_bytes(cls, saved: bytes) -> PartRecord:
        """The inverse of `to_bytes`.

        Raises:
            ValueError: these bytes were not written by it.
        """
        line, _, content = saved.partition(b"\n")
        head = json.loads(line)
        if hashlib.blake2b(content, digest_size=16).hexdigest() != head["index"]:
            raise ValueError("another index than was written")
        return cls(head["bytes"], head["checksum"], Index.from_bytes(content))


def divide(sequences: Mapping[str, Sequence[int]], bytes_of_row: int) -> list[list[str]]:
    """Group sequences, in their order, into parts.

    Args:
        sequences: positions by sequence.
        bytes_of_row: about so many bytes each position takes.
    """
    total = bytes_of_row * sum(map(len, sequences.values()))
    enough = max(_SMALLEST_PART, total / _MOST_PARTS)
    parts: list[list[str]] = []
    size = 0.0
    for sequence, positions in sequences.items():
        if not parts or size >= enough:
            parts.append([])
            size = 0.0
        parts[-1].append(sequence)
        size += bytes_of_row * len(positions)
    return parts


def write_part(staging: Path, number: int, slabs: Iterable[Slab]) -> None:
    """Write a part, so that it is there as a whole or not at all.

    Raises:
        InputError: the disk is full.
    """
    try:
        with atomic_stream(staging / part_name(number)) as stream:
            writer = PartWriter(stream)
            for slab in slabs:
                writer.add(slab)
        record = PartRecord(writer.size, writer.checksum, writer.index())
        atomic_write(_record_of(staging, number), record.to_bytes())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_space("more space", "a full disk", staging.parent) from error
        raise


def no_space(expected: str, found: str, where: Path) -> InputError:
    """The refusal to write what does not fit."""
    return InputError(
        expected,
        found,
        str(where),
        "Free space, for instance with `temmed cache prune`; choose another paths.cache; or do without a cache: "
        "data.cache_images=never.",
    )


def read_part(staging: Path, number: int) -> PartRecord | None:
    """What is known of a part, if it is there and its bytes are those that were written."""
    try:
        record = PartRecord.from_bytes(_record_of(staging, number).read_bytes())
        sound = checksum(staging / part_name(number)) == record.checksum
    except (OSError, ValueError, KeyError):
        return None  # not written yet, or damaged: it is written again
    return record if sound else None


def open_or_build(target: Path, build: Callable[[Path], Mapping[str, Any]]) -> Entry:
    """Open an entry; if it is not there or damaged, build it, or wait for the process that does.

    Args:
        target: its folder, named by its key.
        build: writes the parts into the folder it is given, numbered from 0 without a gap, by `write_part`; what
            `read_part` finds there is of an earlier attempt and need not be written again. Returns what
            ``entry.json`` is to say besides.

    Raises:
        InputError: from ``build``.
    """
    try:
        return Entry(target)
    except DamagedError:
        target.parent.mkdir(parents=True, exist_ok=True)
    with _waiting(target):
        try:
            return Entry(target)
        except DamagedError as error:
            if target.exists():
                _LOG.warning("A damaged cache entry is built again: %s", error)
                shutil.rmtree(target)
        staging = staging_of(target)
        staging.mkdir(exist_ok=True)
        _finish(staging, target, build(staging))
        return Entry(target)


def lock_of(target: Path) -> FileLock:
    """The lock that a builder holds."""
    return FileLock(target.with_name(f".{target.name}.lock"))


def staging_of(target: Path) -> Path:
    """Where an entry is built."""
    return target.with_name(f".{target.name}.building")


def _waiting(target: Path) -> FileLock:
    """The builder's lock; says so if another process has it."""
    lock = lock_of(target)
    try:
        with lock.acquire(timeout=0):
            pass
    except Timeout:
        _LOG.info("Waiting for another process that builds %s.", target)
    return lock


def _record_of(staging: Path, number: int) -> Path:
    return (staging / part_name(number)).with_suffix(".record")


def _finish(staging: Path, target: Path, about: Mapping[str, Any]) -> None:
    """Write index and ``entry.json`` and give the folder its name."""
    records: list[PartRecord] = []
    while (path := _record_of(staging, len(records))).exists():
        records.append(PartRecord.from_bytes(path.read_bytes()))
    index = Index.joined([record.index for record in records]).to_bytes()
    files = {part_name(n): {"bytes": r.size, "checksum": r.checksum} for n, r in enumerate(records)}
    files[INDEX] = {"bytes": len(index), "checksum": hashlib.blake2b(index, digest_size=16).hexdigest()}
    atomic_write(staging / INDEX, index)
    (staging / USED).touch()
    whole = {
        "format": FORMAT,
        "key": target.name,
        **about,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "bytes": sum(file["bytes"] for file in files.values()),
        "files": files,
    }
    for path in staging.iterdir():
        if path.name not in {*files, USED}:
            path.unlink()
    atomic_write(staging / ABOUT, json.dumps(whole, indent=2, ensure_ascii=False))
    os.rename(staging, target)
    sync_folder(target.parent)
