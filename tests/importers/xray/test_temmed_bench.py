"""TemMed-Bench: questions under the benchmark's own numbers, reports, pair selection, corpus, and CheXpert Plus."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from temmed.errors import InputError
from temmed.timelines.importers.plan import Options, Plan

from ..conftest import Importing, Training
from .conftest import items, picture, table

Planning = Callable[..., Plan]
KEPT = Options(keep_ids=True)
TEST, FINAL = "TestSet_VQA_ReportGeneration.json", "TestSet_VQA_ReportGeneration_Final.json"
CORPUS = "TrainSet_KnowledgeCorpus_Final.json"


def pair(patient: int, now: int = 2, before: int = 1, split: str = "valid", **more: Any) -> dict[str, Any]:
    paths = [f"{split}/patient{patient:05d}/study{study}/view1_frontal.png" for study in (now, before)]
    questions = [
        {"VQA_question": f"Has the edema changed ({n})?", "VQA_answer": said} for n, said in enumerate(ANSWERS)
    ]
    row = {"image_path": paths[0], "historical_image_path": paths[1], "reference_images": [], "VQA_Final": questions}
    return row | {"hist_reference_images": []} | more


ANSWERS = ("Yes", "no.", "No")


def write(folder: Path, tests: list[dict[str, Any]], name: str = TEST, **files: list[dict[str, Any]]) -> Path:
    items(folder / name, tests)
    for other, rows in files.items():
        items(folder / f"{other}.json", rows)
    for row in [*tests, *files.get("TrainSet_KnowledgeCorpus_Final", [])]:
        for number, field in enumerate(("historical_image_path", "image_path")):
            picture(folder / "PNG" / row[field], 50 * number)
    return folder


def archive(folder: Path, *rows: tuple[str, int, str]) -> None:
    """A table of CheXpert Plus with (path, order, impression)."""
    found = [
        {
            "path_to_image": path.replace(".png", ".jpg"),
            "deid_patient_id": "x",
            "patient_report_date_order": order,
            "section_impression": impression,
            "age": 93,
            "sex": "Female",
        }
        for path, order, impression in rows
    ]
    table(folder / "df_chexpert_plus_240401.csv", found)


def test_round_trip(tmp_path: Path, importing: Importing, trained: Training) -> None:
    tests = [pair(number, condition_changes_report=f"Change {number}.") for number in range(3)]
    corpus = [pair(number, split="train", condition_changes_report="Seen.") for number in (7, 2)]
    source = write(
        tmp_path / "bench",
        tests,
        FINAL,
        TestSet_SelectedVQA_2000=[{"img_id": 0, "question_id": 1}, {"img_id": 2, "question_id": 0}],
        TestSet_ImagePairSelection=[
            {"condition_change": "worse", "option": {"A": 0, "B": 1, "C": 2}, "right_option": "B"}
        ],
        TrainSet_KnowledgeCorpus_Final=corpus,
    )
    timeline, outcome = importing("temmed-bench", source)
    questions = timeline.table("questions").set_index("question_id")
    assert {name: questions.loc[name, "answer"] for name in questions.index} == {"0_1": "No", "2_0": "Yes"}
    assert set(timeline.table("sequences")["time_unit"]) == {"ordinal"}
    assert sorted(timeline.table("reports")["text"]) == ["Change 0.", "Change 1.", "Change 2.", "Seen.", "Seen."]
    # The corpus has a pair of a test patient: it takes part in no subset.
    subsets = [row["subset"] for row in outcome.plan.splits["official"]]
    assert sorted(subsets) == ["test", "test", "test", "train"]
    [selection] = map(json.loads, (timeline.root / "source" / "pair_selection.jsonl").read_text().splitlines())
    assert (selection["data_idx"], selection["right_option"], selection["option"]["B"]) == (0, "B", 1)
    assert set(selection["sequences"].values()) <= set(timeline.table("sequences")["sequence_id"])
    reports = [json.loads(line) for line in (timeline.root / "source" / "reports.jsonl").read_text().splitlines()]
    assert [row["id"] for row in reports] == [0, 1, 2]
    assert {row["report_id"] for row in reports} <= set(timeline.table("reports")["report_id"])
    assert trained(timeline)[0] == len(timeline.table("questions"))


def test_positions_are_historical_then_current(tmp_path: Path, planning: Planning) -> None:
    plan = planning("temmed-bench", write(tmp_path / "bench", [pair(1)]), KEPT)
    [sequence] = plan.sequences
    assert [picture.files[0].parent.name for picture in sequence.pictures] == ["study1", "study2"]
    assert len(plan.tables["questions"]) == 3
    assert [row["answer"] for row in plan.tables["questions"]] == ["Yes", "No", "No"]
    assert any("TestSet_SelectedVQA_2000.json is not there" in note for note in plan.notes)


def test_what_chexpert_plus_adds(tmp_path: Path, planning: Planning) -> None:
    tests = [pair(1), pair(2)]
    source = write(tmp_path / "bench", tests)
    archive(
        source,
        (tests[0]["image_path"], 2, "1. NEW   EFFUSION.\nno EDEMA! stable"),
        (tests[0]["historical_image_path"], 1, "x"),
        (tests[1]["image_path"], 1, ""),
        (tests[1]["historical_image_path"], 2, "x"),
        ("train/patient99999/study1/view1_frontal.png", 1, "x"),
    )
    plan = planning("temmed-bench", source, KEPT)
    assert [row["text"] for row in plan.tables["reports"]] == ["1. New effusion. No edema! Stable"]
    assert plan.patients[0] == {"patient_id": "patient00001", "sex": "Female", "age": 90}
    assert any("1 pairs are in another order in CheXpert Plus" in note for note in plan.notes)


def test_two_items_with_one_pair_share_a_sequence_and_limit(tmp_path: Path, planning: Planning) -> None:
    tests = [pair(1, condition_changes_report="A."), pair(1, condition_changes_report="B."), pair(1, 3, 2), pair(2)]
    source = write(tmp_path / "bench", tests, FINAL)
    plan = planning("temmed-bench", source, Options(keep_ids=True, limit=1))
    assert [sequence.sequence_id for sequence in plan.sequences] == ["patient00001_cxr_0", "patient00001_cxr_1"]
    assert {row["question_id"].split("_")[0] for row in plan.tables["questions"]} == {"0", "1", "2"}
    assert len(plan.tables["reports"]) == 1


def test_what_is_refused(tmp_path: Path, planning: Planning) -> None:
    with pytest.raises(InputError, match="the file TestSet_VQA_ReportGeneration_Final"):
        planning("temmed-bench", tmp_path)
    bad = {"VQA_question": "Has it?", "VQA_answer": "Perhaps"}
    for change, words in (
        ({"VQA_Final": [bad]}, "row 1, VQA_Final: expected answers Yes or No"),
        ({"VQA_Final": [{"VQA_answer": "Yes"}]}, "row 1, VQA_Final: expected questions with VQA_question"),
        ({"image_path": "train/x.png"}, "row 1, image_path: expected two paths of one patient"),
    ):
        with pytest.raises(InputError, match=words):
            planning("temmed-bench", write(tmp_path / "bench", [pair(1) | change]))
    selected = {"TestSet_SelectedVQA_2000": [{"img_id": 5, "question_id": 0}]}
    with pytest.raises(InputError, match=r"SelectedVQA_2000\.json, row 1, img_id: expected a whole number from 0 to 0"):
        planning("temmed-bench", write(tmp_path / "bench", [pair(1)], **selected))
    items(tmp_path / "bench" / TEST, [])
    with pytest.raises(InputError, match="at least one item"):
        planning("temmed-bench", tmp_path / "bench")
    (tmp_path / "bench" / TEST).write_text('{"a": 1}')
    with pytest.raises(InputError, match="a list of items, found dict"):
        planning("temmed-bench", tmp_path / "bench")
