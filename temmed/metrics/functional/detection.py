"""Average precision of temporal detection, by the protocol of ActivityNet (Heilbron et al., CVPR 2015).

Predictions of a label are gone through by falling score. Each takes the truth of the same sequence and label that it
overlaps most among those not yet taken, if their tIoU reaches the threshold; otherwise it is a false alarm. Average
precision is the area under the interpolated precision over recall.

What the protocol leaves open is decided so that the order of rows changes nothing:

- Predictions of equal score enter the curve together. Among them the one with the greater best tIoU takes its truth
  first, then the earlier one.
- Of truths that a prediction overlaps equally it takes the earlier.
- A missing score (NaN) is below all others.
- A label without a truth has no average precision and is left out of the mean, and its predictions count for nothing.
  A label with truths and no prediction has one of 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from temmed.metrics.functional.intervals import Intervals, interval_iou

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: tIoU thresholds over which ActivityNet takes the mean.
ACTIVITYNET_THRESHOLDS = np.linspace(0.5, 0.95, 10)
#: Pairs of a prediction and a truth whose overlap is held in memory at once.
_PAIRS = 4_000_000


@dataclass(frozen=True)
class Detections:
    """Predictions, and which of them hit a truth; all that average precision needs.

    Attributes:
        labels: the L labels that have a truth, sorted.
        truth_label: index of the label of each truth, of shape ``(n,)``.
        rows: predictions whose label has a truth, by label and falling score: rows of the input, of shape ``(m,)``.
        label: index of their labels, of shape ``(m,)``.
        last_of_score: whether the next prediction has another score or label, of shape ``(m,)``.
        hits: whether each hits a truth at each of K thresholds, of shape ``(m, K)``.
    """

    labels: NDArray[Any]
    truth_label: Ints
    rows: Ints
    label: Ints
    last_of_score: NDArray[np.bool_]
    hits: NDArray[np.bool_]


def detect(truth: Intervals, predicted: Intervals, score: ArrayLike, thresholds: ArrayLike) -> Detections:
    """Match predictions to truths at each threshold.

    Args:
        truth: n true intervals, without those that never happen.
        predicted: predicted intervals, of shape ``(m,)``.
        score: how sure each of them is, of shape ``(m,)``; only their order counts.
        thresholds: least tIoU of a hit, of shape ``(K,)``, all above 0.
    """
    limits = np.atleast_1d(np.asarray(thresholds, dtype=float))
    labels, truth_label = np.unique(np.asarray(truth.label), return_inverse=True)
    label = pd.Index(labels).get_indexer(pd.Index(np.asarray(predicted.label)))
    onset, offset = (np.asarray(ends, dtype=float) for ends in (predicted.onset, predicted.offset))
    confidence = np.nan_to_num(np.asarray(score, dtype=float), nan=-np.inf, posinf=np.inf, neginf=-np.inf)

    row, true, iou = _overlaps(truth, truth_label, predicted, label, limits.min(initial=np.inf))
    best = np.zeros(len(label))
    np.maximum.at(best, row, iou)
    order = np.lexsort((offset, onset, -best, -confidence, label))
    order = order[label[order] >= 0]
    rank = np.full(len(label), -1)
    rank[order] = np.arange(len(order))

    starts, ends = (np.asarray(values, dtype=float)[true] for values in (truth.onset, truth.offset))
    preference = np.lexsort((ends, starts, -iou, rank[row]))
    asked, wanted, iou = rank[row][preference], true[preference], iou[preference]
    hits = np.zeros((len(order), len(limits)), dtype=bool)
    for column, limit in enumerate(limits):
        reached = iou >= limit
        hits[:, column] = _take_in_turn(asked[reached], wanted[reached], len(order), len(truth_label))

    ordered, sure = label[order], confidence[order]
    last = np.ones(len(order), dtype=bool)
    last[:-1] = (ordered[1:] != ordered[:-1]) | (sure[1:] != sure[:-1])
    return Detections(labels, truth_label, order, ordered, last, hits)


def average_precision(
    detections: Detections, weights: ArrayLike | None = None, truth_weights: ArrayLike | None = None
) -> Floats:
    """Average precision of each label at each threshold.

    Args:
        detections: from `detect`.
        weights: how often each prediction of its input counts, of shape ``(..., rows of the input)``; once by default.
        truth_weights: how often each truth counts, of shape ``(..., n)``. With both, one match serves all resamples of
            a bootstrap over sequences or patients.

    Returns:
        Of shape ``(..., L, K)``; NaN for a label whose truths all have weight 0.
    """
    every = len(detections.rows)
    count = np.ones(every) if weights is None else np.asarray(weights, dtype=float)[..., detections.rows]
    n_true = len(detections.truth_label)
    true_count = np.ones(n_true) if truth_weights is None else np.asarray(truth_weights, dtype=float)
    found = [
        _curve_area(
            count[..., part],
            detections.hits[part],
            detections.last_of_score[part],
            true_count[..., detections.truth_label == index].sum(axis=-1),
        )
        for index, part in enumerate(_label_slices(detections))
    ]
    shape = (*np.broadcast_shapes(count.shape[:-1], true_count.shape[:-1]), 0, detections.hits.shape[1])
    return np.stack(found, axis=-2) if found else np.zeros(shape)


def mean_average_precision(precisions: ArrayLike) -> Floats:
    """Mean over labels of what `average_precision` returns: ``(..., L, K)`` → ``(..., K)``, NaN without a label.

    Examples:
        >>> mean_average_precision([[1.0, 0.5], [0.5, np.nan]]).tolist()
        [0.75, 0.5]
    """
    values = np.asarray(precisions, dtype=float)
    known = ~np.isnan(values)
    n_known = known.sum(axis=-2)
    total = np.where(known, values, 0.0).sum(axis=-2)
    return np.where(n_known > 0, total / np.maximum(n_known, 1), np.nan)


def _overlaps(
    truth: Intervals, truth_label: Ints, predicted: Intervals, label: Ints, least: float
) -> tuple[Ints, Ints, Floats]:
    """Pairs of a prediction and a truth of one sequence and label with at least some tIoU: rows, rows, tIoU."""
    sequences, truth_sequence = _codes(truth.sequence)
    sequence = sequences.get_indexer(pd.Index(np.asarray(predicted.sequence)))
    n_labels = int(truth_label.max(initial=-1)) + 1
    truth_group = truth_sequence * n_labels + truth_label
    group = np.where((sequence < 0) | (label < 0), -1, sequence * n_labels + label)
    by_group = np.argsort(truth_group, kind="stable")
    first = np.searchsorted(truth_group[by_group], group)
    count = np.searchsorted(truth_group[by_group], group, side="right") - first
    ends = [np.asarray(values, dtype=float) for values in (*truth[2:], *predicted[2:])]
    found: list[tuple[Ints, Ints, Floats]] = []
    for rows in _portions(count):
        repeats = count[rows]
        row = np.repeat(rows, repeats)
        within = np.arange(len(row)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        true = by_group[np.repeat(first[rows], repeats) + within]
        iou = interval_iou(ends[0][true], ends[1][true], ends[2][row], ends[3][row])
        kept = iou >= least
        found.append((row[kept], true[kept], iou[kept]))
    row, true, iou = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return row, true, iou


def _portions(count: Ints) -> Iterator[Ints]:
    """Rows in portions whose pairs fit into memory; one portion at least."""
    portion = np.cumsum(count) // _PAIRS
    yield from np.split(np.arange(len(count)), np.flatnonzero(np.diff(portion)) + 1)


def _take_in_turn(asked: Ints, wanted: Ints, n_predicted: int, n_true: int) -> NDArray[np.bool_]:
    """Which predictions get a truth if each in turn takes the one it prefers of those that are left.

    All ask at once, and a truth goes to the first in turn; whoever loses it asks for the next. As all truths put the
    predictions in the same order, there is one stable matching (Gale and Shapley 1962), which is that of taking turns.

    Args:
        asked: the turn of the prediction of each pair, ascending.
        wanted: the truth of each pair; those of one prediction by falling preference.
        n_predicted: number of predictions.
        n_true: number of truths.
    """
    turns = np.arange(n_predicted)
    place, end = np.searchsorted(asked, turns), np.searchsorted(asked, turns, side="right")
    holder = np.full(n_true, n_predicted)
    asking = turns[place < end]
    while len(asking):
        target = wanted[place[asking]]
        before = holder[target]
        np.minimum.at(holder, target, asking)
        after = holder[target]
        evicted = np.unique(before[(after < before) & (before < n_predicted)])
        lost = np.concatenate([asking[after != asking], evicted])
        place[lost] += 1
        asking = lost[place[lost] < end[lost]]
    hit = np.zeros(n_predicted, dtype=bool)
    hit[holder[holder < n_predicted]] = True
    return hit


def _label_slices(detections: Detections) -> list[slice]:
    edges = np.searchsorted(detections.label, np.arange(len(detections.labels) + 1))
    return [slice(start, stop) for start, stop in pairwise(edges)]


def _curve_area(weights: Floats, hits: NDArray[np.bool_], last_of_score: NDArray[np.bool_], n_true: Floats) -> Floats:
    """Area under interpolated precision over recall, of shape ``(..., K)``, for weights of shape ``(..., m)``."""
    given = np.cumsum(weights, axis=-1)[..., last_of_score, None]
    right = np.cumsum(weights[..., None] * hits, axis=-2)[..., last_of_score, :]
    precision = right / np.where(given > 0, given, 1.0)
    best_from_here = np.maximum.accumulate(precision[..., ::-1, :], axis=-2)[..., ::-1, :]
    steps = np.diff(right, axis=-2, prepend=0.0)
    total = np.asarray(n_true)[..., None]
    return np.where(total > 0, (steps * best_from_here).sum(axis=-2) / np.where(total > 0, total, 1.0), np.nan)


def _codes(values: ArrayLike) -> tuple[pd.Index, Ints]:
    codes, uniques = pd.factorize(np.asarray(values))
    return pd.Index(uniques), codes.astype(np.int64)
