"""MedSG-Bench: boxes as answers, at the image that the question names, and items that share images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from temmed.errors import InputError
from temmed.timelines.importers.plan import Options, Plan

from ..conftest import Importing, Training
from .conftest import items, picture

Planning = Callable[..., Plan]


def item(task: str, images: list[str], answer: Any = (1, 2, 7, 8), **more: Any) -> dict[str, Any]:
    question = "Compare these two images carefully and give the coordinates of their difference."
    return {"task": task, "images": images, "question": question, "answer": answer} | more


def write(folder: Path, name: str, *rows: dict[str, Any]) -> Path:
    for row in rows:
        for number, path in enumerate(row["images"] if isinstance(row["images"], list) else ()):
            picture(folder / path.removeprefix("MedSG/"), 20 * number)
    items(folder / f"{name}.json", rows)
    return folder


def test_round_trip(tmp_path: Path, importing: Importing, trained: Training) -> None:
    source = write(
        tmp_path / "sg",
        "Registered_Diff",
        item("Registered_Diff", ["MedSG/Task/a.png", "MedSG/Task/b.png"], size=[336, 336]),
        item("Registered_Diff", ["MedSG/Task/c.png", "MedSG/Task/d.png"], [3, 3, 3, 9]),
    )
    write(source, "multi_view", item("multi_view", ["Task/e.png", "Task/b.png", "Task/f.png"], size=[40, 30]))
    timeline, outcome = importing("medsg-bench", source)
    questions = timeline.table("questions").set_index("question_id")
    assert sorted(questions.index) == ["Registered_Diff_0", "multi_view_0"]
    assert json.loads(questions.loc["multi_view_0", "answer"]) == [1, 2, 7, 8]
    # b.png is in both items, so they are of one patient.
    assert len(timeline.table("patients")) == 1
    boxes = timeline.table("boxes").set_index("finding_id")
    box = boxes.loc[questions.loc["Registered_Diff_0", "finding_id"]]
    assert (box["position"], box["x1"], box["y2"]) == (1, 1, 8)
    records = [json.loads(line) for line in (timeline.root / "source" / "items.jsonl").read_text().splitlines()]
    assert {row["question_id"]: row["size"] for row in records} == {
        "Registered_Diff_0": [336, 336],
        "multi_view_0": [40, 30],
    }
    assert any("row 2 of Registered_Diff.json is left out: its box has no area" in note for note in outcome.plan.notes)
    assert trained(timeline)[0] == len(timeline.table("questions"))


@pytest.mark.parametrize(
    ("question", "position"),
    [
        ("Compare the images.", 2),
        ("It is marked in the first image; find it in the second image.", 1),
        ("Find it in the last image.", 2),
        ("Find in the first frame what the second image shows in the third picture.", 2),
        ("Find it in the sixth image.", 2),
    ],
)
def test_the_image_asked_for(tmp_path: Path, planning: Planning, question: str, position: int) -> None:
    source = write(tmp_path / "sg", "t", item("object_tracking", ["a.png", "b.png", "c.png"], question=question))
    plan = planning("medsg-bench", source)
    assert plan.tables["questions"][0]["evidence"] == [position]
    assert plan.tables["questions"][0]["asked_at"] == 2
    assert plan.tables["boxes"][0]["position"] == position


def test_items_chained_by_images_stay_together(tmp_path: Path, planning: Planning) -> None:
    rows = [item("concept", names) for names in (["a.png", "b.png"], ["c.png", "d.png"], ["b.png", "c.png"], ["e.png"])]
    plan = planning("medsg-bench", write(tmp_path / "sg", "t", *rows))
    assert len(plan.patients) == 2
    assert len(plan.sequences) == 4


def test_what_is_refused(tmp_path: Path, planning: Planning) -> None:
    with pytest.raises(InputError, match="a JSON file of items"):
        planning("medsg-bench", tmp_path)
    for row, words in (
        (item("drawing", ["a.png"]), r"t\.json, row 1, task: expected Registered_Diff"),
        (item("concept", ["a.png"], [1, 2]), "row 1, answer: expected a box"),
        (item("concept", ["a.png"], "left"), "row 1, answer: expected a box"),
        (item("concept", ["a.png"]) | {"images": "a.png"}, "row 1, images: expected a list"),
        (item("multi_view", ["a.png"], size=[0, 3]), "row 1, size: expected a width"),
    ):
        with pytest.raises(InputError, match=words):
            planning("medsg-bench", write(tmp_path / "sg", "t", row), Options(images=tmp_path / "sg"))
    with pytest.raises(InputError, match="at least one item"):
        planning("medsg-bench", write(tmp_path / "sg", "t", item("concept", ["a.png"], [3, 3, 3, 3])))
