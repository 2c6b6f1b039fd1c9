"""Compare runs on the same questions: means over seeds, intervals over patients, tests against a reference model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from temmed.errors import InputError
from temmed.evaluation.benchmark import Benchmark, Judged
from temmed.evaluation.runs import Run, find_runs, open_dataset
from temmed.evaluation.scoring import share_closed, slice_masks
from temmed.evaluation.statistics import (
    Estimate,
    PatientResampler,
    Replicates,
    holm,
    mcnemar_test,
    permutation_test,
)
from temmed.predictions.tables import read_predictions

Floats = NDArray[np.float64]

#: The task that is shown first where a dataset has it; else the one with the most questions with choices.
HEADLINE_TASK = "progression"
DEFAULT_REFERENCE = "static"
PROBES = {"text": "text only", "asked_image": "asked image only", "prior_image": "prior image only"}
#: Column of the references → how the table calls it.
HONESTY = {
    "prior_bayes": "prior image, Bayes rate",
    "chance": "chance",
    "majority": "majority",
    "majority_template": "majority, by template",
    "ceiling": "ceiling (oracle)",
}


@dataclass(frozen=True)
class PairedTest:
    """A model against the reference model, on the same questions.

    Attributes:
        difference: in accuracy, with its paired interval.
        p: of the patient-clustered permutation test.
        p_holm: corrected for the number of models tested.
        p_mcnemar: of McNemar's test, the largest over seeds paired in order.
    """

    difference: Estimate
    p: float
    p_holm: float
    p_mcnemar: float


@dataclass(frozen=True)
class Group:
    """The runs of one model that differ in their seed alone, judged.

    Attributes:
        label: what it is called in tables.
        is_probe: whether it sees less than the whole input.
        runs: by seed.
        judged: the answers of each run.
        accuracy: of each question of the headline task, averaged over the seeds; NaN for the other questions.
    """

    label: str
    is_probe: bool
    runs: list[Run]
    judged: list[Judged]
    accuracy: Floats = field(repr=False)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        label: the model, probe or reference.
        kind: ``model``, ``probe`` or ``reference``.
        scores: by ``TASK/METRIC``.
        slices: accuracy in the headline task by ``horizon=BIN`` and ``template=NAME``.
        seeds: number of runs; 0 for a reference.
        spread: standard deviation of the accuracy over the seeds; NaN for one.
        test: against the reference model; only for other models.
        train_seconds: mean over the seeds.
        n_parameters: of the first run.
    """

    label: str
    kind: str
    scores: dict[str, Estimate]
    slices: dict[str, Estimate]
    seeds: int = 0
    spread: float = float("nan")
    test: PairedTest | None = None
    train_seconds: float | None = None
    n_parameters: int | None = None


@dataclass(frozen=True)
class Comparison:
    """Everything that the table and the page show.

    Attributes:
        benchmark: the questions.
        task: the headline task.
        rows: models (the reference first, then from worst to best), probes, references.
        groups: the judged runs behind the model and probe rows, in the same order.
        reference: label of the model that others are tested against, or ``None`` when it is not among the runs.
        resamples: of the bootstrap.
        left_out: runs that were found and not compared, and why.
    """

    benchmark: Benchmark
    task: str
    rows: list[Row]
    groups: list[Group]
    reference: str | None
    resamples: int
    left_out: list[str]

    def row(self, label: str) -> Row:
        """The row of a label."""
        return next(row for row in self.rows if row.label == label)

    @property
    def models(self) -> list[Row]:
        """The rows of models that see the whole input."""
        return [row for row in self.rows if row.kind == "model"]


