"""MedFrameQA: frames as files or inside the table, choices in any form."""

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


def item(number: int, frames: list[Any], video: str = "v1", **more: Any) -> dict[str, Any]:
    row = {
        "question_id": f"mf-{number}",
        "system": "Nervous System",
        "organ": "brain",
        "keyword": "glioma",
        "modality": "MRI",
        "video_id": video,
        "question": "What do the frames show?",
        "options": ["a tumour", "a cyst", "an artefact"],
        "image_url": [],
        "reasoning_chain": "",
        "image": frames,
        "image_hash": "",
        "answer": "B",
    }
    return row | more


def frames(folder: Path, *names: str) -> list[str]:
    for number, name in enumerate(names):
        picture(folder / name, 30 * number)
    return [f"MedFrameQA/images/{name}" for name in names]


def test_round_trip(tmp_path: Path, importing: Importing, trained: Training) -> None:
    images = tmp_path / "frames"
    rows = [
        item(1, frames(images, "a.png", "b.png")),
        item(2, frames(images, "c.png", "d.png", "e.png"), options={"A": "x", "B": "y", "C": None}, answer="x"),
        item(3, frames(images, "f.png", "g.png"), "v2", options=["same", "same"]),
    ]
    items(tmp_path / "mf" / "test.json", rows)
    timeline, outcome = importing("medframeqa", tmp_path / "mf", Options(images=images))
    questions = timeline.table("questions").set_index("question_id")
    answers = {name: questions.loc[name, "answer"] for name in questions.index}
    assert answers == {"mf-1": "a cyst", "mf-2": "x", "mf-3": "B. same"}
    assert {name: questions.loc[name, "asked_at"] for name in questions.index} == {"mf-1": 1, "mf-2": 2, "mf-3": 1}
    assert set(timeline.table("sequences")["modality"]) == {"mri"}
    # The items of one video belong together.
    assert len(timeline.table("patients")) == 2
    records = [json.loads(line) for line in (timeline.root / "source" / "items.jsonl").read_text().splitlines()]
    assert records[0] == {
        "question_id": "mf-1",
        "system": "Nervous System",
        "organ": "brain",
        "keyword": "glioma",
        "modality": "MRI",
        "video_id": "v1",
        "answer": "B",
    }
    assert {row["subset"] for row in outcome.plan.splits["official"]} == {"test"}
    assert trained(timeline)[0] == len(timeline.table("questions"))


def test_frames_inside_the_table_are_unpacked(tmp_path: Path, planning: Planning) -> None:
    content = picture(tmp_path / "x.jpg").read_bytes()
    inside = {"bytes": content, "path": None}
    items(tmp_path / "mf" / "test.parquet", [item(1, [inside, inside]), item(2, [inside], "v2")])
    with pytest.raises(InputError, match="a folder to unpack the frames into"):
        planning("medframeqa", tmp_path / "mf")
    images = tmp_path / "unpacked"
    plan = planning("medframeqa", tmp_path / "mf", Options(images=images, limit=1))
    assert sorted(file.name for file in images.iterdir()) == ["mf_1_1.jpg", "mf_1_2.jpg"]
    assert [picture.files[0].read_bytes() for picture in plan.sequences[0].pictures] == [content] * 2
    assert plan.notes == ["1 patients are left out by --limit"]


def test_what_is_refused(tmp_path: Path, planning: Planning) -> None:
    with pytest.raises(InputError, match="a file of items"):
        planning("medframeqa", tmp_path)
    images = frames(tmp_path / "frames", "a.png")
    for row, words in (
        (item(1, images, answer="Z"), "row 1, answer: expected one of A, B, C"),
        (item(1, []), "row 1, image: expected a list of frames"),
        (item(1, [3]), "row 1, image: expected paths of frames"),
        (item(1, images, question=" "), "row 1, question: expected a value"),
        (item(1, images, question=["What?"]), "row 1, question: expected a text"),
    ):
        items(tmp_path / "mf" / "test.json", [row])
        with pytest.raises(InputError, match=words):
            planning("medframeqa", tmp_path / "mf", Options(images=tmp_path / "frames"))
    items(tmp_path / "mf" / "test.json", [item(1, ["nowhere.png"])])
    with pytest.raises(InputError, match="none of them"):
        planning("medframeqa", tmp_path / "mf", Options(images=tmp_path / "frames"))
    row = item(1, images)
    del row["options"]
    items(tmp_path / "mf" / "test.json", [row])
    with pytest.raises(InputError, match="row 1: expected the field options"):
        planning("medframeqa", tmp_path / "mf")
