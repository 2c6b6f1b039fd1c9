"""What lies in the folder of all caches: to list, to check and to remove. Needs no torch."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout

from temmed.data.caches.building import lock_of, staging_of
from temmed.data.caches.entry import ABOUT, USED, DamagedError, read_about

#: Folders of the cache by the kind of their entries.
KINDS = ("images", "features")


@dataclass(frozen=True)
class Item:
    """An entry, or what is left of one.

    Attributes:
        path: its folder or file.
        kind: images or features.
        state: ``entry``, ``damaged``, ``building`` (by a live process), or ``leftover`` of a build that ended early
            or of another version.
        size: bytes on disk.
        made: seconds since 1970.
        used: likewise, the last time that it was opened.
        about: what ``entry.json`` says.
    """

    path: Path
    kind: str
    state: str
    size: int
    made: float
    used: float
    about: dict[str, Any]


def listed(root: Path) -> list[Item]:
    """All that lies in the caches under a folder; the last used first."""
    found = (_item(path, kind) for kind in KINDS for path in _paths(root / kind))
    return sorted(filter(None, found), key=lambda item: -item.used)


def chosen(
    items: Sequence[Item],
    *,
    now: float | None = None,
    kind: str | None = None,
    older_than: float | None = None,
    unused_for: float | None = None,
    larger_than: int | None = None,
    keep: int | None = None,
    everything: bool = False,
    leftovers: bool = False,
) -> list[Item]:
    """Which items to remove: those that any of the conditions names; of entries, only those of the kind.

    Args:
        items: from `listed`.
        now: seconds since 1970; the present by default.
        kind: leave entries of another kind alone.
        older_than: made so many seconds ago.
        unused_for: not opened for so many seconds.
        larger_than: of more bytes.
        keep: those used longest ago, until the others have at most so many bytes together.
        everything: all entries.
        leftovers: what is no entry.
    """
    now = time.time() if now is None else now
    found = []
    held = 0
    for item in sorted(items, key=lambda item: -item.used):
        if item.state == "building" or (kind is not None and item.kind != kind):
            continue
        if item.state == "leftover":
            if leftovers or everything:
                found.append(item)
            continue
        held += item.size
        if (
            everything
            or (older_than is not None and now - item.made > older_than)
            or (unused_for is not None and now - item.used > unused_for)
            or (larger_than is not None and item.size > larger_than)
            or (keep is not None and held > keep)
        ):
            found.append(item)
            held -= item.size
    return found


def remove(item: Item) -> bool:
    """Remove an item, unless a process of this machine reads or builds it. Returns whether it is gone."""
    target = _target(item)
    lock = lock_of(target)
    try:
        with lock.acquire(timeout=0):
            with _unread(item.path) as free:
                if not free:
                    return False
                if item.path.is_dir():
                    # Without its description it is no entry any more, so that a reader never meets one half removed.
                    (item.path / ABOUT).unlink(missing_ok=True)
                    shutil.rmtree(item.path)
                else:
                    item.path.unlink(missing_ok=True)
            Path(lock.lock_file).unlink(missing_ok=True)
    except Timeout:
        return False
    return True


@contextmanager
def _unread(path: Path) -> Iterator[bool]:
    """Whether nobody reads an entry; nobody can begin to within the block."""
    try:
        stream = (path / USED).open("r+b")
    except (FileNotFoundError, NotADirectoryError):
        yield True
        return
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _paths(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    # A lock without what it locks is left to those that may wait for it; it is empty.
    return [path for path in sorted(folder.iterdir()) if path.suffix != ".lock"]


def _item(path: Path, kind: str) -> Item | None:
    """What lies at a path; ``None`` if it is gone. Other processes write, rename and remove files meanwhile."""
    within = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    status = {file: found for file in (path, *within) if (found := _status(file)) is not None}
    if path not in status:
        return None
    files = [found for found in status.values() if stat.S_ISREG(found.st_mode)]
    size = sum(found.st_size for found in files)
    changed = max((found.st_mtime for found in files), default=status[path].st_mtime)
    if path / ABOUT not in status or path.name.startswith("."):
        return Item(path, kind, "building" if _is_built(path) else "leftover", size, changed, changed, {})
    made = status[path / ABOUT].st_mtime
    used = status[path / USED].st_mtime if path / USED in status else changed
    try:
        return Item(path, kind, "entry", size, made, used, read_about(path))
    except DamagedError:
        return Item(path, kind, "damaged", size, made, used, {})


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _target(item: Item) -> Path:
    """The entry that an item is, or was to become."""
    name = item.path.name
    suffix = staging_of(Path("x")).name.removeprefix(".x")
    if name.startswith(".") and name.endswith(suffix):
        name = name[1 : -len(suffix)]
    return item.path.with_name(name)


def _is_built(path: Path) -> bool:
    """Whether a process of this machine builds what is to become an entry here."""
    lock = lock_of(_target(Item(path, "", "", 0, 0, 0, {})))
    if not os.path.exists(lock.lock_file):
        return False
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True
