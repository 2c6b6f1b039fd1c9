"""A split is written once and found again; a frozen one is never made anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import get_split, keep_split, load_split, reopen_split

Crowd = Callable[..., Timeline]

HASHED: list[dict[str, Any]] = [
    {"by": "patient"},
    {"by": "time"},
    {"by": "patient_time"},
    {"by": "kfold", "folds": 5, "fold": 2},
    {"by": "site", "site": "B"},
]
FROZEN: list[dict[str, Any]] = [
    {"by": "stratified", "stratify": ["sex", "site"]},
    {"by": "kfold", "folds": 5, "fold": 2, "stratify": ["sex"]},
    {"by": "kfold", "folds": 5, "fold": 2, "together": [["p0000", "p0001"]]},
    {"by": "patient", "together": [["p0000", "p0001"]]},
    {"by": "site", "site": "B", "together": [["p0000", "p0001"]]},
    {"by": "patient", "few_shot": 8},
    {"by": "time", "few_shot": 8, "few_shot_per": "sex"},
]
words = {"ids": lambda recipe: "-".join(recipe)}


def files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "splits").iterdir()}


@pytest.mark.parametrize("recipe", [*HASHED, *FROZEN], **words)
def test_a_split_is_written_once_and_found_again(recipe: dict, crowd: Crowd, tmp_path: Path) -> None:
    timeline = crowd(60, tmp_path)
    made = get_split(timeline, seed=3, **recipe)
    written = files(tmp_path)
    about = json.loads(written[f"{made.name}.json"])
    assert (about["rule"], about["seed"], about["fingerprint"]) == (recipe["by"], 3, made.fingerprint)
    assert ("basis" in about) == (recipe in FROZEN)
    for again in (
        get_split(timeline, seed=3, **recipe),
        load_split(tmp_path, made.name, timeline),
        get_split(timeline, "file", name=made.name),
        reopen_split(timeline, made.record),
    ):
        assert again.fingerprint == made.fingerprint
        assert again.record == made.record
    assert files(tmp_path) == written


@pytest.mark.parametrize("recipe", FROZEN, **words)
def test_a_frozen_split_is_refused_when_the_data_change(recipe: dict, crowd: Crowd, tmp_path: Path) -> None:
    made = get_split(crowd(60, tmp_path), **recipe)
    written = files(tmp_path)
    with pytest.raises(InputError, match=r"60 patients with 60 sequences|change") as caught:
        get_split(crowd(61, tmp_path), **recipe)
    assert "read it as a file (by=file name=" in str(caught.value) or recipe["by"] == "time" or "few_shot" in recipe
    assert files(tmp_path) == written
    # The remedy: as a file it is what it was, and the newcomer is in no subset.
    kept = get_split(crowd(61, tmp_path), "file", name=made.name)
    assert kept.fingerprint == made.fingerprint
    assert "p0060" in set(kept.left_out(crowd(61, tmp_path))["patient_id"])


def test_a_frozen_split_is_refused_when_attributes_or_groups_change(crowd: Crowd, tmp_path: Path) -> None:
    get_split(crowd(60, tmp_path), "stratified", stratify=["sex"])
    changed = crowd(60, tmp_path)
    changed.table("patients").loc[7, "sex"] = "X"
    with pytest.raises(InputError, match="found as many, but other ids, lengths, attributes or groups"):
        get_split(changed, "stratified", stratify=["sex"])
    get_split(crowd(60, tmp_path), together=[["p0000", "p0001"]])
    with pytest.raises(InputError, match=r"attributes or groups.*This split is frozen"):
        get_split(crowd(60, tmp_path), together=[["p0000", "p0001", "p0002"]])
    changed = crowd(60, tmp_path)
    changed.table("patients").loc[7, "site"] = "X"
    get_split(changed, "stratified", stratify=["sex"])


def test_frozen_folds_are_frozen_all_at_once(crowd: Crowd, tmp_path: Path) -> None:
    recipe: dict[str, Any] = {"by": "kfold", "folds": 4, "stratify": ["sex"]}
    get_split(crowd(40, tmp_path), fold=1, **recipe)
    assert {name for name in files(tmp_path) if name.endswith(".csv")} == {
        f"kfold4-{fold}-sex_seed0.csv" for fold in range(4)
    }
    (tmp_path / "splits" / "kfold4-2-sex_seed0.csv").unlink()
    with pytest.raises(InputError, match=r"kfold4-\d-sex_seed0.csv: expected the 40 patients .*This split is frozen"):
        get_split(crowd(41, tmp_path), fold=2, **recipe)
    tested = [
        set(get_split(crowd(40, tmp_path), fold=fold, **recipe).sequences("test")["patient_id"]) for fold in range(4)
    ]
    assert sorted(set.union(*tested)) == sorted(f"p{n:04d}" for n in range(40))
    assert sum(map(len, tested)) == 40


def test_few_shot_keeps_the_split_it_is_a_part_of(crowd: Crowd, tmp_path: Path) -> None:
    few = get_split(crowd(60, tmp_path), "stratified", stratify=["site"], few_shot=5)
    assert few.name == "stratified-site_seed0_few5"
    assert {f"{few.name}.csv", "stratified-site_seed0.csv"} <= files(tmp_path).keys()
    assert few.parameters == {"stratify": ["site"], "few_shot": 5, "part_of": "stratified-site_seed0"}


def test_few_shot_of_an_official_split_has_draws_by_seed(crowd: Crowd, tmp_path: Path) -> None:
    timeline = crowd(60, tmp_path)
    (tmp_path / "splits").mkdir()
    rows = [f"p{n:04d},{('TRAIN', 'TRAIN', 'validate', 'test')[n % 4]}" for n in range(56)]
    (tmp_path / "splits" / "official.csv").write_text("\n".join(["patient_id,subset", *rows]))
    whole = get_split(timeline, "file", name="official")
    assert whole.left_out(timeline)["patient_id"].tolist() == ["p0056", "p0057", "p0058", "p0059"]
    draws = [get_split(timeline, "file", name="official", few_shot=4, seed=seed) for seed in (0, 1)]
    assert [draw.name for draw in draws] == ["official_seed0_few4", "official_seed1_few4"]
    assert draws[0].sequences("train")["patient_id"].tolist() != draws[1].sequences("train")["patient_id"].tolist()
    for draw in draws:
        assert draw.sequences("test")["patient_id"].tolist() == [f"p{n:04d}" for n in range(3, 56, 4)]
        assert draw.sequences("val")["patient_id"].tolist() == [f"p{n:04d}" for n in range(2, 56, 4)]


def test_an_official_split_is_frozen_at_its_first_use(crowd: Crowd, tmp_path: Path) -> None:
    timeline = crowd(4, tmp_path)
    path = tmp_path / "splits" / "official.csv"
    path.parent.mkdir()
    path.write_text("patient_id,subset\np0000,train\np0001,val\np0002,test\n")
    given = path.read_bytes()
    split = get_split(timeline, "file", name="official", keep=False)
    assert list(files(tmp_path)) == ["official.csv"]
    keep_split(split, timeline)
    assert path.read_bytes() == given
    assert json.loads(files(tmp_path)["official.json"])["fingerprint"] == split.fingerprint
    path.write_text("patient_id,subset\np0000,train\np0001,val\np0003,test\n")
    with pytest.raises(InputError, match=r"changed after it was written: remove official\.json"):
        get_split(timeline, "file", name="official")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"fractions": (0.5, 0.2, 0.3)}, {}),
        ({"by": "site", "site": "A"}, {"by": "site", "site": "B", "name": "site-A_seed0"}),
        ({"by": "stratified", "stratify": ["sex"], "name": "mine"}, {"name": "mine"}),
        ({"name": "mine", "together": [["p0000", "p0001"]]}, {"name": "mine"}),
    ],
)
def test_a_name_that_another_way_has_is_refused(first: dict, second: dict, crowd: Crowd, tmp_path: Path) -> None:
    get_split(crowd(60, tmp_path), **first)
    with pytest.raises(InputError, match=r"expected a split by .*, found one by .*give the new one another name"):
        get_split(crowd(60, tmp_path), **second)


def test_a_hashed_split_is_made_again_for_who_lacks_the_file(crowd: Crowd, tmp_path: Path) -> None:
    for recipe in HASHED:
        made = get_split(crowd(60, tmp_path / "here"), seed=2, name="ours", **recipe)
        again = reopen_split(crowd(60, tmp_path / "there"), json.loads(json.dumps(made.record)))
        assert (again.name, again.fingerprint) == (made.name, made.fingerprint)
        assert not (tmp_path / "there").exists()
        (tmp_path / "here" / "splits" / f"{made.name}.csv").unlink()


def test_a_frozen_split_whose_file_is_gone_is_refused(crowd: Crowd, tmp_path: Path) -> None:
    for recipe in FROZEN:
        made = get_split(crowd(60, tmp_path / "here"), **recipe)
        with pytest.raises(InputError, match=f"expected a split '{made.name}', found splits: none"):
            reopen_split(crowd(60, tmp_path / "there"), made.record)


def refuse(*_: object) -> None:
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize("recipe", HASHED, **words)
def test_a_folder_that_cannot_be_written_gives_the_same_hashed_split(
    recipe: dict, crowd: Crowd, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    expected = get_split(crowd(60, tmp_path), **recipe).fingerprint
    monkeypatch.setattr("temmed.timelines.splits.files.atomic_write", refuse)
    assert get_split(crowd(60, tmp_path / "locked"), **recipe).fingerprint == expected
    assert "is not kept" in caplog.text


@pytest.mark.parametrize("recipe", FROZEN, **words)
def test_a_folder_that_cannot_be_written_can_freeze_nothing(
    recipe: dict, crowd: Crowd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("temmed.timelines.splits.files.atomic_write", refuse)
    with pytest.raises(InputError, match=r"a folder to freeze the split in, found Permission denied"):
        get_split(crowd(60, tmp_path), **recipe)
