from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score

from temmed.errors import InputError
from temmed.evaluation.benchmark import Benchmark
from temmed.evaluation.ceiling import oracle_accuracy
from temmed.evaluation.scoring import Metrics, read_metrics, score, write_metrics
from temmed.predictions.tables import Predictions, read_predictions, write_predictions
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split, get_split

RESAMPLES = 200


@pytest.fixture(scope="module")
def predictions(runs: Path) -> Predictions:
    return read_predictions(runs / "memory_fusion" / "seed0" / "predictions" / "test")


@pytest.fixture(scope="module")
def metrics(timeline: Timeline, split: Split, predictions: Predictions) -> Metrics:
    return score(timeline, split, "test", predictions, resamples=RESAMPLES)


@pytest.fixture(scope="module")
def joined(asked: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
    given = predictions.answers[["question_id", "answer", "value", "evidence"]]
    return asked.merge(given, on="question_id", suffixes=("", "_given"), validate="one_to_one")


def test_accuracy_and_f1_equal_sklearn(metrics: Metrics, joined: pd.DataFrame) -> None:
    rows = joined[joined["task"] == "progression"]
    assert metrics["test/progression/accuracy"]["value"] == accuracy_score(rows["answer"], rows["answer_given"])
    expected = f1_score(rows["answer"], rows["answer_given"], average="macro")
    assert metrics["test/progression/macro_f1"]["value"] == pytest.approx(expected)
    assert metrics["test/progression/accuracy"]["n"] == len(rows)


def test_slices_equal_selecting_rows(metrics: Metrics, joined: pd.DataFrame) -> None:
    rows = joined[(joined["template"] == "progression_first") & joined["horizon_steps"].between(3, 4)]
    key = "test/progression/accuracy/template=progression_first,horizon=3-4"
    assert metrics[key]["value"] == pytest.approx((rows["answer"] == rows["answer_given"]).mean())
    assert metrics[key]["n"] == len(rows)
    absent = joined[joined["evidence_kind"] == "absence"]
    assert metrics["test/event/accuracy/horizon=absence"]["n"] == len(absent)


@pytest.mark.parametrize("by", ["template=", "horizon="])
def test_slices_cover_the_task(metrics: Metrics, by: str) -> None:
    parts = [
        entry for key, entry in metrics.items() if key.startswith(f"test/progression/accuracy/{by}") and "," not in key
    ]
    whole = metrics["test/progression/accuracy"]
    assert sum(part["n"] for part in parts) == whole["n"]
    assert sum(part["n"] * part["value"] for part in parts) / whole["n"] == pytest.approx(whole["value"])


def test_intervals_hold_their_values(metrics: Metrics) -> None:
    # Of means over questions; other statistics may be biased in resamples.
    others = ("median", "share_closed", "macro", "weighted", "/ece", "horizon_s")
    for key, entry in metrics.items():
        if not np.isnan(entry["low"]) and not any(name in key for name in others):
            assert entry["low"] - 1e-9 <= entry["value"] <= entry["high"] + 1e-9, key


def test_measurement_errors(metrics: Metrics, joined: pd.DataFrame) -> None:
    rows = joined[joined["task"] == "measurement"]
    errors = (rows["value_given"] / rows["value"] - 1).abs()
    assert metrics["test/measurement/relative_error"]["value"] == pytest.approx(errors.mean())
    assert metrics["test/measurement/relative_error_median"]["value"] == pytest.approx(errors.median(), abs=0.005)
    by_template = rows.pivot(index=["sequence_id", "asked_at"], columns="template", values=["value", "value_given"])
    ratio = by_template["value_given"]["measurement_current"] / by_template["value_given"]["measurement_prior"]
    expected = (ratio / by_template["value"]["measurement_ratio"] - 1).abs()
    assert metrics["test/measurement/ratio_error"]["value"] == pytest.approx(expected.mean())
    assert "test/measurement/accuracy" not in metrics


def test_references(metrics: Metrics, timeline: Timeline, split: Split, asked: pd.DataFrame) -> None:
    progression = asked[asked["task"] == "progression"]
    assert metrics["test/progression/chance"]["value"] == pytest.approx(1 / 3)
    expected = oracle_accuracy(timeline, progression).mean()
    assert metrics["test/progression/ceiling"]["value"] == pytest.approx(expected)
    train = split.questions(timeline, "train")
    most = train.loc[train["task"] == "progression", "answer"].mode()[0]
    assert metrics["test/progression/majority"]["value"] == pytest.approx((progression["answer"] == most).mean())
    assert "test/event/ceiling" not in metrics


def test_a_template_that_train_lacks_has_no_majority(timeline: Timeline, split: Split) -> None:
    frame = split.frame
    empty = Split("few", "by hand", 0, frame[frame["subset"] != "train"])
    references = Benchmark.build(timeline, empty, "test").references
    assert references[["majority", "majority_template", "prior_bayes"]].isna().all(axis=None)
    assert references["ceiling"].notna().any()


def test_share_closed_is_what_its_parts_say(metrics: Metrics) -> None:
    names = ("accuracy", "majority", "ceiling")
    accuracy, majority, ceiling = (metrics[f"test/progression/{name}"]["value"] for name in names)
    closed = metrics["test/progression/share_closed"]
    assert closed["value"] == pytest.approx((accuracy - majority) / (ceiling - majority))
    assert closed["low"] < closed["value"] < closed["high"]


def test_evidence_counts_only_where_the_prompt_hides_it(metrics: Metrics, joined: pd.DataFrame) -> None:
    rows = joined[(joined["task"] == "progression") & ~joined["names_position"]]
    entry = metrics["test/progression/evidence_exact"]
    exact = [set(true) == set(cited) for true, cited in zip(rows["evidence"], rows["evidence_given"], strict=True)]
    assert (entry["n"], entry["value"]) == (len(rows), pytest.approx(np.mean(exact)))
    right = (rows["answer"] == rows["answer_given"]).to_numpy()
    assert metrics["test/progression/evidence_aligned_exact"]["value"] == pytest.approx(np.mean(right & exact))
    assert metrics["test/progression/evidence_f1"]["value"] > metrics["test/progression/evidence_f1_cite_all"]["value"]
    # "Never" has no positions to cite.
    hidden = joined[(joined["task"] == "event") & (joined["evidence_kind"] == "positions")]
    assert metrics["test/event/evidence_f1"]["n"] == len(hidden)


def test_a_model_that_cites_nothing_has_no_evidence_scores(
    timeline: Timeline, split: Split, predictions: Predictions
) -> None:
    silent = Predictions(predictions.answers.assign(evidence=None))
    found = score(timeline, split, "test", silent, resamples=10)
    assert not [key for key in found if "evidence" in key]
    assert "test/event/tiou" not in found


def test_perfect_answers(timeline: Timeline, split: Split, asked: pd.DataFrame, tmp_path: Path) -> None:
    truths = timeline.table("events").merge(split.sequences("test")[["sequence_id"]])
    middle = (truths["onset_lower"].clip(lower=0) + truths["onset_upper"]) / 2
    write_predictions(
        tmp_path / "p",
        asked[["question_id", "answer", "value", "evidence"]],
        truths[["sequence_id", "label"]].assign(onset=middle, offset=np.where(middle.notna(), np.inf, np.nan)),
    )
    found = score(timeline, split, "test", read_predictions(tmp_path / "p"), resamples=20)
    for name in ("progression/accuracy", "progression/macro_f1", "event/accuracy", "event/tiou", "event/evidence_f1"):
        assert found[f"test/{name}"]["value"] == 1.0, name
    for name in ("measurement/relative_error", "measurement/ratio_error", "progression/unparsable"):
        assert found[f"test/{name}"]["value"] == 0.0, name


def test_unreadable_answers_are_wrong_and_counted_apart(
    timeline: Timeline, split: Split, predictions: Predictions
) -> None:
    answers = predictions.answers.copy()
    answers["answer"] = None
    found = score(timeline, split, "test", Predictions(answers), resamples=10)
    assert found["test/progression/accuracy"]["value"] == 0.0
    assert found["test/progression/macro_f1"]["value"] == 0.0
    assert found["test/progression/unparsable"]["value"] == 1.0


def test_the_same_again_is_the_same(
    timeline: Timeline, split: Split, predictions: Predictions, metrics: Metrics
) -> None:
    shuffled = Predictions(predictions.answers.sample(frac=1.0, random_state=0), predictions.events)
    assert_same(score(timeline, split, "test", shuffled, resamples=RESAMPLES), metrics)


def test_metrics_survive_the_file(metrics: Metrics, tmp_path: Path) -> None:
    entries = metrics | {"test/x/y": {"value": 0.5, "low": float("nan"), "high": float("nan"), "n": 1}}
    write_metrics(tmp_path / "metrics.json", entries)
    assert json.loads((tmp_path / "metrics.json").read_text())["test/x/y"]["low"] is None
    assert_same(read_metrics(tmp_path / "metrics.json"), entries)


def test_a_subset_without_questions(timeline: Timeline, split: Split) -> None:
    empty = Split("none", "patient", 0, split.frame[split.frame["subset"] == "train"])
    with pytest.raises(InputError, match="at least one question"):
        Benchmark.build(timeline, empty, "test")


def test_predictions_for_another_subset(timeline: Timeline, split: Split, predictions: Predictions) -> None:
    with pytest.raises(InputError, match="an answer to every question"):
        score(timeline, split, "val", predictions)


def test_thousands_of_questions_take_seconds(
    make_timeline: Callable[..., Timeline], make_predictions: Callable[..., tuple[pd.DataFrame, pd.DataFrame]]
) -> None:
    timeline = make_timeline(patients=400, images=False)
    split = get_split(timeline, "patient", 0, (0.5, 0.1, 0.4))
    questions = split.questions(timeline, "test")
    assert len(questions) > 4000
    answers, events = make_predictions(timeline, questions, 0.8, 0)
    write_predictions(timeline.root / "p", answers, events)
    given = read_predictions(timeline.root / "p")
    start = time.process_time()
    score(timeline, split, "test", given)
    # About 1.5 s of one core; the bound leaves room for a busy machine.
    assert time.process_time() - start < 6


def assert_same(first: Metrics, second: Metrics) -> None:
    pd.testing.assert_frame_equal(pd.DataFrame(first), pd.DataFrame(second))
