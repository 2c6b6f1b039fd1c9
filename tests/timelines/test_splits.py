from __future__ import annotations

import json
import string
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import (
    RULES,
    SUBSETS,
    Split,
    assign,
    get_split,
    load_split,
    make_split,
    overlapping,
    save_split,
)

IDS = st.text(string.ascii_letters + string.digits + "-_é", min_size=1, max_size=8)
#: Lengths of the sequences of each patient.
COHORTS = st.dictionaries(IDS, st.lists(st.integers(1, 30), min_size=1, max_size=3), min_size=1, max_size=25)


def cohort(patients: dict[str, list[int]]) -> Timeline:
    """As much of a timeline as splits look at."""
    rows = [
        (f"{patient}/{index}", patient, length)
        for patient, found in patients.items()
        for index, length in enumerate(found)
    ]
    frames = {
        "patients": pd.DataFrame({"patient_id": list(patients)}),
        "sequences": pd.DataFrame(rows, columns=["sequence_id", "patient_id", "length"])[["sequence_id", "patient_id"]],
        "timepoints": pd.DataFrame(
            [(name, position) for name, _, length in rows for position in range(length)],
            columns=["sequence_id", "position"],
        ),
        "questions": pd.DataFrame(
            [(f"{name}?{position}", name, position) for name, _, length in rows for position in range(length)],
            columns=["question_id", "sequence_id", "asked_at"],
        ),
    }
    return cast(Timeline, SimpleNamespace(table=frames.__getitem__))


def lengths(patients: dict[str, list[int]]) -> dict[str, int]:
    return {f"{patient}/{n}": length for patient, found in patients.items() for n, length in enumerate(found)}


@given(patients=COHORTS, seed=st.integers(0, 999))
@settings(max_examples=15, deadline=None)
def test_by_patient_everyone_is_in_one_subset_with_all_their_questions(patients: dict, seed: int) -> None:
    timeline = cohort(patients)
    split = make_split(timeline, "patient", seed)
    owner = split.frame.groupby("patient_id")["subset"].unique()
    assert set(owner.index) == set(patients)
    assert (owner.map(len) == 1).all()
    asked = pd.concat([split.questions(timeline, subset) for subset in SUBSETS])
    assert sorted(asked["question_id"]) == sorted(timeline.table("questions")["question_id"])


@given(patients=COHORTS, seed=st.integers(0, 999), others=COHORTS)
@settings(max_examples=15, deadline=None)
def test_adding_patients_moves_nobody(patients: dict, seed: int, others: dict) -> None:
    before = make_split(cohort(patients), "patient", seed).frame.set_index("sequence_id")["subset"]
    after = make_split(cohort(others | patients), "patient", seed).frame.set_index("sequence_id")["subset"]
    assert after.loc[before.index].equals(before)


@given(patients=COHORTS)
@settings(max_examples=15, deadline=None)
def test_by_time_each_sequence_is_cut_at_six_and_eight_tenths(patients: dict) -> None:
    timeline = cohort(patients)
    split = make_split(timeline, "time")
    for name, length in lengths(patients).items():
        rows = split.frame[split.frame["sequence_id"] == name]
        parts = {row.subset: list(range(row.first_asked, row.last_asked + 1)) for row in rows.itertuples()}
        first, second = (6 * length) // 10, (8 * length) // 10
        expected = {"train": range(first), "val": range(first, second), "test": range(second, length)}
        assert parts == {subset: list(positions) for subset, positions in expected.items() if positions}


