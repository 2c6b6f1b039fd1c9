"""Pixels from image files, by suffix.

A format is one file in :mod:`temmed.timelines.readers` with ``@reader(".png")`` above a function of a path and frame
numbers that returns the frames, first axis first. Libraries are imported inside the function, so that a folder of one
format needs no other.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from temmed.errors import InputError

Reader = Callable[[Path, Sequence[int] | None], np.ndarray]

#: Readers by lower-case suffix. The suffix may have two parts (``.nii.gz``); the empty suffix reads names with none
#: or an unknown one, as DICOM files often have.
READERS: dict[str, Reader] = {}


def reader(*suffixes: str) -> Callable[[Reader], Reader]:
    """Register the function below as the reader of these suffixes."""

    def register(function: Reader) -> Reader:
        for suffix in suffixes:
            READERS[suffix] = function
        return function

    return register


def read_frames(path: Path, frames: Sequence[int] | None = None) -> np.ndarray:
    """Read some frames of an image file.

    Args:
        path: the file.
        frames: indices into the file's leading (time) axis, in the order wanted; ``None`` when the file is one image.

    Returns:
        ``(n, *spatial)``, or ``(n, *spatial, 3)`` for colour; ``n`` is 1 when ``frames`` is ``None``.

    Raises:
        InputError: the file is absent, truncated, of an unknown format, or has no such frame.
    """
    path = Path(path)
    if not path.exists():
        raise InputError("an image file", "nothing", str(path), "Put the file back or correct the images table.")
    pixels = reader_of(path)(path, frames)
    if not pixels.size:
        raise InputError("an image with pixels", f"shape {pixels.shape}", str(path), "Write the file again.")
    return pixels


def suffixes() -> list[str]:
    """The suffixes that a reader knows, the longest first."""
    _find_readers()
    return sorted(filter(None, READERS), key=len, reverse=True)


def reader_of(path: Path) -> Reader:
    """The reader of a file, by the longest suffix known.

    Raises:
        InputError: no reader knows the suffix.
    """
    _find_readers()
    suffixes = [suffix.lower() for suffix in path.suffixes]
    for key in ("".join(suffixes[-2:]), "".join(suffixes[-1:]), ""):
        if key in READERS:
            return READERS[key]
    known = ", ".join(sorted(suffix for suffix in READERS if suffix))
    raise InputError(f"an image in one of {known}", repr(path.suffix), str(path), "Convert the file.")


@cache
def _find_readers() -> None:
    """Import every module of the readers, once: each registers itself."""
    from temmed.timelines import readers

    for module in pkgutil.iter_modules(readers.__path__, f"{readers.__name__}."):
        importlib.import_module(module.name)


def check_frames(path: Path, frames: Sequence[int], count: int) -> None:
    """Refuse frame numbers that a file does not have.

    Raises:
        InputError: a number is negative or at least ``count``.
    """
    wrong = [frame for frame in frames if not 0 <= frame < count]
    if wrong:
        raise InputError(
            f"frames 0 to {count - 1}", f"frame {wrong[0]}", str(path), "Correct the frame column of the images table."
        )


@reader(".npy")
def _read_npy(path: Path, frames: Sequence[int] | None) -> np.ndarray:
    try:
        # Mapped, as one frame of a long loop is often all that is wanted.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray) or array.ndim == 0:
            raise ValueError("not an array of pixels")
    except (OSError, ValueError, EOFError) as error:
        found = (error.strerror or str(error)) if isinstance(error, OSError) else "a truncated or damaged file"
        raise InputError("a readable NumPy array", found, str(path), "Write or copy the file again.") from error
    if frames is None:
        return np.array(array)[None]
    check_frames(path, frames, len(array))
    return np.array(array[np.asarray(frames, dtype=np.int64)])
