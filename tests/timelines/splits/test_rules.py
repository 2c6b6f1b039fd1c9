"""What each rule promises, for any patients."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import PredefinedSplit

from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import PLAIN_RULES, SUBSETS, Split, assign, make_split
from temmed.timelines.splits.hashing import fold_of

Cohort = Callable[..., Timeline]
People = dict[str, tuple[list[int], str | None, str | None]]

IDS = st.text(string.ascii_letters + string.digits + "-_é", min_size=1, max_size=8)
#: Lengths of the sequences of each patient, sex and site.
PERSON = st.tuples(
    st.lists(st.integers(1, 12), min_size=1, max_size=2), st.sampled_from(["F", "M", None]), st.sampled_from(["A", "B"])
)
PEOPLE = st.dictionaries(IDS, PERSON, min_size=1, max_size=25)
SEEDS = st.integers(0, 999)
#: Every rule, with what it needs.
RECIPES: list[dict[str, Any]] = [
    *({"by": by} for by in PLAIN_RULES),
    {"by": "stratified", "stratify": ["sex"]},
    {"by": "stratified", "stratify": ["sex", "site"]},
    {"by": "kfold", "folds": 4, "fold": 3},
    {"by": "kfold", "folds": 3, "fold": 1, "stratify": ["sex"]},
    {"by": "site", "site": "A"},
]
GROUPED = [recipe for recipe in RECIPES if recipe["by"] != "time"]
names = {"ids": lambda recipe: "-".join(str(part) for part in recipe.values())}


def with_somebody(people: People) -> People:
    """Somebody has a sex and is of the tested site."""
    return {**people, "somebody": ([4], "F", "A")}


def subset_of(split: Split) -> dict[str, str]:
    """Patient → subset."""
    return dict(zip(split.frame["patient_id"], split.frame["subset"], strict=True))


@pytest.mark.parametrize("recipe", RECIPES, **names)
@given(people=PEOPLE, seed=SEEDS)
@settings(max_examples=8, deadline=None)
def test_nothing_is_in_two_subsets(recipe: dict, people: People, seed: int, cohort: Cohort) -> None:
    timeline = cohort(with_somebody(people))
    split = make_split(timeline, seed=seed, **recipe)
    owned = [split.questions(timeline, subset) for subset in SUBSETS]
    assert not pd.concat(owned)["question_id"].duplicated().any()
    for subset, questions in zip(SUBSETS, owned, strict=True):
        for name, asked in questions.groupby("sequence_id")["asked_at"]:
            assert asked.max() == split.last_label_position(str(name), subset)
    if recipe["by"] != "time":
        assert (split.frame.groupby("patient_id")["subset"].nunique() == 1).all()
    if recipe["by"] not in ("time", "patient_time"):
        assert sum(map(len, owned)) == len(timeline.table("questions"))


@pytest.mark.parametrize("recipe", GROUPED, **names)
@given(people=PEOPLE, seed=SEEDS, data=st.data())
@settings(max_examples=8, deadline=None)
def test_who_belongs_together_is_on_one_side(
    recipe: dict, people: People, seed: int, data: st.DataObject, cohort: Cohort
) -> None:
    people = with_somebody(people)
    members = st.sets(st.sampled_from(sorted(people)), min_size=1, max_size=4)
    groups = data.draw(st.lists(members, max_size=4))
    found = subset_of(make_split(cohort(people), seed=seed, together=groups, **recipe))
    for group in groups:
        assert len({found[patient] for patient in group if patient in found}) <= 1
    if recipe["by"] not in ("site", "patient_time"):
        assert found.keys() == people.keys()


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if "stratify" not in recipe], **names)
@given(people=PEOPLE, seed=SEEDS, others=PEOPLE)
@settings(max_examples=8, deadline=None)
def test_adding_patients_moves_nobody(recipe: dict, people: People, seed: int, others: People, cohort: Cohort) -> None:
    people = with_somebody(people)
    columns = ["sequence_id", "patient_id", "subset", "first_asked", "last_asked"]
    before = make_split(cohort(people), seed=seed, **recipe).frame
    after = make_split(cohort(others | people), seed=seed, **recipe).frame
    known = after[after["patient_id"].isin(people.keys())]
    assert sorted(known[columns].itertuples(index=False)) == sorted(before[columns].itertuples(index=False))


@given(people=PEOPLE)
@settings(max_examples=8, deadline=None)
def test_by_time_each_sequence_is_cut_at_six_and_eight_tenths(people: People, cohort: Cohort) -> None:
    split = make_split(cohort(people), "time")
    for patient, (lengths, _, _) in people.items():
        for index, length in enumerate(lengths):
            rows = split.frame[split.frame["sequence_id"] == f"{patient}/{index}"]
            parts = {row.subset: list(range(row.first_asked, row.last_asked + 1)) for row in rows.itertuples()}
            first, second = (6 * length) // 10, (8 * length) // 10
            expected = {"train": range(first), "val": range(first, second), "test": range(second, length)}
            assert parts == {subset: list(positions) for subset, positions in expected.items() if positions}


@given(people=PEOPLE, seed=SEEDS)
@settings(max_examples=8, deadline=None)
def test_by_patient_and_time_the_test_is_new_patients_late(people: People, seed: int, cohort: Cohort) -> None:
    timeline = cohort(people)
    by_patient = make_split(timeline, "patient", seed).frame.set_index("sequence_id")["subset"]
    both = make_split(timeline, "patient_time", seed).frame
    cuts = make_split(timeline, "time", seed).frame
    mine = cuts[cuts["sequence_id"].map(by_patient) == cuts["subset"]].reset_index(drop=True)
    pd.testing.assert_frame_equal(both, mine)


@given(people=PEOPLE, seed=SEEDS, folds=st.integers(3, 7))
@settings(max_examples=8, deadline=None)
def test_folds_test_everybody_once(people: People, seed: int, folds: int, cohort: Cohort) -> None:
    timeline = cohort(people)
    turns = [subset_of(make_split(timeline, "kfold", seed, folds=folds, fold=fold)) for fold in range(folds)]
    patients = sorted(people)
    tested = [{patient for patient, subset in turn.items() if subset == "test"} for turn in turns]
    for fold, turn in enumerate(turns):
        chosen = {patient for patient, subset in turn.items() if subset == "val"}
        assert chosen == tested[(fold + 1) % folds]
    # The same folds by another road: digits of the hash, and scikit-learn's way of leaving one fold out.
    digits = [hashlib.blake2b(f"fold:{seed}:{name}".encode(), digest_size=8).hexdigest() for name in patients]
    numbers = [int(text, 16) * folds >> 64 for text in digits]
    reference = PredefinedSplit(numbers)
    expected = {numbers[test[0]]: {patients[index] for index in test} for _, test in reference.split()}
    assert {fold: found for fold, found in enumerate(tested) if found} == expected


@given(people=PEOPLE, seed=SEEDS)
@settings(max_examples=8, deadline=None)
def test_a_site_is_tested_whole_and_alone(people: People, seed: int, cohort: Cohort) -> None:
    people = {**people, "somebody": ([4], None, "A"), "unknown": ([4], None, None)}
    found = subset_of(make_split(cohort(people), "site", seed, site="A"))
    sites = {patient: site for patient, (_, _, site) in people.items()}
    assert {patient for patient, subset in found.items() if subset == "test"} == {
        patient for patient, site in sites.items() if site == "A"
    }
    assert people.keys() - found.keys() == {patient for patient, site in sites.items() if site is None}


def test_who_belongs_to_somebody_of_the_tested_site_is_left_out(crowd: Callable[..., Timeline]) -> None:
    timeline = crowd(30)
    split = make_split(timeline, "site", site="A", together=[["p0000", "p0001"], ["p0002", "p0004"]])
    assert split.left_out(timeline)["patient_id"].tolist() == ["p0001"]
    assert subset_of(split)["p0002"] == subset_of(split)["p0004"] != "test"


def shares(placed: Iterable[Any]) -> dict[Any, float]:
    return dict(pd.Series(list(placed)).value_counts(normalize=True))


def test_sizes_are_near_the_fractions_for_every_seed() -> None:
    names = [f"p{index:05d}" for index in range(1500)]
    for seed in range(40):
        by_patient = shares(assign(name, seed) for name in names)
        by_site = shares(assign(name, seed, (0.75, 0.25, 0.0), "site") for name in names)
        folds = shares(fold_of(name, seed, 5) for name in names)
        wanted = [
            *zip(map(by_patient.get, SUBSETS), (0.6, 0.1, 0.3), strict=True),
            (by_site["val"], 0.25),
            *((folds[fold], 0.2) for fold in range(5)),
        ]
        for found, share in wanted:
            assert abs(found - share) < 4 * (share * (1 - share) / 1500) ** 0.5


def test_seeds_and_purposes_are_unrelated() -> None:
    names = [f"p{index}" for index in range(4000)]
    placed = {seed: np.array([assign(name, seed) == "test" for name in names]) for seed in range(5)}
    folded = np.array([fold_of(name, 0, 5) for name in names])
    pairs = [(placed[0], placed[seed]) for seed in range(1, 5)] + [(placed[0], folded == fold) for fold in range(5)]
    for one, other in pairs:
        # The standard deviation of a correlation of unrelated columns is 1 / sqrt(4000).
        assert abs(np.corrcoef(one, other)[0, 1]) < 4 / 4000**0.5


def test_a_fraction_of_zero_leaves_a_subset_empty(crowd: Callable[..., Timeline]) -> None:
    split = make_split(crowd(50), fractions=(0.5, 0.0, 0.5))
    assert set(split.frame["subset"]) == {"train", "test"}
    with pytest.raises(KeyError):
        split.last_label_position("p0000/0", "val")


def test_the_assignments_are_pinned() -> None:
    """A change here moves patients between subsets, and trained models would have seen their test data."""
    words = ["train", "test", "train", "test", "val", "val", "test", "test", "train", "train", "train", "train"]
    assert [assign(f"p{index}", 0) for index in range(12)] == words
    assert [fold_of(f"p{index}", 0, 5) for index in range(12)] == [1, 1, 2, 2, 1, 3, 2, 4, 2, 3, 4, 2]
    words = ["train", "train", "train", "train", "train", "val", "val", "train"]
    assert [assign(f"p{index}", 0, (0.8, 0.2, 0.0), "site") for index in range(8)] == words


def test_sizes_far_from_the_fractions_are_refused(
    monkeypatch: pytest.MonkeyPatch, crowd: Callable[..., Timeline]
) -> None:
    monkeypatch.setattr("temmed.timelines.splits.make.assign", lambda *_: "train")
    with pytest.raises(InputError, match=r"about 60 of 100 patients in train, found 100.*Use another seed"):
        make_split(crowd(100))
    monkeypatch.setattr("temmed.timelines.splits.make.fold_of", lambda *_: 0)
    with pytest.raises(InputError, match=r"about 60 of 100 patients in train, found 0"):
        make_split(crowd(100), "kfold", folds=5, fold=0)


def test_two_patients_may_fall_into_the_same_subset(crowd: Callable[..., Timeline]) -> None:
    placed = {make_split(crowd(2), seed=seed).frame["subset"].nunique() for seed in range(30)}
    assert placed == {1, 2}


def test_a_site_that_is_not_there_is_refused(crowd: Callable[..., Timeline], cohort: Cohort) -> None:
    with pytest.raises(InputError, match=r"patients of the site 'Z', found sites: A, B, C"):
        make_split(crowd(9), "site", site="Z")
    with pytest.raises(InputError, match="says no site"):
        make_split(cohort({"p0": ([4], "F", None)}), "site", site="A")
