"""Synthetic radiographs: findings look as they are named, change what they should and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from scipy.optimize import least_squares

from temmed.timelines.synthetic.courses import Course, draw_course
from temmed.timelines.synthetic.generate import generate
from temmed.timelines.synthetic.modalities import cxr
from temmed.timelines.synthetic.modalities.cxr import PLAN, added, render_visit
from temmed.timelines.synthetic.radiograph import FIELD_OF_VIEW, lungs, render_frontal


@pytest.fixture(scope="module")
def courses() -> list[Course]:
    return [draw_course(0, index, 2, PLAN) for index in range(120)]


def _points(size: int) -> list[np.ndarray]:
    line = (np.arange(size) - (size - 1) / 2) * FIELD_OF_VIEW / size
    return list(np.meshgrid(line, -line))


def _first(courses: list[Course], label: str) -> tuple[Course, int]:
    return next((c, n) for c in courses for n, f in enumerate(c.findings) if f.label == label)


@pytest.mark.parametrize("label", ["nodule", "consolidation", "pleural effusion"])
def test_what_is_denser_than_air_is_brighter_and_grows(courses: list[Course], label: str) -> None:
    course, number = _first(courses, label)
    finding, at = course.findings[number], _points(64)
    low, high = PLAN.kinds[label].sizes
    small, large = (added(finding, "frontal", at, course.anatomy, -98, 4.0, size) for size in (low * 1.5, high))
    assert small.min() >= 0
    assert large.sum() > small.sum() > 0


def test_a_pneumothorax_is_darker_air_at_the_edge_of_the_lung(courses: list[Course]) -> None:
    course, number = _first(courses, "pneumothorax")
    finding, at = course.findings[number], _points(96)
    side = -1.0 if finding.location.startswith("right") else 1.0
    shown = added(finding, "frontal", at, course.anatomy, -98, 4.0, 30.0)
    air = lungs(at, course.anatomy, -98, 4.0)
    assert shown.min() < -0.05
    assert np.abs(shown[air[side] < 0.01]).max() < 0.01
    assert (side * at[0][shown < -0.03] > 0).all()


@pytest.mark.parametrize("width", [120.0, 150.0, 190.0])
def test_the_heart_is_as_wide_as_it_is_said_to_be(courses: list[Course], width: float) -> None:
    at = _points(190)
    film = render_frontal(courses[0].anatomy, at, -98, width, 1.0)
    bare = render_frontal(courses[0].anatomy, at, -98, 30.0, 1.0)
    seen = np.abs(film - bare) > 0.12
    columns = at[0][0, seen.any(axis=0)]
    assert np.ptp(columns) == pytest.approx(width, rel=0.07)


def test_stated_error_is_that_of_a_fit_to_drawn_noise(courses: list[Course]) -> None:
    """A nodule, its contrast, aspect and level fitted by least squares to one drawn view after the other."""
    course, number = _first(courses, "nodule")
    finding, at, size = course.findings[number], _points(64), 22.0
    noise = np.full((64, 64), 0.012)
    told = 1 / np.sqrt(cxr._information(course, number, size, "frontal", at, -98.0, 5.0, noise))
    where = tuple(
        slice(int(k) - 10, int(k) + 11) for k in np.unravel_index(np.argmax(_show(course, number, at, size)), (64, 64))
    )
    patch = [axis[where] for axis in at]
    clean = _show(course, number, patch, size)
    rng = np.random.default_rng(0)

    def residuals(theta: np.ndarray, image: np.ndarray) -> np.ndarray:
        shape = added(
            finding, "frontal", patch, course.anatomy, -98, 5.0, float(np.exp(theta[0])), float(np.exp(theta[3]))
        )
        return (theta[1] * shape + theta[2] - image).ravel() / 0.012

    found = [
        least_squares(residuals, [np.log(size), 1, 0, 0], args=(clean + rng.normal(0, 0.012, clean.shape),)).x[0]
        for _ in range(60)
    ]
    assert np.std(found) == pytest.approx(told, rel=0.35)


def _show(course: Course, number: int, at: list[np.ndarray], size: float) -> np.ndarray:
    return added(course.findings[number], "frontal", at, course.anatomy, -98, 5.0, size)


def test_most_patients_have_two_visits_and_some_a_lateral_view(courses: list[Course]) -> None:
    visits = [len(course.times) for course in courses]
    assert set(visits) == {2, 3, 4}
    assert np.mean(np.array(visits) == 2) > 0.55
    views = [set(render_visit(0, course, 0, (24, 24))[0]) for course in courses[:30]]
    assert {"frontal"} in views
    assert {"frontal", "lateral"} in views


def test_files_say_which_view_they_are(tmp_path: Path) -> None:
    timeline = generate(tmp_path / "cxr", "cxr", patients=6, size=24, workers=1, progress=False)
    images = timeline.table("images")
    for channel, path in zip(images["channel"], images["path"], strict=True):
        header = pydicom.dcmread(timeline.root / path)
        assert header.ViewPosition == {"frontal": "PA", "lateral": "LL"}[channel]
        assert header.Modality == "DX"
        assert header.PhotometricInterpretation == "MONOCHROME2"
