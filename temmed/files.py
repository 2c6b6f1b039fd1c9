"""Files and folders that are either whole or absent.

Everything is written beside its target and renamed, so that a killed process never leaves something half-written
under the name that readers look for.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from temmed.errors import InputError

#: Beginning of the names of the files by which processes show that they work in a resumable folder.
_AT_WORK = ".at-work-"


def _host() -> str:
    # Process ids mean something on one machine only, and clusters share their disks.
    return re.sub(r"[^A-Za-z0-9_.]", "_", socket.gethostname()) or "localhost"


def process_name() -> str:
    """Host and number of this process: unlike that of any other that runs, on a shared disk, too."""
    return f"{_host()}-{os.getpid()}"


def _sibling(target: Path, role: str) -> Path:
    return target.with_name(f".{target.name}.{role}-{process_name()}")


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _abandoned(target: Path, role: str) -> list[Path]:
    """The siblings of ``target`` that a process of this machine left behind when it died."""
    pattern = re.compile(re.escape(f".{target.name}.{role}-{_host()}-") + r"(\d+)")
    if not target.parent.is_dir():
        return []
    found = []
    for path in sorted(target.parent.iterdir()):
        match = pattern.fullmatch(path.name)
        if match and not _is_running(int(match.group(1))):
            found.append(path)
    return found


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Bring a file's content, or the names in a folder, to the disk, so that they are there after a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_writable(folder: Path) -> bool:
    """Whether a folder, or the one above in which it would be made, can be written to."""
    there = next(candidate for candidate in (folder.absolute(), *folder.absolute().parents) if candidate.exists())
    return os.access(there, os.W_OK)


def atomic_write(path: str | os.PathLike[str], data: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new, and nothing between.

    Args:
        path: the file to write; missing parent folders are made.
        data: its whole content; text is written as UTF-8.
    """
    with atomic_stream(path) as stream:
        stream.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def atomic_stream(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """As `atomic_write`, for content that is written piece by piece.

    Args:
        path: the file to write; missing parent folders are made.

    Yields:
        A stream of bytes beside the target, which takes its name when the block is left normally.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in _abandoned(target, "partial"):
        _remove(leftover)
    staging = _sibling(target, "partial")
    try:
        with staging.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(staging, target)
    finally:
        staging.unlink(missing_ok=True)
    sync(target.parent)


@contextmanager
def staged_folder(
    target: str | os.PathLike[str], overwrite: bool = False, marker: str | None = "dataset.json"
) -> Iterator[Path]:
    """Fill a folder that appears under its name only when it is complete.

    Leaving the block normally renames the staging folder to ``target``. Leaving it by any exception, Ctrl-C included,
    removes it. After ``kill -9`` it stays behind under a hidden name, and the next call for the same target clears it.

    Args:
        target: the folder to make. It may exist when it is empty.
        overwrite: replace a folder that has content. The old one is there until the new one is complete.
        marker: a file that a folder must hold to be replaced, so that ``overwrite`` with a wrong path deletes nothing
            else; ``None`` replaces any folder.

    Yields:
        The staging folder, beside the target.

    Raises:
        InputError: the target has content and may not be replaced.
    """
    # Not `resolve()`: a link to a folder elsewhere must stay a link's problem, not become a rename across disks.
    target = Path(os.path.abspath(target))
    _recover(target)
    _check_replaceable(target, overwrite, marker)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = _sibling(target, "partial")
    if staging.exists():
        _remove(staging)
    staging.mkdir()
    try:
        yield staging
        _put_in_place(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


class UnfinishedError(InputError):
    """Work in a `resumable_folder` that could not be finished and may go on later."""


@contextmanager
def resumable_folder(
    target: str | os.PathLike[str], key: str, overwrite: bool = False, finish: bool = True
) -> Iterator[Path]:
    """As `staged_folder`, but what was done before a kill, Ctrl-C or a full disk is there the next time.

    Only an `InputError` clears it, unless it is an `UnfinishedError`: what the user gave cannot be used, so that there
    is nothing to go on with.

    Several processes may fill the folder together, of several machines, too, as long as each writes files of its own;
    one of them finishes it when the others are done.

    Args:
        target: the folder to make. It may exist when it is empty.
        key: of the work: only with the same key it goes on. What was done with other keys is cleared.
        overwrite: replace a timeline folder that is there.
        finish: rename the folder to ``target`` at the end; else leave it for a later call.

    Yields:
        The staging folder, beside the target.

    Raises:
        InputError: the target has content and may not be replaced, or other processes are not done.
    """
    target = Path(os.path.abspath(target))
    _recover(target)
    _check_replaceable(target, overwrite, "dataset.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    for other in target.parent.glob(f".{target.name}.resume-*"):
        if other.name != f".{target.name}.resume-{key}" and not _workers(other):
            _remove(other)
    staging = target.with_name(f".{target.name}.resume-{key}")
    if finish and (busy := _workers(staging)):
        raise InputError(
            "no other process at work on it", ", ".join(busy), str(staging), "Start this when the others have ended."
        )
    staging.mkdir(exist_ok=True)
    sign = staging / f"{_AT_WORK}{process_name()}"
    sign.touch()
    try:
        yield staging
        sign.unlink()
        if finish:
            _put_in_place(staging, target)
    except InputError as error:
        # The folder of a part is left alone: other processes may be at work in it.
        if finish and not isinstance(error, UnfinishedError):
            shutil.rmtree(staging, ignore_errors=True)
        raise
    finally:
        sign.unlink(missing_ok=True)


def _put_in_place(staging: Path, target: Path) -> None:
    """Give a complete folder its name. What is there is moved aside, and put back if that fails."""
    retired = _sibling(target, "replaced")
    try:
        if target.exists():
            os.rename(target, retired)
        os.rename(staging, target)
        sync(target.parent)
    finally:
        if retired.exists() and not target.exists():
            os.rename(retired, target)
        shutil.rmtree(retired, ignore_errors=True)


def _workers(staging: Path) -> list[str]:
    """The processes at work in a resumable folder. Of other machines nobody can tell whether they still run."""
    found = []
    for sign in sorted(staging.glob(f"{_AT_WORK}*")):
        name = sign.name.removeprefix(_AT_WORK)
        host, _, pid = name.rpartition("-")
        if host == _host() and (int(pid) == os.getpid() or not _is_running(int(pid))):
            sign.unlink(missing_ok=True)
        else:
            found.append(name)
    return found


def _recover(target: Path) -> None:
    """Clear what dead processes left; put back a folder that was moved aside and never replaced."""
    for leftover in _abandoned(target, "replaced"):
        if target.exists():
            _remove(leftover)
        else:
            os.rename(leftover, target)
    for leftover in _abandoned(target, "partial"):
        _remove(leftover)


def _check_replaceable(target: Path, overwrite: bool, marker: str | None) -> None:
    if not os.path.lexists(target):
        return
    if not target.is_dir() or target.is_symlink():
        raise InputError("a folder or nothing", "a file or a link", str(target), "Give another place to write to.")
    if not any(target.iterdir()):
        return
    if not overwrite:
        raise InputError(
            "an empty or absent folder",
            "a folder with content",
            str(target),
            "Give another place to write to, or ask to overwrite it.",
        )
    if marker is not None and not (target / marker).is_file():
        raise InputError(
            f"a folder with a {marker}, which TemMed may replace",
            "a folder with other content",
            str(target),
            "Give another place to write to, or remove the folder yourself.",
        )
