from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from temmed.errors import InputError
from temmed.evaluation.compare import Comparison, compare_runs
from temmed.evaluation.scoring import score
from temmed.evaluation.tables import notes, to_csv, to_markdown, to_rich
from temmed.predictions.tables import read_predictions
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split

RESAMPLES = 200
MakeRun = Callable[..., Path]


@pytest.fixture(scope="module")
def comparison(runs: Path) -> Comparison:
    return compare_runs([runs], resamples=RESAMPLES, permutations=500)


def test_rows_come_in_order(comparison: Comparison) -> None:
    assert [(row.label, row.kind, row.seeds) for row in comparison.rows] == [
        ("static", "model", 2),
        ("temporal_transformer", "model", 1),
        ("memory_fusion", "model", 2),
        ("text only", "probe", 1),
        ("asked image only", "probe", 1),
        ("prior image only", "probe", 1),
        ("prior image, Bayes rate", "reference", 0),
        ("chance", "reference", 0),
        ("majority", "reference", 0),
        ("majority, by template", "reference", 0),
        ("ceiling (oracle)", "reference", 0),
    ]
    assert [group.label for group in comparison.groups] == [row.label for row in comparison.rows if row.seeds]


def test_one_run_has_the_numbers_of_its_own_metrics(
    comparison: Comparison, runs: Path, timeline: Timeline, split: Split
) -> None:
    given = read_predictions(runs / "temporal_transformer" / "seed0" / "predictions" / "test")
    metrics = score(timeline, split, "test", given, resamples=RESAMPLES)
    row = comparison.row("temporal_transformer")
    for name, estimate in row.scores.items():
        assert estimate.as_dict() == pytest.approx(metrics[f"test/{name}"]), name
    for name, estimate in row.slices.items():
        assert estimate.as_dict() == pytest.approx(metrics[f"test/progression/accuracy/{name}"]), name
    ceiling = comparison.row("ceiling (oracle)").scores["progression/accuracy"]
    assert ceiling.as_dict() == pytest.approx(metrics["test/progression/ceiling"])


def test_seeds_are_averaged(comparison: Comparison, runs: Path, timeline: Timeline, split: Split) -> None:
    of_seeds = [
        score(
            timeline, split, "test", read_predictions(runs / f"memory_fusion/seed{seed}/predictions/test"), resamples=5
        )
        for seed in range(2)
    ]
    row = comparison.row("memory_fusion")
    for name in ("progression/accuracy", "progression/macro_f1", "progression/share_closed", "event/tiou"):
        mean = np.mean([metrics[f"test/{name}"]["value"] for metrics in of_seeds])
        assert row.scores[name].value == pytest.approx(mean), name
    accuracies = [metrics["test/progression/accuracy"]["value"] for metrics in of_seeds]
    assert row.spread == pytest.approx(np.std(accuracies, ddof=1))
    assert row.train_seconds == 62.0
    assert np.isnan(comparison.row("temporal_transformer").spread)


def test_models_are_tested_and_probes_are_not(comparison: Comparison) -> None:
    tested = {row.label for row in comparison.rows if row.test}
    assert tested == {"temporal_transformer", "memory_fusion"}
    test = comparison.row("memory_fusion").test
    assert test is not None
    difference = [comparison.row(label).scores["progression/accuracy"].value for label in ("memory_fusion", "static")]
    assert test.difference.value == pytest.approx(difference[0] - difference[1])
    assert test.difference.low < test.difference.value < test.difference.high
    # 501 assignments at the least extreme, and two models tested.
    assert test.p == pytest.approx(1 / 501)
    assert test.p_holm == pytest.approx(2 / 501)
    assert test.p_mcnemar < 0.001


def test_a_model_does_not_differ_from_itself(make_run: MakeRun, tmp_path: Path) -> None:
    for name in ("static", "twin"):
        make_run(tmp_path / name, name=name, answers_of="static")
    row = compare_runs([tmp_path], resamples=20, permutations=100).row("twin")
    assert row.test is not None
    assert (row.test.difference.value, row.test.p, row.test.p_mcnemar) == (0.0, 1.0, 1.0)


def test_another_reference(runs: Path) -> None:
    comparison = compare_runs([runs], reference="temporal_transformer", resamples=20, permutations=50)
    assert comparison.rows[0].label == "temporal_transformer"
    assert comparison.rows[0].test is None
    test = comparison.row("static").test
    assert test is not None
    assert test.difference.value < 0
    with pytest.raises(InputError, match="one of the models memory_fusion, static, temporal_transformer, found 'stat'"):
        compare_runs([runs], reference="stat", resamples=20, permutations=50)


def test_without_static_there_is_no_test(runs: Path) -> None:
    comparison = compare_runs([runs / "memory_fusion", runs / "probe_text"], resamples=20, permutations=50)
    assert comparison.reference is None
    assert not any(row.test for row in comparison.rows)
    assert any("No test" in note for note in notes(comparison))
    assert "vs " not in to_markdown(comparison)


def test_models_of_one_name_are_told_apart(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(tmp_path / "a", name="mine", temporal="gru")
    make_run(tmp_path / "b", name="mine", temporal="lstm")
    labels = {row.label for row in compare_runs([tmp_path], resamples=20, permutations=50).models}
    assert labels == {"mine (mine, static, gru)", "mine (mine, static, lstm)"}


def test_tables_agree(comparison: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(comparison))))
    assert [row["label"] for row in rows] == [row.label for row in comparison.rows]
    best = rows[2]
    estimate = comparison.row("memory_fusion").scores["progression/accuracy"]
    assert float(best["progression/accuracy/value"]) == estimate.value
    assert int(best["progression/accuracy/n"]) == estimate.n
    assert rows[-1]["p"] == ""
    markdown = to_markdown(comparison)
    shown = f"{100 * estimate.value:.1f} ± {100 * comparison.row('memory_fusion').spread:.1f}"
    assert f"| memory_fusion | 2 | {shown} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}] |" in markdown
    # Every line has the cells that the heading promises.
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {lines[0].count("|")}


@pytest.mark.parametrize("width", [80, 200])
def test_the_terminal_table_fits_and_hides_nothing(comparison: Comparison, width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(*to_rich(comparison, width))
    text = console.export_text()
    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    for row in comparison.rows:
        assert row.label in text
        assert f"{100 * row.scores['progression/accuracy'].value:.1f}" in text
