from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from temmed.evaluation.confidence import Certainty, calibration_error
from temmed.evaluation.scoring import Metrics, score
from temmed.evaluation.statistics import PatientResampler
from temmed.metrics.functional.calibration import area_under_risk_coverage, expected_calibration_error
from temmed.predictions.tables import Predictions, read_predictions
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split


@pytest.fixture(scope="module")
def predictions(runs: Path) -> Predictions:
    return read_predictions(runs / "memory_fusion" / "seed0" / "predictions" / "test")


@pytest.fixture(scope="module")
def metrics(timeline: Timeline, split: Split, predictions: Predictions) -> Metrics:
    return score(timeline, split, "test", predictions, resamples=100)


@pytest.fixture(scope="module")
def joined(asked: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
    given = predictions.answers[["question_id", "answer", "probabilities", "confidence"]]
    return asked.merge(given, on="question_id", suffixes=("", "_given"), validate="one_to_one")


def test_probabilities_equal_sklearn(metrics: Metrics, joined: pd.DataFrame) -> None:
    rows = joined[joined["task"] == "progression"]
    probabilities = np.stack(rows["probabilities"])
    choices = list(rows["choices"].iloc[0])
    truth = [choices.index(answer) for answer in rows["answer"]]
    brier = brier_score_loss(truth, probabilities, labels=[0, 1, 2], scale_by_half=False)
    assert metrics["test/progression/brier"]["value"] == pytest.approx(brier)
    assert metrics["test/progression/nll"]["value"] == pytest.approx(log_loss(truth, probabilities, labels=[0, 1, 2]))
    auroc = roc_auc_score(truth, probabilities, multi_class="ovr")
    assert metrics["test/progression/auroc"]["value"] == pytest.approx(auroc)
    assert np.isnan(metrics["test/progression/auroc"]["low"])
    for name in ("brier", "nll", "auroc", "auprc", "ece", "aurc"):
        assert metrics[f"test/progression/{name}"]["n"] == len(rows)


@pytest.mark.parametrize(("task", "steps"), [("progression", None), ("event", None), ("progression", 1)])
def test_confidence_equals_the_functions(metrics: Metrics, joined: pd.DataFrame, task: str, steps: int | None) -> None:
    rows = joined[joined["task"] == task]
    rows = rows if steps is None else rows[rows["horizon_steps"] == steps]
    place = "" if steps is None else f"/horizon={steps}"
    right, confidence = (rows["answer"] == rows["answer_given"]).astype(float), rows["confidence"]
    found = {name: metrics[f"test/{task}/{name}{place}"]["value"] for name in ("ece", "ece_mass", "aurc")}
    assert found["ece"] == pytest.approx(expected_calibration_error(confidence, right))
    assert found["ece_mass"] == pytest.approx(expected_calibration_error(confidence, right, binning="mass"))
    assert found["aurc"] == pytest.approx(area_under_risk_coverage(confidence, right))
    brier = metrics[f"test/{task}/confidence_brier{place}"]["value"]
    assert brier == pytest.approx(brier_score_loss(right, confidence))
    assert metrics[f"test/{task}/confidence_nll{place}"]["value"] == pytest.approx(log_loss(right, confidence))


def test_reliability_bins_hold_every_answer(metrics: Metrics, joined: pd.DataFrame) -> None:
    rows = joined[joined["task"] == "progression"]
    inside = rows[rows["confidence"].between(10 / 15, 11 / 15, inclusive="left")]
    entry = metrics["test/progression/accuracy/confidence=0.67-0.73"]
    assert entry["n"] == len(inside) > 0
    assert entry["value"] == pytest.approx((inside["answer"] == inside["answer_given"]).mean())
    assert metrics["test/progression/confidence/confidence=0.67-0.73"]["value"] == pytest.approx(
        inside["confidence"].mean()
    )
    counts = [entry["n"] for key, entry in metrics.items() if key.startswith("test/progression/accuracy/confidence=")]
    assert sum(counts) == len(rows)


def test_order_of_choices_changes_no_area(
    timeline: Timeline, asked: pd.DataFrame, predictions: Predictions, metrics: Metrics
) -> None:
    from temmed.evaluation.confidence import ranking_estimates

    rows = asked[asked["task"] == "progression"].reset_index(drop=True)
    answers = rows[["question_id"]].merge(predictions.answers, on="question_id")
    turned = rows["choices"].map(lambda cell: list(cell)[::-1]).where(rows.index % 2 == 0, rows["choices"])
    probabilities = [
        list(cell)[::-1] if row % 2 == 0 else list(cell) for row, cell in enumerate(answers["probabilities"])
    ]
    right = (rows["answer"] == answers["answer"]).astype(float)
    questions, given = rows.assign(choices=turned), answers.assign(probabilities=probabilities)
    certainty = Certainty.of(questions, given, right)
    masks = {"": np.ones(len(rows), dtype=bool)}
    found = dict(ranking_estimates(certainty, turned, sorted(rows["choices"].iloc[0]), masks))
    for name in ("auroc", "auprc"):
        assert found[name].value == pytest.approx(metrics[f"test/progression/{name}"]["value"])


def test_confidence_alone_is_enough(
    timeline: Timeline, split: Split, predictions: Predictions, metrics: Metrics
) -> None:
    alone = Predictions(predictions.answers.assign(probabilities=None))
    found = score(timeline, split, "test", alone, resamples=10)
    for name in ("ece", "aurc", "confidence_brier"):
        assert found[f"test/progression/{name}"]["value"] == metrics[f"test/progression/{name}"]["value"]
    assert not [key for key in found if key.split("/")[2] in ("brier", "nll", "auroc", "auprc")]


def test_probabilities_alone_give_the_confidence(
    timeline: Timeline, split: Split, predictions: Predictions, metrics: Metrics
) -> None:
    found = score(timeline, split, "test", Predictions(predictions.answers.assign(confidence=None)), resamples=10)
    for name in ("ece", "aurc", "confidence_nll", "brier"):
        assert found[f"test/event/{name}"]["value"] == pytest.approx(metrics[f"test/event/{name}"]["value"])


def test_a_model_that_states_nothing_has_no_such_scores(
    timeline: Timeline, split: Split, predictions: Predictions
) -> None:
    silent = Predictions(predictions.answers.assign(confidence=None, probabilities=None))
    found = score(timeline, split, "test", silent, resamples=10)
    names = {key.split("/")[2] for key in found}
    assert not names & {"ece", "ece_mass", "aurc", "brier", "nll", "confidence", "confidence_brier", "auroc", "auprc"}
    assert "accuracy" in names


def test_an_unreadable_answer_is_wrong_at_its_confidence() -> None:
    questions = pd.DataFrame({"choices": [["a", "b"], ["a", "b"], None], "answer": ["a", "a", None]})
    answers = pd.DataFrame(
        {
            "answer": ["a", None, None],
            "probabilities": [[0.7, 0.3], [0.6, 0.4], None],
            "confidence": [np.nan, 0.9, 0.5],
        }
    )
    found = Certainty.of(questions, answers, pd.Series([1.0, 0.0, np.nan]))
    np.testing.assert_array_equal(found.confidence, [0.7, 0.9, np.nan])
    np.testing.assert_allclose(found.scores()["confidence_brier"], [0.09, 0.81, np.nan])
    np.testing.assert_allclose(found.scores()["brier"], [0.18, 0.32, np.nan])


def test_resampled_ece_equals_scoring_the_resample() -> None:
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(20), rng.integers(1, 6, 20))
    confidence, right = rng.random(len(codes)), rng.integers(0, 2, len(codes)).astype(float)
    resampler = PatientResampler(codes, 30, seed=0)
    nothing = np.zeros(len(codes), dtype=np.int64)
    certainty = Certainty(np.zeros((len(codes), 0)), nothing - 1, confidence, right, nothing - 1)
    rows = rng.random(len(codes)) < 0.8
    found = calibration_error(certainty, rows, resampler)
    for weights, sample in zip(resampler.weights, found.samples[:, 0], strict=True):
        items = np.repeat(np.arange(len(codes)), np.where(rows, weights[codes], 0))
        assert sample == pytest.approx(expected_calibration_error(confidence[items], right[items]))
