"""Chest ImaGenome: relations become questions, true and flipped statements, and boxes."""

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
SILVER = "silver_dataset/scene_tabular/comparison_relations_tabular.txt"
GOLD = "gold_dataset/gold_object_comparison_with_coordinates.txt"
BOX = "[1, 2, 8, 9]"


def relation(now: str, before: str, comparison: str, location: str = "left lung", **more: Any) -> dict[str, Any]:
    """A row of the silver table, whose images are called ``d<study>``."""
    row = {
        "relationship_id": f"r{now}{before}",
        "subject_id": f"d{now}_{location}",
        "object_id": f"d{before}_{location}",
        "bbox": location,
        "comparison": f"comparison|yes|{comparison}",
        "attribute": "anatomicalfinding|yes|lung opacity",
        "sentence": "The opacity has changed.",
        "bbox_coord_224_subject": "[0, 0, 5, 5]",
        "bbox_coord_224_object": "[0, 0, 5, 5]",
        "bbox_coord_original_subject": BOX,
        "bbox_coord_original_object": "[2, 2, 7, 7]",
    }
    return row | more


def silver(folder: Path, *rows: dict[str, Any], **splits: list[str]) -> Path:
    table(folder / SILVER, rows, list(relation("1", "2", "improved")))
    for name, images in splits.items():
        found = [{"dicom_id": image, "subject_id": 1} for image in images]
        table(folder / "silver_dataset/splits" / f"{name}.csv", found, ["dicom_id", "subject_id"])
    return folder


def test_round_trip_of_silver(many: Mimic, tmp_path: Path, importing: Importing, trained: Training) -> None:
    rows = [relation(f"5{n}8", f"5{n}9", verdict) for n, verdict in enumerate(("improved", "no change", "worsened"))]
    source = silver(tmp_path / "ci", *rows, train=["d508"], valid=["d518"], test=["d528"])
    timeline, outcome = importing("imagenome", source, Options(images=many.write()))
    assert sorted(timeline.table("questions")["answer"]) == ["improved", "no change", "worsened"]
    assert timeline.table("questions")["evidence_report_id"].isin(timeline.table("reports")["report_id"]).all()
    statements = timeline.table("statements")
    assert statements.groupby("consistent").size().to_dict() == {False: 3, True: 3}
    assert (statements.loc[~statements["consistent"], "flip"] == "direction").all()
    assert len(timeline.table("boxes")) == 6
    subsets = [row["subset"] for row in outcome.plan.splits["official"]]
    assert sorted(subsets) == ["test", "train", "val"]
    assert trained(timeline)[0] == len(timeline.table("questions"))


def test_silver_questions_and_statements(many: Mimic, tmp_path: Path, planning: Planning) -> None:
    source = silver(
        tmp_path / "ci",
        relation("508", "509", "worsened"),
        relation("507", "509", "improved", "right lung", attribute="nlp|yes|abnormal"),
    )
    plan = planning("imagenome", source, Options(images=many.write(), keep_ids=True))
    first, second = plan.tables["questions"]
    assert first["prompt"] == (
        "Compared with the previous chest X-ray, has the lung opacity in the left lung improved, not changed or "
        "worsened?"
    )
    assert (first["answer"], first["asked_at"], first["evidence"]) == ("worsened", 1, [0, 1])
    assert (first["template"], first["evidence_sentence"]) == ("imagenome_lung_opacity", "The opacity has changed.")
    assert second["prompt"] == (
        "Compared with the chest X-ray 366 days earlier, has the right lung improved, not changed or worsened?"
    )
    true, flipped = plan.tables["statements"][:2]
    assert (true["direction"], flipped["direction"]) == ("worsened", "improved")
    assert true["text"].endswith("the lung opacity in the left lung has worsened.")
    assert flipped["text"] == true["text"].replace("has worsened", "has improved")
    boxes = {(row["finding_id"], row["position"]): (row["x1"], row["x2"]) for row in plan.tables["boxes"]}
    assert boxes[first["finding_id"], 0] == (2, 7)
    assert boxes[first["finding_id"], 1] == (1, 8)


