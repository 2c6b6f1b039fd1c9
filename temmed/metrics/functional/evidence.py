"""How well cited positions match the true evidence."""

from __future__ import annotations

from collections.abc import Collection


def evidence_exact(truth: Collection[int], cited: Collection[int]) -> bool:
    """Whether the same positions are cited, order and repetition aside.

    Examples:
        >>> evidence_exact([1, 4], [4, 1])
        True
    """
    return set(truth) == set(cited)


def evidence_f1(truth: Collection[int], cited: Collection[int]) -> float:
    """F1 of the cited positions as a set; 1 when both sets are empty.

    Examples:
        >>> evidence_f1([1, 4], [4])
        0.6666666666666666
    """
    true, given = set(truth), set(cited)
    if not true and not given:
        return 1.0
    return 2 * len(true & given) / (len(true) + len(given))
