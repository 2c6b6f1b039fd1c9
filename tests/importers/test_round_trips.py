"""The general importers: source, timeline folder, opened again, trained on for one step."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from temmed.timelines.importers.plan import Options
from temmed.timelines.importers.registry import importers

from .conftest import DicomWriter, Importing, Training, VolumeWriter
from .xray.conftest import picture, table

VISITS = 3
QUESTION = {"patient": "one", "position": VISITS - 1, "prompt": "Has it grown?", "choices": "yes|no", "answer": "yes"}


@pytest.fixture
def sources(tmp_path: Path, dicom: DicomWriter, volume: VolumeWriter) -> dict[str, Path]:
    """Three visits of one patient, two days apart, by importer."""
    rows = []
    for visit in range(VISITS):
        day = f"2020010{2 * visit + 1}"
        pixels = np.random.default_rng(visit).integers(0, 255, (16, 16), np.uint8)
        ids = {"StudyInstanceUID": f"1.{visit}", "SeriesInstanceUID": f"1.{visit}.1", "StudyDate": day}
        dicom(tmp_path / "dicom" / f"{VISITS - visit}.dcm", pixels, Modality="DX", **ids)
        volume(tmp_path / "nifti" / "one" / day / "t1.nii.gz", value=visit)
        picture(tmp_path / "table" / f"{visit}.png")
        rows.append({"who": "one", "when": f"2020-01-0{2 * visit + 1}", "file": f"{visit}.png"})
    table(tmp_path / "table" / "visits.csv", rows[::-1])
    columns = "{patient: who, time: when, path: file}"
    path = tmp_path / "table" / "map.yaml"
    path.write_text(f"table: visits.csv\nmodality: cxr\ncolumns: {columns}\n")
    return {"dicom": tmp_path / "dicom", "nifti": tmp_path / "nifti", "table": path}


@pytest.mark.parametrize("name", ["dicom", "nifti", "table"])
def test_visits_are_trained_on(
    name: str, sources: dict[str, Path], importing: Importing, trained: Training, tmp_path: Path
) -> None:
    # The last visit is asked about, and the one before.
    rows = [QUESTION | {"position": last, "evidence": f"0|{last}"} for last in (1, 2)]
    asked = table(tmp_path / "questions.csv", [rows[0] | {"answer": "no"}, rows[1]])
    timeline, _ = importing(name, sources[name], Options(keep_ids=True), questions=asked)
    assert list(timeline.table("timepoints")["time"]) == [0, 2, 4]
    assert len(timeline.table("images")) == VISITS
    questions, losses = trained(timeline)
    assert questions == 2
    assert all(np.isfinite(value) for value in losses.values())


def _importers_of(test: ast.FunctionDef) -> set[str]:
    """The words that a test imports by, if it also trains on what it imported."""
    calls = [node for node in ast.walk(test) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    if not any(call.func.id == "trained" for call in calls):
        return set()
    named = [*test.decorator_list, *(call for call in calls if call.func.id == "importing")]
    return {node.value for part in named for node in ast.walk(part) if isinstance(node, ast.Constant)}


def test_every_importer_has_a_round_trip() -> None:
    files = Path(__file__).parent.rglob("test_*.py")
    tests = [node for file in files for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)]
    assert set(importers()) - {name for test in tests for name in _importers_of(test)} == set()
