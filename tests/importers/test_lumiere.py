"""LUMIERE: weeks with several scans, dirty ratings, and what RANO compares with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from temmed.errors import InputError
from temmed.timelines.importers.plan import Options

from .conftest import Importing, Planning, Training, VolumeWriter

KEPT = Options(keep_ids=True)
HEADER = (
    'Patient,Date,LessThan3Months,NonMeasurableLesions,"Rating (according to RANO, PD: Progressive disease)",'
    '"Rating rationale (CRET: complete resection)"\n'
)
ROWS = (
    "Patient-001,week-000-1,,,Pre-Op,\n"
    "Patient-001,week-000-2,,,Post-Op ,\n"
    'Patient-001,week-012,x,,PD,"CRET, T2-Progr."\n'
    "Patient-001,week-044,,x, sd ,\n"
    "Patient-001,week-050,,,Post-Op/PD,\n"
    "Patient-001,week-060,,,PD,\n"
    "Patient-001,week-060,,,SD,\n"
    "Patient-001,week-070,,,maybe,\n"
    "Patient-002,week-000,,,Post-Op,\n"
    "Patient-002,week-020,,,CR,\n"
    "Patient-003,week-000,,,PD,\n"
)
PEOPLE = (
    "Patient,Survival time (weeks),Sex,Age at surgery (years),IDH (WT: wild type)\n"
    "Patient-001,80.5,male,61,WT\nPatient-002,NA,female,95,na\n"
)
Source = Callable[..., Path]


@pytest.fixture
def source(tmp_path: Path, volume: VolumeWriter) -> Source:
    def make(ratings: str = HEADER + ROWS, people: str = PEOPLE) -> Path:
        root = tmp_path / "LUMIERE"
        imaging = root / "Imaging"
        for value, visit in enumerate(("week-000-1", "week-000-2", "week-012", "week-044", "week-060"), 1):
            volume(imaging / "Patient-001" / visit / "CT1.nii.gz", value=value)
        volume(imaging / "Patient-001/week-012/FLAIR.nii.gz", value=9)
        volume(imaging / "Patient-001/week-012/HD-GLIO-AUTO-segmentation/native/seg.nii.gz")
        volume(imaging / "Patient-002/week-000/T1.nii.gz")
        (root / "LUMIERE-ExpertRating-v202211.csv").write_text(ratings)
        (root / "LUMIERE-Demographics_Pathology.csv").write_text(people)
        return root

    return make


def test_round_trip(importing: Importing, source: Source, trained: Training) -> None:
    timeline, outcome = importing("lumiere", source(), KEPT)
    assert not outcome.has_errors
    sequences = timeline.table("sequences").set_index("sequence_id")
    assert set(sequences["time_unit"]) == {"week"}
    points = timeline.table("timepoints").query("sequence_id == 'Patient-001_mri'")
    assert list(points["time"]) == [0, 0.5, 12, 44, 50, 60, 70]
    assert list(points["time_upper"]) == [1, 1, 12, 44, 50, 60, 70]
    shown = [(position, channel, pixels.max()) for position, channel, pixels in timeline.read_images("Patient-001_mri")]
    assert sorted(shown) == [(0, "ct1", 1), (1, "ct1", 2), (2, "ct1", 3), (2, "flair", 9), (3, "ct1", 4), (5, "ct1", 5)]
    questions = timeline.table("questions").set_index("question_id")
    told = {(row.asked_at, row.answer, row.template) for row in questions.itertuples()}
    assert told == {
        (2, "PD", "lumiere_rano_within_3_months"),
        (3, "SD", "lumiere_rano"),
        (5, "PD", "lumiere_rano"),
        (1, "CR", "lumiere_rano"),
    }
    # One visit since surgery: that is what was compared with. Two: it is not told which.
    assert list(questions.loc["Patient-001_mri_rano_2", "evidence"]) == [1, 2]
    assert questions.loc["Patient-001_mri_rano_2", "evidence_report_id"] == "Patient-001_mri_r2"
    assert questions.loc["Patient-001_mri_rano_3", "evidence"] is None
    # The second patient's rated visit has no image.
    assert questions.loc["Patient-002_mri_rano_1", "evidence"] is None
    assert list(timeline.table("reports")["text"]) == ["CRET, T2-Progr."]
    assert list(timeline.table("reports")["time"]) == [12]
    people = timeline.table("patients").set_index("patient_id")
    assert (people.loc["Patient-001", "age"], people.loc["Patient-002", "age"]) == (61, 90)
    assert people.loc["Patient-001", "survival_time_weeks"] == 80.5
    assert np.isnan(people.loc["Patient-002", "survival_time_weeks"])
    events = timeline.table("events").set_index("event_id")
    bounds = events[["onset_lower", "onset_upper", "offset_lower", "offset_upper"]].astype(float)
    assert list(bounds.loc["Patient-001_mri_progressive_disease"]) == [0.5, 12, 12, 44]
    assert list(bounds.loc["Patient-001_mri_progressive_disease_2"]) == [44, 60, 60, np.inf]
    assert bounds.loc["Patient-002_mri_progressive_disease"].isna().all()
    assert trained(timeline)[0] == 4


def test_what_is_left_out_is_told(planning: Planning, source: Source) -> None:
    plan = planning("lumiere", source())
    notes = "\n".join(plan.notes)
    assert "row 7 of LUMIERE-ExpertRating-v202211.csv is left out: a second rating of the same visit" in notes
    assert "row 5 of LUMIERE-ExpertRating-v202211.csv is left out: it has two ratings" in notes
    assert "row 8 of LUMIERE-ExpertRating-v202211.csv is left out: its rating is none of CR" in notes
    assert "1 patients of the tables have no image here" in notes
    assert [entry.path.name for entry in plan.skipped] == ["seg.nii.gz"]
    assert plan.sequences[0].sequence_id.startswith("p")


def test_images_in_another_folder(planning: Planning, source: Source, tmp_path: Path) -> None:
    root = source()
    (root / "Imaging").rename(tmp_path / "elsewhere")
    plan = planning("lumiere", root, Options(keep_ids=True, images=tmp_path / "elsewhere"))
    assert [len(sequence.pictures) for sequence in plan.sequences] == [6, 1]


@pytest.mark.parametrize(
    ("ratings", "people", "told"),
    [
        (HEADER + "Patient-001,044,,,PD,\n", PEOPLE, "row 1, Date: expected week-044 or week-000-1, found '044'"),
        (HEADER + ",week-044,,,PD,\n", PEOPLE, "row 1, Patient: expected a value, found nothing"),
        (HEADER.replace("Rating (", "RANO (") + ROWS, PEOPLE, "a column that begins with 'Rating ('"),
        (HEADER.replace("Date", "Week") + ROWS, PEOPLE, "the column Date"),
        (HEADER + ROWS, PEOPLE.replace("61", "sixty"), "Demographics_Pathology.csv, row 1, Age at surgery (years)"),
        ("", PEOPLE, "a header and rows, found an empty file"),
    ],
)
def test_bad_tables(planning: Planning, source: Source, ratings: str, people: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        planning("lumiere", source(ratings, people))
    assert told in str(caught.value)


def test_a_missing_table(planning: Planning, source: Source) -> None:
    root = source()
    (root / "LUMIERE-ExpertRating-v202211.csv").unlink()
    with pytest.raises(InputError, match=r"one table LUMIERE-ExpertRating\*\.csv, found none"):
        planning("lumiere", root)
