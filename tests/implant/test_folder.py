"""Whole folders: fit for use, marked, the same for any worker count, untouched sources, clear refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from typer.testing import CliRunner

from temmed.cli import app
from temmed.errors import InputError
from temmed.timelines.audit import audit, has_errors
from temmed.timelines.folder import Timeline
from temmed.timelines.implant.build import Outcome, implant
from temmed.timelines.pixels import read_frames
from temmed.timelines.schema import horizon_bin
from temmed.timelines.splits import make_split
from temmed.timelines.synthetic.generate import generate

from .conftest import CT, LOOP, MR, Phantom


def _sequence(timeline: Timeline, modality: str) -> str:
    sequences = timeline.table("sequences")
    [name] = sequences.loc[sequences["modality"].str.lower() == modality, "sequence_id"]
    return str(name)


def test_it_passes_the_audit(done: Outcome) -> None:
    findings = audit(done.timeline)
    assert not has_errors(findings), findings
    assert not done.left_out


def test_it_is_marked(done: Outcome, real: Timeline) -> None:
    provenance = done.timeline.meta.provenance
    assert "semi-synthetic" in provenance["source"]
    assert provenance["semi_synthetic"] is True
    assert provenance["source_fingerprint"] == real.meta.fingerprint
    assert provenance["parameters"] == {
        "visits": 5, "findings": None, "seed": 0, "limit": None, "keep_reports": False,
    }  # fmt: skip
    assert "made-up times" in " ".join(provenance["notes"][_sequence(real, CT)])
    told = CliRunner().invoke(app, ["data", "info", str(done.timeline.root)])
    assert "semi-synthetic" in told.stdout


def test_patients_and_sequences_are_those_of_the_source(done: Outcome, real: Timeline) -> None:
    for name, column in (("patients", "patient_id"), ("sequences", "sequence_id")):
        assert done.timeline.table(name)[column].tolist() == real.table(name)[column].tolist()


def test_loops_keep_their_times_and_single_images_become_visits(done: Outcome, real: Timeline) -> None:
    loop, single = _sequence(real, LOOP), _sequence(real, CT)
    points = [timeline.table("timepoints").set_index("sequence_id")["time"] for timeline in (done.timeline, real)]
    assert_array_equal(points[0][loop], points[1][loop])
    visits = done.timeline.table("timepoints").query("sequence_id == @single")["time"].to_numpy()
    assert len(visits) == 5
    assert (np.diff(visits) >= 14).all()
    assert done.timeline.table("sequences").set_index("sequence_id")["time_unit"].to_dict()[single] == "day"


def test_masks_boxes_and_measurements_agree(done: Outcome) -> None:
    timeline = done.timeline
    sizes = timeline.table("measurements").set_index(["finding_id", "position"])["value"]
    masks, boxes = timeline.table("masks"), timeline.table("boxes").set_index(["finding_id", "position", "channel"])
    assert set(zip(masks["finding_id"], masks["position"], strict=True)) == set(sizes.index)
    owners = timeline.table("findings").set_index("finding_id")["sequence_id"]
    shapes: dict[str, tuple[int, ...]] = {}
    for row in masks.to_dict("records"):
        inside = read_frames(timeline.root / row["path"])[0] > 0
        owner = str(owners[row["finding_id"]])
        if owner not in shapes:
            shapes[owner] = timeline.read_images(owner, [row["position"]])[0][2].shape[:2]
        assert inside.shape == shapes[owner]
        rows, columns = np.nonzero(inside)
        box = boxes.loc[(row["finding_id"], row["position"], row["channel"])]
        expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert tuple(box[["x1", "y1", "x2", "y2"]]) == expected
    # Events are the first and last position with a mask.
    seen = masks.groupby("finding_id")["position"].agg(["min", "max"])
    times = timeline.table("timepoints").set_index(["sequence_id", "position"])["time"]
    events = timeline.table("events").dropna(subset=["finding_id", "onset_upper"]).set_index("finding_id")
    assert set(events.index) == set(seen.index)
    for finding, event in events.iterrows():
        assert event["onset_upper"] == times[owners[finding], seen.loc[finding, "min"]]
        assert event["offset_lower"] == times[owners[finding], seen.loc[finding, "max"]]


@pytest.mark.slow
def test_workers_and_the_order_of_work_change_nothing(done: Outcome, real: Timeline, tmp_path: Path) -> None:
    parallel = implant(real.root, tmp_path / "two", visits=5, workers=2, progress=False)
    assert parallel.timeline.meta.fingerprint == done.timeline.meta.fingerprint


def test_other_seeds_give_other_data_and_limits_hold(done: Outcome, real: Timeline, tmp_path: Path) -> None:
    other = implant(
        real.root, tmp_path / "o", visits=5, seed=1, findings=1, limit=2, workers=1, progress=False
    ).timeline
    assert other.meta.fingerprint != done.timeline.meta.fingerprint
    assert len(other.table("patients")) == 2
    assert other.table("findings").groupby("sequence_id").size().max() == 1


def test_volumes(volumes: Timeline, tmp_path: Path) -> None:
    timeline = implant(volumes.root, tmp_path / "out", workers=1, progress=False).timeline
    assert not has_errors(audit(timeline))
    [sequence] = timeline.table("sequences")["sequence_id"]
    before, after = (one.read_images(sequence) for one in (volumes, timeline))
    assert [image.shape for _, _, image in before] == [image.shape for _, _, image in after]
    assert not timeline.has("boxes")
    assert timeline.has("masks")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    """Visits of 30 patients, the built-in MRI as a source of images alone."""
    root = tmp_path_factory.mktemp("many")
    source = generate(root / "source", "mri", patients=30, size=48, workers=1, progress=False)
    return implant(source.root, root / "out", workers=1, progress=False).timeline


@pytest.mark.slow
def test_answers_are_balanced(many: Timeline) -> None:
    assert not has_errors(audit(many))
    questions = many.table("questions")
    progression = questions[questions["task"] == "progression"]
    bins = progression["horizon_steps"].map(horizon_bin)
    counts = progression.groupby(["template", bins])["answer"].value_counts().unstack(fill_value=0)
    assert len(progression) > 10
    assert (counts.nunique(axis=1) == 1).all()
    assert {"measurement", "event", "new_finding"} <= set(questions["task"])


@pytest.mark.slow
def test_ultrasound_loops_ask_about_frames(tmp_path: Path) -> None:
    source = generate(tmp_path / "source", "ultrasound", patients=12, size=64, workers=1, progress=False)
    timeline = implant(source.root, tmp_path / "out", workers=1, progress=False).timeline
    assert not has_errors(audit(timeline))
    questions = timeline.table("questions")
    verdicts = questions.loc[questions["task"] == "progression", "answer"].value_counts()
    assert verdicts.nunique() == 1
    assert len(verdicts) == 3
    assert questions["prompt"].str.contains("frame").any()
    assert not questions["prompt"].str.contains("examination|time point").any()


def test_ids_of_findings_and_questions_fit(done: Outcome) -> None:
    timeline = done.timeline
    names = timeline.table("findings")
    assert [f"{owner}-f" for owner in names["sequence_id"]] == [name[:-1] for name in names["finding_id"]]
    assert timeline.table("questions")["question_id"].is_unique
    assert {"measurement"} <= set(timeline.table("questions")["task"])


def test_images_without_a_pixel_size_are_measured_in_pixels(phantom: Phantom, tmp_path: Path) -> None:
    timeline = implant(phantom([(0, 0), (3, 2), (-2, 4)]), tmp_path / "out", workers=1, progress=False).timeline
    assert set(timeline.table("measurements")["unit"]) == {"pixel"}
    questions = timeline.table("questions")
    asked = questions.loc[questions["task"] == "measurement", "prompt"]
    assert len(asked)
    assert not asked.str.contains("millimetres").any()
    assert timeline.table("reports")["text"].str.contains(" pixel ").any()
    assert "in pixels" in str(timeline.meta.provenance["notes"])


@pytest.mark.parametrize(("unit", "said"), [("week", "30 weeks"), ("ordinal", "time point 1")])
def test_words_follow_the_unit_of_time(phantom: Phantom, tmp_path: Path, unit: str, said: str) -> None:
    source = phantom([(0, 0), (0, 0), (1, 0), (0, 1)], time_unit=unit)
    timeline = implant(source, tmp_path / "out", workers=1, progress=False).timeline
    assert not has_errors(audit(timeline))
    reports = timeline.table("reports").set_index("position")["text"]
    assert said in reports[1]
    assert not timeline.table("questions")["prompt"].str.contains("days").any()


def test_findings_stay_with_a_body_that_moves(phantom: Phantom, tmp_path: Path) -> None:
    shifts = [(0, 0), (8, -6), (-7, 9)]
    timeline = implant(phantom(shifts), tmp_path / "out", seed=4, workers=1, progress=False).timeline
    boxes = timeline.table("boxes").groupby(["finding_id", "position"])[["x1", "y1", "x2", "y2"]].first()
    checked = 0
    for _, rows in boxes.groupby("finding_id"):
        middles = rows.assign(x=(rows["x1"] + rows["x2"]) / 2, y=(rows["y1"] + rows["y2"]) / 2).reset_index()
        for first, last in zip(middles[:-1].to_dict("records"), middles[1:].to_dict("records"), strict=True):
            down, right = np.subtract(shifts[last["position"]], shifts[first["position"]])
            assert last["y"] - first["y"] == pytest.approx(down, abs=2.5)
            assert last["x"] - first["x"] == pytest.approx(right, abs=2.5)
            checked += 1
    assert checked


def test_reports_of_the_source_are_kept_only_when_asked(phantom: Phantom, tmp_path: Path) -> None:
    source = phantom([(0, 0), (1, 1), (0, 2)])
    without = implant(source, tmp_path / "a", workers=1, progress=False).timeline
    kept = implant(source, tmp_path / "b", keep_reports=True, workers=1, progress=False).timeline
    assert not without.table("reports")["text"].eq("No finding.").any()
    assert kept.table("reports").set_index("report_id")["text"].to_dict()["source-r"] == "No finding."


def test_the_source_is_untouched(phantom: Phantom, tmp_path: Path) -> None:
    source = phantom([(0, 0), (1, 1)])
    before = {path: path.read_bytes() for path in sorted(source.rglob("*")) if path.is_file()}
    implant(source, tmp_path / "out", workers=1, progress=False)
    assert {path: path.read_bytes() for path in sorted(source.rglob("*")) if path.is_file()} == before


def test_it_can_be_split(done: Outcome, tmp_path: Path) -> None:
    copy = shutil.copytree(done.timeline.root, tmp_path / "copy")
    split = make_split(Timeline.open(copy), by="patient", seed=0)
    assert len(split.frame)


def test_a_sequence_without_a_place_is_left_out_and_told(real: Timeline, tmp_path: Path) -> None:
    # Without --visits single images are left out; the loop goes on.
    outcome = implant(real.root, tmp_path / "out", workers=1, progress=False)
    assert set(outcome.left_out) == {_sequence(real, CT), _sequence(real, MR)}
    assert all("--visits" in reason for reason in outcome.left_out.values())
    assert outcome.timeline.table("sequences")["sequence_id"].tolist() == [_sequence(real, LOOP)]
    assert outcome.timeline.meta.provenance["left_out"] == outcome.left_out


def test_refusals(real: Timeline, phantom: Phantom, tmp_path: Path) -> None:
    out = tmp_path / "out"
    small = phantom([(0, 0), (0, 0)], side=24, radius=9.0)
    refused = [
        ({"source": small}, "too narrow"),
        ({"source": real.root, "visits": 1}, "--visits"),
        ({"source": real.root, "findings": 0}, "--findings"),
        ({"source": real.root, "limit": 0}, "--limit"),
        ({"source": tmp_path / "nowhere"}, "timeline folder"),
    ]
    for arguments, told in refused:
        with pytest.raises(InputError, match=told):
            implant(root=out, workers=1, progress=False, **arguments)  # type: ignore[arg-type]
        assert not out.exists()
        assert not list(tmp_path.glob(".out*"))
    with pytest.raises(InputError, match="outside of the source"):
        implant(small, small / "inside", workers=1, progress=False)


def test_nothing_is_left_of_what_fails_half_way(phantom: Phantom, tmp_path: Path) -> None:
    source = phantom([(0, 0), (1, 1)])
    (source / "images" / "s.npy").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"s\.npy"):
        implant(source, tmp_path / "out", workers=1, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["phantom"]


def test_the_command(phantom: Phantom, tmp_path: Path) -> None:
    source, out = phantom([(0, 0), (1, 1), (2, 2)]), tmp_path / "out"
    words = ["data", "implant", str(source), str(out), "--findings", "2", "--seed", "3", "--workers", "1"]
    first = CliRunner().invoke(app, words)
    assert first.exit_code == 0, first.output
    assert "semi-synthetic" in first.output
    assert "in pixels" in first.output
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 2
    assert "overwrite" in again.output
    assert CliRunner().invoke(app, [*words, "--overwrite"]).exit_code == 0
    about = json.loads((out / "dataset.json").read_text())
    assert about["licence"] == "CC0-1.0"
    assert about["provenance"]["parameters"]["findings"] == 2


def test_attributes_of_patients_are_kept(phantom: Phantom, tmp_path: Path) -> None:
    timeline = implant(phantom([(0, 0), (1, 1)]), tmp_path / "out", workers=1, progress=False).timeline
    assert timeline.table("patients").iloc[0].to_dict()["sex"] == "F"
    assert isinstance(timeline.table("treatments"), pd.DataFrame)
    assert not timeline.has("treatments")
