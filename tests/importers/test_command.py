"""`temmed data import …` as a user types it: what is printed, what is written, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from temmed.cli import app
from temmed.timelines.folder import Timeline
from temmed.timelines.importers.registry import importers
from temmed.timelines.splits import get_split

DicomWriter = Callable[..., Path]
Running = Callable[..., Result]

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def test_importers_are_found() -> None:
    assert {"dicom", "nifti"} <= set(importers())


def test_every_importer_says_what_it_needs() -> None:
    done = CliRunner().invoke(app, ["data", "importers"], env={"COLUMNS": "400"})
    assert done.exit_code == 0, done.output
    for name, importer in importers().items():
        assert f"{name}  {importer.summary}" in done.output
        assert f"needs {importer.needs}" in done.output


def test_help_names_every_importer_and_loads_nothing_heavy(running: Running) -> None:
    found = running("--help")
    assert found.exit_code == 0
    for name, importer in importers().items():
        assert name in found.output
        assert importer.summary[:20] in found.output
    script = (
        "import sys; sys.argv = ['temmed', '--help']\n"
        "from temmed.cli import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "print({'torch', 'pandas', 'numpy', 'pydicom', 'nibabel'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("set()")


def test_the_example_files_of_the_docs(running: Running, tmp_path: Path, echo: Path) -> None:
    (tmp_path / "cine").mkdir()
    (tmp_path / "cine" / "echo.dcm").write_bytes(echo.read_bytes())
    out = tmp_path / "out"
    done = running(
        "dicom",
        tmp_path / "cine",
        out,
        "--questions",
        EXAMPLES / "questions.csv",
        "--events",
        EXAMPLES / "events.csv",
    )
    assert done.exit_code == 0, done.output
    timeline = Timeline.open(out)
    questions = timeline.table("questions")
    assert len(questions) == len((EXAMPLES / "questions.csv").read_text().splitlines()) - 1
    assert set(questions["task"]) >= {"progression", "measurement", "choice"}
    split = get_split(timeline, by="time")
    assert all(len(split.questions(timeline, subset)) > 2 for subset in ("train", "val", "test"))
    assert len(timeline.table("events")) == len((EXAMPLES / "events.csv").read_text().splitlines()) - 1
    assert "audit: fit for use: 0 errors" in done.output
    assert f"Train on it: python train.py data=folder data.root={out} data.split.by=time" in done.output


def test_the_example_questions_on_functional_mri_are_true(running: Running, tmp_path: Path, nibabel_data: Path) -> None:
    done = running(
        "nifti", nibabel_data / "functional.nii", tmp_path / "out", "--questions", EXAMPLES / "functional.csv"
    )
    assert done.exit_code == 0, done.output
    timeline = Timeline.open(tmp_path / "out")
    signal = [pixels.mean() for _, _, pixels in timeline.read_images(timeline.table("sequences")["sequence_id"][0])]
    questions = timeline.table("questions")
    assert len(questions) == 19
    for question in questions.itertuples():
        before, now = question.evidence
        assert question.answer == ("higher" if signal[now] > signal[before] else "lower")
    assert "data.spatial_dims=3 data.split.by=time" in done.output


def test_without_questions_it_says_what_is_missing(running: Running, tmp_path: Path, echo: Path) -> None:
    done = running("dicom", echo, tmp_path / "out")
    assert done.exit_code == 0
    assert "No questions: this folder can be looked at and not trained on." in done.output
    assert "30 in milliseconds" in done.output
    assert "--questions" in done.output


def test_dry_run_writes_nothing(running: Running, tmp_path: Path, echo: Path) -> None:
    done = running("dicom", echo, tmp_path / "out", "--dry-run")
    assert done.exit_code == 0
    assert "nothing was written" in done.output
    assert "1 ultrasound" in done.output
    assert list(tmp_path.iterdir()) == []


def test_skipped_files_are_counted_and_named(running: Running, tmp_path: Path, echo: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "echo.dcm").write_bytes(echo.read_bytes())
    for index in range(7):
        (source / f"note{index}.txt").write_text("hello")
    done = running("dicom", source, tmp_path / "out")
    assert "skipped 7: not a DICOM file" in done.output
    assert "note4.txt" in done.output
    assert "note5.txt" not in done.output
    assert "and 2 more" in done.output
    assert "note6.txt" in running("dicom", source, tmp_path / "out", "--overwrite", "--verbose").output


def test_audit_errors_leave_nothing_behind(
    running: Running, tmp_path: Path, dicom: DicomWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    from temmed.timelines import audit

    path = dicom(tmp_path / "cine.dcm", np.zeros((3, 4, 4), np.uint8), FrameTime=3)
    finding = audit.Finding("order", "error", 2, "time goes back", ("s1, position 2",))
    monkeypatch.setattr(audit, "audit", lambda *arguments, **named: [finding])
    done = running("dicom", path, tmp_path / "out")
    assert done.exit_code == 1
    assert "Nothing was written" in done.output
    assert "error order (2): time goes back" in done.output
    assert "s1, position 2" in done.output
    assert sorted(tmp_path.iterdir()) == [path]
    kept = running("dicom", path, tmp_path / "out", "--keep-on-error")
    assert kept.exit_code == 1
    assert (tmp_path / "out" / "dataset.json").exists()


def refused(done: Result, *texts: str) -> None:
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    for text in texts:
        assert text in done.output


@pytest.mark.parametrize("kind", ["dicom", "nifti"])
def test_bad_sources(running: Running, tmp_path: Path, kind: str) -> None:
    refused(running(kind, tmp_path / "absent", tmp_path / "out"), "absent", "found nothing")
    (tmp_path / "empty").mkdir()
    refused(running(kind, tmp_path / "empty", tmp_path / "out"), "an empty folder")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("hello")
    refused(running(kind, tmp_path / "text", tmp_path / "out"), f"the {kind} importer can use", "found 1 file: not a")
    assert not (tmp_path / "out").exists()


def test_bad_targets(running: Running, tmp_path: Path, echo: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    (source / "echo.dcm").write_bytes(echo.read_bytes())
    refused(running("dicom", source, source / "out"), "outside of the source")
    refused(running("dicom", source, source, "--overwrite"), "outside of the source")
    refused(running("dicom", source / "echo.dcm", source, "--overwrite"), "outside of the source")
    assert (source / "echo.dcm").exists()
    out.mkdir()
    (out / "thesis.txt").write_text("hello")
    refused(running("dicom", source, out), "a folder with content", "--overwrite")
    refused(running("dicom", source, out, "--overwrite"), "dataset.json")
    assert (out / "thesis.txt").exists()


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("--limit", 0, "a number of at least 1"),
        ("--workers", -1, "a number of at least 1"),
        ("--workers", 0, "a number of at least 1"),
        ("--frame-seconds", 0, "seconds above 0"),
        ("--questions", "absent.csv", "absent.csv"),
    ],
)
def test_bad_options(running: Running, tmp_path: Path, echo: Path, option: str, value: object, text: str) -> None:
    refused(running("dicom", echo, tmp_path / "out", option, value), text)
    assert list(tmp_path.iterdir()) == []


def test_bad_rows_are_told_before_anything_is_written(running: Running, tmp_path: Path, echo: Path) -> None:
    path = tmp_path / "questions.csv"
    path.write_text("file,position,prompt,value\nexamples_ybr_color.dcm,30,How wide?,3\nother.dcm,0,How wide?,3\n")
    done = running("dicom", echo, tmp_path / "out", "--questions", path)
    refused(done, "found 2 problems", "row 1, position: must be a whole number from 0 to 29", "row 2, file")
    assert list(tmp_path.iterdir()) == [path]


def test_a_wrong_importer_names_the_right_one(running: Running, tmp_path: Path) -> None:
    done = running("dcom", tmp_path, tmp_path / "out")
    refused(done, "found 'dcom'. Did you mean dicom?")


def test_provenance(running: Running, tmp_path: Path, echo: Path) -> None:
    out = tmp_path / "out"
    done = running("dicom", echo, out, "--pseudonym-key", "s3cret", "--name", "echo", "--licence", "CC0-1.0")
    assert done.exit_code == 0
    written = (out / "dataset.json").read_text()
    assert "s3cret" not in written
    meta = json.loads(written)
    assert (meta["name"], meta["licence"]) == ("echo", "CC0-1.0")
    provenance = meta["provenance"]
    assert provenance["importer"] == "dicom"
    assert provenance["parameters"]["pseudonym_key"] is True
    assert set(provenance["versions"]) == {"temmed", "numpy", "pydicom", "nibabel"}
    assert len(provenance["source_fingerprint"]) == 64
