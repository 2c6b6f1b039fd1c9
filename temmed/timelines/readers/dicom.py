"""Pixels of DICOM files, as a physician would be shown them before any window is applied.

Grey values go through the modality transform (Hounsfield units for CT), so they compare across visits. MONOCHROME1 is
turned round, so that more signal is always brighter. Colour is RGB, 8 bits per sample, whatever it was stored as.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from temmed.errors import InputError
from temmed.timelines.pixels import check_frames, reader, reader_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_DEFLATED = "1.2.840.10008.1.2.1.99"
#: Bytes that one byte can become at most.
_MOST_DEFLATED = 1032
_MISSING_DECODER = ("missing dependencies", "missing required dependencies", "is not supported", "unable to decompress")
_EXTRA = (
    "Install the decoders with `pip install 'temmed[compressed]'`, or decompress the file first, for example with "
    "`gdcmconv --raw` or `dcmdjpeg`."
)
_DAMAGED = "Copy the file again from its source, or leave it out; the dataset's audit lists such files."


@cache
def broken() -> tuple[type[Exception], ...]:
    """What pydicom and its decoders raise on damaged or incomplete files."""
    from pydicom.errors import BytesLengthException

    return (
        BytesLengthException,
        ValueError,
        AttributeError,
        KeyError,
        IndexError,
        TypeError,
        OSError,
        EOFError,
        RuntimeError,
        OverflowError,
        MemoryError,
        AssertionError,
        struct.error,
        zlib.error,
    )


def sniff(path: Path) -> bool:
    """Whether a file is DICOM by its marker: ``DICM`` after a preamble of 128 bytes."""
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def study_date(path: Path) -> str | None:
    """The date on which the images of a DICOM file, or of a folder of slices, were taken.

    Args:
        path: any image file; only DICOM is looked into.

    Returns:
        ``YYYYMMDD`` of the study, series, acquisition or content, the first that is given; ``None`` without one, and
        where the header gives an offset in time instead, as dates are then often made up.

    Raises:
        InputError: the header is damaged.
    """
    if path.is_dir():
        path = min((entry for entry in path.iterdir() if entry.is_file()), default=path)
    if path.is_dir() or reader_of(path) is not read or not sniff(path):
        return None
    header = read_header(path)
    if header.get("LongitudinalTemporalOffsetFromEvent") is not None:
        return None
    given = (str(header.get(f"{level}Date") or "").strip() for level in ("Study", "Series", "Acquisition", "Content"))
    return next((text for text in given if len(text) == 8 and text.isdigit()), None)


@reader(".dcm", ".dicom", ".ima", "")
def read(path: Path, frames: Sequence[int] | None) -> np.ndarray:
    """Read frames of a DICOM file; only those asked for are decoded.

    Args:
        path: the file, or, for a volume kept as single slices, the folder that holds them.
        frames: 0-based frames, in any order; ``None`` reads the file as one image: the only frame of a single-frame
            file, the volume of a multi-frame one.

    Returns:
        ``(n, rows, columns)`` grey, ``(n, rows, columns, 3)`` colour, or, for a multi-frame file and ``None`` and for
        a folder, ``(1, slices, rows, columns)``. Colour is uint8. Grey values are float32 after a modality transform
        and keep their stored type without one.

    Raises:
        InputError: the file is damaged, has no such frame, or needs a decoder that is not installed.
    """
    if path.is_dir():
        return _read_slices(path, frames)
    header = read_header(path)
    count = frame_count(header)
    wanted = range(count) if frames is None else [int(frame) for frame in frames]
    check_frames(path, wanted, count)
    try:
        decoded = dict(zip(sorted(set(wanted)), _decode(path, header, sorted(set(wanted))), strict=True))
        images = np.stack([_displayable(decoded[frame], header, frame) for frame in wanted])
    except broken() as error:
        raise _unreadable(path, header, error) from error
    if frames is None and count > 1:
        return _stack_slices(images, header)[None]
    return images


def frame_count(header: Dataset) -> int:
    """The number of frames that a header announces; 1 where it says nothing."""
    return max(int(header.get("NumberOfFrames") or 1), 1)


def checked_frame_count(path: Path, header: Dataset) -> int:
    """The number of frames that a header announces, if the file can hold as many.

    Raises:
        InputError: there are more frames than bytes; to list them alone could take all memory.
    """
    count = frame_count(header)
    deflated = str(header.file_meta.get("TransferSyntaxUID", "")) == _DEFLATED
    if count > path.stat().st_size * (_MOST_DEFLATED if deflated else 1):
        raise InputError("frames that the file can hold", f"{count} in NumberOfFrames", str(path), _DAMAGED)
    return count


def is_colour(header: Dataset) -> bool:
    """Whether the pixels are colour: three samples, or indices into a colour palette."""
    return int(header.get("SamplesPerPixel") or 1) >= 3 or header.get("PhotometricInterpretation") == "PALETTE COLOR"


def functional_group(header: Dataset, frame: int, name: str) -> Dataset | None:
    """The first item of a functional group of an enhanced multi-frame object, or ``None``.

    Args:
        header: the file's header.
        frame: the 0-based frame.
        name: the keyword of the group's sequence, such as ``PlanePositionSequence``.
    """
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or ()
    shared = header.get("SharedFunctionalGroupsSequence") or ()
    for groups in (per_frame[frame : frame + 1], shared[:1]):
        if groups and groups[0].get(name):
            item: Dataset = groups[0][name][0]
            return item
    return None


def slice_order(positions: Sequence[Sequence[float]], orientation: Sequence[float]) -> np.ndarray:
    """The order of slices along their normal.

    Args:
        positions: ``ImagePositionPatient`` of each slice, in millimetres.
        orientation: the ``ImageOrientationPatient`` that they share: direction cosines of a row and of a column.

    Returns:
        The indices that sort them, lowest first; for axial slices that is from the feet to the head.
    """
    return np.argsort(slice_heights(positions, orientation), kind="stable")


def slice_heights(positions: Sequence[Sequence[float]], orientation: Sequence[float]) -> np.ndarray:
    """How far along their common normal slices lie, in millimetres."""
    row, column = np.reshape(np.asarray(orientation, dtype=np.float64), (2, 3))
    return np.asarray(positions, dtype=np.float64) @ np.cross(row, column)


def read_header(path: Path) -> Dataset:
    """The header of a DICOM file, without the pixels.

    Raises:
        InputError: the file is no DICOM file, or damaged.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        header = dcmread(path, stop_before_pixels=True)
        checked_frame_count(path, header)
    except InputError:
        raise
    except InvalidDicomError as error:
        raise InputError(
            "an image of a known suffix, or a DICOM file",
            "a file without the DICM marker",
            str(path),
            "Leave it out, or give the right file.",
        ) from error
    except broken() as error:
        raise InputError("a readable DICOM header", reason(error), str(path), _DAMAGED) from error
    return header


