"""The synthetic folder: the same for any worker count, valid, with the traits of its modality."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from temmed.errors import InputError
from temmed.prompts.questions import PROGRESSION_CHOICES
from temmed.timelines.audit import audit
from temmed.timelines.folder import Timeline
from temmed.timelines.synthetic.courses import LARGEST, MAX_VISITS, MIN_VISITS, SMALLEST, draw_course
from temmed.timelines.synthetic.generate import generate
from temmed.timelines.synthetic.mri import render_sequence

#: Content fingerprint of 24 patients of 32 pixels with seed 0, for the versions pinned in requirements.txt. When the
#: generator changes on purpose, raise `VERSION` in temmed/timelines/synthetic/generate.py and put here what the
#: failing test prints as found.
PINNED = "cdd0eb2b1ce5fde64c6b8207c6c0226a"


def test_content_is_pinned(tiny_timeline: Timeline) -> None:
    assert tiny_timeline.meta.fingerprint == PINNED


def test_workers_change_nothing(tiny_timeline: Timeline, tmp_path: Path) -> None:
    # 24 patients are two chunks of work: both processes have something to do.
    parallel = generate(tmp_path / "two", patients=24, size=32, workers=2, progress=False)
    assert parallel.meta.fingerprint == tiny_timeline.meta.fingerprint


def test_seed_changes_content_and_other_patients_do_not() -> None:
    alone, other = draw_course(0, 3), draw_course(1, 3)
    assert alone.times.tolist() != other.times.tolist()
    first, _ = render_sequence(0, alone, (16, 16))
    again, _ = render_sequence(0, draw_course(0, 3), (16, 16))
    np.testing.assert_array_equal(first, again)


def test_audit_finds_no_error(tiny_timeline: Timeline) -> None:
    errors = [finding for finding in audit(tiny_timeline) if finding.severity == "error"]
    assert errors == []


def test_courses_keep_to_their_ranges() -> None:
    for index in range(200):
        course = draw_course(0, index)
        visits = len(course.times)
        assert MIN_VISITS <= visits <= MAX_VISITS
        assert course.times[0] == 0
        assert (np.diff(course.times) >= 14).all()
        assert course.imaged[0]
        assert course.imaged[-1]
        places = [f.location for f in course.findings] + [place for _, place in course.absent]
        assert len(set(places)) == len(places)
        for finding in course.findings:
            seen = finding.diameters[finding.diameters > 0]
            assert len(seen)
            assert (seen >= SMALLEST - 1e-9).all()
            assert (seen <= LARGEST + 1e-9).all()


def test_pixels_have_the_range_and_contrast_of_mri(tiny_timeline: Timeline) -> None:
    pixels = np.load(tiny_timeline.root / "images" / "s00000.npy")
    assert pixels.dtype == np.uint16
    t1, flair = pixels[0::2].astype(float), pixels[1::2].astype(float)
    for channel in (t1, flair):
        assert channel.max() <= 4095
        # Air is noise alone, the head is well above it.
        assert np.median(channel[:, :3, :3]) < 300
        assert 300 < channel[:, 8:24, 8:24].mean() < 2500
    # White matter is bright in T1 and darker in FLAIR.
    assert t1[:, 8:24, 8:24].mean() > 1.2 * flair[:, 8:24, 8:24].mean()


def test_findings_are_seen_where_the_truth_puts_them() -> None:
    courses = (draw_course(0, index) for index in range(50))
    course = next(c for c in courses if any((f.diameters > 20).any() for f in c.findings))
    finding = max(course.findings, key=lambda f: f.diameters[course.imaged].max())
    position = int(np.argmax(finding.diameters * course.imaged))
    frame = int(np.flatnonzero(course.imaged).tolist().index(position))
    with_it, _ = render_sequence(0, course, (64, 64))
    saved = finding.diameters.copy()
    finding.diameters[:] = 0
    without, _ = render_sequence(0, course, (64, 64))
    finding.diameters[:] = saved
    change = np.abs(with_it[frame].astype(float) - without[frame]).sum(axis=0)
    row, column = np.unravel_index(np.argmax(change), change.shape)
    x, y = (column - 31.5) * 3.0, -(row - 31.5) * 3.0
    assert np.hypot(x - finding.look.centre[0], y - finding.look.centre[1]) < saved[position] / 2 + 6
    # Elsewhere nothing changes: the noise does not depend on the findings.
    assert (change == 0).mean() > 0.5


def test_measurements_carry_their_error(tiny_timeline: Timeline) -> None:
    table = tiny_timeline.table("measurements")
    spread = table.loc[table["quantity"] == "log_diameter_sd", "value"]
    assert len(spread) == (table["quantity"] == "longest_diameter").sum()
    assert (spread > 0).all()
    assert np.isfinite(spread).all()


def test_missing_visits_have_no_image_row(tiny_timeline: Timeline) -> None:
    images = tiny_timeline.table("images")[["sequence_id", "position"]].drop_duplicates()
    assert len(images) < len(tiny_timeline.table("timepoints"))
    for index in range(24):
        expected = np.flatnonzero(draw_course(0, index).imaged).tolist()
        assert images.loc[images["sequence_id"] == f"s{index:05d}", "position"].tolist() == expected


def test_event_bounds_bracket_the_visits_that_show_the_finding(tiny_timeline: Timeline) -> None:
    events = tiny_timeline.table("events").set_index("event_id")
    for index in range(24):
        course = draw_course(0, index)
        for number, finding in enumerate(course.findings):
            row = events.loc[f"s{index:05d}-f{number}-e"]
            seen = course.imaged & (finding.diameters > 0)
            if not seen.any():
                assert pd.isna(row["onset_upper"])
                continue
            inside = (course.times >= row["onset_upper"]) & (course.times <= row["offset_lower"]) & course.imaged
            outside = (course.times <= row["onset_lower"]) | (course.times >= row["offset_upper"])
            assert (finding.diameters[inside] > 0).all()
            assert not seen[outside].any()


def test_volumes(tmp_path: Path) -> None:
    timeline = generate(tmp_path / "volumes", patients=2, size=16, spatial_dims=3, workers=1, progress=False)
    assert (timeline.table("sequences")["spatial_dims"] == 3).all()
    pixels = np.load(timeline.root / "images" / "s00000.npy")
    assert pixels.shape[1:] == (16, 16, 16)
    assert {f.look.centre[2] for f in draw_course(0, 0, 3).findings} != {0.0}
    assert {f.look.centre[2] for f in draw_course(0, 0, 2).findings} == {0.0}


@pytest.mark.parametrize(
    "wrong", [{"patients": 0}, {"size": 8}, {"spatial_dims": 4}, {"modality": "pet"}], ids=lambda w: next(iter(w))
)
def test_arguments_out_of_range_are_refused_and_nothing_is_written(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        generate(tmp_path / "set", workers=1, progress=False, **{"patients": 1, **wrong})
    assert list(tmp_path.iterdir()) == []


def test_one_patient_is_enough(tmp_path: Path) -> None:
    timeline = generate(tmp_path / "one", patients=1, size=16, workers=1, progress=False)
    answers = timeline.table("questions")["answer"].dropna()
    assert not answers.isin(PROGRESSION_CHOICES).any()
