"""The experiment on several sets, on one far too small to learn from: rows are trained, compared and recorded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.modalities.record import read
from temmed.evaluation.scoring import read_metrics

_SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "modalities" / "run.py"


@pytest.mark.slow
@pytest.mark.nightly
def test_rows_are_compared_and_recorded(tmp_path: Path) -> None:
    words = ["--sets", "mri", "--rows", "gru", "memory_fusion", "--seeds", "0", "--second", "30"]
    tiny = ["data.patients=60", "data.size=32", "trainer.max_epochs=1", "trainer=cpu"]
    done = subprocess.run(
        [sys.executable, str(_SCRIPT), *words, "--out", str(tmp_path / "out"), *tiny],
        cwd=tmp_path,
        env=os.environ | {"TEMMED_DATA": str(tmp_path / "data_cache")},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert (tmp_path / "out" / "mri" / "comparison" / "compare.html").exists()
    record = read(tmp_path / "out" / "results" / "mri.parquet")
    assert set(record.runs) == {"static/0", "gru/0", "memory_fusion/0"}
    for name, told in record.runs.items():
        metrics = read_metrics(tmp_path / "out" / "mri" / name.replace("/", "/seed") / "metrics.json")
        assert record.right[name].mean() == pytest.approx(metrics["test/progression/accuracy"]["value"])
        assert told["metrics"]["progression/accuracy"] == pytest.approx(record.right[name].mean(), abs=1e-6)
        assert told["processor_seconds"] > 0
    size = {name: told["state_bytes"] for name, told in record.runs.items()}
    assert size["static/0"] < size["gru/0"] < size["memory_fusion/0"]
    page = (tmp_path / "out" / "results" / "mri.md").read_text()
    assert "## By horizon, against memory_fusion" in page
    second = read(tmp_path / "out" / "results" / "mri_second.parquet")
    assert set(second.runs) == set(record.runs)
    assert second.about["fingerprint"] != record.about["fingerprint"]
    assert "a second test set" in (tmp_path / "out" / "results" / "mri_second.md").read_text()
