from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from temmed import __version__
from temmed.cli import app
from temmed.timelines.folder import Timeline

Tables = dict[str, pd.DataFrame]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments: object) -> str:
    """The message of a command that cannot use its input; no traceback, nothing on stdout."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


def test_help_and_version_load_nothing_heavy() -> None:
    code = """
import sys
from temmed.cli import main
for arguments in (["--version"], ["--help"], ["data", "--help"], ["data", "synth", "--help"]):
    sys.argv = ["temmed", *arguments]
    try:
        main()
    except SystemExit as exit:
        assert exit.code == 0, exit.code
heavy = {"torch", "pandas", "numpy", "pyarrow", "PIL", "lightning", "pytorch_lightning"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"temmed {__version__}\n")
    for command in ("synth", "info", "audit", "split", "view"):
        assert command in done.stdout


def test_synth_makes_a_folder_and_says_what_is_in_it(tmp_path: Path) -> None:
    out = tmp_path / "mri"
    result = run("data", "synth", "mri", out, "--patients", 16, "--size", 24, "--workers", 1)
    assert result.exit_code == 0, result.output
    timeline = Timeline.open(out)
    assert "16 patients, 16 sequences" in result.stdout
    assert timeline.meta.fingerprint in result.stdout
    assert "ask to overwrite" in refused("data", "synth", "mri", out, "--patients", 16, "--workers", 1)
    again = run("data", "synth", "mri", out, "--patients", 16, "--size", 24, "--workers", 1, "--overwrite")
    assert again.exit_code == 0
    assert Timeline.open(out).meta.fingerprint == timeline.meta.fingerprint


