"""Pixels of AVI and MP4 files, through PyAV (the extra ``video``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from temmed.errors import InputError
from temmed.timelines.pixels import reader

_DAMAGED = "Copy the file again from its source, or leave it out; the dataset's audit lists such files."


@reader(".avi", ".mp4", ".m4v", ".mov")
def read(path: Path, frames: Sequence[int] | None) -> np.ndarray:
    """Read frames of a video.

    Video is decoded from its start to the last frame asked for: indices are counted and not computed from time stamps,
    which containers round and AVI often lacks. Only the frames asked for are converted and kept.

    Args:
        path: the file.
        frames: 0-based frames, in any order; ``None`` reads a video of a single frame.

    Returns:
        ``(n, rows, columns, 3)`` uint8 RGB, or ``(n, rows, columns)`` where the stream itself is grey.

    Raises:
        InputError: PyAV is not installed, the file is damaged, it has no such frame, or it has several frames and none
            was named.
    """
    wanted = None if frames is None else [int(frame) for frame in frames]
    last = 1 if wanted is None else max(wanted, default=0)
    kept: dict[int, np.ndarray] = {}
    count = 0
    for frame in decode(path):
        if wanted is None or count in wanted:
            kept[count] = _pixels(path, frame)
        count += 1
        if count > last:
            break
    if wanted is None and count != 1:
        raise InputError(
            "a video of one frame",
            "several" if count else "none",
            str(path),
            "Name the frame in the column `frame` of the images table.",
        )
    missing = sorted(set(wanted or [0]) - set(kept))
    if missing:
        raise InputError(
            f"a frame from 0 to {count - 1}" if count else "a video with frames",
            f"frame {missing[0]}" if count else "none that decodes",
            str(path),
            "Correct the column `frame` of the images table, or copy the file again: it may be cut short.",
        )
    return np.stack([kept[frame] for frame in (wanted or [0])])


def decode(path: Path) -> Iterator[Any]:
    """The frames of a video's first stream in the order in which they are shown, as PyAV gives them.

    Raises:
        InputError: PyAV is not installed, or the file is damaged or no video.
    """
    try:
        import av
    except ModuleNotFoundError as error:
        raise InputError(
            "PyAV, which reads videos", "it is not installed", str(path), "Install it: `pip install 'temmed[video]'`."
        ) from error
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError("a video", "a file without pictures", str(path), "Give the right file.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield from container.decode(stream)
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise _unreadable(path, error) from error


def is_grey(frame: Any) -> bool:
    """Whether a frame has no colour."""
    return bool(frame.format.name.startswith("gray"))


def _pixels(path: Path, frame: Any) -> np.ndarray:
    try:
        pixels: np.ndarray = frame.to_ndarray(format="gray" if is_grey(frame) else "rgb24")
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    return pixels


def _unreadable(path: Path, error: BaseException) -> InputError:
    return InputError("a readable video", str(error) or type(error).__name__, str(path), _DAMAGED)
