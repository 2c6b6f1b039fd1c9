from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from temmed.evaluation.benchmark import Benchmark, Judged
from temmed.evaluation.horizons import horizon_estimates, horizon_times
from temmed.evaluation.scoring import Metrics, summarise
from temmed.evaluation.statistics import PatientResampler
from temmed.predictions.schema import ANSWERS
from temmed.predictions.tables import Predictions
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split, get_split


@pytest.fixture(scope="module")
def division(large_timeline: Timeline) -> Split:
    return get_split(large_timeline, "patient", 1, (0.4, 0.1, 0.5))  # the folder is shared: a name of its own


@pytest.fixture(scope="module")
def benchmark(large_timeline: Timeline, division: Split) -> Benchmark:
    return Benchmark.build(large_timeline, division, "test")


@pytest.fixture(scope="module")
def judged(benchmark: Benchmark, make_predictions: Callable[..., tuple[pd.DataFrame, pd.DataFrame]]) -> Judged:
    answers, _ = make_predictions(benchmark.timeline, benchmark.questions, 0.7, 0)
    # Blank what the answers leave out, as reading them from a file does.
    return benchmark.judge(Predictions(answers.reindex(columns=ANSWERS.names)))


@pytest.fixture(scope="module")
def accuracy(judged: Judged) -> np.ndarray:
    return judged.scores["accuracy"].to_numpy(dtype=float)


@pytest.fixture(scope="module")
def metrics(benchmark: Benchmark, judged: Judged) -> Metrics:
    return summarise(benchmark, judged, resamples=100)


def by_hand(rows: pd.DataFrame, horizon: str) -> tuple[float, float]:
    """Mean skill of the bins with 30 patients, and its slope per doubling, with pandas and a fitted line."""
    scores, lengths = [], []
    for _, part in rows.groupby("bin", observed=True):
        if part["patient_id"].nunique() < 30 or part["majority"].mean() == 1:
            continue
        majority = part["majority"].mean()
        scores.append((part["right"].mean() - majority) / (1 - majority))
        lengths.append(np.log2(part[horizon]).mean())
    return float(np.mean(scores)), float(np.polyfit(lengths, scores, 1)[0])


def test_steps_equal_pandas(benchmark: Benchmark, accuracy: np.ndarray, metrics: Metrics) -> None:
    rows = benchmark.questions.assign(
        right=accuracy, majority=benchmark.references["majority"], bin=benchmark.questions["horizon"]
    )
    value, slope = by_hand(rows[rows["task"] == "progression"], "horizon_steps")
    assert metrics["test/progression/horizon_score"]["value"] == pytest.approx(value)
    assert metrics["test/progression/horizon_slope"]["value"] == pytest.approx(slope)
    entry = metrics["test/progression/horizon_score"]
    assert entry["low"] < entry["value"] < entry["high"]


def test_bins_in_time_are_quarters_of_train(benchmark: Benchmark, accuracy: np.ndarray, metrics: Metrics) -> None:
    train = benchmark.split.questions(benchmark.timeline, "train")
    quarters = train.loc[train["task"] == "progression", "horizon_time"].quantile([0.25, 0.5, 0.75])
    rows = benchmark.questions.assign(right=accuracy, majority=benchmark.references["majority"])
    rows = rows[rows["task"] == "progression"]
    rows = rows.assign(bin=pd.cut(rows["horizon_time"], [0, *quarters, np.inf]))
    value, slope = by_hand(rows, "horizon_time")
    assert metrics["test/progression/horizon_score_days"]["value"] == pytest.approx(value)
    assert metrics["test/progression/horizon_slope_days"]["value"] == pytest.approx(slope)
    slices = {key.split("=")[1]: entry for key, entry in metrics.items() if "progression/accuracy/horizon_days=" in key}
    first = rows[rows["horizon_time"] <= quarters[0.25]]
    assert len(slices) == 4
    assert slices[f"0-{quarters[0.25]:.6g}"]["value"] == pytest.approx(first["right"].mean())
    assert slices[f"{quarters[0.75]:.6g}+"]["n"] == (rows["horizon_time"] > quarters[0.75]).sum()
    assert sum(entry["n"] for entry in slices.values()) == len(rows)


def test_right_at_every_horizon_is_one_without_slope(benchmark: Benchmark) -> None:
    resampler = PatientResampler(benchmark.questions["patient_id"], 20)
    found = dict(horizon_estimates(benchmark, np.ones(len(benchmark.questions)), "progression", resampler))
    for unit in ("", "_days"):
        assert found[f"horizon_score{unit}"].value == 1
        assert found[f"horizon_slope{unit}"].value == pytest.approx(0, abs=1e-12)


def test_too_few_patients_have_no_score(timeline: Timeline, split: Split) -> None:
    small = Benchmark.build(timeline, split, "val")
    assert small.questions["patient_id"].nunique() < 30
    resampler = PatientResampler(small.questions["patient_id"], 5)
    found = dict(horizon_estimates(small, np.ones(len(small.questions)), "progression", resampler))
    assert not [name for name in found if name.startswith("horizon_s")]
    assert found


def test_weeks_are_counted_in_days(benchmark: Benchmark) -> None:
    sequences = benchmark.timeline.table("sequences")
    units = np.resize(["week", "second", "frame"], len(sequences))

    class Relabelled:
        def table(self, name: str) -> pd.DataFrame:
            return {"sequences": sequences.assign(time_unit=units)}[name]

    relabelled = Benchmark(
        Relabelled(),  # type: ignore[arg-type]
        benchmark.split,
        "test",
        benchmark.questions,
        benchmark.references,
        benchmark.events,
        benchmark.statements,
    )
    clocks, times = horizon_times(relabelled, benchmark.questions)
    unit = dict(zip(sequences["sequence_id"], units, strict=True))
    for row, question in benchmark.questions.iterrows():
        clock, factor = {"week": ("day", 7), "second": ("second", 1), "frame": ("step", 1)}[
            unit[question["sequence_id"]]
        ]
        assert clocks[row] == clock
        assert times[row] == pytest.approx(question["horizon_time"] * factor, nan_ok=True)


def test_accuracy_by_asked_position(benchmark: Benchmark, accuracy: np.ndarray, metrics: Metrics) -> None:
    rows = benchmark.questions.assign(right=accuracy)
    rows = rows[rows["task"] == "progression"]
    for position, part in rows.groupby("asked_at"):
        entry = metrics[f"test/progression/accuracy/asked_at={position}"]
        assert entry["value"] == pytest.approx(part["right"].mean())
        assert entry["n"] == len(part)
