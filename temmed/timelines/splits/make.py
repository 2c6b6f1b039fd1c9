"""Divide a timeline by a rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import pandas as pd

from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.recipe import DEFAULT_FRACTIONS, SUBSETS, Duplicates, Recipe
from temmed.timelines.splits.division import COLUMNS, Basis, Split, fingerprint_of
from temmed.timelines.splits.few import reduce_train
from temmed.timelines.splits.files import load_split
from temmed.timelines.splits.groups import roots_of, with_duplicates
from temmed.timelines.splits.hashing import assign, check_proportions, fold_of, subset_of_fold
from temmed.timelines.splits.strata import deal, strata_of

#: Tenths of a sequence at which ``time`` and ``patient_time`` cut it.
CUTS = (6, 8)


def make_split(
    timeline: Timeline,
    by: str = "patient",
    seed: int = 0,
    fractions: Sequence[float] = DEFAULT_FRACTIONS,
    **options: Any,
) -> Split:
    """Divide a timeline.

    Args:
        timeline: what to divide.
        by: ``patient`` (no patient in two subsets), ``time`` (each sequence is cut at ⌊0.6 T⌋ and ⌊0.8 T⌋; compares a
            patient with their own past), ``patient_time`` (both: the test is test patients after the second cut),
            ``stratified`` (equal shares of every stratum), ``kfold`` (one of several folds is the test), ``site`` (one
            site is the test) or ``file`` (a division that lies in the folder).
        seed: of chance.
        fractions: shares of the patients for train, val and test. ``time`` has every patient in every subset and
            does not use them.
        **options: what else a rule takes, or needs; see :class:`temmed.timelines.recipe.Recipe`.

    Returns:
        The split, not yet written.

    Raises:
        InputError: the wishes do not go together or do not fit the data, or the sizes are far from the fractions.
    """
    recipe = Recipe.of({"by": by, "seed": seed, "fractions": fractions, **options})
    recipe.check()
    return build(timeline, recipe)


def build(timeline: Timeline, recipe: Recipe, base: Split | None = None) -> Split:
    """Divide a timeline by a checked recipe; ``base`` is what a few-shot split is a part of, if it is there already."""
    if recipe.few_shot is not None:
        return reduce_train(timeline, base or build(timeline, recipe.whole), recipe)
    if recipe.by == "file":
        return load_split(timeline.root, str(recipe.name), timeline)
    recipe = with_duplicates(timeline, recipe)
    sequences = timeline.table("sequences")[["sequence_id", "patient_id"]]
    length = timeline.table("timepoints").groupby("sequence_id").size()
    frame = sequences.assign(length=sequences["sequence_id"].map(length))
    if recipe.by == "time":
        parts = _cut(frame)
        return _split(recipe, parts.assign(subset=parts["part"]))
    patients = timeline.table("patients")
    roots = roots_of(recipe.together, patients["patient_id"])
    patients = patients[patients["patient_id"].isin(frame["patient_id"])]
    roots = roots.loc[patients["patient_id"]]
    placed = _place(patients, roots, recipe, f"{timeline.root}, patients")
    frame = frame.assign(subset=frame["patient_id"].map(placed)).dropna(subset="subset")
    basis = _basis(frame, patients, roots, recipe) if recipe.frozen else None
    if recipe.by == "patient_time":
        parts = _cut(frame)
        return _split(recipe, parts[parts["subset"] == parts["part"]], basis)
    return _split(recipe, frame.assign(first_asked=0, last_asked=frame["length"] - 1), basis)


def _split(recipe: Recipe, frame: pd.DataFrame, basis: Basis | None = None) -> Split:
    shares = tuple(float(share) for share in _shares(recipe))
    return Split(recipe.file_name, recipe.by, recipe.seed, frame[COLUMNS], shares, recipe.parameters, basis)


def _shares(recipe: Recipe) -> Sequence[float]:
    if recipe.by != "kfold":
        return recipe.fractions
    assert recipe.folds is not None
    return (recipe.folds - 2) / recipe.folds, 1 / recipe.folds, 1 / recipe.folds


def _place(patients: pd.DataFrame, roots: pd.Series, recipe: Recipe, where: str) -> pd.Series:
    """Patient → subset; those who are in none are missing."""
    if recipe.by == "site":
        return _by_site(patients, roots, recipe, where)
    if recipe.stratify:
        strata = strata_of(patients, recipe.stratify, where)
    if recipe.by == "stratified":
        return deal(strata, roots, recipe.fractions, recipe.seed).map(dict(enumerate(SUBSETS)))
    if recipe.by == "kfold":
        folds, fold = recipe.folds, recipe.fold
        assert folds is not None
        assert fold is not None
        if recipe.stratify:
            found = deal(strata, roots, [1 / folds] * folds, recipe.seed)
        else:
            found = roots.map(lambda root: fold_of(root, recipe.seed, folds))
        placed = found.map(lambda number: subset_of_fold(number, fold, folds))
    else:
        placed = roots.map(lambda root: assign(root, recipe.seed, recipe.fractions))
    if not recipe.stratify:
        check_proportions(placed, roots, _shares(recipe), recipe.seed)
    return placed


def _by_site(patients: pd.DataFrame, roots: pd.Series, recipe: Recipe, where: str) -> pd.Series:
    """One site is the test.

    A patient whose site is not known could be from there, and one who belongs together with somebody from there would
    carry that one into the training: both are in no subset.
    """
    sites = patients.set_index("patient_id")["site"] if "site" in patients else pd.Series(dtype="str")
    tested = sites.astype("str") == recipe.site
    if not tested.any():
        known = ", ".join(sorted(sites.dropna().astype("str").unique())) or "none: the patients table says no site"
        raise InputError(f"patients of the site {recipe.site!r}", f"sites: {known}", where, "Choose one of them.")
    free = ~tested & sites.notna() & ~roots.isin(roots[tested])
    train, val = (share / sum(recipe.fractions[:2]) for share in recipe.fractions[:2])
    rest = roots[free].map(lambda root: assign(str(root), recipe.seed, (train, val, 0.0), "site"))
    check_proportions(rest, roots[free], (train, val, 0.0), recipe.seed)
    return pd.concat([rest, pd.Series("test", index=tested.index[tested], dtype="str")])


def _basis(frame: pd.DataFrame, patients: pd.DataFrame, roots: pd.Series, recipe: Recipe) -> Basis:
    """What the division depends on: change any of it, and some patients could be elsewhere."""
    columns = [*recipe.stratify, *(("site",) if recipe.by == "site" else ())]
    attributes = patients.set_index("patient_id")[columns].assign(root=roots)
    rows = frame[["sequence_id", "patient_id", "length"]].join(attributes, on="patient_id")
    found = asdict(recipe.together) if isinstance(recipe.together, Duplicates) else {}
    return Basis(frame["patient_id"].nunique(), len(frame), fingerprint_of(rows), **found)


def _cut(frame: pd.DataFrame) -> pd.DataFrame:
    """Each sequence in three parts; a part with no position is left out."""
    first_cut, second_cut = (frame["length"] * tenths // 10 for tenths in CUTS)
    bounds = (frame["length"] * 0, first_cut, second_cut, frame["length"])
    parts = [
        frame.assign(part=subset, first_asked=first, last_asked=following - 1)
        for subset, (first, following) in zip(SUBSETS, pairwise(bounds), strict=True)
    ]
    whole = pd.concat(parts, ignore_index=True)
    return whole[whole["first_asked"] <= whole["last_asked"]]
