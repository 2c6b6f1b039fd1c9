"""Keep candidates so that neither the wording nor the asked image tells the answer."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temmed.timelines.schema import HORIZON_BINS, horizon_bin

#: Cells for the balance: width in ln(mm) of the asked size, and the other covariates, each in two classes. Where there
#: are few candidates, coarse cells keep more of them.
SIZE_CELL, COVARIATES = 0.05, ("gap", "others", "last")
COARSE_SIZE_CELL, FEW_COVARIATES = 0.2, ("others", "last")
#: From this many steps on, horizons of one bin share a cell.
LONG_HORIZON = 6


def _halves(values: pd.Series, by: list[pd.Series], ties: Literal["first", "average"]) -> pd.Series:
    """The lower and the upper half of each group, as 1 and 2; equal values are divided, or stay together."""
    rank = values.groupby(by).rank(method=ties, pct=True)
    return np.ceil(rank * 2).clip(1, 2).astype(int)


def balanced(
    table: pd.DataFrame, wanted: float, rng: np.random.Generator, classes: int = 3, coarse: bool = False
) -> pd.DataFrame:
    """Keep equally many of each verdict in every cell, ``wanted`` questions in all at the most.

    Args:
        table: ``template, steps, size_last, gap, others, last``, the ``verdict`` as a number, and ``kind``: whatever
            else the wording tells that sizes depend on.
        wanted: number of questions.
        rng: the generator.
        classes: number of verdicts.
        coarse: use coarse cells.
    """
    width, covariates = (COARSE_SIZE_CELL, FEW_COVARIATES) if coarse else (SIZE_CELL, COVARIATES)
    table = table.sample(frac=1.0, random_state=int(rng.integers(2**31))).reset_index(drop=True)
    stratum = [table["template"], table["steps"].map(horizon_bin) if coarse else _horizon(table["steps"])]
    # Equal classes of each covariate inside its stratum; sizes finest, for they are what an image shows best.
    size = np.floor(np.log(table["size_last"]) / width)
    halves = [_halves(table[name], stratum, "average" if coarse else "first") for name in covariates]
    table["cell"] = table.groupby([*stratum, size, *halves, table["kind"]]).ngroup()
    counts = table.groupby(["cell", "verdict"]).size().unstack("verdict", fill_value=0)
    # A verdict that is nowhere in a small set must count as 0, not be left out of the minimum.
    keep = counts.reindex(columns=range(classes), fill_value=0).min(axis=1)
    order = table.groupby(["cell", "verdict"]).cumcount()
    table = table[order < table["cell"].map(keep)].copy()
    table["bin"] = table["steps"].map(horizon_bin)
    if table.empty:  # too few patients for a single balanced cell
        return table
    # Thin evenly over horizons: a triplet (one of each verdict in a cell) is kept or dropped as a whole.
    table["triplet"] = table.groupby(["cell", "verdict"]).cumcount()
    groups = table.groupby(["template", "bin"])
    sizes = groups["template"].transform("size")
    triplets = table.groupby(["cell", "triplet"]).ngroup()
    draw = rng.random(int(triplets.max()) + 1)[triplets]
    return table[draw < _level(groups.size().to_numpy(), wanted) / sizes].copy()


def _horizon(steps: pd.Series) -> pd.Series:
    """Steps; from `LONG_HORIZON` on, the first of their bin that is."""
    first = np.array([low for _, low, _ in HORIZON_BINS if low > LONG_HORIZON])
    long = np.array([LONG_HORIZON, *first])[np.searchsorted(first, steps, side="right")]
    return steps.where(steps < LONG_HORIZON, long)


def _level(sizes: NDArray, wanted: float) -> float:
    """The common size to cut groups down to so that about ``wanted`` rows are left."""
    low, high = 0.0, float(sizes.max())
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(sizes, middle).sum() < wanted else (low, middle)
    return high
