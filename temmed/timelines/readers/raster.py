"""Pixels of PNG and JPEG files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from temmed.errors import InputError
from temmed.timelines.pixels import check_frames, reader

#: Pillow's modes of one grey channel; anything else is brought to RGB.
_GREY = {"1": "L", "L": "L", "LA": "L", "La": "L"}
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


@reader(".png", ".jpg", ".jpeg")
def read(path: Path, frames: Sequence[int] | None) -> np.ndarray:
    """Read one picture.

    Args:
        path: a ``.png`` or ``.jpg`` file.
        frames: ``None``, or frame 0 any number of times: such a file holds one picture.

    Returns:
        ``(n, rows, columns)`` in the stored depth for grey, ``(n, rows, columns, 3)`` uint8 for colour. Transparency is
        left out.

    Raises:
        InputError: the file is damaged or no picture, or another frame was asked for.
    """
    from PIL import Image, UnidentifiedImageError

    wanted = [0] if frames is None else [int(frame) for frame in frames]
    check_frames(path, wanted, 1)
    try:
        with Image.open(path) as image:
            if image.mode in _DEEP:
                values = np.asarray(image)
            else:
                values = np.asarray(image.convert(_GREY.get(image.mode, "RGB")))
    except UnidentifiedImageError as error:
        raise InputError("a PNG or JPEG picture", "something else", str(path), "Give the right file.") from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        IndexError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        raise InputError(
            "a readable picture",
            str(error) or type(error).__name__,
            str(path),
            "Copy the file again from its source, or leave it out; the dataset's audit lists such files.",
        ) from error
    return np.stack([values] * len(wanted))
