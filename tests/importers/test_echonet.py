"""EchoNet-Dynamic: its layout, and what is wrong with it in places."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from temmed.errors import InputError
from temmed.timelines.importers.plan import Options
from temmed.timelines.splits import load_split

from .conftest import Importing, Planning, Training, VideoWriter

KEPT = Options(keep_ids=True)
FILES = "FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split\n"
TRACED = "FileName,X1,Y1,X2,Y2,Frame\n"
Source = Callable[..., Path]


def trace(name: str, frame: int, half_width: float) -> str:
    """The rows of one traced frame: a long axis, then three chords that make an outline of 8 by twice the width."""
    rows = [f"{name},16,4,16,12,{frame}"]
    rows += [f"{name},{16 - half_width},{y},{16 + half_width},{y},{frame}" for y in (4, 8, 12)]
    return "\n".join(rows) + "\n"


@pytest.fixture
def source(tmp_path: Path, video: VideoWriter) -> Source:
    """Four clips: the larger frame first, the smaller frame first, one frame traced, none; and rows that fit none."""

    def make(files: str | None = None, traced: str | None = None) -> Path:
        root = tmp_path / "EchoNet-Dynamic"
        for name, frames in (("0XA", 6), ("0XB", 5), ("0XC", 4), ("0XD", 4)):
            video(root / "Videos" / f"{name}.avi", frames, rate=50, codec="ffv1", pixel_format="yuv420p")
        (root / "FileList.csv").write_text(
            files
            or FILES
            + "0XA,60.5,40,100,32,32,50,6,TRAIN\n0XB.avi,55,45,100,32,32,25,7,VAL\n0XC,70,30,100,32,32,50,4,TEST\n"
            "0XD,,,,32,32,50,4,TRAIN\n0XE,50,50,100,32,32,50,6,TRAIN\n0XA,1,1,1,32,32,50,6,TEST\n"
        )
        (root / "VolumeTracings.csv").write_text(
            traced
            or TRACED
            + trace("0XA.avi", 4, 6)
            + trace("0XA.avi", 1, 3)
            + trace("0XB.avi", 0, 2)
            + trace("0XB.avi", 2, 7)
            + trace("0XC.avi", 1, 5)
            + trace("0XZ.avi", 1, 5)
        )
        return root

    return make


def test_round_trip(importing: Importing, source: Source, trained: Training) -> None:
    timeline, outcome = importing("echonet", source(), KEPT)
    assert not outcome.has_errors
    times = timeline.table("timepoints").groupby("sequence_id")["time"].apply(list)
    assert_allclose(times["0XA_ultrasound"], np.arange(6) / 50)
    # The rate of the table, and the number of frames of the file, of which the table says 7.
    assert_allclose(times["0XB_ultrasound"], np.arange(5) / 25)
    questions = timeline.table("questions").set_index("question_id")
    assert len(questions) == 9
    ejection = questions.loc["0XA_ultrasound_ejection_fraction"]
    assert (ejection["value"], ejection["asked_at"], list(ejection["evidence"])) == (60.5, 5, [1, 4])
    assert list(questions.loc["0XB_ultrasound_end_diastolic_volume"]["evidence"]) == [2]
    assert questions.loc["0XC_ultrasound_end_systolic_volume"]["evidence"] is None
    measured = timeline.table("measurements").set_index(["finding_id", "quantity"])
    assert measured.loc[("0XA_ultrasound_left_ventricle", "end_systolic_volume"), "position"] == 1
    assert measured.loc[("0XC_ultrasound_left_ventricle", "ejection_fraction"), "position"] == 3
    assert ("0XC_ultrasound_left_ventricle", "end_systolic_volume") not in measured.index
    split = load_split(timeline.root, "official", timeline)
    assert dict(zip(split.frame["sequence_id"].str[:3], split.frame["subset"], strict=True)) == {
        "0XA": "train", "0XB": "val", "0XC": "test", "0XD": "train",
    }  # fmt: skip
    asked, losses = trained(timeline)
    assert asked == 9
    assert all(math.isfinite(value) for value in losses.values())


def test_end_diastole_is_the_larger_frame_whatever_the_order(importing: Importing, source: Source) -> None:
    timeline, _ = importing("echonet", source(), KEPT)
    events = timeline.table("events").set_index("event_id")
    assert sorted(events.index) == [
        "0XA_ultrasound_end-diastole", "0XA_ultrasound_end-systole",
        "0XB_ultrasound_end-diastole", "0XB_ultrasound_end-systole",
    ]  # fmt: skip
    bounds = ["onset_lower", "onset_upper", "offset_lower", "offset_upper"]
    assert_allclose(events.loc["0XA_ultrasound_end-diastole", bounds].astype(float), [0.06, 0.08, 0.08, 0.1])
    assert_allclose(events.loc["0XB_ultrasound_end-systole", bounds].astype(float), [-np.inf, 0, 0, 0.04])
    boxes = timeline.table("boxes").set_index(["finding_id", "position"])
    box = boxes.loc[("0XA_ultrasound_left_ventricle", 4)]
    assert (box["x1"], box["y1"], box["x2"], box["y2"], box["channel"]) == (10, 4, 22, 12, "rgb")


def test_what_is_left_out_is_told(planning: Planning, source: Source) -> None:
    notes = "\n".join(planning("echonet", source(), KEPT).notes)
    assert "row 5 of FileList.csv is left out: its video is not in" in notes
    assert "row 6 of FileList.csv is left out: its video is listed before" in notes
    assert "4 rows of VolumeTracings.csv (the first: row 21) are left out: its video is not listed" in notes
    assert "1 videos (such as 0XB_ultrasound) have another number of frames than FileList.csv says" in notes
    assert "2 videos (such as 0XC_ultrasound) have no events: fewer than two frames are traced" in notes
    assert "only one beat of each clip is traced" in notes


def test_a_frame_beyond_the_end_and_equal_areas_make_no_events(planning: Planning, source: Source) -> None:
    traced = TRACED + trace("0XA", 0, 3) + trace("0XA", 6, 5) + trace("0XB", 0, 3) + trace("0XB", 1, 3)
    plan = planning("echonet", source(traced=traced))
    assert "events" not in plan.tables
    assert "boxes" not in plan.tables
    notes = "\n".join(plan.notes)
    assert "a traced frame lies beyond the end of the video" in notes
    assert "the traced areas are equal" in notes


def test_a_broken_video_is_skipped(planning: Planning, source: Source) -> None:
    root = source()
    (root / "Videos" / "0XA.avi").write_bytes(b"RIFF")
    plan = planning("echonet", root, KEPT)
    assert [entry.path.name for entry in plan.skipped] == ["0XA.avi"]
    assert [row["patient_id"] for row in plan.patients] == ["0XB", "0XC", "0XD"]


@pytest.mark.parametrize(
    ("files", "traced", "told"),
    [
        (FILES + "0XA,much,40,100,32,32,50,6,TRAIN\n", None, "FileList.csv, row 1, EF: expected a number"),
        (FILES + "0XA,60,40,100,32,32,0,6,TRAIN\n", None, "row 1, FPS: expected a rate above 0"),
        (FILES + "0XA,60,40,100,32,32,,6,TRAIN\n", None, "row 1, FPS: expected a number, found nothing"),
        (FILES + "0XA,60,40,100,32,32,50,6,LATER\n", None, "row 1, Split: expected train, validate or test"),
        (FILES.replace("FPS", "Rate") + "0XA,60,40,100,32,32,50,6,TRAIN\n", None, "the column FPS"),
        (None, TRACED + "0XA,1,2,3,4,1.5\n", "row 1, Frame: expected a whole number"),
        (None, TRACED + "0XA,1,,3,4,1\n", "row 1, Y1: expected a number, found nothing"),
        (None, TRACED + "0XA,1,2,3,4,1,9\n", "VolumeTracings.csv, row 1: expected 6 cells, found 7"),
    ],
)  # fmt: skip
def test_bad_tables(planning: Planning, source: Source, files: str | None, traced: str | None, told: str) -> None:
    with pytest.raises(InputError) as caught:
        planning("echonet", source(files, traced))
    assert told in str(caught.value)


def test_a_missing_table(planning: Planning, source: Source) -> None:
    root = source()
    (root / "VolumeTracings.csv").unlink()
    with pytest.raises(InputError, match=r"VolumeTracings\.csv: expected a table, found No such file"):
        planning("echonet", root)
