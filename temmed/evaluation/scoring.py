"""From predictions to numbers with intervals: the content of ``metrics.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temmed.errors import InputError
from temmed.evaluation.benchmark import HORIZONS, Benchmark, Judged
from temmed.evaluation.calibration import Method
from temmed.evaluation.confidence import certainty_estimates, ranking_estimates
from temmed.evaluation.event_scores import event_estimates
from temmed.evaluation.fitted import Validation, fitted_estimates, task_certainty
from temmed.evaluation.horizons import horizon_estimates
from temmed.evaluation.statements import statement_estimates
from temmed.evaluation.statistics import Estimate, PatientResampler, Replicates
from temmed.evaluation.statistics import named_estimates as _named
from temmed.files import atomic_write
from temmed.metrics.functional.classification import macro_f1, weighted_f1
from temmed.predictions.tables import Predictions
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split

Metrics = dict[str, dict[str, float | int]]

#: Scores of answers to questions with choices, and of cited evidence, whose mean is reported.
MEANS = (
    "accuracy",
    "unparsable",
    "evidence_exact",
    "evidence_f1",
    "evidence_f1_cite_all",
    "evidence_aligned_exact",
    "evidence_aligned_f1",
)
#: Errors of measured values: the mean is reported, and the median beside it, which a few gross errors do not move.
ERRORS = ("relative_error", "ratio_error")
REFERENCES = ("majority", "majority_template", "chance", "prior_bayes", "ceiling")


def score(
    timeline: Timeline,
    split: Split,
    subset: str,
    predictions: Predictions,
    *,
    resamples: int = 2000,
    seed: int = 0,
    allow_missing: bool = False,
    allow_surplus: bool = False,
    validation: Predictions | None = None,
    calibrate: Method | None = None,
) -> Metrics:
    """Score predictions for one subset.

    Args:
        timeline: the dataset.
        split: which questions belong to which subset.
        subset: ``train``, ``val`` or ``test``.
        predictions: a model's answers.
        resamples: of the patient-clustered bootstrap.
        seed: of the bootstrap.
        allow_missing: count questions without an answer as wrong, rather than refuse.
        allow_surplus: ignore answers to other questions, rather than refuse.
        validation: the model's answers to the val subset of the split. On them the thresholds of prediction sets are
            fitted, those of windows of time, and what ``calibrate`` says.
        calibrate: scale probabilities or confidence, and report them before and after; needs ``validation``.

    Returns:
        ``SUBSET/TASK/METRIC[/SLICE]`` → ``{value, low, high, n}``; the bounds are the 95 % interval. `docs/scoring.md`
        lists the metrics.

    Raises:
        InputError: the subset has no question, the predictions do not fit the questions, or there is nothing to fit on.
    """
    benchmark = Benchmark.build(timeline, split, subset)
    rules = {"allow_missing": allow_missing, "allow_surplus": allow_surplus}
    fitted = None
    if validation is not None:
        fitted = Validation.build(benchmark, validation, calibrate, **rules)
    elif calibrate is not None:
        remedy = "Give the model's predictions of the val subset too."
        raise InputError("predictions to fit on", "none", f"calibrate={calibrate}", remedy)
    judged = benchmark.judge(predictions, **rules)
    return summarise(benchmark, judged, resamples=resamples, seed=seed, validation=fitted)


def summarise(
    benchmark: Benchmark, judged: Judged, *, resamples: int = 2000, seed: int = 0, validation: Validation | None = None
) -> Metrics:
    """All metrics of one model's judged answers, in the form that `score` returns."""
    resampler = PatientResampler(benchmark.questions["patient_id"], resamples, seed)
    found: dict[str, Estimate] = {}
    for task in benchmark.tasks():
        for name, estimate in _task_estimates(benchmark, judged, task, resampler, validation):
            found[f"{benchmark.subset}/{task}/{name}"] = estimate
    if judged.detected is not None:
        fitted_on = None if validation is None else validation.judged.detected
        for name, estimate in event_estimates(*judged.detected, resamples, seed, fitted_on):
            found[f"{benchmark.subset}/event/{name}"] = estimate
    if judged.statements is not None:
        for name, estimate in statement_estimates(judged.statements, resamples, seed):
            found[f"{benchmark.subset}/alignment/{name}"] = estimate
    return {key: estimate.as_dict() for key, estimate in found.items()}


def slice_masks(questions: pd.DataFrame, task: str) -> dict[str, NDArray[np.bool_]]:
    """The questions of a task, whole and by template, horizon bin, and both; slices without questions are left out.

    Returns:
        Slice name → mask of shape ``(n,)``; the whole task has the name "".
    """
    asked = (questions["task"] == task).to_numpy()
    templates = {name: (questions["template"] == name).to_numpy() for name in sorted(set(questions["template"][asked]))}
    horizons = {name: (questions["horizon"] == name).to_numpy() for name in HORIZONS}
    masks = {"": asked}
    masks |= {f"template={name}": asked & mask for name, mask in templates.items()}
    masks |= {f"horizon={name}": asked & mask for name, mask in horizons.items()}
    masks |= {
        f"template={template},horizon={horizon}": asked & templates[template] & horizons[horizon]
        for template in templates
        for horizon in horizons
    }
    return {name: mask for name, mask in masks.items() if mask.any()}


