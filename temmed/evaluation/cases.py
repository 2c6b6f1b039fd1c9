"""Questions shown in full: the pictures, the truth, and what each model said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temmed.evaluation.ceiling import SIZES, evidence_positions
from temmed.evaluation.compare import Comparison, Group
from temmed.timelines.folder import Timeline
from temmed.timelines.pictures import data_uris

#: Time points shown at most; evidence and the asked one are always among them.
MOST_FRAMES = 10
#: Longest side of a picture, in pixels.
_PIXELS = 192


@dataclass(frozen=True)
class Frame:
    """One time point.

    Attributes:
        position: its index.
        time: elapsed time in words.
        images: channel and data URI of each image; none for a visit without images.
        is_evidence: whether it proves the answer.
        is_asked: whether the question is asked here.
        size: true size of the finding in words, where it is known.
    """

    position: int
    time: str
    images: list[tuple[str, str]]
    is_evidence: bool
    is_asked: bool
    size: str


@dataclass(frozen=True)
class Said:
    """What one model answered.

    Attributes:
        label: the model.
        answer: its answer in words.
        is_right: whether it is right; ``None`` for a value.
        probabilities: of each choice, or none.
        cited: the positions it cites, in words.
    """

    label: str
    answer: str
    is_right: bool | None
    probabilities: list[float]
    cited: str


@dataclass(frozen=True)
class Case:
    """One question with everything that belongs to it.

    Attributes:
        question_id: its id.
        sequence_id: its sequence.
        task: its task.
        template: its template.
        horizon: its horizon bin.
        prompt: its text.
        choices: the answers offered.
        truth: the right answer in words.
        frames: the time points up to the question.
        hidden: how many of them are not shown.
        said: what each model answered.
    """

    question_id: str
    sequence_id: str
    task: str
    template: str
    horizon: str
    prompt: str
    choices: list[str]
    truth: str
    frames: list[Frame]
    hidden: int
    said: list[Said]


@dataclass(frozen=True)
class Contrast:
    """Questions on which two models part.

    Attributes:
        right: label of the model that is right on them with every seed.
        wrong: label of the one that is wrong on them with every seed.
        count: how many there are.
        share: of all questions of the headline task.
        cases: some of them, drawn at random.
    """

    right: str
    wrong: str
    count: int
    share: float
    cases: list[Case]


def typical_cases(comparison: Comparison, seed: int = 0) -> list[Case]:
    """One question of each template, drawn at random: what the questions and answers look like."""
    rng = np.random.default_rng(seed)
    questions = comparison.benchmark.questions
    rows = [int(rng.choice(np.asarray(group))) for _, group in sorted(questions.groupby("template").indices.items())]
    headline = [row for row in rows if questions["task"].iloc[row] == comparison.task]
    return [show_case(comparison, row) for row in headline + [row for row in rows if row not in headline]]


def contrasts(comparison: Comparison, limits: tuple[int, int] = (6, 3), seed: int = 0) -> list[Contrast]:
    """Questions that the best other model gets right and the reference model wrong, and the other way round.

    Args:
        comparison: with a reference model and another model; without, there is nothing to contrast.
        limits: how many of each to show.
        seed: of the draw.
    """
    models = [group for group in comparison.groups if not group.is_probe]
    if comparison.reference is None or len(models) < 2:
        return []
    reference, best = models[0], models[-1]
    rng = np.random.default_rng(seed)
    found = []
    for right, wrong, limit in ((best, reference, limits[0]), (reference, best, limits[1])):
        rows = np.flatnonzero((right.accuracy == 1) & (wrong.accuracy == 0))
        picked = _spread(comparison.benchmark.questions, rows, limit, rng)
        total = int(np.isfinite(right.accuracy).sum())
        cases = [show_case(comparison, row, (wrong, right)) for row in picked]
        found.append(Contrast(right.label, wrong.label, len(rows), len(rows) / total, cases))
    return found


def show_case(comparison: Comparison, row: int, groups: Sequence[Group] | None = None) -> Case:
    """One question in full.

    Args:
        comparison: where it is from.
        row: its place among the benchmark's questions.
        groups: the models whose answers are shown, by their first seed; all when left out.
    """
    benchmark = comparison.benchmark
    question = benchmark.questions.iloc[row]
    choices = [] if question["choices"] is None else [str(choice) for choice in question["choices"]]
    asked_at = int(question["asked_at"])
    (evidence,) = evidence_positions([question["evidence"]])
    shown = shown_positions(asked_at, evidence)
    return Case(
        question_id=question["question_id"],
        sequence_id=question["sequence_id"],
        task=question["task"],
        template=question["template"],
        horizon=question["horizon"],
        prompt=question["prompt"],
        choices=choices,
        truth=str(question["answer"]) if choices else _value(question["value"]),
        frames=_frames(benchmark.timeline, question, shown, evidence),
        hidden=asked_at + 1 - len(shown),
        said=[_said(group, row, question, choices) for group in groups or comparison.groups],
    )


def shown_positions(asked_at: int, evidence: Iterable[int], limit: int = MOST_FRAMES) -> list[int]:
    """The time points to show: the evidence, the asked one, and others spread evenly up to ``limit``.

    Examples:
        >>> shown_positions(4, [1, 4])
        [0, 1, 2, 3, 4]
        >>> shown_positions(99, [40], limit=5)
        [0, 33, 40, 66, 99]
    """
    needed = {*evidence, asked_at}
    for count in range(min(limit, asked_at + 1), 0, -1):
        spread = {int(place) for place in np.linspace(0, asked_at, count).round()}
        if len(needed | spread) <= limit:
            return sorted(needed | spread)
    return sorted(needed)


def _frames(timeline: Timeline, question: pd.Series, shown: list[int], evidence: list[int]) -> list[Frame]:
    sequence = question["sequence_id"]
    pictures, _ = data_uris(timeline, sequence, shown, _PIXELS)
    unit = timeline.table("sequences").set_index("sequence_id")["time_unit"][sequence]
    times = timeline.table("timepoints").set_index(["sequence_id", "position"])["time"][sequence]
    sizes = timeline.table("measurements")
    sizes = sizes[(sizes["finding_id"] == question["finding_id"]) & sizes["quantity"].isin(SIZES)]
    words = {
        int(position): f"{value:.1f} {unit_}" if isinstance(unit_, str) else f"{value:.1f}"
        for position, value, unit_ in zip(sizes["position"], sizes["value"], sizes["unit"], strict=True)
    }
    return [
        Frame(
            position=position,
            time=f"{unit} {times[position]:.4g}",
            images=sorted(pictures.get(position, {}).items()),
            is_evidence=position in evidence,
            is_asked=position == question["asked_at"],
            size=words.get(position, ""),
        )
        for position in shown
    ]


def _said(group: Group, row: int, question: pd.Series, choices: list[str]) -> Said:
    answer = group.judged[0].answers.iloc[row]
    probabilities = answer["probabilities"]
    (cited,) = evidence_positions([answer["evidence"]])
    if choices:
        words = "no readable answer" if pd.isna(answer["answer"]) else str(answer["answer"])
    else:
        words = _value(answer["value"])
        if pd.notna(answer["value"]) and question["value"]:
            words += f" ({100 * (answer['value'] / question['value'] - 1):+.0f} %)"
    return Said(
        label=group.label,
        answer=words,
        is_right=bool(answer["answer"] == question["answer"]) if choices else None,
        probabilities=[] if probabilities is None else [float(value) for value in probabilities],
        cited=", ".join(map(str, sorted(set(cited)))),
    )


def _value(value: float) -> str:
    return "no value" if pd.isna(value) else f"{value:.3g}"


def _spread(questions: pd.DataFrame, rows: NDArray[np.intp], limit: int, rng: np.random.Generator) -> list[int]:
    """Rows drawn at random, first one of each (template, horizon bin), then a second of each, and so on."""
    drawn = questions.iloc[rng.permutation(rows)]
    turn = drawn.groupby(["template", "horizon"]).cumcount()
    return [int(row) for row in turn.sort_values(kind="stable").index[:limit]]
