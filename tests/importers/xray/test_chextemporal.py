"""CheXTemporal: pairs of three archives, five classes in any form, and boxes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from temmed.errors import InputError
from temmed.timelines.importers.plan import Options, Plan

from ..conftest import Importing, Training
from .conftest import Mimic, items, picture

Planning = Callable[..., Plan]
KEPT = Options(keep_ids=True)


def pair(patient: str, progression: str, disease: str = "Edema", **more: Any) -> dict[str, Any]:
    paths = {f"img_path_{name}": f"train/{patient}/study{n}/view1.jpg" for n, name in ((1, "prev"), (2, "curr"))}
    row = {"patient_id": patient, "study_id_prev": "study1", "study_id_curr": "study2", **paths}
    return row | {"disease_name": disease, "progression": progression, "dataset": "chexpert"} | more


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    for row in rows:
        for number, name in enumerate(("prev", "curr")):
            picture(folder / row["dataset"] / row[f"img_path_{name}"], 40 * number)
    items(folder / "gold_progression_pairs.parquet", rows)
    return folder


def boxed(row: dict[str, Any], prior: list[list[int]], current: list[list[int]]) -> dict[str, Any]:
    def boxes(found: list[list[int]]) -> list[dict[str, Any]]:
        names = ("x1", "y1", "x2", "y2")
        return [dict(zip(names, box, strict=True)) | {"label": f"Box{n}"} for n, box in enumerate(found, 1)]

    return row | {"prior_bboxes": boxes(prior), "current_bboxes": boxes(current)}


def test_round_trip(tmp_path: Path, importing: Importing, trained: Training) -> None:
    forms = ("Stable", "worsened", "IMPROVING", "New", "resolving")
    rows = [pair(f"patient{n}", form) for n, form in enumerate(forms)]
    source = write(tmp_path / "cxt", *rows)
    items(source / "gold_bboxes.parquet", [boxed(rows[0], [], [[1, 1, 5, 5], [6, 6, 9, 9], [4, 4, 4, 8]])])
    timeline, outcome = importing("chextemporal", source)
    assert list(timeline.table("questions")["answer"]) == ["stable", "worse", "improved", "new", "resolved"]
    assert set(timeline.table("sequences")["time_unit"]) == {"ordinal"}
    boxes = timeline.table("boxes")
    assert list(boxes["position"]) == [1, 1]
    findings = timeline.table("findings").set_index("finding_id")["label"]
    assert (findings[boxes["finding_id"]] == "edema").all()
    assert boxes["finding_id"].nunique() == 2
    assert boxes["finding_id"].iloc[0] == timeline.table("questions")["finding_id"].iloc[0]
    assert any("1 boxes have no area" in note for note in outcome.plan.notes)
    assert trained(timeline)[0] == len(timeline.table("questions"))


def test_pairs_of_one_patient_and_of_two_archives(tmp_path: Path, planning: Planning) -> None:
    source = write(
        tmp_path / "cxt",
        pair("patient1", "Stable"),
        pair("patient1", "New", "Pleural Effusion"),
        pair("patient1", "Stable", dataset="rexgradient"),
    )
    plan = planning("chextemporal", source, KEPT)
    assert [sequence.patient_id for sequence in plan.sequences] == ["chexpert/patient1", "rexgradient/patient1"]
    assert [row["template"] for row in plan.tables["questions"]] == [
        "chextemporal_edema",
        "chextemporal_pleural_effusion",
        "chextemporal_edema",
    ]
    assert plan.tables["questions"][1]["prompt"] == (
        "Compared with the previous chest X-ray, is the pleural effusion stable, worse, improved, new or resolved?"
    )


def test_rows_said_twice_or_otherwise(tmp_path: Path, planning: Planning) -> None:
    source = write(
        tmp_path / "cxt",
        pair("patient1", "Stable"),
        pair("patient1", "stable"),
        pair("patient2", "Stable"),
        pair("patient2", "New"),
    )
    plan = planning("chextemporal", source, KEPT)
    assert len(plan.tables["questions"]) == 1
    notes = "\n".join(plan.notes)
    assert "row 2 of gold_progression_pairs.parquet is left out: another row labels the same pair likewise" in notes
    assert "2 rows of gold_progression_pairs.parquet (the first: row 3) are left out: another row labels" in notes


def test_pairs_of_mimic_are_checked_against_its_dates(many: Mimic, tmp_path: Path, planning: Planning) -> None:
    def of(before: str, now: str) -> dict[str, Any]:
        folder = "p10/p10000000"
        paths = {f"img_path_{k}": f"{folder}/s{s}/d{s}.jpg" for k, s in (("prev", before), ("curr", now))}
        return pair("p10000000", "Stable", dataset="mimic", study_id_prev=before, study_id_curr=now, **paths)

    source = write(tmp_path / "cxt", of("509", "508"), of("507", "508"))
    many.root = source
    plan = planning("chextemporal", many.write(), KEPT)
    assert len(plan.tables["questions"]) == 1
    assert any("row 2 of gold_progression_pairs.parquet is left out" in note and "later" in note for note in plan.notes)


def test_what_is_refused(tmp_path: Path, planning: Planning) -> None:
    with pytest.raises(InputError, match=r"the file gold_progression_pairs\.parquet"):
        planning("chextemporal", tmp_path)
    source = write(tmp_path / "cxt", pair("patient1", "fluctuating"))
    with pytest.raises(InputError, match=r"pairs\.parquet, row 1, progression: expected stable or worse"):
        planning("chextemporal", source)
    row = pair("patient1", "new")
    items(write(source, row) / "gold_bboxes.parquet", [boxed(row, [], []) | {"current_bboxes": [{"x1": 1, "y1": 2}]}])
    with pytest.raises(InputError, match=r"gold_bboxes\.parquet, row 1, current_bboxes: expected a box"):
        planning("chextemporal", source)
    items(source / "gold_progression_pairs.parquet", [{"patient_id": "1"}])
    with pytest.raises(InputError, match="row 1: expected the field dataset"):
        planning("chextemporal", source)
    (source / "gold_progression_pairs.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match="a Parquet file"):
        planning("chextemporal", source)
