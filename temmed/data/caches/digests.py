"""Digests of image files, read again only when a file may have changed."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path

import pandas as pd
from pyarrow.lib import ArrowException
from tqdm import tqdm

from temmed.errors import InputError
from temmed.files import atomic_stream, is_writable
from temmed.processes import processors

_LOG = logging.getLogger(__name__)
#: Below this age, in seconds, a file may be changed again within one tick of its file system's clock: the times alone
#: would not tell. The coarsest clock in use, that of FAT, ticks every two seconds.
_UNSETTLED = 2.0


@dataclass(frozen=True)
class FileState:
    """A file as it was when it was read.

    Attributes:
        path: the file.
        size: bytes.
        modified: time of the last change of the content, in ns, as the file system tells.
        changed: time of the last change of any kind, in ns; unlike ``modified``, no program can set it.
        inode: its number in the file system.
        digest: BLAKE2b of its bytes.
        settled: whether any later change shows in the times.
    """

    path: str
    size: int
    modified: int
    changed: int
    inode: int
    digest: str
    settled: bool = True

    @classmethod
    def read(cls, path: str) -> FileState:
        """Hash a file.

        Raises:
            InputError: it cannot be read, or is written to meanwhile.
        """
        try:
            with open(path, "rb") as stream:
                before = _signature(os.fstat(stream.fileno()))
                digest = hashlib.file_digest(stream, partial(hashlib.blake2b, digest_size=16)).hexdigest()
                after = _signature(os.stat(path))
        except OSError as error:
            found = error.strerror or type(error).__name__
            raise InputError("an image file", found, path, "Put the file back or correct the images table.") from error
        if before != after:
            raise _written(path)
        newest = max(before[1], before[2]) / 1e9
        return cls(path, *before, digest, settled=newest < time.time() - _UNSETTLED)

    def still(self) -> bool:
        """Whether the file is what it was."""
        try:
            same = _signature(os.stat(self.path)) == (self.size, self.modified, self.changed, self.inode)
        except OSError:
            return False
        return same and (self.settled or FileState.read(self.path).digest == self.digest)

    def check(self) -> None:
        """Refuse a file that is not what it was.

        Raises:
            InputError: it was changed.
        """
        if not self.still():
            raise _written(self.path)


#: Columns of a memo: only what is settled is written into it.
_MEMO = [field.name for field in fields(FileState)][:-1]


@dataclass(frozen=True)
class ImageState:
    """What a path of the images table names: a file, or a folder of slices with its files.

    Attributes:
        files: the files.
        digest: of all their bytes, and of the names of the files in a folder.
    """

    files: tuple[FileState, ...]
    digest: str


def image_states(root: Path, paths: Collection[str], memo: Path) -> dict[str, ImageState]:
    """The state of image files, hashed in threads unless the memo knows them.

    Args:
        root: the folder that relative paths start from.
        paths: as the images table names them.
        memo: a file that keeps the digests of files as they are now, for the next time.

    Raises:
        InputError: a file cannot be read, or is written to meanwhile.
    """
    inside = {path: list(_files(os.path.join(root, path))) for path in paths}
    files = sorted({file for found in inside.values() for file in found})
    known = _read(memo)
    with ThreadPoolExecutor(processors()) as pool:
        found = pool.map(lambda file: _known(file, known) or FileState.read(file), files)
        bar = tqdm(found, total=len(files), desc="Looking for changed images", unit="file", disable=None, leave=False)
        states = dict(zip(files, bar, strict=True))
    changed = any(known.get(file) is not state for file, state in states.items()) or len(known) != len(states)
    if changed and is_writable(memo.parent):  # another user's cache may be read, too
        _write(memo, [state for state in states.values() if state.settled])
    return {path: _state(os.path.join(root, path), [states[file] for file in found]) for path, found in inside.items()}


def _signature(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _written(path: str) -> InputError:
    return InputError(
        "an image file that stays as it is", "that it was changed meanwhile", path, "Start again when it is complete."
    )


def _files(path: str) -> Iterator[str]:
    if not os.path.isdir(path):
        yield path
        return
    for folder, _, names in os.walk(path):
        yield from (os.path.join(folder, name) for name in names)


def _known(file: str, known: dict[str, FileState]) -> FileState | None:
    state = known.get(file)
    return state if state is not None and state.still() else None


def _state(path: str, files: list[FileState]) -> ImageState:
    if len(files) == 1 and files[0].path == path:
        return ImageState(tuple(files), files[0].digest)
    whole = hashlib.blake2b(digest_size=16)
    for state in sorted(files, key=lambda state: state.path):
        whole.update(f"{os.path.relpath(state.path, path)}\0{state.digest}\0".encode())
    return ImageState(tuple(files), whole.hexdigest())


def _read(memo: Path) -> dict[str, FileState]:
    if not memo.exists():
        return {}
    try:
        table = pd.read_parquet(memo, columns=_MEMO)
    except (OSError, ArrowException) as error:
        _LOG.warning("%s cannot be read (%s): all images are looked through again.", memo, str(error).splitlines()[0])
        return {}
    return {row[0]: FileState(*row) for row in table.itertuples(index=False, name=None)}


def _write(memo: Path, states: list[FileState]) -> None:
    table = pd.DataFrame([astuple(state)[:-1] for state in states], columns=_MEMO)
    with atomic_stream(memo) as stream:
        table.to_parquet(stream, index=False)
