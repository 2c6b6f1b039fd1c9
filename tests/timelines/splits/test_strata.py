"""Every stratum has its share of every subset."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit

from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import SUBSETS, Split, make_split
from temmed.timelines.splits.groups import roots_of
from temmed.timelines.splits.strata import deal, round_together, strata_of

Cohort = Callable[..., Timeline]

SHARES = (
    st.lists(st.integers(0, 10), min_size=2, max_size=5).filter(any).map(lambda parts: np.array(parts) / sum(parts))
)
STRATA = st.lists(st.integers(0, 6), min_size=1, max_size=60)
SEEDS = st.integers(0, 999)


def table(labels: list[int]) -> pd.Series:
    return pd.Series([f"s{label}" for label in labels], index=[f"p{index:03d}" for index in range(len(labels))])


def alone(strata: pd.Series) -> pd.Series:
    return pd.Series(strata.index, index=strata.index)


def counted(strata: pd.Series, parts: pd.Series, number: int) -> np.ndarray:
    return pd.crosstab(strata, parts).reindex(columns=range(number), fill_value=0).to_numpy()


@given(labels=STRATA, shares=SHARES, seed=SEEDS)
@settings(max_examples=30, deadline=None)
def test_strata_and_the_whole_are_within_one_patient_of_their_shares(
    labels: list[int], shares: np.ndarray, seed: int
) -> None:
    strata = table(labels)
    found = counted(strata, deal(strata, alone(strata), shares, seed), len(shares))
    sizes = strata.value_counts().sort_index().to_numpy()
    assert (found.sum(axis=1) == sizes).all()
    assert (abs(found - np.outer(sizes, shares)) < 1).all()
    assert (abs(found.sum(axis=0) - len(labels) * shares) < 1).all()


@given(
    rows=st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1, max_size=4), seed=st.integers(0, 99)
)
@settings(max_examples=15, deadline=None)
def test_rounding_is_one_of_those_that_trying_all_gives(rows: list[list[int]], seed: int) -> None:
    weights = np.array(rows) + np.array([[1, 0, 0]])
    wanted = weights / weights.sum(axis=1, keepdims=True) * 4
    columns = wanted.sum(axis=0)
    choices = [sorted({math.floor(x + 1e-9), math.ceil(x - 1e-9)}) for x in wanted.ravel()]
    right = {
        each
        for each in itertools.product(*choices)
        if (np.reshape(each, wanted.shape).sum(axis=1) == 4).all()
        and (abs(np.reshape(each, wanted.shape).sum(axis=0) - columns) < 1 - 1e-9).all()
    }
    chance = np.random.default_rng(seed).random(wanted.shape).tolist()
    assert tuple(round_together(wanted, chance).ravel().tolist()) in right


@pytest.mark.slow
def test_chance_rounds_up_as_often_as_the_share_says() -> None:
    strata = table([0, 1, 2, 3] * 1 + [4, 5])
    ups = [counted(strata, deal(strata, alone(strata), (0.5, 0.2, 0.3), seed), 3) for seed in range(300)]
    # One patient per stratum: each is in a part as often as its share, but for 4 standard deviations.
    assert (abs(np.mean(ups, axis=0) - [0.5, 0.2, 0.3]) < 4 * np.sqrt(0.25 / 300)).all()


@pytest.mark.parametrize("seed", range(5))
def test_folds_are_as_even_as_those_of_scikit_learn(seed: int) -> None:
    strata = table(np.random.default_rng(seed).choice(5, 143, p=[0.4, 0.3, 0.15, 0.1, 0.05]).tolist())
    ours = counted(strata, deal(strata, alone(strata), [0.2] * 5, seed), 5)
    splitter = StratifiedKFold(5, shuffle=True, random_state=seed)
    parts = pd.Series(0, index=strata.index)
    for fold, (_, test) in enumerate(splitter.split(strata, strata)):
        parts.iloc[test] = fold
    theirs = counted(strata, parts, 5)
    assert abs(ours - theirs).max() <= 1
    assert np.ptp(ours, axis=1).max() <= 1
    assert np.ptp(ours.sum(axis=0)) <= np.ptp(theirs.sum(axis=0)) + 1


@pytest.mark.parametrize("seed", range(5))
def test_a_stratified_split_is_as_even_as_that_of_scikit_learn(seed: int, crowd: Callable[..., Timeline]) -> None:
    timeline = crowd(157)
    strata = strata_of(timeline.table("patients"), ["sex", "site"], "here")
    split = make_split(timeline, "stratified", seed, stratify=["sex", "site"])
    ours = pd.crosstab(strata, strata.index.map(split.frame.set_index("patient_id")["subset"]))[["test", "val"]]
    ((_, test),) = StratifiedShuffleSplit(1, test_size=0.3, random_state=seed).split(strata, strata)
    theirs = strata.iloc[test].value_counts().reindex(ours.index)
    assert (ours["test"] - theirs).abs().max() <= 1
    shares = np.outer(strata.value_counts().reindex(ours.index), [0.3, 0.1])
    assert abs(ours.to_numpy() - shares).max() < 1
    assert split.frame["subset"].value_counts().reindex(SUBSETS).tolist() in ([94, 16, 47], [94, 15, 48], [95, 15, 47])


def test_another_seed_deals_to_others(crowd: Callable[..., Timeline]) -> None:
    made = [make_split(crowd(60), "stratified", seed, stratify=["sex"]) for seed in (0, 0, 1)]
    assert made[0].fingerprint == made[1].fingerprint != made[2].fingerprint


@given(
    labels=st.lists(st.integers(0, 2), min_size=30, max_size=80),
    pairs=st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=6),
    seed=SEEDS,
)
@settings(max_examples=15, deadline=None)
def test_a_few_pairs_hardly_spoil_the_shares(labels: list[int], pairs: list[tuple[int, int]], seed: int) -> None:
    strata = table(labels)
    names = strata.index
    roots = roots_of([[names[one], names[other]] for one, other in pairs], names)
    parts = deal(strata, roots, (0.6, 0.1, 0.3), seed)
    assert (parts.groupby(roots).nunique() == 1).all()
    sizes = strata.value_counts().sort_index().to_numpy()
    found = counted(strata, parts, 3)
    assert (found.sum(axis=1) == sizes).all()
    largest = roots.value_counts().max()
    assert (abs(found - np.outer(sizes, (0.6, 0.1, 0.3))) < 1 + largest).all()


def test_groups_are_in_every_subset_and_not_in_train_alone() -> None:
    strata = table([0] * 400)
    roots = roots_of([[f"p{2 * pair:03d}", f"p{2 * pair + 1:03d}"] for pair in range(100)], strata.index)
    parts = deal(strata, roots, (0.6, 0.1, 0.3), 0)
    assert counted(strata, parts, 3).tolist() == [[240, 40, 120]]
    assert parts[:200].value_counts().sort_index().to_numpy() == pytest.approx([120, 20, 60], abs=4)


@given(
    number=st.integers(1, 30),
    groups=st.lists(st.lists(st.integers(0, 29), min_size=1, max_size=4), max_size=15),
)
@settings(max_examples=15, deadline=None)
def test_groups_that_share_a_patient_are_one(number: int, groups: list[list[int]]) -> None:
    groups = [[member % number for member in group] for group in groups]
    names = [f"p{index:02d}" for index in range(number)]
    edges = [(group[0], member) for group in groups for member in group]
    ends = np.array(edges).reshape(-1, 2).T
    _, component = connected_components(coo_array((np.ones(len(edges)), tuple(ends)), shape=(number, number)))
    smallest = pd.Series(names).groupby(component).transform("min")
    found = roots_of([[names[member] for member in group] for group in groups], names)
    assert found.tolist() == smallest.tolist()


def test_groups_come_as_collections_a_mapping_or_a_file(tmp_path: Path) -> None:
    names = ["a", "b", "c", "d"]
    expected = {"a": "a", "b": "b", "c": "a", "d": "b"}
    assert roots_of([{"c", "a"}, ("d", "b"), []], names).to_dict() == expected
    assert roots_of({"a": "one", "c": "one", "b": "two", "d": "two"}, names).to_dict() == expected
    path = tmp_path / "groups.csv"
    path.write_text("group,patient_id,why\n1,a,twins\n2,d,\n1,c,twins\n2,b,\n")
    assert roots_of(path, names).to_dict() == roots_of(str(path), names).to_dict() == expected
    assert roots_of(None, names).to_dict() == {name: name for name in names}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"patient,group\na,1\n", "columns patient_id, group, found no patient_id"),
        (b"", "found no patient_id, group"),
        (b"patient_id,group\na,\n", "row 1: expected a patient and a group, found an empty cell"),
        (b"patient_id,group\na\n", "row 1: expected a patient and a group, found an empty cell"),
        (b"patient_id,group\nz,1\ny,1\n", "patients of the timeline, found 'y' and 1 more unknown"),
        (b"patient_id,group\n\xff,1\n", "a readable CSV table"),
        (None, "a readable CSV table, found .*No such file"),
    ],
)
def test_a_file_that_is_no_table_of_groups_is_refused(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "groups.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        roots_of(path, ["a"])
    assert caught.value.where.startswith(str(path))


def patients(**columns: list) -> pd.DataFrame:
    number = len(next(iter(columns.values())))
    return pd.DataFrame({"patient_id": [f"p{index}" for index in range(number)], **columns})


def test_a_missing_value_is_a_stratum_and_ages_count_by_quarter() -> None:
    found = strata_of(patients(sex=["F", None, "M"], stage=[1, 2, 2]), ["sex", "stage"], "here")
    assert found.tolist() == ["sex F · stage 1", "sex missing · stage 2", "sex M · stage 2"]
    ages = strata_of(patients(age=[float(20 + index) for index in range(40)]), ["age"], "here")
    assert ages.value_counts().tolist() == [10] * 4
    assert ages.is_monotonic_increasing or ages.nunique() == 4


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("sax", "'sax', found no such column. Choose age or sex."),
        ("site", "'site', found no value. Choose age or sex."),
        ("patient_id", "found no such column"),
    ],
)
def test_a_column_that_cannot_be_used_is_refused(column: str, message: str) -> None:
    frame = patients(age=[50.0], sex=["F"], site=pd.array([None], dtype="str"))
    with pytest.raises(InputError) as caught:
        strata_of(frame, [column], "here")
    assert message in str(caught.value)


def test_a_stratified_split_of_a_folder_with_groups(crowd: Callable[..., Timeline]) -> None:
    split: Split = make_split(crowd(60), "stratified", stratify=["sex"], together={"p0000": "g", "p0001": "g"})
    assert split.name == "stratified-sex-together_seed0"
    assert split.parameters == {"stratify": ["sex"], "together": True}
