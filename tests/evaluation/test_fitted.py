from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from temmed.errors import InputError
from temmed.evaluation.benchmark import Benchmark
from temmed.evaluation.calibration import METHODS
from temmed.evaluation.fitted import subgroup_masks
from temmed.evaluation.scoring import Metrics, score
from temmed.metrics.functional.calibration import expected_calibration_error, negative_log_likelihoods
from temmed.predictions.schema import ANSWERS
from temmed.predictions.tables import Predictions
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split, get_split

Scored = Callable[..., Metrics]


@pytest.fixture(scope="module")
def division(large_timeline: Timeline) -> Split:
    return get_split(large_timeline, "patient", 0, (0.2, 0.4, 0.4))


@pytest.fixture(scope="module")
def answers_of(
    large_timeline: Timeline, division: Split, make_predictions: Callable[..., tuple]
) -> Callable[..., Predictions]:
    def answers(subset: str, seed: int = 0) -> Predictions:
        questions = division.questions(large_timeline, subset)
        frame, _ = make_predictions(large_timeline, questions, 0.3, seed)
        return Predictions(frame.reindex(columns=ANSWERS.names), source=subset)

    return answers


@pytest.fixture(scope="module")
def scored(large_timeline: Timeline, division: Split, answers_of: Callable[..., Predictions]) -> Scored:
    def of(**options: object) -> Metrics:
        options = {"validation": answers_of("val", 1), "resamples": 50} | options
        return score(large_timeline, division, "test", answers_of("test"), **options)  # type: ignore[arg-type]

    return of


@pytest.fixture(scope="module")
def metrics(scored: Scored) -> Metrics:
    return scored(calibrate="temperature")


@pytest.mark.parametrize("method", METHODS)
def test_scaling_lowers_the_error_of_overconfident_answers(scored: Scored, method: str) -> None:
    found = scored(calibrate=method)
    for task in ("progression", "event"):
        before, after = found[f"test/{task}/ece"], found[f"test/{task}/calibrated_ece"]
        assert after["value"] < 0.9 * before["value"]
        assert after["n"] == before["n"]
    assert ("test/progression/calibrated_nll" in found) == (method == "temperature")
    assert ("test/progression/temperature" in found) == (method == "temperature")


def test_temperature_is_applied_as_told(
    metrics: Metrics, large_timeline: Timeline, division: Split, answers_of: Callable[..., Predictions]
) -> None:
    questions = division.questions(large_timeline, "test")
    rows = questions[questions["task"] == "progression"][["question_id", "choices", "answer"]]
    rows = rows.merge(answers_of("test").answers, on="question_id", suffixes=("", "_given"))
    powers = np.stack(rows["probabilities"]) ** (1 / metrics["test/progression/temperature"]["value"])
    scaled = powers / powers.sum(axis=1, keepdims=True)
    truth = [list(choices).index(answer) for choices, answer in zip(rows["choices"], rows["answer"], strict=True)]
    expected = negative_log_likelihoods(scaled, truth).mean()
    assert metrics["test/progression/calibrated_nll"]["value"] == pytest.approx(expected)
    given = [list(choices).index(answer) for choices, answer in zip(rows["choices"], rows["answer_given"], strict=True)]
    confidence = scaled[np.arange(len(rows)), given]
    expected = expected_calibration_error(confidence, np.array(given) == np.array(truth))
    assert metrics["test/progression/calibrated_ece"]["value"] == pytest.approx(expected)


def test_nothing_is_fitted_on_the_answers_scored(scored: Scored, metrics: Metrics, answers_of: Callable) -> None:
    other = scored(calibrate="temperature", validation=answers_of("val", 2))
    name = "test/progression/temperature"
    assert other[name]["value"] != metrics[name]["value"]
    assert other["test/progression/ece"] == metrics["test/progression/ece"]


@pytest.mark.parametrize("method", ["lac", "aps"])
def test_sets_hold_the_right_choice_as_often_as_promised(metrics: Metrics, method: str) -> None:
    for task in ("progression", "event"):
        coverage = metrics[f"test/{task}/{method}_patient_coverage"]
        # Some 120 patients on either side: the truth lies within the interval or above the promise.
        assert coverage["high"] >= 0.9
        size = metrics[f"test/{task}/{method}_set_size"]
        assert 1 <= size["value"] <= 4
        assert size["n"] == metrics[f"test/{task}/accuracy"]["n"]


@pytest.mark.parametrize("metric", ["lac_coverage", "aps_set_size"])
def test_sets_are_told_by_horizon_and_subgroup(metrics: Metrics, metric: str) -> None:
    whole = metrics[f"test/progression/{metric}"]
    for by in ("horizon=", "sex="):
        parts = [entry for key, entry in metrics.items() if key.startswith(f"test/progression/{metric}/{by}")]
        assert len(parts) >= 2
        assert sum(part["n"] * part["value"] for part in parts) == pytest.approx(whole["n"] * whole["value"])


def test_a_confidence_alone_has_no_sets(
    large_timeline: Timeline, division: Split, answers_of: Callable[..., Predictions]
) -> None:
    test, val = (Predictions(answers_of(name).answers.assign(probabilities=None)) for name in ("test", "val"))
    found = score(large_timeline, division, "test", test, resamples=5, validation=val, calibrate="isotonic")
    assert "test/progression/calibrated_ece" in found
    assert not [key for key in found if "coverage" in key]


def test_subgroups_are_attributes_in_words(large_timeline: Timeline, division: Split) -> None:
    benchmark = Benchmark.build(large_timeline, division, "test")
    asked = (benchmark.questions["task"] == "event").to_numpy()
    masks = subgroup_masks(benchmark, asked)
    assert list(masks) == ["sex=F", "sex=M"]
    assert (masks["sex=F"] ^ masks["sex=M"]).tolist() == asked.tolist()


def test_what_cannot_be_fitted_is_one_message(
    large_timeline: Timeline, division: Split, answers_of: Callable[..., Predictions], scored: Scored
) -> None:
    val = answers_of("val")
    with pytest.raises(InputError, match="another subset than the one that is fitted on"):
        score(large_timeline, division, "val", val, validation=val)
    with pytest.raises(InputError, match="answer to every question"):
        scored(validation=answers_of("test"))
    with pytest.raises(InputError, match="predictions to fit on"):
        scored(validation=None, calibrate="platt")
    silent = Predictions(val.answers.assign(probabilities=None, confidence=None), source="val")
    with pytest.raises(InputError, match=r"val, task .*: expected answers with"):
        scored(validation=silent, calibrate="platt")


def test_scores_without_validation_stay_the_same(
    large_timeline: Timeline, division: Split, answers_of: Callable[..., Predictions], metrics: Metrics
) -> None:
    plain = score(large_timeline, division, "test", answers_of("test"), resamples=50)
    pd.testing.assert_frame_equal(pd.DataFrame(plain), pd.DataFrame(metrics)[list(plain)])
