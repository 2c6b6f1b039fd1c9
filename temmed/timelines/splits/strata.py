"""Deal patients out so that every stratum has its share of every subset, to within one patient.

Rounding the shares of each stratum by itself would keep each stratum near its share and let the subsets drift: a
hundred strata of one patient would all go to train. So all strata are rounded at once, such that the totals of the
subsets are next to their shares too ("controlled rounding": Bacharach, Matrix rounding problems, Management Science
12, 1966). Such a rounding always exists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temmed.errors import InputError
from temmed.timelines.splits.hashing import in_order, place

#: A numeric column with more different values than this is cut at its quartiles.
MOST_VALUES = 10
_DIGITS = 9


def strata_of(patients: pd.DataFrame, columns: Sequence[str], where: str) -> pd.Series:
    """The stratum of each patient: the values of some columns, put together.

    A missing value is a value of its own. Numbers with many values, such as ages, count by quarter of the patients.

    Args:
        patients: the patients table.
        columns: which of its columns.
        where: what to name in a message.

    Returns:
        patient → stratum.

    Raises:
        InputError: there is no such column, or it holds nothing.
    """
    parts = [_labels(patients, column, where) for column in columns]
    return pd.Series([" · ".join(labels) for labels in zip(*parts, strict=True)], index=patients["patient_id"])


def _labels(patients: pd.DataFrame, column: str, where: str) -> list[str]:
    others = sorted(set(patients.columns) - {"patient_id"})
    if column not in others or patients[column].isna().all():
        filled = [name for name in others if patients[name].notna().any()]
        found = "no value" if column in others else "no such column"
        remedy = f"Choose {' or '.join(filled)}." if filled else "The patients table has no attributes."
        raise InputError(f"a column of the patients table with values as {column!r}", found, where, remedy)
    values = patients[column]
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > MOST_VALUES:
        values = pd.qcut(values.astype("float64"), 4, duplicates="drop")
    return [f"{column} missing" if pd.isna(value) else f"{column} {value}" for value in values]


def deal(strata: pd.Series, roots: pd.Series, shares: Sequence[float], seed: int) -> pd.Series:
    """Put every patient into one of several parts.

    Groups of patients are dealt first, large ones before small ones, each to the part that is then emptiest for its
    share; the others fill up every stratum. Without groups each stratum has, in each part, its share rounded up or
    down, and so has the whole.

    Args:
        strata: patient → stratum.
        roots: patient → who stands for the group that stays together.
        shares: of the parts; they add up to 1.
        seed: of chance.

    Returns:
        patient → index of the part.
    """
    names = sorted(strata.unique())
    row_of = {name: row for row, name in enumerate(names)}
    roots = roots.loc[strata.index]
    sizes = strata.map(row_of).value_counts().sort_index().to_numpy()
    targets = np.outer(sizes, shares)
    alone = roots.map(roots.value_counts()) == 1
    parts = _deal_groups(strata[~alone].map(row_of), roots[~alone], targets, seed)
    filled = np.zeros_like(targets)
    np.add.at(filled, (strata[parts.index].map(row_of), parts), 1)
    singles = strata[alone].groupby(strata[alone]).groups
    numbers = np.array([len(singles.get(name, ())) for name in names])
    wanted = np.clip(targets - filled, 0, None)
    wanted *= (numbers / np.maximum(wanted.sum(axis=1), 1e-12))[:, None]
    counts = round_together(
        wanted, [[place(f"{name}:{part}", seed, "round") for part in range(len(shares))] for name in names]
    )
    dealt = [parts]
    for name, row in zip(names, counts, strict=True):
        members = in_order([str(patient) for patient in singles.get(name, ())], seed, "stratum")
        dealt.append(pd.Series(np.repeat(np.arange(len(shares)), row), index=members, dtype="int64"))
    return pd.concat(dealt).loc[strata.index]


def _deal_groups(rows: pd.Series, roots: pd.Series, targets: NDArray[np.float64], seed: int) -> pd.Series:
    """Patient → part, for the patients in groups."""
    members: dict[str, Counter[int]] = {}
    for root, row in zip(roots, rows, strict=True):
        members.setdefault(root, Counter())[row] += 1
    order = sorted(in_order(list(members), seed, "group"), key=lambda root: -members[root].total())
    filled = np.zeros_like(targets)
    part_of: dict[str, int] = {}
    for root in order:
        touched, counts = np.array(list(members[root])), np.array(list(members[root].values()))
        with np.errstate(divide="ignore"):
            fullness = (filled[touched] + counts[:, None]) / targets[touched]
        part = int(np.argmin(counts @ fullness))
        filled[touched, part] += counts
        part_of[root] = part
    return roots.map(part_of).astype("int64")


def round_together(wanted: NDArray[np.float64], chance: Sequence[Sequence[float]]) -> NDArray[np.int64]:
    """Whole numbers next to those wanted, with the same sums of rows, and sums of columns next to theirs.

    Args:
        wanted: (rows, columns), not negative; each row adds up to a whole number.
        chance: (rows, columns) in [0, 1): decides between the roundings there are.

    Returns:
        (rows, columns): every entry, and every sum of a column, is rounded up or down.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import eye_array, kron

    wanted = np.round(wanted, _DIGITS)
    low = np.floor(wanted)
    rest = np.round(wanted - low, _DIGITS)
    height, width = wanted.shape
    per_row = np.rint(rest.sum(axis=1))
    per_column = np.round(rest.sum(axis=0), _DIGITS - 2)
    rows = kron(eye_array(height), np.ones((1, width)), format="csr")
    columns = kron(np.ones((1, height)), eye_array(width), format="csr")
    # Who is far from the next whole number is more likely to be rounded up.
    cost = -np.log1p(-np.asarray(chance)) / np.maximum(rest, 1e-6)
    found = milp(
        cost.ravel(),
        integrality=np.ones(wanted.size),
        bounds=Bounds(0, (rest > 0).ravel().astype(float)),
        constraints=[
            LinearConstraint(rows, per_row, per_row),
            LinearConstraint(columns, np.floor(per_column), np.ceil(per_column)),
        ],
    )
    assert found.x is not None, found.message
    return (low + np.rint(found.x).reshape(wanted.shape)).astype("int64")
