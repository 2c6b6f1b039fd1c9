"""What can be had without reading a sequence: chance, the majority answer, and the size in the earliest image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from temmed.evaluation.ceiling import SIZES, asks_progression, evidence_ends, measured
from temmed.timelines.folder import Timeline

#: Numbers of neighbours tried; the one that is best on the train subset, each item left out once, is used.
NEIGHBOURS = (15, 31, 61, 121, 241, 481)


def chance(questions: pd.DataFrame) -> NDArray[np.float64]:
    """Probability of guessing each answer; NaN for a question without choices."""
    counts = np.array([0 if choices is None else len(choices) for choices in questions["choices"]], dtype=float)
    return 1.0 / np.where(counts > 0, counts, np.nan)


def majority_answers(train: pd.DataFrame, questions: pd.DataFrame, within: Sequence[str]) -> pd.Series:
    """The most frequent answer of the train questions that share the columns ``within``.

    Args:
        train: questions of the train subset.
        questions: the questions to answer.
        within: column names, such as ``["task"]`` or ``["task", "template"]``.

    Returns:
        One answer per question, in their order; missing where train has no such question. Of equally frequent answers
        it is the first in the alphabet.
    """
    columns = list(within)
    counts = train.groupby([*columns, "answer"]).size().rename("count").reset_index()
    best = counts.sort_values(["count", "answer"], ascending=[False, True]).drop_duplicates(columns)
    merged = questions[columns].merge(best[[*columns, "answer"]], on=columns, how="left")
    return merged["answer"]


def prior_size_answers(timeline: Timeline, train: pd.DataFrame, questions: pd.DataFrame) -> pd.Series:
    """The likeliest answer given the true size of the finding at the earliest evidence position and nothing else.

    Its accuracy estimates the Bayes rate of the prior image: the size is bounded, so one that is large has rather
    shrunk since, whatever the later images show. Estimated on the train subset, within each template, by nearest
    neighbours on ln d.

    Args:
        timeline: states the sizes in ``measurements``.
        train: questions of the train subset.
        questions: the questions to answer.

    Returns:
        One answer per question, in their order; missing for a question that is not about progression or has no stated
        size, and for a template that train lacks.
    """
    known, wanted = _log_sizes(timeline, train), _log_sizes(timeline, questions)
    answers = np.full(len(questions), None, dtype=object)
    for template in questions["template"].unique():
        fit = np.flatnonzero((train["template"] == template).to_numpy() & np.isfinite(known))
        ask = np.flatnonzero((questions["template"] == template).to_numpy() & np.isfinite(wanted))
        if len(fit) and len(ask):
            labels = train["answer"].to_numpy()[fit]
            answers[ask] = nearest_size_answers(known[fit], labels, wanted[ask])
    return pd.Series(answers, dtype="object")


def nearest_size_answers(known: ArrayLike, labels: ArrayLike, wanted: ArrayLike) -> NDArray[np.object_]:
    """Most frequent label among the nearest values on a line.

    Args:
        known: values with labels, of shape ``(n,)``.
        labels: their labels, of shape ``(n,)``.
        wanted: values to label, of shape ``(m,)``.

    Returns:
        Labels of shape ``(m,)``.
    """
    values = np.asarray(known, dtype=float)
    order = np.argsort(values, kind="stable")
    names, codes = np.unique(np.asarray(labels, dtype=object)[order], return_inverse=True)
    one_hot = np.eye(len(names))[codes]
    cumulated = np.concatenate([np.zeros((1, len(names))), np.cumsum(one_hot, axis=0)])

    def votes(places: NDArray[np.intp], neighbours: int) -> NDArray[np.float64]:
        # On a line the k nearest are, but for ties in distance, a window around the place of insertion.
        start = np.clip(places - neighbours // 2, 0, len(values) - neighbours)
        counts: NDArray[np.float64] = cumulated[start + neighbours] - cumulated[start]
        return counts

    itself = np.arange(len(values))
    sizes = [min(neighbours, len(values)) for neighbours in NEIGHBOURS]
    left_out = [((votes(itself, size) - one_hot).argmax(axis=1) == codes).mean() for size in sizes]
    best = sizes[int(np.argmax(left_out))]
    places = np.searchsorted(values[order], np.asarray(wanted, dtype=float))
    answers: NDArray[np.object_] = names[votes(places, best).argmax(axis=1)]
    return answers


def _log_sizes(timeline: Timeline, questions: pd.DataFrame) -> NDArray[np.float64]:
    first, _ = evidence_ends(questions)
    sizes = measured(timeline, questions["finding_id"], first, SIZES)
    usable = asks_progression(questions) & (sizes > 0)
    return np.log(np.where(usable, sizes, np.nan))
