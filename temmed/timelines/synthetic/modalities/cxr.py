"""Chest radiographs over two visits, at times some more: a frontal view, sometimes a lateral one, as DICOM files.

Findings are nodules, consolidations, effusions, pneumothoraces and an enlarged heart. Each has one size in mm: the
longest diameter, the depth of the fluid, the width of the rim, the width of the heart.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from temmed.timelines.synthetic.anatomy import grid
from temmed.timelines.synthetic.courses import Course, Finding, draw_course, patient_rng
from temmed.timelines.synthetic.dicom import DIGITAL_X_RAY, Study, write_dicom
from temmed.timelines.synthetic.lesions import coverage
from temmed.timelines.synthetic.modality import Modality, Picture, Target
from temmed.timelines.synthetic.plan import Kind, Plan
from temmed.timelines.synthetic.questions import draw_questions
from temmed.timelines.synthetic.radiograph import (
    APICES,
    FIELD_OF_VIEW,
    PLACES,
    PLEURA,
    VIEWS,
    ZONES,
    Thorax,
    diaphragm,
    draw_thorax,
    lateral_lung,
    lungs,
    markings,
    render_frontal,
    render_lateral,
)
from temmed.timelines.synthetic.rows import describe_visits, patient_id
from temmed.timelines.synthetic.shapes import ellipse, smooth_noise, step, tube

HEART = "cardiac enlargement"
PLAN = Plan(
    examination="Chest radiograph",
    places=PLACES,
    kinds={
        "nodule": Kind(((0.14, 0.24),), (8.0, 40.0), ZONES),
        "consolidation": Kind(((0.16, 0.28),), (25.0, 80.0), ZONES),
        "pleural effusion": Kind(((0.34, 0.40),), (12.0, 60.0), PLEURA, "depth", "depth"),
        "pneumothorax": Kind(((-0.11, -0.07),), (8.0, 45.0), APICES, "width", "width"),
        HEART: Kind(((1.0, 1.0),), (140.0, 200.0), ("mediastinum",), "transverse_diameter", "transverse diameter"),
    },
    scanners=("DX-A", "DX-B", "DX-portable"),
    visits=(2, 2, 2, 2, 2, 3, 4),
    draw_anatomy=draw_thorax,
    gap=6.0,
    gap_bounds=(1.0, 120.0),
)
#: scanner -> noise of the density where nothing absorbs (from the number of photons), for pixels of `_REFERENCE` mm.
NOISE = {"DX-A": 0.004, "DX-B": 0.005, "DX-portable": 0.008}
_REFERENCE = 4.0
#: By how much the noise grows with density: photons fall exponentially.
_FALL = 1.6
#: Stored value of density 0, and of one unit more.
_BLACK, _FULL_SCALE = 150.0, 2100.0
_LATERAL = 0.35
_STEP = 0.01


def _soft_tissue(finding: Finding, at: list[NDArray], size: float, aspect: float) -> NDArray[np.float64]:
    """A nodule or consolidation: where it absorbs, relative to its middle."""
    if finding.label == "nodule":
        return coverage(finding.look, size, at, aspect)
    look = finding.look
    half = size / 2
    cover = ellipse(at, look.centre[:2], (half, half * look.aspect * aspect), 14.0, look.angle)
    texture = smooth_noise(np.random.default_rng(int(look.phase * 1e6)), at, 11.0, 16)
    return cover * (1 + 0.22 * texture)


def added(
    finding: Finding, view: str, at: list[NDArray], thorax: Thorax, base: float, soft: float, size: float,
    aspect: float = 1.0,
) -> NDArray[np.float64]:  # fmt: skip
    """The density that a finding of a size adds to a view; an enlarged heart is part of the anatomy and adds nothing.

    Args:
        finding: which.
        view: ``frontal`` or ``lateral``.
        at: coordinates in mm, in the patient's frame.
        thorax: whose chest.
        base: height of the left diaphragm in mm.
        soft: width of edges in mm.
        size: in mm.
        aspect: multiplies the aspect of nodules and consolidations.
    """
    contrast = finding.look.contrast[0]
    x, y = at
    if finding.label in ("nodule", "consolidation"):
        # Places have their depth as z: it is the x of the lateral view.
        depth = PLACES[finding.location][2] - PLACES[finding.location][0]
        moved = at if view == "frontal" else [x - depth, y]
        shown = contrast * _soft_tissue(finding, moved, size, aspect)
        if finding.label == "nodule":
            return shown
        # A consolidation fills air, and ends with the lung.
        air = sum(lungs(at, thorax, base, soft).values()) if view == "frontal" else lateral_lung(thorax, at, base, soft)
        return shown * air
    side = -1.0 if finding.location.startswith("right") else 1.0
    if finding.label == "pleural effusion":
        if view == "lateral":
            # Fluid collects behind, in the deep sulcus.
            surface = base - 40 + 1.2 * size + 14 * np.clip(-x / 90, 0, 1) ** 2
            return contrast * 0.8 * step(y - surface, 4.0) * lateral_lung(thorax, at, base, soft)
        u = np.clip((side * x - 20) / (thorax.width - 30), 0, 1.05)
        # The surface is a meniscus: it climbs along the wall, and is lost in the heart.
        surface = diaphragm(x, side, base) * (1 - u**4) + (base - 12) * u**4 + size * (1.15 * u**1.6 - 0.05)
        return contrast * step(y - surface, 5.0) * lungs(at, thorax, base, soft)[side]
    if finding.label == "pneumothorax" and view == "frontal":
        lung = lungs(at, thorax, base, soft)[side]
        high = step(20 - y, 60.0)

        def beyond(width: float) -> NDArray[np.float64]:
            """Within ``width`` of the apex and the wall."""
            return lung * high * (1 - lungs([x + side * 0.55 * width, y + width], thorax, base, soft)[side])

        rim = beyond(size)
        # Beyond the edge of the collapsed lung there are no vessels; the pleura is a thin line.
        empty = np.nonzero(rim > 1e-6)
        shown = contrast * rim
        shown[empty] -= rim[empty] * markings(thorax, [x[empty], y[empty]], soft)
        return shown + 0.07 * np.clip(beyond(size + max(2.0, soft)) - rim, 0, 1)
    return np.zeros_like(x)


def _density(
    course: Course, position: int, view: str, at: list[NDArray], base: float, soft: float
) -> NDArray[np.float64]:
    """Noise-free density of a view of one visit."""
    present = [(finding, float(finding.diameters[position])) for finding in course.findings]
    present = [(finding, size) for finding, size in present if size > 0]
    heart = next((size for finding, size in present if finding.label == HEART), course.anatomy.heart)
    film = (render_frontal if view == "frontal" else render_lateral)(course.anatomy, at, base, heart, soft)
    for finding, size in present:
        film += added(finding, view, at, course.anatomy, base, soft, size)
    return film


def _information(
    course: Course, number: int, size: float, view: str, at: list[NDArray], base: float, soft: float, noise: NDArray
) -> float:
    """What one view tells of ln(size): the inverse of the least variance, 0 where the view does not show it.

    The reader knows the anatomy, the place and the kind; contrast, level and, of nodules and consolidations, the aspect
    are estimated with the size. Noise is independent and Gaussian with the deviation given for each pixel.
    """
    finding = course.findings[number]
    grow, shrink = size * np.exp(_STEP), size * np.exp(-_STEP)
    if finding.label == HEART:
        draw = render_frontal if view == "frontal" else render_lateral
        by_size = draw(course.anatomy, at, base, grow, soft) - draw(course.anatomy, at, base, shrink, soft)
        columns = [by_size / (2 * _STEP), np.ones_like(by_size)]
    else:
        show = partial(added, finding, view, at, course.anatomy, base, soft)
        columns = [(show(grow) - show(shrink)) / (2 * _STEP), show(size), np.ones_like(noise)]
        if finding.label in ("nodule", "consolidation"):
            columns.append((show(size, 1 + _STEP) - show(size, 1 - _STEP)) / (2 * _STEP))
    weighted = np.stack([(column / noise).ravel() for column in columns], axis=1)
    if not weighted[:, 0].any():
        return 0.0
    information = weighted.T @ weighted
    nuisance = information[1:, 1:]
    return float(information[0, 0] - information[0, 1:] @ np.linalg.pinv(nuisance, hermitian=True) @ information[1:, 0])


def render_visit(
    seed: int, course: Course, position: int, shape: tuple[int, ...]
) -> tuple[dict[str, NDArray[np.uint16]], NDArray[np.float64]]:
    """One visit.

    Args:
        seed: of the whole set.
        course: the patient.
        position: the visit.
        shape: ``(H, W)``.

    Returns:
        Stored values by view, and the least standard error of ln(size) of each finding, NaN where it is absent.
    """
    rng = patient_rng(seed, course.index, 100 + position)
    spacing = FIELD_OF_VIEW / shape[-1]
    soft = max(1.6, 0.8 * spacing)
    sigma = NOISE[course.scanners[position]] * _REFERENCE / spacing
    base = float(rng.normal(-98, 5))
    views = VIEWS if rng.random() < _LATERAL else VIEWS[:1]
    information = np.zeros(len(course.findings))
    stored = {}
    for view in views:
        points = grid(shape, FIELD_OF_VIEW)
        shift, angle = rng.normal(0, 4.0, 2), rng.normal(0, np.deg2rad(1.2))
        x, y = points[0] - shift[0], points[1] - shift[1]
        at = [np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x]
        film = _density(course, position, view, at, base, soft)
        noise = sigma * np.exp(0.5 * _FALL * np.clip(film, 0, None))
        for number, finding in enumerate(course.findings):
            size = float(finding.diameters[position])
            if size > 0:
                information[number] += _information(course, number, size, view, at, base, soft, noise)
        film = film + noise * rng.standard_normal(shape) + _marker(points, soft)
        gain, offset = rng.uniform(0.92, 1.08), rng.uniform(-0.05, 0.05)
        values = np.rint(_BLACK + _FULL_SCALE * np.clip(gain * film + offset, 0, None))
        stored[view] = np.clip(values, 0, 4095).astype(np.uint16)
    return stored, 1 / np.sqrt(np.where(information > 0, information, np.nan))


def _marker(points: list[NDArray], soft: float) -> NDArray[np.float64]:
    """The lead letter L at the patient's left."""
    upright = tube(points, (152, 172), (152, 156), (1.6, 1.6), soft)
    return 0.9 * np.maximum(upright, tube(points, (152, 156), (161, 156), (1.6, 1.6), soft))


