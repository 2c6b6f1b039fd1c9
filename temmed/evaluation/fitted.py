"""What is fitted on the validation predictions of a model and judged on another subset: scaling and prediction sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temmed.errors import InputError
from temmed.evaluation.benchmark import Benchmark, Judged
from temmed.evaluation.calibration import Method, Scaling
from temmed.evaluation.confidence import Certainty, certainty_estimates, without_interval
from temmed.evaluation.statistics import Estimate, PatientResampler, named_estimates
from temmed.metrics.functional.conformal import aps_scores, conformal_threshold, lac_scores, prediction_sets
from temmed.predictions.tables import Predictions

Masks = Mapping[str, NDArray[np.bool_]]

FITTED_ON = "val"
#: Share of sets that may miss the right choice.
MISCOVERAGE = 0.1
#: Attributes of patients with more values than this make no slices.
_MOST_GROUPS = 20

_SCORES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {"lac": lac_scores, "aps": aps_scores}


@dataclass(frozen=True)
class Validation:
    """A model's answers to the questions of the val subset.

    Attributes:
        benchmark: the questions.
        judged: the answers.
        calibrate: how certainty is scaled, or ``None``.
        source: where the answers are from, for messages.
    """

    benchmark: Benchmark
    judged: Judged
    calibrate: Method | None
    source: str

    @classmethod
    def build(
        cls,
        benchmark: Benchmark,
        predictions: Predictions,
        calibrate: Method | None,
        *,
        allow_missing: bool,
        allow_surplus: bool,
    ) -> Validation:
        """Judge a model's answers to the val subset of the split of a benchmark.

        Raises:
            InputError: the benchmark's own subset is val, or the answers do not fit the questions.
        """
        if benchmark.subset == FITTED_ON:
            raise InputError(
                "another subset than the one that is fitted on",
                FITTED_ON,
                "the subset to score",
                "Score test with val predictions, or score val without them.",
            )
        own = Benchmark.build(benchmark.timeline, benchmark.split, FITTED_ON)
        judged = own.judge(predictions, allow_missing=allow_missing, allow_surplus=allow_surplus)
        return cls(own, judged, calibrate, predictions.source)

    def certainty(self, task: str) -> Certainty:
        """Of the answers of a task; all others state nothing."""
        return task_certainty(self.benchmark, self.judged, task)


def task_certainty(benchmark: Benchmark, judged: Judged, task: str) -> Certainty:
    """The certainty of the answers of a task; of all other questions there is none."""
    right = judged.scores["accuracy"].where(benchmark.questions["task"] == task)
    return Certainty.of(benchmark.questions, judged.answers, right)


def fitted_estimates(
    benchmark: Benchmark,
    certainty: Certainty,
    validation: Validation,
    task: str,
    masks: Masks,
    resampler: PatientResampler,
) -> Iterator[tuple[str, Estimate]]:
    """Scores after scaling, as ``calibrated_NAME``, and coverage and size of prediction sets, of one task.

    Args:
        benchmark: the questions to judge by.
        certainty: of the answers of the task to them.
        validation: what is fitted on.
        task: the task.
        masks: slice name → the questions of it; the whole task has the name "".
        resampler: knows the patient of each question.

    Raises:
        InputError: the answers of the task state a certainty and those to fit on do not.
    """
    if not certainty.known.any():
        return
    fitted = validation.certainty(task)
    if validation.calibrate is not None:
        scaling = Scaling.fit(validation.calibrate, fitted, f"{validation.source}, task {task}")
        if scaling.temperature is not None:
            yield "temperature", without_interval(scaling.temperature, scaling.n)
        for name, estimate in certainty_estimates(scaling.apply(certainty), masks, resampler):
            yield f"calibrated_{name}", estimate
    rows = fitted.truth >= 0
    if not rows.any() or not (certainty.truth >= 0).any():
        return
    patients = validation.benchmark.questions["patient_id"][rows]
    slices = {**masks, **subgroup_masks(benchmark, masks[""])}
    for method, scores_of in _SCORES.items():
        of_truth = scores_of(fitted.probabilities[rows])[np.arange(int(rows.sum())), fitted.truth[rows]]
        threshold = conformal_threshold(of_truth, patients, MISCOVERAGE)
        yield from _set_estimates(method, certainty, scores_of, threshold, slices, resampler)


def subgroup_masks(benchmark: Benchmark, asked: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    """Slices ``ATTRIBUTE=VALUE`` of some questions, by what is known of their patients in words.

    Args:
        benchmark: where they are from.
        asked: the questions, of shape ``(n,)``.
    """
    patients = benchmark.timeline.table("patients").set_index("patient_id")
    masks: dict[str, NDArray[np.bool_]] = {}
    for name in patients.columns:
        column = patients[name]
        if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            continue
        values = benchmark.questions["patient_id"].map(column)
        groups = sorted(values[asked].dropna().unique(), key=str)
        if 1 < len(groups) <= _MOST_GROUPS:
            masks |= {
                f"{name}={group}": asked & (values == group).fillna(False).to_numpy(dtype=bool) for group in groups
            }
    return masks


def _set_estimates(
    method: str,
    certainty: Certainty,
    scores_of: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    threshold: float,
    masks: Masks,
    resampler: PatientResampler,
) -> Iterator[tuple[str, Estimate]]:
    known = certainty.truth >= 0
    sets = prediction_sets(scores_of(certainty.probabilities[known]), threshold)
    covered, size = np.full(len(known), np.nan), np.full(len(known), np.nan)
    covered[known] = sets[np.arange(len(sets)), certainty.truth[known]]
    size[known] = sets.sum(axis=1)
    for metric, values in (("coverage", covered), ("set_size", size)):
        columns = np.stack([np.where(mask, values, np.nan) for mask in masks.values()], axis=1)
        yield from named_estimates(f"{method}_{metric}", masks, resampler.means(columns).estimates())
    # The guarantee is for a question drawn from a patient drawn at random: every patient has the same weight.
    per_patient = pd.Series(covered).groupby(resampler.codes).mean().reindex(range(len(resampler.patient_ids)))
    own = PatientResampler(resampler.patient_ids, len(resampler.weights), resampler.seed)
    yield from named_estimates(f"{method}_patient_coverage", [""], own.means(per_patient).estimates())
