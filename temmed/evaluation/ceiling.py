"""How often an oracle that measures with the images' noise would be right about progression.

The oracle measures ln d of the finding at both evidence positions, unbiased, with independent Gaussian errors whose
standard deviation the dataset states, and applies the progression rule to the difference. `docs/ceiling.md` has the
noise model and what it leaves out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from temmed.timelines.folder import Timeline
from temmed.timelines.schema import PROGRESSION_BOUND

VERDICTS = ("progressed", "stable", "regressed")
#: What the size of a finding is called, in mm; of several that one finding has, the first counts.
SIZES = ("longest_diameter", "short_diameter", "transverse_diameter", "depth", "width")
#: Standard error of ln(size) that the image noise allows, dimensionless.
DIAMETER_ERROR = "log_diameter_sd"


def verdict_probabilities(log_ratio: ArrayLike, error: ArrayLike) -> NDArray[np.float64]:
    """Probabilities that the oracle says progressed, stable or regressed.

    Args:
        log_ratio: true r = ln(d_j / d_i), of shape ``(n,)``.
        error: standard deviation of its measurement, √(s_i² + s_j²), of shape ``(n,)``; it may be 0.

    Returns:
        Of shape ``(n, 3)``, in the order of `VERDICTS`; NaN where an input is.

    Examples:
        >>> verdict_probabilities([0.0], [PROGRESSION_BOUND / 2]).round(4).tolist()
        [[0.0228, 0.9545, 0.0228]]
    """
    r, s = np.asarray(log_ratio, dtype=float), np.asarray(error, dtype=float)
    # A bound itself belongs to the change: with no error at all the rule applies to r as it is.
    exact = s == 0
    scale = np.where(exact, 1.0, s)
    progressed = np.where(exact, (r >= PROGRESSION_BOUND).astype(float), norm.sf((PROGRESSION_BOUND - r) / scale))
    regressed = np.where(exact, (r <= -PROGRESSION_BOUND).astype(float), norm.cdf((-PROGRESSION_BOUND - r) / scale))
    probabilities = np.stack([progressed, 1 - progressed - regressed, regressed], axis=-1)
    return np.where(np.isnan(r)[..., None], np.nan, probabilities)


def drawn_verdict_probabilities(
    log_diameters: ArrayLike, errors: ArrayLike, *, draws: int = 20_000, seed: int = 0
) -> NDArray[np.float64]:
    """The same by simulation: the oracle measures each diameter ``draws`` times and applies the rule to each pair.

    Args:
        log_diameters: true ln d at the two positions, of shape ``(n, 2)``.
        errors: standard deviations of the two measurements, of shape ``(n, 2)``.
        draws: measurements of each.
        seed: of the errors.

    Returns:
        Of shape ``(n, 3)``, in the order of `VERDICTS`.
    """
    truth = np.asarray(log_diameters, dtype=float)
    noise = np.random.default_rng(seed).standard_normal((draws, *truth.shape))
    measured = np.exp(truth + np.asarray(errors, dtype=float) * noise)
    change = np.log(measured[..., 1] / measured[..., 0])
    progressed = (change >= PROGRESSION_BOUND).mean(axis=0)
    regressed = (change <= -PROGRESSION_BOUND).mean(axis=0)
    return np.stack([progressed, 1 - progressed - regressed, regressed], axis=-1)


def oracle_accuracy(timeline: Timeline, questions: pd.DataFrame) -> NDArray[np.float64]:
    """The probability that the oracle answers each question right.

    Args:
        timeline: its ``measurements`` state one of `SIZES` and `DIAMETER_ERROR` per finding and position.
        questions: rows of its ``questions``.

    Returns:
        Of shape ``(n,)``; NaN for a question that is not about progression, or whose finding has no stated size and
        error at the evidence positions.
    """
    first, last = evidence_ends(questions)
    sizes = [measured(timeline, questions["finding_id"], where, SIZES) for where in (first, last)]
    errors = [measured(timeline, questions["finding_id"], where, (DIAMETER_ERROR,)) for where in (first, last)]
    log_ratio = np.diff(np.log([np.where(size > 0, size, np.nan) for size in sizes]), axis=0)[0]
    probabilities = verdict_probabilities(log_ratio, np.hypot(*errors))
    column = pd.Index(VERDICTS).get_indexer(pd.Index(questions["answer"]))
    chosen = np.take_along_axis(probabilities, np.maximum(column, 0)[:, None], axis=1)[:, 0]
    return np.where(asks_progression(questions) & (column >= 0) & (first < last), chosen, np.nan)


def asks_progression(questions: pd.DataFrame) -> NDArray[np.bool_]:
    """Whether the choices of each question are the verdicts of the progression rule, in any order; ``(n,)``.

    Other questions have some of the same answers, such as "stable" by response criteria.
    """
    cells = questions["choices"]
    told = (cell is not None and not isinstance(cell, float) and set(cell) == set(VERDICTS) for cell in cells)
    return np.fromiter(told, dtype=bool, count=len(cells))


def evidence_ends(questions: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last evidence position of each question, -1 where it has none; each of shape ``(n,)``."""
    cells = evidence_positions(questions["evidence"])
    first = np.array([min(cell, default=-1) for cell in cells], dtype=np.int64)
    last = np.array([max(cell, default=-1) for cell in cells], dtype=np.int64)
    return first, last


def evidence_positions(cells: Iterable[Iterable[int] | None]) -> list[list[int]]:
    """The cells of an ``evidence`` column as lists, empty where there is none."""
    return [[] if cell is None else [int(position) for position in cell] for cell in cells]


def measured(
    timeline: Timeline, findings: pd.Series, positions: NDArray[np.int64], quantities: Sequence[str]
) -> NDArray[np.float64]:
    """The first of ``quantities`` that was measured for each (finding, position), NaN for none; of shape ``(n,)``."""
    table = timeline.table("measurements")
    rank = table["quantity"].map({name: order for order, name in enumerate(quantities)})
    table = table.assign(rank=rank).dropna(subset=["rank"]).sort_values("rank", kind="stable")
    values = table.drop_duplicates(["finding_id", "position"]).set_index(["finding_id", "position"])["value"]
    wanted = pd.MultiIndex.from_arrays([findings, positions])
    return values.reindex(wanted).to_numpy(dtype=float)