@given(patients=COHORTS, seed=st.integers(0, 999))
@settings(max_examples=12, deadline=None)
def test_by_patient_and_time_the_test_is_new_patients_late(patients: dict, seed: int) -> None:
    timeline = cohort(patients)
    by_patient = make_split(timeline, "patient", seed).frame.set_index("sequence_id")["subset"]
    both = make_split(timeline, "patient_time", seed)
    cuts = make_split(timeline, "time", seed)
    for row in both.frame.itertuples():
        assert by_patient[row.sequence_id] == row.subset
        same = cuts.frame[(cuts.frame["sequence_id"] == row.sequence_id) & (cuts.frame["subset"] == row.subset)]
        assert (row.first_asked, row.last_asked) == (same["first_asked"].item(), same["last_asked"].item())
    for name, length in lengths(patients).items():
        asked = both.questions(timeline, "test").query("sequence_id == @name")["asked_at"]
        assert set(asked) == (set(range(8 * length // 10, length)) if by_patient[name] == "test" else set())


@given(patients=COHORTS, by=st.sampled_from(RULES))
@settings(max_examples=15, deadline=None)
def test_no_question_is_in_two_subsets_and_labels_end_with_the_subset(patients: dict, by: str) -> None:
    timeline = cohort(patients)
    split = make_split(timeline, by)
    owned = [split.questions(timeline, subset) for subset in SUBSETS]
    assert not pd.concat(owned)["question_id"].duplicated().any()
    for subset, questions in zip(SUBSETS, owned, strict=True):
        for name, asked in questions.groupby("sequence_id")["asked_at"]:
            assert asked.max() == split.last_label_position(str(name), subset)
    for name in lengths(patients):
        for earlier, later in (("train", "val"), ("val", "test"), ("train", "test")):
            rows = split.frame[split.frame["sequence_id"] == name].set_index("subset")
            if by == "time" and {earlier, later} <= set(rows.index):
                assert rows.loc[earlier, "last_asked"] < rows.loc[later, "first_asked"]


def test_sizes_are_near_the_fractions_for_every_seed() -> None:
    for seed in range(40):
        placed = pd.Series([assign(f"p{index:05d}", seed) for index in range(1500)])
        shares = placed.value_counts(normalize=True)
        for subset, share in zip(SUBSETS, (0.6, 0.1, 0.3), strict=True):
            assert abs(shares[subset] - share) < 4 * (share * (1 - share) / 1500) ** 0.5


def test_different_seeds_give_different_divisions() -> None:
    placed = {tuple(assign(f"p{index}", seed) for index in range(50)) for seed in range(20)}
    assert len(placed) == 20


def test_a_fraction_of_zero_leaves_a_subset_empty() -> None:
    timeline = cohort({f"p{index}": [5] for index in range(50)})
    split = make_split(timeline, fractions=(0.5, 0.0, 0.5))
    assert set(split.frame["subset"]) == {"train", "test"}
    with pytest.raises(KeyError):
        split.last_label_position("p0/0", "val")


def test_the_assignment_is_pinned() -> None:
    """A change here moves patients between subsets, and trained models would have seen their test data."""
    placed = [assign(f"p{index}", 0) for index in range(12)]
    assert placed == [
        "train",
        "test",
        "train",
        "test",
        "val",
        "val",
        "test",
        "test",
        "train",
        "train",
        "train",
        "train",
    ]


def test_sizes_far_from_the_fractions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("temmed.timelines.splits.assign", lambda *_: "train")
    with pytest.raises(InputError, match=r"about 60 of 100 patients in train, found 100.*Use another seed"):
        make_split(cohort({f"p{index}": [5] for index in range(100)}))


def test_two_patients_may_fall_into_the_same_subset() -> None:
    placed = {make_split(cohort({"a": [5], "b": [5]}), seed=seed).frame["subset"].nunique() for seed in range(30)}
    assert placed == {1, 2}


@pytest.mark.parametrize("fractions", [(0.6, 0.4), (0.6, 0.6, 0.6), (1.2, -0.2, 0.0)])
def test_wrong_fractions_are_refused(timeline: Timeline, fractions: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="three fractions that add up to 1"):
        make_split(timeline, fractions=fractions)


def test_an_unknown_rule_is_refused(timeline: Timeline) -> None:
    with pytest.raises(InputError, match="one of patient, time, patient_time, found 'site'"):
        make_split(timeline, "site")


def rows(*entries: tuple[str, str, str, int, int]) -> pd.DataFrame:
    return pd.DataFrame(entries, columns=["sequence_id", "patient_id", "subset", "first_asked", "last_asked"])


@pytest.mark.parametrize(
    ("rule", "frame", "shared"),
    [
        ("patient", rows(("s0", "p0", "train", 0, 4), ("s1", "p0", "test", 0, 4)), ["p0"]),
        ("official", rows(("s0", "p0", "train", 0, 4), ("s1", "p0", "val", 0, 4)), ["p0"]),
        ("patient_time", rows(("s0", "p0", "train", 0, 2), ("s0", "p0", "test", 3, 4)), ["p0"]),
        ("time", rows(("s0", "p0", "train", 0, 2), ("s0", "p0", "test", 2, 4)), ["s0"]),
        ("patient", rows(("s0", "p0", "train", 0, 4), ("s0", "p0", "train", 0, 4)), ["s0"]),
    ],
)
def test_an_overlapping_split_cannot_be_made(rule: str, frame: pd.DataFrame, shared: list[str]) -> None:
    assert overlapping(frame, rule) == shared
    with pytest.raises(InputError, match=f"in two subsets, found 1 that are, such as {shared[0]}"):
        Split("x", rule, 0, frame)


def test_a_subset_by_another_name_is_refused(timeline: Timeline) -> None:
    with pytest.raises(InputError, match="one of train, val, test as subset, found 'dev'"):
        Split("x", "file", 0, rows(("s0", "p0", "dev", 0, 4)))
    split = make_split(timeline)
    with pytest.raises(KeyError, match="no subset is called 'dev'"):
        split.questions(timeline, "dev")


@pytest.mark.parametrize("by", RULES)
def test_a_split_is_written_once_and_reused(root: Path, by: str) -> None:
    timeline = Timeline.open(root)
    made = get_split(timeline, by, seed=3)
    path = root / "splits" / f"{by}_seed3.csv"
    written = path.stat().st_mtime_ns
    again = get_split(timeline, by, seed=3)
    assert path.stat().st_mtime_ns == written
    assert again.fingerprint == made.fingerprint
    pd.testing.assert_frame_equal(again.frame, made.frame, check_dtype=False)
    loaded = load_split(root, f"{by}_seed3", timeline)
    assert (loaded.rule, loaded.seed, loaded.fractions) == (by, 3, (0.6, 0.1, 0.3))
    assert json.loads(path.with_suffix(".json").read_text())["fingerprint"] == made.fingerprint


def test_the_fingerprint_is_of_who_is_where(timeline: Timeline) -> None:
    one = make_split(timeline, seed=0)
    mixed = Split("other name", "patient", 5, one.frame.sample(frac=1, random_state=0))
    assert mixed.fingerprint == one.fingerprint
    moved = one.frame.assign(subset=["test" if subset == "train" else "train" for subset in one.frame["subset"]])
    assert Split("x", "patient", 0, moved).fingerprint != one.fingerprint


def test_a_written_split_of_other_fractions_is_refused(root: Path) -> None:
    timeline = Timeline.open(root)
    get_split(timeline)
    with pytest.raises(InputError, match=r"fractions \(0\.5, 0\.2, 0\.3\), found one by patient"):
        get_split(timeline, fractions=(0.5, 0.2, 0.3))


def test_a_split_made_before_the_data_changed_is_refused(root: Path, build: Callable[..., Path], tables: dict) -> None:
    split = make_split(Timeline.open(root))
    tables["sequences"].loc[0, "sequence_id"] = "new"
    for name, frame in tables.items():
        if "sequence_id" in frame:
            tables[name] = frame.replace({"sequence_id": {"s0": "new"}})
    changed = build(tables, name="changed")
    save_split(split, changed)
    with pytest.raises(InputError, match="a sequence_id of the timeline, found 's0'"):
        get_split(Timeline.open(changed))
    kept = Split(split.name, "patient", 0, split.frame[split.frame["sequence_id"] != "s0"])
    save_split(kept, changed)
    with pytest.raises(InputError, match=r"made before the data changed.*Nobody who was there moves"):
        get_split(Timeline.open(changed))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("p0", "ghost", r"row \d+: expected a patient_id of the timeline, found 'ghost'"),
        ("s0,", "s77,", r"row \d+: expected a sequence_id of the timeline, found 's77'"),
        ("s0,p0", "s0,p1", r"row \d+: expected patient 'p0' for sequence 's0', found 'p1'"),
        (",0,4", ",0,9", r"row 1: expected 0 ≤ first_asked ≤ last_asked < number of time points, found 0 … 9"),
        (",0,4", ",zero,4", r"first_asked: expected whole numbers, found other text"),
        ("subset", "part", r"expected columns .*, found no subset"),
    ],
)
def test_a_split_that_does_not_fit_the_data_is_refused(root: Path, old: str, new: str, message: str) -> None:
    timeline = Timeline.open(root)
    path = save_split(make_split(timeline), root)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=message):
        load_split(root, "patient_seed0", timeline)


