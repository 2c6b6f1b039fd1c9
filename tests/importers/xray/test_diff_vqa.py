"""Medical-Diff-VQA: questions about one study and about two, and pairs that are reversed in time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from temmed.errors import InputError
from temmed.timelines.importers.plan import Options, Plan

from ..conftest import Importing, Training
from .conftest import Mimic, table

Planning = Callable[..., Plan]
COLUMNS = ("study_id", "subject_id", "ref_id", "question_type", "question", "answer", "split")


def asked(subject: str, study: str, ref: str, kind: str, answer: str, split: str = "train") -> dict[str, Any]:
    question = "what has changed compared to the reference image?" if kind == "difference" else f"{kind}?"
    values = (f"{study}.0", subject, ref, kind, question, answer, split)
    return dict(zip(COLUMNS, values, strict=True))


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    return table(folder / "mimic_pair_questions.csv", rows, COLUMNS)


def test_round_trip(many: Mimic, tmp_path: Path, importing: Importing, trained: Training) -> None:
    rows = [
        row
        for n, split in enumerate(("train", "val", "test"))
        for row in (
            asked(f"1000000{n}", f"5{n}7", f"5{n}8", "difference", "the main image has an additional finding", split),
            asked(f"1000000{n}", f"5{n}8", "", "abnormality", "edema", split),
            asked(f"1000000{n}", f"5{n}8", "", "presence", "Yes", split),
        )
    ]
    timeline, outcome = importing("diff-vqa", write(tmp_path / "vqa", *rows), Options(images=many.write()))
    questions = timeline.table("questions")
    assert questions.groupby("task").size().to_dict() == {"choice": 3, "difference": 3, "open": 3}
    assert sorted(row["subset"] for row in outcome.plan.splits["official"]) == ["test", "train", "val"]
    assert trained(timeline)[0] == len(timeline.table("questions"))


def test_pairs_reversed_in_time(many: Mimic, tmp_path: Path, planning: Planning) -> None:
    path = write(
        tmp_path / "vqa",
        asked("10000000", "508", "509", "difference", "the main image is missing the finding of edema"),
        asked("10000000", "509", "508", "difference", "the main image has an additional finding of edema"),
        asked("10000000", "508", "507", "difference", "nothing has changed."),
        asked("10000000", "509", "508", "presence", "no"),
    )
    plan = planning("diff-vqa", path, Options(images=many.write(), keep_ids=True))
    found = {row["question_id"]: row for row in plan.tables["questions"]}
    assert set(found) == {"diff_vqa_1", "diff_vqa_3", "diff_vqa_4"}
    assert (found["diff_vqa_1"]["asked_at"], found["diff_vqa_1"]["evidence"]) == (1, [0, 1])
    assert found["diff_vqa_1"]["prompt"].endswith("The reference is the previous chest X-ray.")
    # True both ways, so it is asked at the later of the two.
    assert (found["diff_vqa_3"]["asked_at"], found["diff_vqa_3"]["evidence"]) == (2, [1, 2])
    # A question about one study stays with it, whatever reference its row names.
    assert (found["diff_vqa_4"]["asked_at"], found["diff_vqa_4"]["choices"]) == (0, ["yes", "no"])
    notes = "\n".join(plan.notes)
    assert (
        "2 of 3 questions about a difference have a reference that was made after the main study: 1 are kept" in notes
    )
    assert "row 2 of mimic_pair_questions.csv is left out: its reference was made after" in notes


def test_rows_that_cannot_be_used(mimic: Mimic, tmp_path: Path, planning: Planning) -> None:
    mimic.study("10000001", "1", "21800101", "100000")
    mimic.study("10000001", "2", "21800101", "100000")
    mimic.study("10000002", "3", "21800101")
    path = write(
        tmp_path / "vqa",
        asked("10000001", "1", "2", "difference", "nothing has changed."),
        asked("10000001", "1", "404", "difference", "nothing has changed."),
        asked("10000001", "1", "3", "difference", "nothing has changed."),
        asked("10000001", "3", "", "presence", "yes"),
        asked("10000002", "3", "", "presence", "yes"),
    )
    plan = planning("diff-vqa", path, Options(images=mimic.write()))
    assert [row["question_id"] for row in plan.tables["questions"]] == ["diff_vqa_5"]
    notes = "\n".join(plan.notes)
    for number, reason in (
        (1, "the same date and time"),
        (2, "its reference is not in"),
        (3, "two patients"),
        (4, "its study is not in"),
    ):
        assert f"row {number} of mimic_pair_questions.csv is left out" in notes
        assert reason in notes


def test_a_patient_in_two_subsets_is_left_out_of_the_split(many: Mimic, tmp_path: Path, planning: Planning) -> None:
    path = write(
        tmp_path / "vqa",
        asked("10000000", "508", "", "presence", "yes", "train"),
        asked("10000000", "509", "", "presence", "yes", "test"),
        asked("10000001", "518", "", "presence", "yes", "test"),
    )
    plan = planning("diff-vqa", path, Options(images=many.write(), keep_ids=True))
    assert [row["patient_id"] for row in plan.splits["official"]] == ["10000001"]


def test_what_is_refused(many: Mimic, tmp_path: Path, planning: Planning) -> None:
    options = Options(images=many.write())
    good = asked("10000000", "508", "", "presence", "yes")
    for change, words in (
        ({"split": "holdout"}, "row 1, split: expected train, validate or test"),
        ({"answer": ""}, "row 1, answer: expected a value"),
        ({"question_type": "difference"}, "row 1, ref_id: expected a value"),
        ({"study_id": "x"}, "row 1, study_id"),
    ):
        with pytest.raises(InputError, match=words):
            planning("diff-vqa", write(tmp_path / "vqa", good | change), options)
    with pytest.raises(InputError, match="at least one question"):
        planning("diff-vqa", write(tmp_path / "vqa", good | {"study_id": "404"}), options)


def test_none_is_an_answer(many: Mimic, tmp_path: Path, planning: Planning) -> None:
    path = write(tmp_path / "vqa", asked("10000000", "508", "", "type", "none"))
    [question] = planning("diff-vqa", path, Options(images=many.write())).tables["questions"]
    assert question["answer"] == "none"
