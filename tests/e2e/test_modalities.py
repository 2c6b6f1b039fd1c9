"""The experiment on several sets, on one far too small to learn from: rows are trained, compared, told by horizon."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "modalities" / "run.py"


@pytest.mark.slow
@pytest.mark.nightly
def test_rows_are_compared_by_horizon_with_what_they_keep(tmp_path: Path) -> None:
    words = ["--sets", "mri", "--rows", "gru", "memory_fusion", "--seeds", "0", "--out", str(tmp_path / "out")]
    tiny = ["data.patients=60", "data.size=32", "trainer.max_epochs=1", "trainer=cpu"]
    done = subprocess.run(
        [sys.executable, str(_SCRIPT), *words, *tiny],
        cwd=tmp_path,
        env=os.environ | {"TEMMED_DATA": str(tmp_path / "data_cache")},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    place = tmp_path / "out" / "mri" / "comparison"
    assert (place / "compare.html").exists()
    lines = (place / "horizons.md").read_text().splitlines()
    titles, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|"))
    assert titles[:3] == ["model", "processor time", "state after 40 images"]
    table = {row[0]: dict(zip(titles, row, strict=True)) for row in rows}
    assert list(table) == ["memory_fusion", "gru", "static"]
    size = {name: int(row["state after 40 images"].removesuffix(" B").replace(",", "")) for name, row in table.items()}
    assert size["static"] < size["gru"] < size["memory_fusion"]
    assert all(row["1 steps"].startswith(("+", "-")) for name, row in table.items() if name != "memory_fusion")
