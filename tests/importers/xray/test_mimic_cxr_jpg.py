"""MIMIC-CXR-JPG: order, views, reports, labels, the official split, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from numpy.testing import assert_allclose

from temmed.errors import InputError
from temmed.timelines.importers.plan import Options, Plan
from temmed.timelines.splits import load_split

from ..conftest import Importing, Training
from .conftest import Mimic, table

Planning = Callable[..., Plan]
KEPT = Options(keep_ids=True)


def label(mimic: Mimic, *rows: dict[str, Any]) -> None:
    columns = ["subject_id", "study_id", "Edema", "Lung Opacity", "No Finding"]
    table(mimic.root / "mimic-cxr-2.0.0-chexpert.csv.gz", rows, columns)


def test_round_trip(many: Mimic, importing: Importing, trained: Training) -> None:
    label(
        many,
        *[
            {"subject_id": row["subject_id"], "study_id": row["study_id"], "Edema": float(number % 2)}
            for number, row in enumerate(many.metadata)
        ],
    )
    timeline, outcome = importing("mimic-cxr-jpg", many.write())
    assert outcome.findings == [finding for finding in outcome.findings if finding.severity == "info"]
    assert len(timeline.table("sequences")) == 3
    assert set(timeline.table("sequences")["time_unit"]) == {"day"}
    times = timeline.table("timepoints").groupby("sequence_id")["time"].apply(list)
    assert all(found == [0, 31, 366] for found in times)
    # Newer studies have smaller numbers here: an order by number would be the reverse.
    assert sorted(timeline.table("reports")["text"])[:3] == [f"Report 0 of patient {number}." for number in range(3)]
    assert not timeline.table("patients")["patient_id"].str.startswith("1000").any()
    assert trained(timeline)[0] == len(timeline.table("questions"))


def test_order_is_by_date_and_time_with_leading_zeros_lost(mimic: Mimic, planning: Planning) -> None:
    mimic.study("10000001", "3", "21800102", "84556.875")
    mimic.study("10000001", "1", "21800102", "174500.0")
    mimic.study("10000001", "2", "21791231", "5.25")
    [sequence] = planning("mimic-cxr-jpg", mimic.write(), KEPT).sequences
    assert [picture.files[0].stem for picture in sequence.pictures] == ["d2", "d3", "d1"]
    first = datetime(2179, 12, 31, 0, 0, 5, 250_000)
    rest = [datetime(2180, 1, 2, 8, 45, 56, 875_000), datetime(2180, 1, 2, 17, 45)]
    assert_allclose(sequence.times, [0, *[(when - first) / timedelta(days=1) for when in rest]], rtol=1e-12)


def test_time_of_day_counts_only_if_all_studies_have_one(mimic: Mimic, planning: Planning) -> None:
    mimic.study("10000001", "1", "21800101", "")
    mimic.study("10000001", "2", "21800103", "180000")
    mimic.study("10000002", "3", "21800101", "0.0")
    mimic.study("10000002", "4", "21800103", "120000")
    first, second = planning("mimic-cxr-jpg", mimic.write(), KEPT).sequences
    assert (first.times, second.times) == ([0, 2], [0, 2.5])


def test_views_are_channels_of_one_time_point(mimic: Mimic, planning: Planning) -> None:
    views = {"a": "PA", "b": "LATERAL", "c": "AP", "d": "", "e": "LL"}
    mimic.study("10000001", "1", "21800101", images=views)
    [sequence] = planning("mimic-cxr-jpg", mimic.write(), KEPT).sequences
    found = {picture.files[0].stem: (picture.position, picture.channel) for picture in sequence.pictures}
    assert found == {
        "a": (0, "frontal"),
        "b": (0, "lateral"),
        "c": (0, "frontal_2"),
        "d": (0, "other"),
        "e": (0, "lateral_2"),
    }


def test_official_split(mimic: Mimic, importing: Importing) -> None:
    for number, subset in enumerate(("train", "validate", "test")):
        mimic.study(f"1000000{number}", str(number), "21800101", subset=subset)
    timeline, _ = importing("mimic-cxr-jpg", mimic.write(), KEPT)
    split = load_split(timeline.root, "official", timeline)
    subsets = dict(zip(split.frame["patient_id"], split.frame["subset"], strict=True))
    assert subsets == {"10000000": "train", "10000001": "val", "10000002": "test"}


def test_a_patient_in_two_subsets_counts_for_none(mimic: Mimic, planning: Planning) -> None:
    mimic.study("10000001", "1", "21800101", subset="train")
    mimic.study("10000001", "2", "21800102", subset="test")
    mimic.study("10000002", "3", "21800102", subset="test")
    plan = planning("mimic-cxr-jpg", mimic.write(), KEPT)
    assert [row["patient_id"] for row in plan.splits["official"]] == ["10000002"]
    assert any("1 sequences are left out of the split" in note for note in plan.notes)


def test_labels_become_questions_where_both_reports_are_definite(mimic: Mimic, planning: Planning) -> None:
    for study, date in (("1", "21800301"), ("2", "21800201"), ("3", "21800101")):
        mimic.study("10000001", study, date)
    ids = {"subject_id": "10000001"}
    label(
        mimic,
        ids | {"study_id": "3", "Edema": "1.0", "Lung Opacity": "-1.0", "No Finding": "1.0"},
        ids | {"study_id": "2", "Edema": "0.0", "Lung Opacity": "0.0"},
        ids | {"study_id": "1", "Edema": "0.0", "Lung Opacity": "1.0"},
        ids | {"study_id": "99", "Edema": "0.0"},
    )
    plan = planning("mimic-cxr-jpg", mimic.write(), KEPT)
    asked = {(row["asked_at"], row["template"]): row for row in plan.tables["questions"]}
    assert {key: row["answer"] for key, row in asked.items()} == {
        (1, "mimic_cxr_edema"): "resolved",
        (2, "mimic_cxr_edema"): "still absent",
        (2, "mimic_cxr_lung_opacity"): "new",
    }
    assert asked[2, "mimic_cxr_edema"]["evidence"] == [1, 2]
    assert asked[2, "mimic_cxr_edema"]["prompt"].startswith("Compared with the previous chest X-ray, is the edema new")
    assert any("left out: its study is not in the metadata table" in note for note in plan.notes)


def test_reports_beside_the_images_or_in_their_own_folder(mimic: Mimic, planning: Planning) -> None:
    mimic.study("10000001", "1", "21800101", report="  Clear lungs.\n")
    mimic.study("10000001", "2", "21800102")
    mimic.study("10000001", "3", "21800103")
    other = mimic.root / "mimic-cxr-reports" / mimic.folder("10000001").relative_to(mimic.root)
    other.mkdir(parents=True)
    (other / "s3.txt").write_text("Effusion.")
    plan = planning("mimic-cxr-jpg", mimic.write(), KEPT)
    assert [(row["position"], row["text"]) for row in plan.tables["reports"]] == [(0, "Clear lungs."), (2, "Effusion.")]


def test_limit_and_missing_files_are_told(many: Mimic, planning: Planning) -> None:
    next(many.root.rglob("d509.jpg")).unlink()
    plan = planning("mimic-cxr-jpg", many.write(), Options(keep_ids=True, limit=2))
    assert len(plan.sequences) == 2
    assert len(plan.tables["reports"]) == 6
    assert any("1 patients are left out by --limit" in note for note in plan.notes)
    [absent] = plan.skipped
    assert (absent.path.name, "it is not there" in absent.reason) == ("d509.jpg", True)
    # Notes are written into the dataset, where no path of a patient's may stand.
    assert not any("p1000000" in note for note in plan.notes)
    assert plan.sequences[0].times == [0, 31, 366]


def test_a_study_without_a_date_is_counted(mimic: Mimic, planning: Planning) -> None:
    mimic.study("10000001", "1", "21800101")
    mimic.study("10000001", "2", "")
    plan = planning("mimic-cxr-jpg", mimic.write(), KEPT)
    assert plan.sequences[0].times == [0]
    assert any("row 2 of mimic-cxr-2.0.0-metadata.csv.gz is left out: no StudyDate" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("StudyDate", "2180-13-01", ["YYYYMMDD", "row 1, StudyDate"]),
        ("StudyTime", "256000", ["HHMMSS", "row 1, StudyTime"]),
        ("StudyTime", "noon", ["HHMMSS", "'noon'"]),
        ("subject_id", "", ["row 1, subject_id", "nothing"]),
        ("study_id", "x7", ["row 1, study_id"]),
    ],
)
def test_a_malformed_cell(mimic: Mimic, planning: Planning, column: str, value: str, words: list[str]) -> None:
    mimic.study("10000001", "1", "21800101")
    mimic.metadata[0][column] = value
    with pytest.raises(InputError) as refused:
        planning("mimic-cxr-jpg", mimic.write(), KEPT)
    assert all(word in str(refused.value) for word in ["mimic-cxr-2.0.0-metadata.csv.gz", *words])


def test_a_missing_column(mimic: Mimic, planning: Planning) -> None:
    mimic.study("10000001", "1", "21800101")
    for row in mimic.metadata:
        del row["StudyDate"]
    with pytest.raises(InputError, match=r"metadata\.csv\.gz: expected the column StudyDate"):
        planning("mimic-cxr-jpg", mimic.write(), KEPT)


def test_a_missing_table(mimic: Mimic, planning: Planning) -> None:
    mimic.study("10000001", "1", "21800101")
    with pytest.raises(InputError, match=r"the table mimic-cxr-\*-metadata\.csv"):
        planning("mimic-cxr-jpg", mimic.root, KEPT)


def test_a_wrong_folder_of_images(mimic: Mimic, planning: Planning) -> None:
    mimic.study("10000001", "1", "21800101")
    mimic.write()
    for file in mimic.root.rglob("*.jpg"):
        file.unlink()
    with pytest.raises(InputError, match="none of them"):
        planning("mimic-cxr-jpg", mimic.root, KEPT)


def test_a_label_that_is_no_label(mimic: Mimic, planning: Planning) -> None:
    mimic.study("10000001", "1", "21800101")
    label(mimic, {"subject_id": "10000001", "study_id": "1", "Edema": "2"})
    with pytest.raises(InputError, match="row 1, Edema"):
        planning("mimic-cxr-jpg", mimic.write(), KEPT)


def test_the_order_of_the_rows_changes_nothing(many: Mimic, planning: Planning) -> None:
    def found(plan: Plan) -> dict[str, tuple[list[float], list[str]]]:
        return {
            sequence.patient_id: (sequence.times, [picture.files[0].stem for picture in sequence.pictures])
            for sequence in plan.sequences
        }

    forwards = found(planning("mimic-cxr-jpg", many.write(), KEPT))
    many.metadata.reverse()
    assert found(planning("mimic-cxr-jpg", many.write(), KEPT)) == forwards
