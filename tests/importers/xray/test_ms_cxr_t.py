"""MS-CXR-T: labels become questions, reversed pairs and unlabelled rows do not."""

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
FINDINGS = ("consolidation", "pleural_effusion", "pneumonia", "pneumothorax", "edema")
COLUMNS = [
    *("subject_id", "study_id", "dicom_id", "previous_study_id", "previous_dicom_id"),
    *(f"{finding}_{what}" for finding in FINDINGS for what in ("progression", "label_quality")),
]


def pair(subject: str, now: str, before: str, **labels: str) -> dict[str, Any]:
    """A row; the current image is given as a path, as some copies of the table do."""
    return {
        "subject_id": subject,
        "study_id": now,
        "dicom_id": f"p{subject[:2]}/p{subject}/s{now}/d{now}",
        "previous_study_id": before,
        "previous_dicom_id": f"d{before}",
        **{f"{finding}_progression": label for finding, label in labels.items()},
    }


def labelled(folder: Path, *rows: dict[str, Any], columns: list[str] = COLUMNS) -> Path:
    return table(folder / "MS_CXR_T_temporal_image_classification_v1.0.0.csv", rows, columns)


def test_round_trip(many: Mimic, tmp_path: Path, importing: Importing, trained: Training) -> None:
    rows = [pair(f"1000000{n}", f"5{n}8", f"5{n}9", edema="stable", pneumonia="worsening") for n in range(3)]
    labelled(tmp_path / "ms", *rows)
    timeline, outcome = importing("ms-cxr-t", tmp_path / "ms", Options(images=many.write()))
    questions = timeline.table("questions")
    assert len(questions) == 6
    assert set(questions["task"]) == {"progression"}
    assert set(questions["template"]) == {"ms_cxr_t_edema", "ms_cxr_t_pneumonia"}
    # Studies that no pair names are left out: two of three visits.
    assert len(timeline.table("timepoints")) == 6
    assert {row["subset"] for row in outcome.plan.splits["mimic"]} == {"train"}
    assert trained(timeline)[0] == len(timeline.table("questions"))


def test_labels_pairs_and_prompts(many: Mimic, tmp_path: Path, planning: Planning) -> None:
    # Studies 509, 508, 507 in the order of time.
    path = labelled(
        tmp_path / "ms",
        pair("10000000", "508", "509", edema="Improving"),
        pair("10000000", "507", "509", pleural_effusion="worsening"),
        pair("10000000", "507", "508"),
        pair("10000000", "509", "508", edema="worsening"),
        pair("10000001", "517", "509", edema="worsening"),
        pair("10000000", "507", "404", edema="worsening"),
    )
    plan = planning("ms-cxr-t", path, Options(images=many.write(), keep_ids=True))
    [sequence] = plan.sequences
    assert sequence.times == [0, 31, 366]
    first, second = plan.tables["questions"]
    assert first["prompt"] == "Compared with the previous chest X-ray, is the edema improving, stable or worsening?"
    assert (first["answer"], first["asked_at"], first["evidence"]) == ("improving", 1, [0, 1])
    assert (first["horizon_steps"], first["horizon_time"], first["names_position"]) == (1, 31, False)
    assert second["prompt"].startswith("Compared with the chest X-ray 366 days earlier, is the pleural effusion")
    assert (second["answer"], second["asked_at"], second["evidence"]) == ("worsening", 2, [0, 2])
    assert second["names_position"]
    notes = "\n".join(plan.notes)
    for number, reason in (
        (3, "no finding is labelled"),
        (4, "was made later"),
        (5, "two patients"),
        (6, "not in the metadata table"),
    ):
        assert f"row {number} of {path.name} is left out" in notes
        assert reason in notes


def test_the_image_of_the_pair_is_the_first_of_its_channel(mimic: Mimic, tmp_path: Path, planning: Planning) -> None:
    mimic.study("10000001", "1", "21800101", images={"x": "AP", "d1": "AP"})
    mimic.study("10000001", "2", "21800102", images={"y": "LATERAL", "z": "PA", "d2": "PA"})
    path = labelled(tmp_path / "ms", pair("10000001", "2", "1", edema="stable"))
    [sequence] = planning("ms-cxr-t", path, Options(images=mimic.write())).sequences
    channels = {picture.files[0].stem: picture.channel for picture in sequence.pictures}
    assert channels == {"d1": "frontal", "x": "frontal_2", "d2": "frontal", "y": "lateral", "z": "frontal_2"}


@pytest.mark.parametrize("rows", [[], [pair("10000000", "508", "509")]])
def test_nothing_to_use(many: Mimic, tmp_path: Path, planning: Planning, rows: list[dict[str, Any]]) -> None:
    path = labelled(tmp_path / "ms", *rows)
    with pytest.raises(InputError, match="at least one labelled pair"):
        planning("ms-cxr-t", path, Options(images=many.write()))


def test_what_is_refused(many: Mimic, tmp_path: Path, planning: Planning) -> None:
    options = Options(images=many.write())
    path = labelled(tmp_path / "ms", pair("10000000", "508", "509", edema="better"))
    with pytest.raises(InputError, match=r"v1\.0\.0\.csv, row 1, edema_progression: expected improving"):
        planning("ms-cxr-t", path, options)
    labelled(tmp_path / "ms", pair("10000000", "508", "509"), columns=[name for name in COLUMNS if "edema" not in name])
    with pytest.raises(InputError, match="expected the column edema_progression"):
        planning("ms-cxr-t", path, options)