def share_closed(
    accuracy: NDArray[np.float64],
    references: pd.DataFrame,
    masks: Mapping[str, NDArray[np.bool_]],
    resampler: PatientResampler,
) -> Replicates:
    """How much of the way from the majority answer to the ceiling a model has gone.

    Args:
        accuracy: of each question, NaN where it does not apply; of shape ``(n,)``.
        references: of a `Benchmark`.
        masks: the slices to take it over.
        resampler: knows the patient of each question.

    Returns:
        (accuracy - majority) / (ceiling - majority) of each slice, over the questions for which all three are known: 0
        is no better than the majority answer, 1 as good as the oracle. NaN where the ceiling is no higher.
    """
    columns = [accuracy, references["majority"].to_numpy(), references["ceiling"].to_numpy()]
    known = ~np.isnan(columns).any(axis=0)
    means = resampler.means(np.concatenate([_sliced(np.where(known, column, np.nan), masks) for column in columns], 1))

    def share(stacked: NDArray[np.float64]) -> NDArray[np.float64]:
        reached, majority, ceiling = np.split(stacked, 3, axis=-1)
        gap = ceiling - majority
        return (reached - majority) / np.where(gap > 0, gap, np.nan)

    return Replicates(share(means.value), share(means.samples), means.n[: len(masks)], means.n_patients[: len(masks)])


def write_metrics(path: str | Path, metrics: Mapping[str, Mapping[str, float | int]]) -> None:
    """Write ``metrics.json``, whole or not at all; an unknown bound becomes ``null``."""
    plain = {
        key: {name: None if math.isnan(value) else value for name, value in entry.items()}
        for key, entry in metrics.items()
    }
    atomic_write(path, json.dumps(plain, indent=1, allow_nan=False) + "\n")


def read_metrics(path: str | Path) -> Metrics:
    """Read what `write_metrics` wrote."""
    plain: dict[str, dict[str, Any]] = json.loads(Path(path).read_text(encoding="utf-8"))
    return {
        key: {name: float("nan") if value is None else value for name, value in entry.items()}
        for key, entry in plain.items()
    }


def _task_estimates(
    benchmark: Benchmark, judged: Judged, task: str, resampler: PatientResampler, validation: Validation | None
) -> Iterator[tuple[str, Estimate]]:
    masks = slice_masks(benchmark.questions, task)
    columns = {name: judged.scores[name] for name in (*MEANS, *ERRORS)} | {
        name: benchmark.references[name] for name in REFERENCES
    }
    for name, column in columns.items():
        values = _sliced(column.to_numpy(dtype=float), masks)
        yield from _named(name, masks, resampler.means(values).estimates())
        if name in ERRORS:
            yield from _named(f"{name}_median", masks, resampler.medians(values).estimates())
    if classes := benchmark.classes(task):
        truth = benchmark.class_codes(task, benchmark.questions["answer"])
        given = benchmark.class_codes(task, judged.answers["answer"])
        keep = np.stack(list(masks.values()), axis=1) & (truth >= 0)[:, None]
        f1 = resampler.of_confusion([macro_f1, weighted_f1], truth, given, len(classes), keep)
        for name, replicates in zip(("macro_f1", "weighted_f1"), f1, strict=True):
            yield from _named(name, masks, replicates.estimates())
    closed = share_closed(judged.scores["accuracy"].to_numpy(), benchmark.references, masks, resampler)
    yield from _named("share_closed", masks, closed.estimates())
    yield from _position_estimates(benchmark, judged, masks[""], resampler)
    yield from horizon_estimates(benchmark, judged.scores["accuracy"].to_numpy(dtype=float), task, resampler)
    yield from _certainty_estimates(benchmark, judged, task, resampler, validation)


def _position_estimates(
    benchmark: Benchmark, judged: Judged, asked: NDArray[np.bool_], resampler: PatientResampler
) -> Iterator[tuple[str, Estimate]]:
    positions = benchmark.questions["asked_at"].to_numpy(dtype=np.int64)
    slices = [f"asked_at={position}" for position in range(positions.max() + 1)]
    groups = np.where(asked, positions, -1)
    accuracy = resampler.group_means(judged.scores["accuracy"], groups, len(slices))
    yield from _named("accuracy", slices, accuracy.estimates())


def _certainty_estimates(
    benchmark: Benchmark, judged: Judged, task: str, resampler: PatientResampler, validation: Validation | None
) -> Iterator[tuple[str, Estimate]]:
    questions = benchmark.questions
    masks = {name: mask for name, mask in slice_masks(questions, task).items() if "," not in name}
    certainty = task_certainty(benchmark, judged, task)
    yield from certainty_estimates(certainty, masks, resampler)
    if classes := benchmark.classes(task):
        yield from ranking_estimates(certainty, questions["choices"], classes, masks)
    if validation is not None:
        yield from fitted_estimates(benchmark, certainty, validation, task, masks, resampler)


def _sliced(values: NDArray[np.float64], masks: Mapping[str, NDArray[np.bool_]]) -> NDArray[np.float64]:
    """A column per slice, NaN outside it."""
    return np.stack([np.where(mask, values, np.nan) for mask in masks.values()], axis=1)
