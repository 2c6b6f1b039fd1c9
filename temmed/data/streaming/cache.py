"""Shards on this machine: fetched when they are read, never more bytes of them than allowed.

Any number of processes of one machine share a cache. A shard is fetched by one of them while others that want it wait;
it has its name only when it is whole and its checksum was right. Which shard was used last is its time of modification.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from temmed.data.streaming.layout import Blob
from temmed.data.streaming.remote import Remote
from temmed.errors import InputError
from temmed.files import sync

R = TypeVar("R")
_SUFFIX = ".tar"
#: A shard that is being fetched: whose it is, and how many bytes are set aside for it.
_PARTIAL = re.compile(r"\.([0-9a-f]+)-(\d+)\.partial")
#: Seconds between two looks whether others have made room.
_PAUSE = 0.05


class ShardCache:
    """Shards of remote data.

    Args:
        remote: where they come from.
        folder: where they are kept; data sets may share it.
        limit: bytes that it may hold.
    """

    def __init__(self, remote: Remote, folder: Path, limit: int) -> None:
        self.remote, self.folder, self.limit = remote, folder, limit

    def check(self, shards: tuple[Blob, ...]) -> None:
        """Refuse a limit that is less than the largest shard.

        Raises:
            InputError: it is.
        """
        largest = max((shard.size for shard in shards), default=0)
        if largest > self.limit:
            raise InputError(
                f"{largest:,} bytes at least, for the largest shard",
                f"{self.limit:,}",
                "data.stream_cache",
                "Allow more, or write smaller shards with `temmed data shard --shard-size`.",
            )

    def use(self, shard: Blob, read: Callable[[Path], R]) -> R:
        """Open a shard, fetching it if it is not there.

        Args:
            shard: which.
            read: opens the file. What it has open or mapped stays readable when the shard is removed to make room.

        Raises:
            InputError: it cannot be fetched.
        """
        target = self.folder / f"{shard.digest}{_SUFFIX}"
        if (found := _opened(target, read)) is not None:
            return found
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock(shard.digest):
            if (found := _opened(target, read)) is not None:
                return found
            partial = self._set_aside(shard)
            try:
                self.remote.download(shard, partial)
                # Before it has its name, from when on others may remove it.
                result = read(partial)
                sync(partial)
                os.replace(partial, target)
            finally:
                partial.unlink(missing_ok=True)
            return result

    def _lock(self, name: str, timeout: float = -1) -> FileLock:
        return FileLock(self.folder / f".{name}.lock", timeout=timeout)

    def _set_aside(self, shard: Blob) -> Path:
        """A file for a shard, once there is room for it. Waits for other fetches if they take what there is."""
        partial = self.folder / f".{shard.digest}-{shard.size}.partial"
        while True:
            with self._lock("room"):
                if self._make_room(shard):
                    partial.touch()
                    return partial
            time.sleep(_PAUSE)

    def _make_room(self, shard: Blob) -> bool:
        """Remove what was used longest ago until a shard fits, if it can fit."""
        # In this order: what another process finishes meanwhile is counted twice, and not left out.
        taken = sum(self._fetching(shard))
        kept = sorted(_kept(self.folder))
        taken += sum(size for _, size, _ in kept)
        while taken + shard.size > self.limit and kept:
            _, size, path = kept.pop(0)
            path.unlink(missing_ok=True)
            taken -= size
        return taken + shard.size <= self.limit

    def _fetching(self, own: Blob) -> Iterator[int]:
        """Bytes set aside for others. What dead processes left is removed: nobody holds its lock."""
        for path in self.folder.iterdir():
            match = _PARTIAL.fullmatch(path.name)
            if match is None:
                continue
            if match[1] == own.digest:
                path.unlink(missing_ok=True)
                continue
            try:
                with self._lock(match[1], timeout=0):
                    path.unlink(missing_ok=True)
            except Timeout:
                yield int(match[2])


def _opened(path: Path, read: Callable[[Path], R]) -> R | None:
    try:
        # The system's own stamp goes by a clock that stands still for some milliseconds.
        os.utime(path, ns=(time.time_ns(),) * 2)
        return read(path)
    except FileNotFoundError:
        return None


def _kept(folder: Path) -> Iterator[tuple[int, int, Path]]:
    """Time of last use, bytes and path of every shard."""
    for path in folder.glob(f"*{_SUFFIX}"):
        try:
            status = path.stat()
        except FileNotFoundError:  # removed by another process
            continue
        yield status.st_mtime_ns, status.st_size, path
