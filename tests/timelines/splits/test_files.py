"""The files of a split, and the division that cannot hold an overlap."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split, get_split, load_split, make_split, overlapping, save_split


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


def test_the_fingerprint_is_of_who_is_where(timeline: Timeline) -> None:
    one = make_split(timeline, seed=0)
    mixed = Split("other name", "patient", 5, one.frame.sample(frac=1, random_state=0))
    assert mixed.fingerprint == one.fingerprint
    moved = one.frame.assign(subset=["test" if subset == "train" else "train" for subset in one.frame["subset"]])
    assert Split("x", "patient", 0, moved).fingerprint != one.fingerprint


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


@pytest.mark.parametrize(
    "content",
    [
        "patient_id,subset\np0,train\np1,test\n",
        "patient_id,subset,reader\np0,TRAIN,x\np1, Testing,y\n",
        "sequence_id,subset\ns0,training\ns1,test\n",
        "subset,sequence_id,patient_id,first_asked,last_asked\ntrain,s0,p0,,\ntest,s1,p1,0,4\n",
    ],
)
def test_an_official_division_may_name_patients_or_sequences(root: Path, content: str) -> None:
    (root / "splits").mkdir()
    (root / "splits" / "official.csv").write_text(content)
    split = load_split(root, "official", Timeline.open(root))
    assert split.frame.to_numpy().tolist() == [["s0", "p0", "train", 0, 4], ["s1", "p1", "test", 0, 4]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("patient_id,subset\np0,train\np7,test\n", "row 2: expected a patient_id of the timeline, found 'p7'"),
        ("sequence_id,subset\ns0,train\ns7,test\n", "row 2: expected a sequence_id of the timeline, found 's7'"),
        ("patient_id,subset\np0,train\np1,dev\n", "row 2, subset: expected one of train, val, test, found 'dev'"),
        ("patient_id,subset\np0,train\n,test\n", "row 2: expected a patient_id in each row, found an empty cell"),
        ("patient_id,subset\np0,train\np1,\n", "row 2: expected a subset in each row, found an empty cell"),
        ("patient_id,subset\np0,train\np0,test\n", "no patients in two subsets"),
        ("subset\ntrain\n", "found no sequence_id"),
        ("patient_id,part\np0,train\n", "found no subset"),
    ],
)
def test_an_official_division_that_cannot_be_read_is_refused(root: Path, content: str, message: str) -> None:
    (root / "splits").mkdir()
    (root / "splits" / "official.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        load_split(root, "official", Timeline.open(root))


@pytest.mark.parametrize(
    "about", ["[]", "{", '{"seed": "x"}', '{"fractions": 1}', '{"parameters": 1}', '{"basis": {"patients": 1}}']
)
def test_a_damaged_json_is_refused(root: Path, about: str) -> None:
    timeline = Timeline.open(root)
    path = save_split(make_split(timeline), root)
    path.with_suffix(".json").write_text(about)
    with pytest.raises(InputError, match="Remove the file or write it again"):
        load_split(root, "patient_seed0", timeline)


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
