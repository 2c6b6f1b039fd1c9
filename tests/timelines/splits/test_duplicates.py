"""Patients who share an image or a report are found by the audit's own search and kept on one side."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from temmed.cli import app
from temmed.errors import InputError
from temmed.timelines import duplicates
from temmed.timelines.audit import Audit
from temmed.timelines.folder import Timeline
from temmed.timelines.recipe import Duplicates, Recipe
from temmed.timelines.rules.duplicates import near_duplicate_images
from temmed.timelines.splits import get_split, load_split, make_split, with_duplicates

Tables = dict[str, pd.DataFrame]


def copy_image(root: Path, source: str, target: str) -> Timeline:
    """The second image of a sequence becomes the third one of another, brighter."""
    pixels = np.load(root / "images" / f"{target}_t1.npy")
    pixels[1] = np.load(root / "images" / f"{source}_t1.npy")[2] // 2 + 90
    np.save(root / "images" / f"{target}_t1.npy", pixels)
    Timeline.open(root).record_fingerprint()
    return Timeline.open(root)


@pytest.fixture
def shared(root: Path) -> Timeline:
    """A folder in which p0 and p2 have one image."""
    return copy_image(root, "s0", "s2")


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[Timeline]:
    """The folders that are searched, as they are."""
    made: list[Timeline] = []
    search = duplicates.duplicate_groups

    def counted(timeline: Timeline, **options: object) -> list[set[str]]:
        made.append(timeline)
        return search(timeline, **options)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(duplicates, "duplicate_groups", counted)
    return made


def test_whoever_shares_an_image_is_on_one_side_whatever_the_seed(shared: Timeline) -> None:
    together = with_duplicates(shared, Recipe(together="duplicates")).together
    assert together == Duplicates(shared.meta.fingerprint, (("p0", "p2"),))
    parted = []
    for seed in range(20):
        free, bound = (make_split(shared, seed=seed, **words) for words in ({}, {"together": together}))
        sides = [split.frame.set_index("patient_id")["subset"] for split in (free, bound)]
        assert sides[1]["p0"] == sides[1]["p2"]
        parted += [(free, bound)] if sides[0]["p0"] != sides[0]["p2"] else []
    severities = [{one.severity for one in near_duplicate_images(Audit(shared, split))} for split in parted[0]]
    assert severities == [{"error"}, {"warning"}]


def test_the_groups_are_recorded_and_images_read_once(shared: Timeline, searches: list[Timeline]) -> None:
    made = get_split(shared, together="duplicates")
    assert made.name == "patient-duplicates_seed0"
    assert made.record["parameters"] == {"together": "duplicates"}
    about = json.loads((shared.root / "splits" / f"{made.name}.json").read_text())
    assert about["basis"]["groups"] == [["p0", "p2"]]
    assert about["basis"]["content"] == shared.meta.fingerprint
    for again in (
        get_split(Timeline.open(shared.root), together="duplicates"),
        load_split(shared.root, made.name, shared),
        get_split(shared, together="duplicates", few_shot=1).companions[0],
    ):
        assert again.record == made.record
        assert again.basis == made.basis
    assert len(searches) == 1


def test_a_split_made_before_more_were_found_is_refused(shared: Timeline) -> None:
    get_split(shared, together="duplicates")
    more = copy_image(shared.root, "s1", "s3")
    with pytest.raises(InputError, match=r"attributes or groups.*This split is frozen"):
        get_split(more, together="duplicates")


def test_other_changes_search_again_and_find_the_same_split(
    shared: Timeline, searches: list[Timeline], tables: Tables, replace_table: Callable[..., None]
) -> None:
    made = get_split(shared, together="duplicates")
    replace_table(shared.root, "findings", tables["findings"].assign(label="nodule"))
    changed = Timeline.open(shared.root)
    assert changed.meta.fingerprint != shared.meta.fingerprint
    assert get_split(changed, together="duplicates").fingerprint == made.fingerprint
    assert len(searches) == 2


def test_reports_count_as_well(root: Path, tables: Tables, replace_table: Callable[..., None]) -> None:
    text = " ".join(f"word{number}" for number in range(40))
    tables["reports"].loc[tables["reports"]["report_id"].isin(["s1-r0", "s3-r2"]), "text"] = text
    replace_table(root, "reports", tables["reports"])
    found = with_duplicates(Timeline.open(root), Recipe(together="duplicates")).together
    assert isinstance(found, Duplicates)
    assert found.groups == (("p1", "p3"),)


def test_folds_of_the_command_share_one_search(shared: Timeline, searches: list[Timeline]) -> None:
    words = ["--by", "kfold", "--folds", "3", "--together", "duplicates"]
    result = CliRunner().invoke(app, ["data", "split", str(shared.root), *words])
    assert result.exit_code == 0, result.output
    assert len(searches) == 1
    splits = [load_split(shared.root, f"kfold3-{fold}-duplicates_seed0", shared) for fold in range(3)]
    tested = [set(split.sequences("test")["patient_id"]) for split in splits]
    assert sum({"p0", "p2"} <= patients for patients in tested) == 1
    again = CliRunner().invoke(app, ["data", "split", str(shared.root), *words, "--fold", "1"])
    assert again.stdout.startswith("Already there: ")
    assert len(searches) == 1


def test_a_basis_that_cannot_be_read_is_one_message(shared: Timeline) -> None:
    made = get_split(shared, together="duplicates")
    path = shared.root / "splits" / f"{made.name}.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps({**about, "basis": {**about["basis"], "groups": 3}}))
    with pytest.raises(InputError, match=r"the basis of a split.*Remove the file or write it again"):
        get_split(shared, together="duplicates")
