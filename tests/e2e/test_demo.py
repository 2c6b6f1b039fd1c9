"""The demonstration, on a set far too small to learn from: every row is trained, scored and compared."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "baselines" / "demo.py"
_TINY = ("data.patients=60", "data.size=32", "trainer.max_epochs=1", "trainer=cpu")

Demo = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    place = tmp_path_factory.mktemp("demo")

    def start(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(_SCRIPT), *words],
            cwd=place,
            env=os.environ | {"TEMMED_DATA": str(place / "data_cache"), "TEMMED_RUNS": "runs"},
            capture_output=True,
            text=True,
            timeout=500,
        )

    return start


@pytest.mark.slow
def test_rows_are_trained_side_by_side_and_compared(demo: Demo, tmp_path: Path) -> None:
    words = ("--models", "memory_fusion", "probe_asked_image", "--jobs", "2", "--out", str(tmp_path / "out"), *_TINY)
    first = demo(*words)
    assert first.returncode == 0, first.stderr
    assert "Traceback" not in first.stdout + first.stderr
    for row in ("static", "memory_fusion", "probe_asked_image"):
        assert (tmp_path / "out" / row / "seed0" / "metrics.json").exists()
        assert f"\n$ python train.py model={'static' if row == 'static' else 'memory_fusion'} " in "\n" + first.stdout
    assert (tmp_path / "out" / "comparison").is_dir()
    assert list((tmp_path / "out" / "comparison").glob("*.html"))
    again = demo(*words)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("# done before") == 3
    assert "trainings" not in again.stdout


def test_a_refusal_of_one_training_ends_the_demonstration(demo: Demo, tmp_path: Path) -> None:
    outcome = demo("--models", "static", "--out", str(tmp_path / "out"), "data.patientz=60")
    assert outcome.returncode == 2
    assert "Did you mean 'patients'?" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert not (tmp_path / "out" / "static" / "seed0").exists()
