"""BIDS: sessions, their times, functional runs, participants, and the traps of each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from temmed.errors import InputError
from temmed.timelines.importers.plan import Options

from .conftest import Importing, Planning, Training, VolumeWriter

KEPT = Options(keep_ids=True)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def source(tmp_path: Path, volume: VolumeWriter) -> Path:
    """One patient with dated sessions, one with numbered ones, one with one session without a folder of its own."""
    root = tmp_path / "bids"
    for session, value in (("late", 3), ("early", 1)):
        volume(root / f"sub-01/ses-{session}/anat/sub-01_ses-{session}_T1w.nii.gz", value=value)
    volume(root / "sub-01/ses-late/anat/sub-01_ses-late_run-2_T1w.nii.gz", value=4)
    volume(root / "sub-01/ses-late/anat/sub-01_ses-late_acq-tse_T2w.nii", value=5)
    volume(root / "sub-01/ses-late/func/sub-01_ses-late_task-rest_bold.nii.gz", frames=3, step=9)
    volume(root / "sub-01/ses-late/dwi/sub-01_ses-late_dwi.nii.gz", frames=4)
    volume(root / "sub-01/ses-late/fmap/sub-01_ses-late_magnitude1.nii.gz")
    volume(root / "derivatives/prep/sub-01/ses-late/anat/sub-01_ses-late_T1w.nii.gz")
    write(root / "task-rest_bold.json", json.dumps({"RepetitionTime": 2.5}))
    write(
        root / "sub-01/sub-01_sessions.tsv",
        "session_id\tacq_time\nses-late\t1877-06-15T10:00:00\nearly\tn/a\nses-gone\t1877-06-01T10:00:00\n",
    )
    write(
        root / "sub-01/ses-early/sub-01_ses-early_scans.tsv",
        "filename\tacq_time\nanat/b.nii.gz\t1877-06-05T11:00:00.5\nanat/sub-01_ses-early_T1w.nii.gz\t1877-06-05T10:00:00\n",
    )
    for session in ("10", "2", "1"):
        volume(root / f"sub-02/ses-{session}/anat/sub-02_ses-{session}_T1w.nii.gz", value=float(session))
    volume(root / "sub-03/anat/sub-03_T1w.nii.gz")
    write(
        root / "participants.tsv",
        "participant_id\tage\tsex\tsite\thandedness\tiq\tpatient_id\nsub-01\t34\tF\t01\tn/a\t101\tDoe\n"
        "02\t90+\tM\t02\tright\tn/a\tRoe\nsub-99\t1\tF\t01\tright\t99\tPoe\n",
    )
    return root


def test_round_trip(importing: Importing, source: Path, trained: Training, tmp_path: Path) -> None:
    asked = tmp_path / "questions.csv"
    asked.write_text(
        "patient,modality,position,prompt,choices,answer,evidence,sequence\n"
        ",,1,Is it lighter than at first?,yes|no,yes,0|1,01_mri\n"
        ",,2,Is it lighter than at first?,yes|no,yes,0|2,02_mri\n"
    )
    timeline, outcome = importing("bids", source, KEPT, questions=asked)
    assert not outcome.has_errors
    sequences = timeline.table("sequences").set_index("sequence_id")
    times = timeline.table("timepoints").groupby("sequence_id")["time"].apply(list)
    assert (sequences.loc["01_mri", "time_unit"], times["01_mri"]) == ("day", [0, 10])
    assert (sequences.loc["02_mri", "time_unit"], times["02_mri"]) == ("ordinal", [0, 1, 2])
    assert [pixels.max() for _, _, pixels in timeline.read_images("02_mri")] == [1, 2, 10]
    shown = [(position, channel, pixels.max()) for position, channel, pixels in timeline.read_images("01_mri")]
    assert sorted(shown) == [(0, "t1w", 1), (1, "acq_tse_t2w", 5), (1, "t1w", 3), (1, "t1w_2", 4)]
    [loop] = [name for name in sequences.index if name.startswith("01_mri_")]
    assert (sequences.loc[loop, "time_unit"], times[loop]) == ("second", [0, 2.5, 5])
    assert sequences.loc[loop, "clock_offset"] == 10 * 86_400
    people = timeline.table("patients").set_index("patient_id")
    assert (people.loc["01", "age"], people.loc["02", "age"], people.loc["01", "site"]) == (34, 90, "01")
    assert (people.loc["02", "handedness"], people.loc["01", "iq"]) == ("right", 101)
    assert people.loc[["01", "03"], "handedness"].isna().all()
    questions, losses = trained(timeline)
    assert questions == 2
    assert np.isfinite(list(losses.values())).all()


def test_what_is_left_out_is_told(planning: Planning, source: Path) -> None:
    plan = planning("bids", source)
    reasons = {entry.path.relative_to(source).as_posix(): entry.reason for entry in plan.skipped}
    assert reasons["sub-01/ses-late/dwi/sub-01_ses-late_dwi.nii.gz"] == "the fourth axis of dwi files is not time"
    assert reasons["sub-01/ses-late/fmap/sub-01_ses-late_magnitude1.nii.gz"] == "the data type fmap is not imported"
    assert "derivatives" in reasons["derivatives/prep/sub-01/ses-late/anat/sub-01_ses-late_T1w.nii.gz"]
    assert len(reasons) == 3
    notes = "\n".join(plan.notes)
    assert "row 3 of a sessions.tsv is left out: there is no image of the session" in notes
    assert "dates before 1925 are shifted ones" in notes
    assert "1 patients have numbered sessions without times" in notes
    assert "1 patients have no row in participants.tsv" in notes
    assert all(row["patient_id"].startswith("p") for row in plan.patients)


def test_a_session_without_time_among_words_is_skipped(planning: Planning, source: Path) -> None:
    (source / "sub-01/ses-early/sub-01_ses-early_scans.tsv").unlink()
    plan = planning("bids", source, KEPT)
    skipped = [entry for entry in plan.skipped if "no acq_time" in entry.reason]
    assert [entry.path.name for entry in skipped] == ["sub-01_ses-early_T1w.nii.gz"]
    assert [sequence.times for sequence in plan.sequences if sequence.sequence_id == "01_mri"] == [[0]]


def test_numbers_that_contradict_the_dates_give_no_order(planning: Planning, source: Path) -> None:
    write(source / "sub-02/sub-02_sessions.tsv", "session_id\tacq_time\nses-1\t2020-02-01\nses-2\t2020-01-01\n")
    plan = planning("bids", source, KEPT)
    [sequence] = [sequence for sequence in plan.sequences if sequence.patient_id == "02"]
    assert (sequence.time_unit, sequence.times) == ("day", [0, 31])
    assert [entry.path.name for entry in plan.skipped if "no acq_time" in entry.reason] == ["sub-02_ses-10_T1w.nii.gz"]


def test_times_of_frames(planning: Planning, source: Path, volume: VolumeWriter) -> None:
    folder = source / "sub-04/pet"
    volume(folder / "sub-04_pet.nii.gz", frames=3, value=7)
    write(folder / "sub-04_pet.json", json.dumps({"FrameTimesStart": [10, 20, 50]}))
    plan = planning("bids", source, KEPT)
    [sequence] = [sequence for sequence in plan.sequences if sequence.patient_id == "04"]
    assert (sequence.modality, sequence.time_unit) == ("pet", "second")
    assert_allclose(sequence.times, [0, 10, 40])
    assert {"patient_id": "04"} in plan.patients
    write(folder / "sub-04_pet.json", json.dumps({"FrameTimesStart": [10, 50, 20]}))
    with pytest.raises(InputError, match="expected FrameTimesStart that grows"):
        planning("bids", source, KEPT)
    (folder / "sub-04_pet.json").unlink()
    # A file beside the image goes before one further up, and one of another task says nothing.
    inside = source / "sub-01/ses-late/func"
    write(source / "task-walk_bold.json", json.dumps({"RepetitionTime": 7}))
    write(inside / "sub-01_ses-late_task-rest_bold.json", json.dumps({"RepetitionTime": 1.5}))
    [loop] = [sequence for sequence in planning("bids", source, KEPT).sequences if "RepetitionTime" in sequence.timing]
    assert loop.times == [0, 1.5, 3]


def test_limit(planning: Planning, source: Path) -> None:
    plan = planning("bids", source, Options(keep_ids=True, limit=1))
    assert {sequence.patient_id for sequence in plan.sequences} == {"01"}
    assert "2 patients are left out by --limit" in plan.notes


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("participants.tsv", "age\n3\n", "participants.tsv: expected the column participant_id"),
        ("participants.tsv", "participant_id\tage\nsub-01\told\n", "participants.tsv, row 1, age: expected a number"),
        ("participants.tsv", "participant_id\nsub-01\textra\n", "participants.tsv, row 1: expected 1 cells, found 2"),
        ("sub-01/sub-01_sessions.tsv", "session_id\tacq_time\nses-late\tJune\n", "row 1, acq_time: expected a date"),
        ("sub-01/sub-01_sessions.tsv", "session\tacq_time\nses-late\tn/a\n", "the column session_id"),
        ("task-rest_bold.json", "{", "task-rest_bold.json: expected a JSON file"),
        ("task-rest_bold.json", "[]", "task-rest_bold.json: expected a JSON object"),
    ],
)
def test_bad_files(planning: Planning, source: Path, name: str, text: str, told: str) -> None:
    write(source / name, text)
    with pytest.raises(InputError) as caught:
        planning("bids", source)
    assert told in str(caught.value)
