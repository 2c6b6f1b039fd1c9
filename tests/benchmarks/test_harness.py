"""What all benchmarks rest on: ratios of neighbours, bars on the right side, one runner that finds them."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    # As when a script is run: its own folder comes first.
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def test_ratios_are_of_neighbours() -> None:
    harness = importlib.import_module("harness")
    ratio = harness.Ratio.of("a of b", [2.0, 9.0, 4.0], [1.0, 3.0, 4.0])
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 1.0, 3.0)
    assert ratio.met


@pytest.mark.parametrize(("median", "at_most", "met"), [(0.8, False, True), (0.79, False, False), (0.79, True, True)])
def test_a_bar_has_a_side(median: float, at_most: bool, met: bool) -> None:
    harness = importlib.import_module("harness")
    assert harness.Ratio("x", median, median, median, 0.8, at_most).met == met


def test_measurements_take_turns_and_the_first_does_not_count() -> None:
    harness = importlib.import_module("harness")
    asked: list[str] = []

    def measure(name: str) -> float:
        asked.append(name)
        return float(len(asked))

    found = harness.in_turn({name: lambda name=name: measure(name) for name in "ab"}, 2)
    assert asked == ["a", "b", "a", "b", "b", "a"]
    assert found == {"a": [3.0, 6.0], "b": [4.0, 5.0]}


def test_a_missed_bar_is_told_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    harness = importlib.import_module("harness")
    ratios = [harness.Ratio("fast enough", 2.0, 1.0, 3.0, 1.0), harness.Ratio("too slow", 0.5, 0.4, 0.6, 1.0)]
    assert harness.report(tmp_path / "deep" / "out.json", ratios, frames=7) == 1
    written = json.loads((tmp_path / "deep" / "out.json").read_text())
    assert [row["met"] for row in written["ratios"]] == [True, False]
    assert written["frames"] == 7
    captured = capsys.readouterr()
    assert "too slow" in captured.err
    assert "fast enough" not in captured.err
    assert harness.report(tmp_path / "out.json", ratios[:1]) == 0


def test_the_runner_finds_every_benchmark(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    runner = importlib.import_module("run")
    helpers = {"harness", "privacy_corpus", "run", "sed_eval_peer", "training"}
    scripts = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert set(runner.names()) == scripts - helpers
    monkeypatch.setattr(sys, "argv", ["run.py", "no_such"])
    with pytest.raises(SystemExit, match="2"):
        runner.main()
    assert "no_such" in capsys.readouterr().err
