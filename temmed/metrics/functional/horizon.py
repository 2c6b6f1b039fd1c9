"""Does a model hold up when what it must remember lies longer ago?"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from temmed.errors import InputError

Floats = NDArray[np.float64]

#: Least number of patients of a bin that counts.
LEAST_PATIENTS = 30


def skill(accuracy: ArrayLike, majority: ArrayLike) -> Floats:
    """How much of the way from the majority answer to no error a model has gone, by horizon bin.

    Args:
        accuracy: of each bin, of shape ``(..., B)``.
        majority: accuracy of the majority answer on the same questions, of the same shape.

    Returns:
        (accuracy − majority) ÷ (1 − majority), of the same shape: 1 without error, 0 for the majority answer, negative
        below it; NaN where the majority answer is always right.

    Examples:
        >>> skill([0.8, 0.3], [0.6, 0.4]).round(3).tolist()
        [0.5, -0.167]
    """
    reached, least = np.asarray(accuracy, dtype=float), np.asarray(majority, dtype=float)
    room = 1 - least
    return (reached - least) / np.where(room > 0, room, np.nan)


def horizon_aware_score(
    accuracy: ArrayLike, majority: ArrayLike, patients: ArrayLike, least: int = LEAST_PATIENTS
) -> Floats:
    """Mean `skill` over the horizon bins with enough patients; every such bin weighs the same.

    Args:
        accuracy: of each bin, of shape ``(..., B)``.
        majority: accuracy of the majority answer on the same questions, of the same shape.
        patients: number of patients of each bin, of shape ``(B,)``.
        least: patients that a bin needs to count.

    Returns:
        Of shape ``(...)``; NaN where no bin counts.
    """
    counts = np.asarray(patients) >= least
    return _mean(np.where(counts, skill(accuracy, majority), np.nan))


def slope_per_doubling(scores: ArrayLike, horizons: ArrayLike) -> Floats:
    """Least-squares slope of a score over the binary logarithm of the horizon: what each doubling costs or brings.

    Args:
        scores: of each bin, of shape ``(..., B)``; NaN takes a bin out.
        horizons: typical horizon of each bin, in any unit, of shape ``(B,)``; only positive ones have a logarithm, and
            bins of others (horizon 0, absence as NaN) are left out.

    Returns:
        Change of the score per doubling, of shape ``(...)``; NaN with fewer than two different horizons.

    Raises:
        InputError: there is not one horizon per bin.

    Examples:
        >>> float(slope_per_doubling([0.9, 0.8, 0.7], [1, 2, 4]).round(6))
        -0.1
    """
    values, lengths = np.asarray(scores, dtype=float), np.asarray(horizons, dtype=float)
    if lengths.shape != values.shape[-1:]:
        raise InputError(f"{values.shape[-1]} horizons", f"{lengths.size}", "horizons", "Give one for each bin.")
    usable = lengths > 0
    doublings = np.where(usable, np.log2(np.where(usable, lengths, 1.0)), np.nan)
    doublings = np.where(np.isnan(values), np.nan, doublings)
    values = np.where(np.isnan(doublings), np.nan, values)
    away = doublings - _mean(doublings)[..., None]
    spread = np.nansum(away**2, axis=-1)
    # The mean of equal logarithms may be off by one bit: such a spread is none.
    enough = spread > 1e-18
    together = np.nansum(away * values, axis=-1)
    return np.where(enough, together / np.where(enough, spread, 1.0), np.nan)


def quantile_edges(horizons: ArrayLike, bins: int = 4) -> Floats:
    """Inner bounds between bins of horizon with equal shares of the train subset.

    Args:
        horizons: of the train subset, in time; NaN for absence.
        bins: number of bins.

    Returns:
        At most ``bins`` − 1 increasing bounds; fewer where ties make bounds equal. A bin holds its upper bound.
    """
    known = np.asarray(horizons, dtype=float)
    known = known[np.isfinite(known)]
    return np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)[1:-1])) if known.size else np.zeros(0)


def _mean(values: Floats) -> Floats:
    known = ~np.isnan(values)
    n = known.sum(axis=-1)
    return np.where(n > 0, np.where(known, values, 0.0).sum(axis=-1) / np.maximum(n, 1), np.nan)
