"""Videos: whose they are, when their frames were taken, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from temmed.errors import InputError
from temmed.timelines.importers._video import Clip
from temmed.timelines.importers.plan import Options
from temmed.timelines.importers.video import _add

from .conftest import Importing, Planning, Running, Training, VideoWriter

KEPT = Options(keep_ids=True)


def test_a_folder_of_videos(importing: Importing, video: VideoWriter, trained: Training, tmp_path: Path) -> None:
    source = tmp_path / "source"
    video(source / "anna" / "day1" / "one.avi", 5, rate=50)
    video(source / "anna" / "two.mp4", 4, rate=10, codec="mpeg4", pixel_format="yuv420p")
    video(source / "alone.avi", 3, codec="ffv1", pixel_format="gray")
    (source / "anna" / "copy.avi").write_bytes((source / "anna" / "day1" / "one.avi").read_bytes())
    (source / "anna" / "cut.mp4").write_bytes((source / "anna" / "two.mp4").read_bytes()[:200])
    (source / "notes.txt").write_text("hello")
    asked = tmp_path / "questions.csv"
    asked.write_text("file,position,prompt,choices,answer,evidence\ncopy.avi,4,Is it lighter?,yes|no,yes,0|4\n")
    timeline, outcome = importing("video", source, KEPT, questions=asked)
    times = timeline.table("timepoints").groupby("sequence_id")["time"].apply(list)
    by_file = {sequence.files[0].name: sequence for sequence in outcome.plan.sequences}
    assert_allclose(times[by_file["copy.avi"].sequence_id], [0, 0.02, 0.04, 0.06, 0.08])
    assert_allclose(times[by_file["two.mp4"].sequence_id], [0, 0.1, 0.2, 0.3])
    assert {name: sequence.patient_id for name, sequence in by_file.items()} == {
        "alone.avi": "alone",
        "copy.avi": "anna",
        "two.mp4": "anna",
    }
    assert [picture.channel for picture in by_file["alone.avi"].pictures] == ["image"] * 3
    reasons = {entry.path.name: entry.reason for entry in outcome.plan.skipped}
    assert reasons["one.avi"] == "the same file as copy.avi"
    assert reasons["cut.mp4"].startswith("expected a ")
    assert reasons["notes.txt"].startswith("not a video")
    levels = [pixels.mean() for _, _, pixels in timeline.read_images(by_file["copy.avi"].sequence_id)]
    assert np.all(np.diff(levels) > 3)
    assert outcome.findings == [] or all(finding.severity != "error" for finding in outcome.findings)
    questions, losses = trained(timeline)
    assert questions == 1
    assert all(np.isfinite(value) for value in losses.values())


def test_frame_seconds_and_limit(planning: Planning, video: VideoWriter, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        video(tmp_path / "source" / name / "clip.avi", 3, rate=25 + len(name) + ord(name))
    plan = planning("video", tmp_path / "source", Options(frame_seconds=0.5, limit=2, keep_ids=True, modality="us"))
    assert [sequence.times for sequence in plan.sequences] == [[0, 0.5, 1.0]] * 2
    assert [row["patient_id"] for row in plan.patients] == ["a", "b"]
    assert {sequence.modality for sequence in plan.sequences} == {"us"}
    assert plan.notes == ["1 patients are left out by --limit"]


def test_time_stamps_that_do_not_grow_are_no_times() -> None:
    from temmed.timelines.importers.plan import Plan

    result = Plan()
    _add(Clip(Path("a.avi"), "0" * 64, (), 3, False), "p", Options(), result)
    [sequence] = result.sequences
    assert (sequence.time_unit, sequence.times) == ("frame", [0, 1, 2])
    assert "time_unit is frame" in result.notes[0]


def test_nothing_usable(running: Running, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.avi").write_bytes(b"RIFF")
    done = running("video", tmp_path / "source", tmp_path / "out")
    assert done.exit_code == 2
    assert "Traceback" not in done.output
    assert "the video importer can use" in done.output
    assert not (tmp_path / "out").exists()


def test_no_source(planning: Planning, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found nothing"):
        planning("video", tmp_path / "absent")
