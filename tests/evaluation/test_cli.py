from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from temmed.errors import InputError
from temmed.evaluation.cli import register
from temmed.predictions.tables import write_predictions
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    found = typer.Typer()
    register(found)
    return found


def test_score_prints_and_writes(app: typer.Typer, timeline: Timeline, runs: Path, tmp_path: Path) -> None:
    predictions = runs / "static" / "seed0" / "predictions" / "test"
    out = tmp_path / "deep" / "metrics.json"
    result = CliRunner().invoke(
        app, ["score", str(timeline.root), str(predictions), "--resamples", "20", "--out", str(out)]
    )
    assert result.exit_code == 0, result.output
    entry = json.loads(out.read_text())["test/progression/accuracy"]
    (line,) = [line for line in result.output.splitlines() if "test/progression/accuracy" in line]
    assert f"{100 * entry['value']:.1f}" in line
    assert "horizon=" not in result.output
    error = json.loads(out.read_text())["test/event/onset_error_days"]
    (line,) = [line for line in result.output.splitlines() if "test/event/onset_error_days" in line]
    assert f"{error['value']:.3f} days" in line


def test_score_of_the_wrong_subset_is_one_message(app: typer.Typer, timeline: Timeline, runs: Path) -> None:
    arguments = ["score", str(timeline.root), str(runs / "static/seed0/predictions/test"), "--resamples", "20"]
    result = CliRunner().invoke(app, [*arguments, "--subset", "val"])
    assert isinstance(result.exception, InputError)
    result = CliRunner().invoke(app, [*arguments, "--subset", "val", "--allow-missing", "--allow-surplus"])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(app, [*arguments, "--subset", "valid"])
    assert result.exit_code == 2


def test_score_scales_by_what_is_fitted_on_validation(
    app: typer.Typer,
    timeline: Timeline,
    split: Split,
    runs: Path,
    tmp_path: Path,
    make_predictions: Callable[..., tuple],
) -> None:
    write_predictions(tmp_path / "val", *make_predictions(timeline, split.questions(timeline, "val"), 0.5, 3))
    predictions = runs / "static" / "seed0" / "predictions" / "test"
    arguments = ["score", str(timeline.root), str(predictions), "--resamples", "10", "--calibrate", "temperature"]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, InputError)
    out = tmp_path / "metrics.json"
    result = CliRunner().invoke(app, [*arguments, "--validation", str(tmp_path / "val"), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert {"test/progression/ece", "test/progression/calibrated_ece"} <= set(json.loads(out.read_text()))
    (line,) = [line for line in result.output.splitlines() if "progression/lac_set_size " in line]
    assert "choices" in line


def test_compare_prints_and_writes(app: typer.Typer, runs: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["compare", f"{runs}/*", "--out", str(tmp_path / "out"), "--resamples", "20"])
    assert result.exit_code == 0, result.output
    assert "memory_fusion" in result.output
    assert "[low, high]: 95 % interval over patients (20 resamples)" in result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"compare.html", "compare.md", "compare.csv"}


def test_commands_load_nothing_heavy_before_they_run() -> None:
    code = "import sys, temmed.evaluation.cli; print({'torch', 'pandas', 'scipy', 'numpy'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "set()"


def test_scoring_and_comparing_need_no_torch() -> None:
    code = (
        "import sys, temmed.evaluation.report, temmed.evaluation.compare, temmed.evaluation.scoring; "
        "print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "False"