def reason(error: BaseException) -> str:
    """What a library says, as one line; of several decoders that failed, the first one's reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and "all available plugins" in lines[0]:
        lines = lines[1:]
    return lines[0][:200] if lines else type(error).__name__


def _read_slices(folder: Path, frames: Sequence[int] | None) -> np.ndarray:
    """The volume whose slices are the files of a folder: sorted by position, by name where they have none."""
    files = sorted(entry for entry in folder.iterdir() if entry.is_file())
    if frames is not None:
        raise InputError("no frame number", "one", str(folder), "A folder of slices is one image: leave `frame` empty.")
    if not files:
        raise InputError("a folder of DICOM slices", "an empty folder", str(folder), "Import the data again.")
    headers = [read_header(file) for file in files]
    slices = [read(file, [0])[0] for file in files]
    shapes = sorted({image.shape for image in slices})
    if len(shapes) > 1:
        raise InputError("slices of one size", f"{shapes[0]} and {shapes[1]}", str(folder), "Import the data again.")
    volume = np.stack(slices)
    placed = [header for header in headers if "ImagePositionPatient" in header and "ImageOrientationPatient" in header]
    if len(placed) == len(files):
        positions = [header.ImagePositionPatient for header in placed]
        volume = volume[slice_order(positions, placed[0].ImageOrientationPatient)]
    return volume[None]


def _decode(path: Path, header: Dataset, frames: Sequence[int]) -> list[np.ndarray]:
    from pydicom import dcmread
    from pydicom.pixels.utils import iter_pixels

    # Deflated files are compressed as a whole: pydicom inflates them into a dataset, and cannot seek in them.
    deflated = str(header.file_meta.get("TransferSyntaxUID", "")) == _DEFLATED
    return list(iter_pixels(dcmread(path) if deflated else path, indices=frames))


def _displayable(stored: np.ndarray, header: Dataset, frame: int) -> np.ndarray:
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

    if is_colour(header):
        if header.get("PhotometricInterpretation") == "PALETTE COLOR":
            return _eight_bits(apply_color_lut(stored, header)[..., :3], _palette_bits(header))
        return _eight_bits(stored[..., :3], int(header.get("BitsStored") or 8))
    transform = functional_group(header, frame, "PixelValueTransformationSequence") or header
    values = apply_modality_lut(stored, transform)
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        # The range is that of the stored type and not of this image: visits must stay comparable.
        ends = apply_modality_lut(_stored_range(header, stored.dtype), transform).astype(np.float64)
        values = ends.min() + ends.max() - values
    return values if values.dtype == stored.dtype else values.astype(np.float32)


def _eight_bits(colour: np.ndarray, bits: int) -> np.ndarray:
    return (colour if colour.dtype.itemsize == 1 else colour >> max(bits - 8, 0)).astype(np.uint8)


def _palette_bits(header: Dataset) -> int:
    """The bits that a palette uses: some writers put 8-bit colours into the lower half of 16-bit entries."""
    from pydicom.pixels.processing import apply_color_lut

    entries, first, bits = (int(number) for number in header.RedPaletteColorLookupTableDescriptor)
    palette = apply_color_lut(np.arange(first, first + (entries or 2**16)), header)
    return bits if palette.max() > 255 else 8


def _stored_range(header: Dataset, dtype: np.dtype) -> np.ndarray:
    bits = int(header.get("BitsStored") or 8 * dtype.itemsize)
    signed = int(header.get("PixelRepresentation") or 0) == 1
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return np.array([low, high], dtype=dtype)


def _stack_slices(images: np.ndarray, header: Dataset) -> np.ndarray:
    """Frames of a volume in the order of their positions, where the header gives positions."""
    planes = [functional_group(header, frame, "PlanePositionSequence") for frame in range(len(images))]
    direction = functional_group(header, 0, "PlaneOrientationSequence")
    if direction is None or any(plane is None or "ImagePositionPatient" not in plane for plane in planes):
        return images
    positions = [plane.ImagePositionPatient for plane in planes if plane is not None]
    order = slice_order(positions, direction.ImageOrientationPatient)
    return np.asarray(images[order])


def _unreadable(path: Path, header: Dataset, error: BaseException) -> InputError:
    syntax = header.file_meta.get("TransferSyntaxUID")
    name = getattr(syntax, "name", "an unknown transfer syntax")
    text = str(error).lower()
    if any(phrase in text for phrase in _MISSING_DECODER) and "exceptions were raised" not in text:
        return InputError("an installed decoder for its compression", name, str(path), _EXTRA)
    return InputError(f"readable pixels ({name})", reason(error), str(path), _DAMAGED)