def test_a_split_edited_after_it_was_written_is_refused_until_its_json_is_gone(root: Path) -> None:
    timeline = Timeline.open(root)
    split = make_split(timeline)
    path = save_split(split, root)
    path.write_text(path.read_text().replace("train", "val"))
    with pytest.raises(InputError, match="changed after it was written"):
        load_split(root, split.name, timeline)
    path.with_suffix(".json").unlink()
    edited = load_split(root, split.name, timeline)
    assert edited.rule == "file"
    assert "train" not in set(edited.frame["subset"])


def test_an_official_division_needs_three_columns(root: Path) -> None:
    timeline = Timeline.open(root)
    (root / "splits").mkdir()
    (root / "splits" / "official.csv").write_text("sequence_id,patient_id,subset\ns0,p0,train\ns1,p1,test\n")
    split = load_split(root, "official", timeline)
    assert split.last_label_position("s1", "test") == 4
    assert split.questions(timeline, "test")["question_id"].tolist() == ["s1-q1", "s1-q2", "s1-q4"]


def test_an_absent_split_names_those_that_are_there(root: Path) -> None:
    timeline = Timeline.open(root)
    get_split(timeline)
    with pytest.raises(InputError, match="a split 'patient_seed1', found splits: patient_seed0"):
        load_split(root, "patient_seed1", timeline)


def test_a_crash_between_the_two_files_of_a_split_is_mended(root: Path) -> None:
    timeline = Timeline.open(root)
    path = save_split(make_split(timeline), root)
    path.unlink()
    path.with_suffix(".json").write_text('{"rule": "time", "fingerprint": "of something else"}')
    assert get_split(timeline).rule == "patient"
    assert load_split(root, "patient_seed0", timeline).rule == "patient"


def test_a_folder_that_cannot_be_written_gives_the_same_split(
    timeline: Timeline, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("temmed.timelines.splits.atomic_write", refuse)
    assert get_split(timeline, seed=9).fingerprint == make_split(timeline, seed=9).fingerprint
    assert "is not kept" in caplog.text
