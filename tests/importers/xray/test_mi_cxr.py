"""MI-CXR: five-visit items, where their answers say what happened, and the dates of the archive."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from temmed.errors import InputError
from temmed.timelines.importers.plan import Options, Plan

from ..conftest import Importing, Training
from .conftest import Mimic, items

Planning = Callable[..., Plan]
CHOICES = {"A": "T1 → T2", "B": "T2 → T3", "C": "T1, T5", "D": "T4 → T5", "E": "There is no such event."}


@pytest.fixture
def five(mimic: Mimic) -> Mimic:
    """Two patients with five studies, whose numbers run against time."""
    for number in range(2):
        for visit in range(5):
            mimic.study(f"1000000{number}", f"5{number}{9 - visit}", f"2180010{visit + 1}")
    return mimic


def item(qid: str, patient: int = 0, group: str = "TEL", answer: str = "B", **more: Any) -> dict[str, Any]:
    subject = f"1000000{patient}"
    images = {
        f"T{visit + 1}": f"files/p10/p{subject}/s5{patient}{9 - visit}/d5{patient}{9 - visit}.jpg" for visit in range(5)
    }
    row = {"qid": qid, "group_type": group, "qtype": "single_emergence", "images": images, "choices": CHOICES}
    return row | {"question": "When does edema first appear?", "answer": answer} | more


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    return items(folder / "micxr_test.jsonl", rows)


def test_round_trip(five: Mimic, tmp_path: Path, importing: Importing, trained: Training) -> None:
    # The same question may come with other choices.
    other = {letter: f"{text}." for letter, text in CHOICES.items()}
    path = write(tmp_path / "mi", item("q1"), item("q2", answer="E", choices=other), item("q3", patient=1, group="GTS"))
    timeline, outcome = importing("mi-cxr", path.parent, Options(images=five.write()))
    questions = timeline.table("questions").set_index("question_id")
    assert set(questions.index) == {"q1", "q2", "q3"}
    assert list(questions.loc["q1", "choices"]) == list(CHOICES.values())
    # Items that ask about the same images share a sequence, whose times are those of the archive.
    assert len(timeline.table("sequences")) == 2
    assert list(timeline.table("timepoints")["time"]) == [0, 1, 2, 3, 4] * 2
    assert {row["subset"] for row in outcome.plan.splits["official"]} == {"test"}
    lines = (timeline.root / "source" / "items.jsonl").read_text().splitlines()
    assert [json.loads(line)["answer"] for line in lines] == ["B", "E", "B"]
    assert json.loads(lines[0])["choices"] == CHOICES
    assert trained(timeline)[0] == len(timeline.table("questions"))


def test_evidence_is_where_the_item_says(five: Mimic, tmp_path: Path, planning: Planning) -> None:
    path = write(
        tmp_path / "mi",
        item("arrow"),
        item("pair", answer="C"),
        item("never", answer="E"),
        item("interval", group="ICR", question="What changed from T2 to T4?"),
        item("open", group="ICR", question="What changed?"),
        item("whole", group="GTS"),
    )
    plan = planning("mi-cxr", path, Options(images=five.write()))
    found = {row["question_id"]: row for row in plan.tables["questions"]}
    evidence = {name: row["evidence"] for name, row in found.items()}
    assert evidence == {
        "arrow": [1, 2],
        "pair": [0, 4],
        "never": [],
        "interval": [1, 3],
        "open": None,
        "whole": [0, 1, 2, 3, 4],
    }
    assert (found["never"]["evidence_kind"], found["never"]["horizon_steps"]) == ("absence", None)
    assert [found[name]["names_position"] for name in ("arrow", "interval")] == [False, True]
    assert all(row["asked_at"] == 4 for row in found.values())


def test_an_answer_that_denies_the_other_choices_is_no_absence(five: Mimic, tmp_path: Path, planning: Planning) -> None:
    told = {"E": "None of the above", "never": "Never", "empty": "None of the intervals"}
    rows = [item(name, answer="E", choices=CHOICES | {"E": text}) for name, text in told.items()]
    plan = planning("mi-cxr", write(tmp_path / "mi", *rows), Options(images=five.write()))
    assert [row["evidence"] for row in plan.tables["questions"]] == [None, [], []]


def test_choices_are_told_by_their_letters_in_any_order(five: Mimic, tmp_path: Path, planning: Planning) -> None:
    shuffled = {letter: CHOICES[letter] for letter in "CEBAD"}
    plan = planning("mi-cxr", write(tmp_path / "mi", item("q1", choices=shuffled)), Options(images=five.write()))
    [question], [record] = plan.tables["questions"], plan.records["items"]
    assert (question["choices"], question["answer"]) == (list(CHOICES.values()), CHOICES["B"])
    assert (record["choices"], record["answer"]) == (CHOICES, "B")


def test_paths_may_leave_out_the_folder_of_files(five: Mimic, tmp_path: Path, planning: Planning) -> None:
    images = {moment: path.removeprefix("files/") for moment, path in item("q1")["images"].items()}
    plan = planning("mi-cxr", write(tmp_path / "mi", item("q1", images=images)), Options(images=five.write()))
    assert len(plan.sequences[0].pictures) == 5


def test_without_dates_time_is_ordinal(five: Mimic, tmp_path: Path, planning: Planning) -> None:
    path = write(tmp_path / "mi", item("q1"))
    five.write()
    for table in five.root.glob("*.csv.gz"):
        table.unlink()
    [sequence] = planning("mi-cxr", path, Options(images=five.root)).sequences
    assert (sequence.time_unit, sequence.times) == ("ordinal", [0, 1, 2, 3, 4])


def test_dates_against_the_order_are_told(five: Mimic, tmp_path: Path, planning: Planning) -> None:
    images = item("q1")["images"]
    path = write(tmp_path / "mi", item("q1", images=images | {"T1": images["T2"], "T2": images["T1"]}))
    plan = planning("mi-cxr", path, Options(images=five.write()))
    assert plan.sequences[0].time_unit == "ordinal"
    assert [picture.files[0].stem for picture in plan.sequences[0].pictures[:2]] == ["d508", "d509"]
    assert any("1 items have images whose dates are not in the order T1 to T5" in note for note in plan.notes)


def test_images_of_one_date_keep_the_order_of_the_benchmark(five: Mimic, tmp_path: Path, planning: Planning) -> None:
    for row in five.metadata:
        row["StudyDate"] = "21800101"
    plan = planning("mi-cxr", write(tmp_path / "mi", item("q1")), Options(images=five.write()))
    assert (plan.sequences[0].time_unit, plan.sequences[0].times) == ("ordinal", [0, 1, 2, 3, 4])


def test_what_is_refused(five: Mimic, tmp_path: Path, planning: Planning) -> None:
    options = Options(images=five.write())
    images = item("q")["images"]
    for change, words in (
        ({"answer": "F"}, "row 1, answer: expected one of A, B, C, D, E"),
        ({"group_type": "XYZ"}, "row 1, group_type: expected TEL or ICR or GTS"),
        ({"images": {"T1": images["T1"], "T3": images["T3"]}}, "row 1, images: expected paths by T1"),
        ({"images": images | {"T2": item("q", patient=1)["images"]["T2"]}}, "row 1, images: expected paths of one"),
        ({"choices": ["one"]}, "row 1, choices: expected two or more"),
        ({"qid": None}, "row 1, qid: expected a value"),
        ({"choices": CHOICES | {"B": "T2 → T7"}}, "row 1, answer: expected time points T1 to T5"),
    ):
        with pytest.raises(InputError, match=words):
            planning("mi-cxr", write(tmp_path / "mi", item("q1") | change), options)
    path = write(tmp_path / "mi", item("q1"))
    path.write_text(path.read_text() + "\n{broken")
    with pytest.raises(InputError, match=r"micxr_test\.jsonl, line 2: expected one JSON object"):
        planning("mi-cxr", path, options)
    with pytest.raises(InputError, match="at least one item"):
        planning("mi-cxr", write(tmp_path / "mi"), options)