def test_synth_refuses_a_modality_it_does_not_know_and_writes_nothing(tmp_path: Path) -> None:
    assert "found 'pet'" in refused("data", "synth", "pet", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_info_says_what_is_there(root: Path) -> None:
    result = run("data", "info", root)
    assert result.exit_code == 0, result.output
    timeline = Timeline.open(root)
    for text in (
        "small 1 · licence CC0-1.0",
        timeline.meta.fingerprint,
        "4 sequences",
        "20 time points",
        "12 questions",
    ):
        assert text in result.stdout
    assert "progression_previous" in result.stdout
    summary = json.loads(run("data", "info", root, "--json").stdout)
    assert summary["meta"]["fingerprint"] == timeline.meta.fingerprint
    assert summary["rows"]["timepoints"] == 20
    assert summary["splits"] == []


def test_info_records_the_fingerprint_of_an_edited_folder(root: Path) -> None:
    path = root / "images" / "s0_t1.npy"
    np.save(path, np.load(path)[:, :4])
    assert "was written for another" in run("data", "info", root).stdout
    assert "was written for another" not in run("data", "info", root, "--record").stdout
    assert "was written for another" not in run("data", "info", root).stdout


def test_info_says_when_there_is_nothing_to_train_on(tables: Tables, build: Callable[..., Path]) -> None:
    for name in ("questions", "findings", "measurements", "events", "statements", "boxes"):
        del tables[name]
    assert "No questions" in run("data", "info", build(tables)).stdout


def test_audit_of_a_sound_folder(root: Path) -> None:
    result = run("data", "audit", root)
    assert result.exit_code == 0, result.output
    assert "fit for use: 0 errors, 0 warnings" in result.stdout
    assert result.stderr == ""


def test_audit_of_a_broken_folder_names_each_fault_and_fails(
    root: Path, tables: Tables, replace_table: Callable[..., None]
) -> None:
    tables["timepoints"].loc[3, "time"] = 10.0
    replace_table(root, "timepoints", tables["timepoints"])
    (root / "images" / "s1_t1.npy").write_bytes(b"\x93NUMPY")
    result = run("data", "audit", root)
    assert result.exit_code == 1
    assert "error order (1): time goes back" in result.stdout
    assert "s0, position 3" in result.stdout
    assert "error unreadable_image (1)" in result.stdout
    assert "not fit for use: 2 errors" in result.stdout
    as_json = run("data", "audit", root, "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["counts"]["error"] == 2


def test_split_writes_once(root: Path) -> None:
    first = run("data", "split", root, "--by", "patient", "--seed", 1)
    assert first.exit_code == 0, first.output
    assert first.stdout.startswith("Written: ")
    assert (root / "splits" / "patient_seed1.csv").is_file()
    second = run("data", "split", root, "--by", "patient", "--seed", 1)
    assert second.stdout.startswith("Already there: ")
    assert second.stdout.splitlines()[1:] == first.stdout.splitlines()[1:]
    assert "within-patient" in run("data", "split", root, "--by", "time").stdout
    assert "patient_seed1" in run("data", "info", root).stdout


def test_split_takes_every_rule(root: Path) -> None:
    (root / "splits").mkdir()
    (root / "splits" / "official.csv").write_text("patient_id,subset\np0,train\n")
    (root / "groups.csv").write_text("patient_id,group\np0,twins\np1,twins\n")
    for words, names in (
        (("--by", "stratified", "--stratify", "sex", "--stratify", "age"), ["stratified-sex-age_seed0"]),
        (("--by", "kfold", "--folds", 3), ["kfold3-0_seed0", "kfold3-1_seed0", "kfold3-2_seed0"]),
        (("--by", "kfold", "--folds", 4, "--fold", 2, "--seed", 1), ["kfold4-2_seed1"]),
        (("--by", "file", "--name", "official", "--few-shot", 1), ["official_seed0_few1"]),
        (("--together", root / "groups.csv", "--name", "twins"), ["twins"]),
    ):
        result = run("data", "split", root, *words)
        assert result.exit_code == 0, result.output
        written = [line for line in result.stdout.splitlines() if line.startswith("Written: ")]
        assert written == [f"Written: {root / 'splits' / name}.csv" for name in names]
        assert all((root / "splits" / f"{name}.json").is_file() for name in names)
    assert "frozen" in result.stdout
    official = run("data", "split", root, "--by", "file", "--name", "official").stdout
    assert [line.split() for line in official.splitlines() if "in none" in line] == [["in", "none", "3", "3", "9"]]


def test_view_writes_the_page(root: Path, tmp_path: Path) -> None:
    page = tmp_path / "out" / "page.html"
    result = run("data", "view", root, "--out", page, "--limit", 1)
    assert result.exit_code == 0, result.output
    assert page.read_text().startswith("<!doctype html>")
    assert str(page) in result.stdout


@pytest.mark.parametrize("command", ["info", "audit", "split", "view"])
def test_a_folder_that_is_not_there_or_empty_is_one_message(command: str, tmp_path: Path) -> None:
    message = refused("data", command, tmp_path / "nowhere")
    assert message.startswith(f"temmed: {tmp_path / 'nowhere'}: expected a timeline folder, found nothing.")
    assert len(message.splitlines()) == 1
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "found an empty folder" in refused("data", command, empty)
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("command", ["info", "split", "view"])
def test_a_broken_folder_is_refused_with_rows(
    command: str, root: Path, tables: Tables, replace_table: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root.parent)
    tables["timepoints"].loc[3, "time"] = 10.0
    replace_table(root, "timepoints", tables["timepoints"])
    message = refused("data", command, root)
    assert "timepoints.parquet, row 4, time: must not go back as the position grows, found 10 after 60" in message
    assert not (root / "splits").exists()
    assert not (root.parent / "timelines.html").exists()


def test_wrong_choices_name_the_right_ones(root: Path) -> None:
    assert "patient_time, stratified, kfold, site, file, found 'sites'" in refused(
        "data", "split", root, "--by", "sites"
    )
    assert "For example: --site NAME." in refused("data", "split", root, "--by", "site")
    assert "For example: --folds 5." in refused("data", "split", root, "--by", "kfold")
    assert "at least 3, found 0" in refused("data", "split", root, "--by", "kfold", "--folds", 0)
    assert "add --by stratified." in refused("data", "split", root, "--stratify", "sex")
    assert "three fractions that add up to 1" in refused("data", "split", root, "--fractions", 1, 1, 1)
    assert "such as s0, found 's9'" in refused("data", "view", root, "-s", "s9", "-o", root / "page.html")


def test_a_place_that_cannot_be_written_is_one_message(root: Path) -> None:
    message = refused("data", "view", root, "-o", root / "dataset.json" / "page.html")
    assert "dataset.json" in message
    assert len(message.splitlines()) == 1


def test_a_reader_that_goes_away_is_no_error(root: Path) -> None:
    command = f"{sys.executable} -m temmed.cli data info {root} --json | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout == "{\n"
    assert "Traceback" not in done.stderr
