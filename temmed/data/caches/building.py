"""Building an entry: one process builds, others wait; what a killed build had finished is used by the next."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
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
from temmed.files import atomic_stream, atomic_write, is_writable, sync

_LOG = logging.getLogger(__name__)
#: At most so many parts, so that a process can map them all.
_MOST_PARTS = 4096
_ELSEWHERE = "Choose another paths.cache, or do without caches: data.cache_images=never data.cache_features=false."
#: Part of the estimated size that must be free besides.
_MARGIN = 0.02


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


def divide(sequences: Mapping[str, Sequence[int]], least: int) -> list[list[str]]:
    """Group sequences, in their order, into parts.

    Args:
        sequences: positions by sequence.
        least: positions of a part, but for the last.
    """
    least = max(least, math.ceil(sum(map(len, sequences.values())) / _MOST_PARTS))
    parts: list[list[str]] = []
    held = least
    for sequence, positions in sequences.items():
        if held >= least:
            parts.append([])
            held = 0
        parts[-1].append(sequence)
        held += len(positions)
    return parts


def check_space(size: float, folder: Path) -> None:
    """Refuse to write more than the disk has space for.

    Args:
        size: bytes, estimated.
        folder: where they are to go.

    Raises:
        InputError: there is less.
    """
    free = shutil.disk_usage(folder).free
    if size * (1 + _MARGIN) > free:
        raise no_space(f"space for {as_bytes(size)}", f"{as_bytes(free)} free", folder)


def announce(what: str, count: int, size: float, folder: Path) -> None:
    """Say what is going to be written."""
    _LOG.info("%s: %s time points, about %s, in %s.", what, f"{count:,}", as_bytes(size), folder)


def as_bytes(size: float) -> str:
    """A number of bytes, readable.

    >>> as_bytes(1_234_567), as_bytes(999)
    ('1.2 MB', '999 B')
    """
    units = ("B", "kB", "MB", "GB", "TB")
    power = min(int(math.log(max(size, 1), 1000)), len(units) - 1)
    return f"{size / 1000**power:.{1 if power else 0}f} {units[power]}"


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
    return InputError(expected, found, str(where), f"Free space, for instance with `temmed cache prune`. {_ELSEWHERE}")


def missing_parts(staging: Path, parts: Sequence[Sequence[str]]) -> list[int]:
    """Numbers of the parts that are still to be written. What an attempt with other parts left behind is removed.

    Args:
        staging: where they are written.
        parts: the sequences of each.
    """
    beyond = len(parts)
    while (record := _record_of(staging, beyond)).exists():
        record.unlink()
        beyond += 1
    return [number for number, sequences in enumerate(parts) if not _is_there(staging, number, sequences)]


def _is_there(staging: Path, number: int, sequences: Sequence[str]) -> bool:
    """Whether a part holds these sequences, in the bytes that were written."""
    try:
        record = PartRecord.from_bytes(_record_of(staging, number).read_bytes())
        return record.index.ids == list(sequences) and checksum(staging / part_name(number)) == record.checksum
    except (OSError, ValueError, KeyError):
        return False  # not written yet, or damaged: it is written again


def open_or_build(target: Path, build: Callable[[Path], Mapping[str, Any]]) -> Entry:
    """Open an entry; if it is not there or damaged, build it, or wait for the process that does.

    Args:
        target: its folder, named by its key.
        build: writes the `missing_parts` into the folder it is given, numbered from 0 without a gap, by `write_part`.
            Returns what ``entry.json`` is to say besides.

    Raises:
        InputError: from ``build``.
    """
    try:
        return Entry(target)
    except DamagedError:
        if not is_writable(target.parent):
            raise InputError(
                "a folder for caches that can be written to", "one that cannot", str(target.parent), _ELSEWHERE
            ) from None
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
    atomic_write(staging / ABOUT, json.dumps(whole, indent=2, ensure_ascii=False))
    os.rename(staging, target)
    sync(target.parent)
    # Only now: a build that is killed before goes on with what the records say.
    for path in target.iterdir():
        if path.name not in {*files, USED, ABOUT}:
            path.unlink()