def test_rows_that_cannot_be_used(many: Mimic, tmp_path: Path, planning: Planning) -> None:
    source = silver(
        tmp_path / "ci",
        relation("508", "509", "improved", bbox_coord_original_subject="[3, 3, 3, 9]"),
        relation("508", "509", "improved", relationship_id="again"),
        relation("509", "508", "improved"),
        relation("518", "519", "improved"),
        relation("518", "519", "worsened"),
        relation("528", "529", "no change"),
        relation("508", "404", "no change"),
        relation("508", "509", "improved;;comparison|yes|worsened", "heart"),
        images_to_avoid=["d529"],
    )
    plan = planning("imagenome", source, Options(images=many.write(), keep_ids=True))
    [question] = plan.tables["questions"]
    assert question["question_id"] == "imagenome_1_lung_opacity"
    assert [row["position"] for row in plan.tables["boxes"]] == [0]
    notes = "\n".join(plan.notes)
    for reason in (
        "row 2 of comparison_relations_tabular.txt is left out: an earlier row says the same",
        "row 3 of comparison_relations_tabular.txt is left out: the study that it calls the earlier one",
        "2 rows of comparison_relations_tabular.txt (the first: row 4) are left out: another row says the contrary",
        "row 6 of comparison_relations_tabular.txt is left out: one of its images is listed in images_to_avoid",
        "row 7 of comparison_relations_tabular.txt is left out: one of its images is not in the metadata",
        "row 8 of comparison_relations_tabular.txt is left out: it compares in contrary words",
        "1 boxes have no area",
    ):
        assert reason in notes


def test_gold(many: Mimic, tmp_path: Path, importing: Importing, trained: Training) -> None:
    rows = [
        relation("508", "509", "improved;;comparison|yes|improved")
        | {"current_image_id": "d508.dcm", "previous_image_id": "d509.dcm"},
        relation("518", "519", "no change", attribute="anatomicalfinding|yes|edema;;disease|yes|pneumonia")
        | {"current_image_id": "d518", "previous_image_id": "d519"},
    ]
    table(tmp_path / "ci" / GOLD, rows)
    timeline, outcome = importing("imagenome-gold", tmp_path / "ci", Options(images=many.write()))
    questions = timeline.table("questions")
    assert sorted(questions["template"]) == [
        f"imagenome_gold_{name}" for name in ("edema", "lung_opacity", "pneumonia")
    ]
    assert sorted(questions["answer"]) == ["improved", "no change", "no change"]
    assert {row["subset"] for row in outcome.plan.splits["official"]} == {"test"}
    assert trained(timeline)[0] == len(timeline.table("questions"))


def test_what_is_refused(many: Mimic, tmp_path: Path, planning: Planning) -> None:
    options = Options(images=many.write())
    with pytest.raises(InputError, match="the file silver_dataset"):
        planning("imagenome", tmp_path, options)
    with pytest.raises(InputError, match="the file gold_dataset"):
        planning("imagenome-gold", tmp_path, options)
    for row, words in (
        (
            relation("508", "509", "better"),
            "tabular.txt, row 1, comparison: expected improved or no change or worsened",
        ),
        (
            relation("508", "509", "improved", bbox_coord_original_subject="[1, 2]"),
            "row 1, bbox_coord_original_subject",
        ),
        (relation("508", "509", "improved") | {"bbox": ""}, "row 1, bbox: expected a value"),
    ):
        with pytest.raises(InputError, match=words):
            planning("imagenome", silver(tmp_path / "ci", row), options)
    table(tmp_path / "ci" / SILVER, [{"subject_id": "d508_x", "object_id": "d509_x"}])
    with pytest.raises(InputError, match="expected the column bbox"):
        planning("imagenome", tmp_path / "ci", options)
    with pytest.raises(InputError, match="at least one comparison"):
        planning("imagenome", silver(tmp_path / "ci", relation("509", "508", "improved")), options)
