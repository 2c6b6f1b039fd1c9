"""Pixels of NIfTI files, in the order and orientation of axial DICOM slices.

Voxels are scaled by the header's slope and intercept. Axes are permuted and flipped, never resampled, so that a volume
is (slice, row, column) with slices running from feet to head, rows from front to back and columns from the patient's
right to the left: the array that the same axial scan gives as DICOM.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from temmed.errors import InputError
from temmed.timelines.pixels import check_frames, reader

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Image

#: What nibabel and the decompressors under it raise on damaged files.
BROKEN = (
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    OSError,
    EOFError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
)
#: Bytes that one byte of a packed file can become at most.
_MOST_UNPACKED = 1032
_DAMAGED = "Copy the file again from its source, or leave it out; the dataset's audit lists such files."


@reader(".nii", ".nii.gz")
def read(path: Path, frames: Sequence[int] | None) -> np.ndarray:
    """Read frames of a NIfTI file; only those asked for are loaded.

    Args:
        path: a ``.nii`` or ``.nii.gz`` file.
        frames: 0-based indices into the fourth axis; ``None`` reads the file as one image.

    Returns:
        ``(n, slices, rows, columns)`` float32, without the axis of slices where the file has only one, and with a last
        axis of 3 for colour (uint8).

    Raises:
        InputError: the file is damaged, is not an image, has no such frame, or has several and none was named.
    """
    image = open_image(path)
    count = frame_count(image)
    if frames is None and count > 1:
        raise InputError(
            "an image with one time point",
            f"{count} time points",
            str(path),
            "Name the time point in the column `frame` of the images table.",
        )
    wanted = [0] if frames is None else [int(frame) for frame in frames]
    check_frames(path, wanted, count)
    try:
        return np.stack([_volume(image, frame) for frame in wanted])
    except BROKEN as error:
        raise unreadable(path, error) from error


def open_image(path: Path) -> Nifti1Image:
    """Open a file lazily: the header is read, the voxels are not.

    Raises:
        InputError: the file is damaged, or it is not a NIfTI image of 2 to 4 dimensions with real values.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        image = nibabel.load(path)
    except (ImageFileError, HeaderDataError, *BROKEN) as error:
        raise unreadable(path, error) from error
    if not isinstance(image, nibabel.Nifti1Image):
        raise InputError("a NIfTI image", type(image).__name__, str(path), "Convert it to NIfTI, or leave it out.")
    extra = [size for size in image.shape[4:] if size != 1]
    if len(image.shape) < 2 or extra or 0 in image.shape:
        raise InputError(
            "an image of 2 to 4 dimensions", f"shape {image.shape}", str(path), "Split its further axes into files."
        )
    needed, size = math.prod(image.shape) * voxel_type(image).itemsize, path.stat().st_size
    if needed > size * (_MOST_UNPACKED if path.suffix.lower() == ".gz" else 1):
        # A header that is wrong could otherwise take all memory.
        found = f"{needed:,} bytes of voxels by its header and {size:,} in all"
        raise InputError("a readable NIfTI image", found, str(path), _DAMAGED)
    if voxel_type(image).kind == "c":
        raise InputError("real values", "complex values", str(path), "Store the magnitude and import that.")
    return image


def frame_count(image: Nifti1Image) -> int:
    """The size of the fourth axis; 1 where there is none."""
    return int(image.shape[3]) if len(image.shape) > 3 else 1


def spatial_dims(image: Nifti1Image) -> int:
    """3 for volumes, 2 where there is one slice only."""
    return 3 if len(image.shape) > 2 and image.shape[2] > 1 else 2


def voxel_type(image: Nifti1Image) -> np.dtype:
    """The stored type of the voxels; one with fields ``R``, ``G``, ``B`` for colour."""
    header: Any = image.header
    kind: np.dtype = header.get_data_dtype()
    return kind


def unreadable(path: Path, error: BaseException) -> InputError:
    """The error for a file that nibabel cannot read."""
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return InputError("a readable NIfTI image", reason[:200], str(path), _DAMAGED)


def _volume(image: Nifti1Image, frame: int) -> np.ndarray:
    """One time point, ``(slices, rows, columns)`` or ``(rows, columns)``, with 3 at the end for colour."""
    import nibabel

    shape = image.shape
    index: tuple[slice | int, ...] = (slice(None),) * min(len(shape), 3)
    index += (frame,) * (len(shape) > 3) + (0,) * (len(shape) - 4)
    values = np.asarray(image.dataobj[index])
    if values.dtype.names:
        values = np.stack([values[name] for name in values.dtype.names[:3]], axis=-1)
    else:
        values = values.astype(np.float32)
    if spatial_dims(image) == 2:
        # One slice is shown as it was stored: turning it could leave it standing on its edge.
        colour = values.shape[len(shape[:3]) :]
        return np.ascontiguousarray(values.reshape(*shape[:2], *colour).swapaxes(0, 1))
    turns: Any = nibabel.orientations
    turn = turns.ornt_transform(turns.io_orientation(image.affine), turns.axcodes2ornt("LPS"))
    return np.ascontiguousarray(turns.apply_orientation(values, turn).swapaxes(0, 2))
