"""Pairs of true and predicted events that agree in time, and the most of them that can be had at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Share of a time below which a difference is rounding.
_ROUNDING = 1e-9


def agree(true: Floats, given: Floats, limit: Floats) -> NDArray[np.bool_]:
    """Whether times lie within a limit of each other, rounding aside; elementwise."""
    return np.abs(true - given) <= limit + _ROUNDING * (np.abs(true) + limit)


def neighbours(sequence: Ints, given_sequence: Ints, true: Floats, given: Floats, limit: Floats) -> tuple[Ints, Ints]:
    """Pairs of a true and a predicted event of one sequence with one end in agreement.

    Only neighbours in time are looked at, so that the work grows with the pairs that agree and not with all pairs.

    Args:
        sequence: index of the sequence of each true event, of shape ``(n,)``.
        given_sequence: of each predicted event, of shape ``(m,)``.
        true: times of the true events.
        given: times of the predicted events.
        limit: how far apart the two may be, of shape ``(n,)``.

    Returns:
        Rows of the true and of the predicted events, as many as there are pairs.
    """
    reach = limit + 2 * _ROUNDING * (np.abs(true) + limit)
    order = np.lexsort((given, given_sequence))
    first = _place(sequence, true - reach, given_sequence[order], given[order], before=True)
    count = _place(sequence, true + reach, given_sequence[order], given[order], before=False) - first
    row = np.repeat(np.arange(len(true)), count)
    column = order[np.repeat(first, count) + np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)]
    agrees = agree(true[row], given[column], limit[row])
    return row[agrees], column[agrees]


def _place(sequence: Ints, time: Floats, sorted_sequence: Ints, sorted_time: Floats, *, before: bool) -> Ints:
    """How many of the sorted (sequence, time) come before each of the others; equal ones do unless ``before``."""
    asked = np.concatenate([np.ones(len(time), dtype=bool), np.zeros(len(sorted_time), dtype=bool)])
    order = np.lexsort(
        (asked != before, np.concatenate([time, sorted_time]), np.concatenate([sequence, sorted_sequence]))
    )
    passed = np.cumsum(~asked[order])
    place = np.zeros(len(time), dtype=np.int64)
    place[order[asked[order]]] = passed[asked[order]]
    return place


def most_pairs(row: Ints, column: Ints, rows: int, columns: int) -> NDArray[np.bool_]:
    """Which rows have a partner in a matching with the most pairs; arguments as for `further_pairs`."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    if not len(row):
        return np.zeros(rows, dtype=bool)
    graph = csr_array((np.ones(len(row), dtype=np.int8), (row, column)), shape=(rows, columns))
    partner: Ints = maximum_bipartite_matching(graph, perm_type="column")
    return partner >= 0


def further_pairs(row: Ints, column: Ints, same: NDArray[np.bool_], rows: int, columns: int) -> tuple[Ints, Floats]:
    """Most pairs of unlike labels beside the most pairs of like labels, in each connected part of the graph.

    Args:
        row: true event of each possible pair.
        column: predicted event of it.
        same: whether the two have one label.
        rows: number of true events.
        columns: number of predicted events.

    Returns:
        A row of each part, and how many there are in it.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    size = rows + columns
    graph = csr_array((np.ones(len(row), dtype=np.int8), (row, rows + column)), shape=(size, size))
    _, part = connected_components(graph, directed=False)
    # Parts whose labels all agree have none.
    mixed = np.isin(part[row], part[row[~same]])
    row, column, same = row[mixed], column[mixed], same[mixed]
    order = np.argsort(part[row], kind="stable")
    row, column, same = row[order], column[order], same[order]
    starts = np.flatnonzero(np.diff(part[row], prepend=-1))
    found = np.zeros(len(starts))
    for index, (start, stop) in enumerate(zip(starts, [*starts[1:], len(row)], strict=True)):
        if stop - start == 1:
            found[index] = 1.0
            continue
        left, left_index = np.unique(row[start:stop], return_inverse=True)
        right, right_index = np.unique(column[start:stop], return_inverse=True)
        # One pair of like labels weighs more than all others together.
        gain = np.zeros((len(left), len(right)))
        gain[left_index, right_index] = np.where(same[start:stop], 1.0 + min(gain.shape), 1.0)
        chosen = gain[linear_sum_assignment(gain, maximize=True)]
        found[index] = (chosen == 1.0).sum()
    return row[starts], found
