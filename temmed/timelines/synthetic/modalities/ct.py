"""Chest CT over visits: Hounsfield units with the noise of counted photons, the table, and a round field of view.

A slice is one DICOM file; a volume is a series, a folder with a file for each slice.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from temmed.timelines.synthetic.anatomy import grid
from temmed.timelines.synthetic.courses import Course, draw_course, patient_rng
from temmed.timelines.synthetic.dicom import CT_IMAGE, Study, write_dicom
from temmed.timelines.synthetic.lesions import Look, coverage, sensitivities
from temmed.timelines.synthetic.modality import Modality, Picture, Target
from temmed.timelines.synthetic.plan import Kind, Plan
from temmed.timelines.synthetic.questions import draw_questions
from temmed.timelines.synthetic.rows import describe_visits, patient_id
from temmed.timelines.synthetic.shapes import Points
from temmed.timelines.synthetic.thorax import (
    FATTY,
    FIELD_OF_VIEW,
    LUNG,
    PLACES,
    draw_chest,
    render_chest,
    render_table,
)  # fmt: skip
from temmed.timelines.synthetic.tomography import coloured_error, photon_noise

CHANNEL = "ct"
PLAN = Plan(
    examination="CT of the chest",
    places=PLACES,
    kinds={
        "solid nodule": Kind(((820.0, 920.0),), (8.0, 36.0), LUNG),
        "ground-glass nodule": Kind(((260.0, 420.0),), (8.0, 36.0), LUNG),
        "enlarged lymph node": Kind(((135.0, 175.0),), (8.0, 36.0), FATTY),
    },
    scanners=("CT-64A", "CT-128B", "CT-256C"),
    visits=tuple(range(3, 9)),
    draw_anatomy=draw_chest,
    gap=75.0,
    treated=0.8,
)
#: scanner -> photons counted by a detector element with nothing in the way, for pixels of `_REFERENCE` mm.
PHOTONS = {"CT-64A": 2.5e4, "CT-128B": 4.0e4, "CT-256C": 6.5e4}
_REFERENCE = 3.0
#: Stored value 0 in Hounsfield units; what lies outside the field of view has it.
INTERCEPT = -1024
SURROUNDINGS = 9.0
#: Distance of slices in mm.
SLICE_SPACING = 4.0


def _points(shape: tuple[int, ...]) -> list[NDArray[np.float64]]:
    points = grid(shape, FIELD_OF_VIEW)
    if len(shape) == 3:
        points[2] = points[2] * (SLICE_SPACING * shape[0] / FIELD_OF_VIEW)
    return points


class _Shown(NamedTuple):
    """A finding that a visit shows: its number, diameter in mm, the pixels around it and their coordinates."""

    number: int
    look: Look
    diameter: float
    patch: tuple[slice, ...]
    points: list[NDArray[np.float64]]


def _shown(course: Course, position: int, own: Points) -> Iterator[_Shown]:
    for number, finding in enumerate(course.findings):
        diameter, centre = float(finding.diameters[position]), finding.look.centre
        if diameter > 0:
            reach = diameter / 2 * 1.2 + SURROUNDINGS
            near = np.logical_and.reduce([np.abs(p - c) < reach for p, c in zip(own, centre, strict=False)])
            patch = tuple(slice(int(index.min()), int(index.max()) + 1) for index in np.nonzero(near))
            yield _Shown(number, finding.look, diameter, patch, [p[patch] for p in own])


def _draw(hu: NDArray[np.float64], one: _Shown) -> None:
    before, contrast = hu[one.patch], one.look.contrast[0]
    added = before + contrast * coverage(one.look, one.diameter, one.points)
    # What lies in a solid finding, such as vessels of the lung, does not add to it.
    hu[one.patch] = np.minimum(added, np.maximum(before, 90.0))


def _error(spread: NDArray[np.float64], one: _Shown) -> float:
    """The least standard error of ln(diameter), given the local deviation of the noise."""
    contrast = one.look.contrast[0]
    base, by_size, by_shape = sensitivities(one.look, one.diameter, one.points)
    columns = [contrast * by_size, contrast * by_shape, base, np.ones_like(base)]
    size = spread.shape[-1]
    return coloured_error(columns, float(spread[one.patch].mean()), size, FIELD_OF_VIEW / size)


def render_visit(
    seed: int, course: Course, position: int, shape: tuple[int, ...]
) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    """One visit.

    Args:
        seed: of the whole set.
        course: the patient.
        position: the visit.
        shape: ``(H, W)`` or ``(D, H, W)``.

    Returns:
        Stored values (Hounsfield units plus 1024), and the least standard error of ln(diameter) of each finding.
    """
    rng = patient_rng(seed, course.index, 100 + position)
    spacing = FIELD_OF_VIEW / shape[-1]
    points = _points(shape)
    shift, angle = rng.normal(0, (4.0, 2.5)), rng.normal(0, np.deg2rad(1.5))
    cosine, sine = np.cos(angle), np.sin(angle)
    x, y = points[0] - shift[0], points[1] - shift[1]
    own = [cosine * x + sine * y, -sine * x + cosine * y, *points[2:]]
    soft = max(1.2, 0.9 * spacing)
    hu = render_chest(course.anatomy, own, soft, rng.uniform(25, 130), rng.normal(1, 0.06))
    height = -course.anatomy.wall[1] + shift[1] - 3.0
    hu = np.maximum(hu, -1000 + render_table(points, height, soft))
    shown = list(_shown(course, position, own))
    for one in shown:
        _draw(hu, one)
    photons = PHOTONS[course.scanners[position]] * (spacing / _REFERENCE) ** 2
    slices = hu.reshape(-1, *shape[-2:])
    made = [photon_noise(rng, np.clip(image, -1000, 3000), spacing, photons) for image in slices]
    noise, spread = (np.stack(part).reshape(shape) for part in zip(*made, strict=True))
    errors = np.full(len(course.findings), np.nan)
    for one in shown:
        errors[one.number] = _error(spread, one)
    stored = np.rint(hu + noise - INTERCEPT)
    stored[np.hypot(points[0], points[1]) > FIELD_OF_VIEW / 2] = 0
    return np.clip(stored, 0, 4095).astype(np.uint16), errors


def _render(
    seed: int, course: Course, shape: tuple[int, ...], target: Target
) -> tuple[list[Picture], NDArray[np.float64]]:
    errors = np.full((len(course.findings), len(course.times)), np.nan)
    (target.root / "images" / target.sequence).mkdir()
    pictures = []
    for position in np.flatnonzero(course.imaged).tolist():
        stored, errors[:, position] = render_visit(seed, course, position, shape)
        path = f"images/{target.sequence}/{position:02d}" + (".dcm" if len(shape) == 2 else "")
        study = Study(
            seed, patient_id(course.index), course.sex, course.age, float(course.times[position]), position,
            course.scanners[position], "Chest",
        )  # fmt: skip
        if len(shape) == 2:
            _write_slice(target, path, stored, study, 0.0, 1)
        else:
            (target.root / path).mkdir()
            for number, one in enumerate(stored):
                height = (number - (len(stored) - 1) / 2) * SLICE_SPACING
                _write_slice(target, f"{path}/{number + 1:03d}.dcm", one, study, height, number + 1)
        pictures.append(Picture(position, CHANNEL, path, None))
    return pictures, errors


def _write_slice(
    target: Target, path: str, stored: NDArray[np.uint16], study: Study, height: float, instance: int
) -> None:
    spacing = FIELD_OF_VIEW / stored.shape[-1]
    corner = -(stored.shape[-1] - 1) / 2 * spacing
    elements = {
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "BodyPartExamined": "CHEST",
        "PatientPosition": "HFS",
        "KVP": "120",
        "SliceThickness": f"{SLICE_SPACING:g}",
        "ReconstructionDiameter": f"{FIELD_OF_VIEW:g}",
        "ConvolutionKernel": "HANN",
        "AcquisitionNumber": 1,
        "PixelSpacing": [f"{spacing:.6g}"] * 2,
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [f"{corner:.6g}", f"{corner:.6g}", f"{height:.6g}"],
        "PositionReferenceIndicator": "",
        "RescaleIntercept": str(INTERCEPT),
        "RescaleSlope": "1",
        "RescaleType": "HU",
        "WindowCenter": ["-600", "40"],
        "WindowWidth": ["1500", "400"],
    }
    write_dicom(target.root / path, stored, CT_IMAGE, study, elements, instance)


MODALITY = Modality(
    name="ct",
    about="chest CT in Hounsfield units: nodules and lymph nodes over visits",
    time_unit="day",
    draw=partial(draw_course, plan=PLAN),
    render=_render,
    describe=describe_visits,
    ask=partial(draw_questions, kinds=("progression", "measurement", "event", "response", "new_finding")),
    sizes={2: 96, 3: 32},
    files=("dicom",),
)
