"""Where the pixels of a file lie in space, and NIfTI files that keep it.

An affine maps (column, row, slice) to mm towards the patient's right, front and head, as NIfTI has it. Images are
written as NIfTI whatever they came as: one format for slices, volumes, loops and colour, without loss, that keeps the
size of a pixel and nothing else of a header.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from temmed.timelines.pixels import reader_of
from temmed.timelines.readers import dicom, nifti

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Affine = NDArray[np.float64]
#: From the axes of DICOM (left, back, head) to those of NIfTI (right, front, head).
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
#: Millimetres in the units of a NIfTI header; most files that name none mean millimetres.
_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
#: Value of PhysicalUnitsXDirection for centimetres.
_CENTIMETRES = 3


def plain(spacing: tuple[float, ...]) -> Affine:
    """The affine of an image that only has a size of pixels: ``(column, row)`` or ``(column, row, slice)`` in mm."""
    return np.diag([-spacing[0], -spacing[1], spacing[2] if len(spacing) > 2 else 1.0, 1.0])


def affine_of(path: Path) -> Affine | None:
    """Where the pixels of an image file lie, as its reader gives them.

    Args:
        path: an image file, or the folder of a volume kept as single slices.

    Returns:
        The affine; ``None`` where the file does not say how large its pixels are.

    Raises:
        InputError: the header is damaged.
    """
    if path.is_dir():
        return _of_slices([dicom.read_header(file) for file in sorted(path.iterdir()) if file.is_file()])
    reader = reader_of(path)
    if reader is nifti.read:
        return _of_nifti(path)
    return _of_dicom(dicom.read_header(path)) if reader is dicom.read else None


def _of_nifti(path: Path) -> Affine:
    import nibabel

    image = nifti.open_image(path)
    header: Any = image.header
    affine = np.asarray(image.affine, dtype=np.float64)
    affine[:3] *= _MILLIMETRES[header.get_xyzt_units()[0]]
    if nifti.spatial_dims(image) == 2:
        return affine
    turns: Any = nibabel.orientations
    turn = turns.ornt_transform(turns.io_orientation(affine), turns.axcodes2ornt("LPS"))
    return np.asarray(affine @ turns.inv_ornt_aff(turn, image.shape[:3]))


def _numbers(values: Any) -> list[float]:
    return [float(value) for value in values or ()]


def _of_dicom(header: Dataset) -> Affine | None:
    frames = dicom.frame_count(header)
    measures, plane = header, header
    if frames > 1 or "SharedFunctionalGroupsSequence" in header:
        measures = dicom.functional_group(header, 0, "PixelMeasuresSequence") or header
        plane = dicom.functional_group(header, 0, "PlaneOrientationSequence") or header
    spacing = _numbers(measures.get("PixelSpacing") or header.get("ImagerPixelSpacing"))
    if len(spacing) != 2:
        return _of_ultrasound(header)
    heights = []
    orientation = _numbers(plane.get("ImageOrientationPatient"))
    if frames > 1 and len(orientation) == 6:
        groups = [dicom.functional_group(header, frame, "PlanePositionSequence") for frame in range(frames)]
        places = [_numbers(group.get("ImagePositionPatient")) for group in groups if group is not None]
        if len(places) == frames and all(len(place) == 3 for place in places):
            heights = sorted(dicom.slice_heights(places, orientation).tolist())
    thickness = measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") or 1.0
    step = (heights[-1] - heights[0]) / (len(heights) - 1) if len(heights) > 1 else 0.0
    return plain((spacing[1], spacing[0], step or float(thickness)))


def _of_ultrasound(header: Dataset) -> Affine | None:
    for region in header.get("SequenceOfUltrasoundRegions") or ():
        centimetres = region.get("PhysicalUnitsXDirection") == region.get("PhysicalUnitsYDirection") == _CENTIMETRES
        deltas = abs(float(region.get("PhysicalDeltaX") or 0)), abs(float(region.get("PhysicalDeltaY") or 0))
        if centimetres and min(deltas) > 0:
            return plain((10 * deltas[0], 10 * deltas[1]))
    return None


def _of_slices(headers: list[Dataset]) -> Affine | None:
    """The affine of a volume: slices run along their common normal, as the reader sorts them."""
    placed = [_numbers(header.get("ImagePositionPatient")) for header in headers]
    orientation = _numbers(headers[0].get("ImageOrientationPatient"))
    spacing = _numbers(headers[0].get("PixelSpacing"))
    if len(spacing) != 2:
        return None
    if len(orientation) != 6 or any(len(place) != 3 for place in placed) or len(placed) < 2:
        thickness = headers[0].get("SliceThickness")
        return plain((spacing[1], spacing[0], float(thickness))) if thickness else None
    order = dicom.slice_order(placed, orientation)
    row, column = np.reshape(orientation, (2, 3))
    first, last = np.array(placed[order[0]]), np.array(placed[order[-1]])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * spacing[1], column * spacing[0]
    affine[:3, 2], affine[:3, 3] = (last - first) / (len(placed) - 1), first
    return np.asarray(_TO_RAS @ affine)


def turned(volume: NDArray, affine: Affine) -> tuple[NDArray, Affine]:
    """A volume with its axes in the order and direction in which it will be read back from NIfTI.

    Args:
        volume: ``(slices, rows, columns)``, or with 3 at the end for colour.
        affine: where it lies.
    """
    import nibabel

    turns: Any = nibabel.orientations
    turn = turns.ornt_transform(turns.io_orientation(affine), turns.axcodes2ornt("LPS"))
    values = turns.apply_orientation(volume.swapaxes(0, 2), turn).swapaxes(0, 2)
    return np.ascontiguousarray(values), np.asarray(affine @ turns.inv_ornt_aff(turn, volume.shape[2::-1]))


def spacing_of(affine: Affine, dims: int) -> tuple[float, ...]:
    """Size of a pixel in mm along the axes of the array: ``(row, column)`` or ``(slice, row, column)``."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    return tuple(float(size) for size in sizes[:dims][::-1])


def write_nifti(
    path: Path, image: NDArray, affine: Affine, known: bool, dims: int, step: tuple[float, str] | None = None
) -> None:
    """Write an image, a loop or a mask so that the reader gives back the same values and axes.

    Args:
        path: a ``.nii`` or ``.nii.gz`` file.
        image: ``(*spatial)`` or, for a loop, ``(T, *spatial)``; with 3 at the end for colour.
        affine: where it lies.
        known: whether the affine is in mm.
        dims: number of spatial axes.
        step: time between the frames of a loop, with its unit (``sec``, ``msec`` or ``unknown``).
    """
    import nibabel

    is_loop = step is not None
    if image.ndim > dims + is_loop:
        image = np.ascontiguousarray(image).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    frames = image if is_loop else image[None]
    if dims == 2:
        frames = frames[:, None]
    data = frames.transpose(3, 2, 1, 0)
    written: Any = nibabel.Nifti1Image(data if is_loop else data[..., 0], affine)
    written.header.set_xyzt_units("mm" if known else "unknown", step[1] if step else "unknown")
    if step is not None:
        written.header["pixdim"][4] = step[0]
    nibabel.save(written, path)