def _render(
    seed: int, course: Course, shape: tuple[int, ...], target: Target
) -> tuple[list[Picture], NDArray[np.float64]]:
    errors = np.full((len(course.findings), len(course.times)), np.nan)
    (target.root / "images" / target.sequence).mkdir()
    pictures = []
    spacing = f"{FIELD_OF_VIEW / shape[-1]:.6g}"
    for position in np.flatnonzero(course.imaged).tolist():
        stored, errors[:, position] = render_visit(seed, course, position, shape)
        for number, (view, pixels) in enumerate(stored.items()):
            path = f"images/{target.sequence}/{position:02d}-{view}.dcm"
            study = Study(
                seed, patient_id(course.index), course.sex, course.age, float(course.times[position]), position,
                course.scanners[position], view,
            )  # fmt: skip
            elements = {
                "Modality": "DX",
                "BodyPartExamined": "CHEST",
                "ViewPosition": "PA" if view == "frontal" else "LL",
                "PatientOrientation": ["L", "F"] if view == "frontal" else ["A", "F"],
                "ImagerPixelSpacing": [spacing] * 2,
                "PixelIntensityRelationship": "LOG",
                "PixelIntensityRelationshipSign": -1,
                "PresentationIntentType": "FOR PRESENTATION",
                "RescaleIntercept": "0",
                "RescaleSlope": "1",
                "RescaleType": "US",
                "BurnedInAnnotation": "NO",
                "WindowCenter": "1500",
                "WindowWidth": "2600",
            }
            write_dicom(target.root / path, pixels, DIGITAL_X_RAY, study, elements, number + 1)
            pictures.append(Picture(position, view, path, None))
    return pictures, errors


MODALITY = Modality(
    name="cxr",
    about="chest radiographs, mostly two: effusion, consolidation, nodule, pneumothorax, enlarged heart",
    time_unit="day",
    draw=partial(draw_course, plan=PLAN),
    render=_render,
    describe=describe_visits,
    ask=partial(draw_questions, kinds=("progression", "measurement", "new_finding", "comparison")),
    sizes={2: 96},
    files=("dicom",),
)