def compare_runs(
    paths: Sequence[str | Path],
    *,
    subset: str = "test",
    reference: str | None = None,
    dataset: str | Path | None = None,
    resamples: int = 2000,
    permutations: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare runs.

    Args:
        paths: as for `temmed.evaluation.runs.find_runs`.
        subset: the subset to compare on.
        reference: name of the model that the others are tested against; `DEFAULT_REFERENCE` if it is there.
        dataset: where the timeline folder is now, if not where the runs were trained.
        resamples: of the patient-clustered bootstrap.
        permutations: of the paired test.
        seed: of both.

    Raises:
        InputError: the runs cannot be found or compared, or none is called ``reference``.
    """
    found = find_runs(paths, subset)
    timeline, split = open_dataset(found.runs, dataset)
    benchmark = Benchmark.build(timeline, split, subset)
    task = headline_task(benchmark)
    groups = _groups(benchmark, found.runs, task)
    resampler = PatientResampler(benchmark.questions["patient_id"], resamples, seed)
    rows = [_group_row(benchmark, group, task, resampler) for group in groups]
    names = [row.label for row in rows if row.kind == "model"]
    if reference is not None and reference not in names:
        raise InputError(f"one of the models {', '.join(names)}", repr(reference), "--reference", "Name one of them.")
    reference = reference or (DEFAULT_REFERENCE if DEFAULT_REFERENCE in names else None)
    rows = _tested(rows, groups, reference, resampler, permutations)
    order = sorted(range(len(rows)), key=lambda index: _place(rows[index], groups[index], reference, task))
    rows = [rows[index] for index in order] + list(_reference_rows(benchmark, task, resampler))
    groups = [groups[index] for index in order]
    return Comparison(benchmark, task, rows, groups, reference, resamples, found.left_out)


def headline_task(benchmark: Benchmark) -> str:
    """The task whose accuracy comes first.

    Raises:
        InputError: no question has choices.
    """
    with_choices = benchmark.questions.loc[np.isfinite(benchmark.references["chance"]), "task"]
    if with_choices.empty:
        raise InputError(
            "questions with choices", "none", f"the subset {benchmark.subset}", "Compare their metrics.json instead."
        )
    if (with_choices == HEADLINE_TASK).any():
        return HEADLINE_TASK
    return str(with_choices.value_counts().index[0])


def _groups(benchmark: Benchmark, runs: Sequence[Run], task: str) -> list[Group]:
    by_group: dict[tuple[str, str, str, str], list[Run]] = {}
    for run in runs:
        by_group.setdefault(run.group, []).append(run)
    asked = (benchmark.questions["task"] == task).to_numpy()
    groups = []
    for (key, members), label in zip(by_group.items(), _labels(list(by_group)), strict=True):
        judged = [benchmark.judge(read_predictions(run.predictions(benchmark.subset))) for run in members]
        accuracy = np.where(asked, _over_seeds(judged, "accuracy"), np.nan)
        groups.append(Group(label, key[3] in PROBES, members, judged, accuracy))
    return groups


def _labels(keys: Sequence[tuple[str, str, str, str]]) -> list[str]:
    """Short names; those that would be shared are told apart by what differs."""
    short = [PROBES.get(inputs, name) for name, _, _, inputs in keys]
    full = [f"{label} ({name}, {model}, {head})" for label, (name, model, head, _) in zip(short, keys, strict=True)]
    return [long if short.count(label) > 1 else label for label, long in zip(short, full, strict=True)]


def _over_seeds(judged: Sequence[Judged], score: str) -> Floats:
    mean: Floats = np.mean([entry.scores[score].to_numpy(dtype=float) for entry in judged], axis=0)
    return mean


def _group_row(benchmark: Benchmark, group: Group, task: str, resampler: PatientResampler) -> Row:
    masks = slice_masks(benchmark.questions, task)
    closed = share_closed(group.accuracy, benchmark.references, {"": masks[""]}, resampler)
    scores = {**_task_scores(benchmark, group, resampler), f"{task}/share_closed": closed.estimates()[0]}
    if (events := _event_overlap(group.judged, resampler)) is not None:
        scores["event/tiou"] = events
    of_seeds = [float(np.nanmean(entry.scores["accuracy"][masks[""]])) for entry in group.judged]
    seconds = [run.train_seconds for run in group.runs if run.train_seconds is not None]
    return Row(
        label=group.label,
        kind="probe" if group.is_probe else "model",
        scores={name: score for name, score in scores.items() if np.isfinite(score.value)},
        slices=_slices(group.accuracy, masks, resampler),
        seeds=len(group.runs),
        spread=float(np.std(of_seeds, ddof=1)) if len(of_seeds) > 1 else float("nan"),
        train_seconds=float(np.mean(seconds)) if seconds else None,
        n_parameters=group.runs[0].n_parameters,
    )


def _task_scores(benchmark: Benchmark, group: Group, resampler: PatientResampler) -> dict[str, Estimate]:
    scores: dict[str, Estimate] = {}
    for name in benchmark.tasks():
        asked = (benchmark.questions["task"] == name).to_numpy()
        for metric in ("accuracy", "relative_error"):
            values = np.where(asked, _over_seeds(group.judged, metric), np.nan)
            scores[f"{name}/{metric}"] = resampler.means(values).estimates()[0]
        if classes := benchmark.classes(name):
            truth = benchmark.class_codes(name, benchmark.questions["answer"])
            given = [benchmark.class_codes(name, entry.answers["answer"]) for entry in group.judged]
            found = [resampler.macro_f1(truth, codes, len(classes), asked & (truth >= 0)) for codes in given]
            scores[f"{name}/macro_f1"] = Replicates.average(found).estimates()[0]
    return scores


def _event_overlap(judged: Sequence[Judged], resampler: PatientResampler) -> Estimate | None:
    tables = [entry.events for entry in judged if entry.events is not None and len(entry.events)]
    if len(tables) < len(judged):
        return None
    overlap = np.mean([table["tiou"].to_numpy() for table in tables], axis=0)
    own = PatientResampler(tables[0]["patient_id"], len(resampler.weights), resampler.seed)
    return own.means(overlap).estimates()[0]


def _slices(values: Floats, masks: Mapping[str, NDArray[np.bool_]], resampler: PatientResampler) -> dict[str, Estimate]:
    """Means by template and by horizon bin."""
    names = [name for name in masks if name and "," not in name]
    columns = np.stack([np.where(masks[name], values, np.nan) for name in names], axis=1)
    estimates = zip(names, resampler.means(columns).estimates(), strict=True)
    return {name: estimate for name, estimate in estimates if estimate.n}


def _tested(
    rows: Sequence[Row],
    groups: Sequence[Group],
    reference: str | None,
    resampler: PatientResampler,
    permutations: int,
) -> list[Row]:
    """The rows; those of models other than the reference with their test against it."""
    baseline = next((group for group in groups if group.label == reference and not group.is_probe), None)
    if baseline is None:
        return list(rows)
    tested = {index for index, group in enumerate(groups) if not group.is_probe and group is not baseline}
    tests = {index: _test(groups[index], baseline, resampler, permutations) for index in sorted(tested)}
    corrected = dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))
    return [
        replace(row, test=replace(tests[index], p_holm=corrected[index])) if index in tests else row
        for index, row in enumerate(rows)
    ]


def _test(group: Group, baseline: Group, resampler: PatientResampler, permutations: int) -> PairedTest:
    difference = group.accuracy - baseline.accuracy
    asked = np.isfinite(difference)
    p = permutation_test(difference[asked], resampler.codes[asked], permutations=permutations, seed=resampler.seed)
    right = [
        [entry.scores["accuracy"].to_numpy()[asked] == 1 for entry in judged.judged] for judged in (group, baseline)
    ]
    mcnemar = max(mcnemar_test(first, second) for first, second in zip(*right, strict=False))
    return PairedTest(resampler.means(difference).estimates()[0], p, p, mcnemar)


def _place(row: Row, group: Group, reference: str | None, task: str) -> tuple[bool, bool, float]:
    """Where a row stands: the reference model, the others from worst to best, the probes from least input to most."""
    if group.is_probe:
        return True, True, list(PROBES).index(group.runs[0].inputs)
    return False, row.label != reference, row.scores[f"{task}/accuracy"].value


def _reference_rows(benchmark: Benchmark, task: str, resampler: PatientResampler) -> Iterator[Row]:
    masks = slice_masks(benchmark.questions, task)
    tasks = benchmark.tasks()
    asked = {name: (benchmark.questions["task"] == name).to_numpy() for name in tasks}
    for column, label in HONESTY.items():
        values = benchmark.references[column].to_numpy(dtype=float)
        columns = np.stack([np.where(asked[name], values, np.nan) for name in tasks], axis=1)
        estimates = zip(tasks, resampler.means(columns).estimates(), strict=True)
        scores = {f"{name}/accuracy": estimate for name, estimate in estimates if estimate.n}
        if f"{task}/accuracy" in scores:
            yield Row(label, "reference", scores, _slices(np.where(asked[task], values, np.nan), masks, resampler))
