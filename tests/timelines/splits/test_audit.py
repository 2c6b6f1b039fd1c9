"""The audit looks into the splits of every rule."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from temmed.timelines.audit import Audit, Finding
from temmed.timelines.folder import Timeline
from temmed.timelines.rules.subsets import patient_overlap, unknown_in_split, unreadable_split
from temmed.timelines.splits import get_split

Crowd = Callable[..., Timeline]

RECIPES: list[dict[str, Any]] = [
    {"by": "patient"},
    {"by": "time"},
    {"by": "patient_time"},
    {"by": "stratified", "stratify": ["sex", "site"]},
    {"by": "kfold", "folds": 3, "fold": 0},
    {"by": "kfold", "folds": 3, "fold": 0, "stratify": ["sex"]},
    {"by": "site", "site": "B"},
    {"by": "patient", "together": [["p0000", "p0001"]]},
    {"by": "patient", "few_shot": 6},
    {"by": "time", "few_shot": 6, "few_shot_per": "sex"},
]
words = {"ids": lambda recipe: "-".join(recipe)}


def found(timeline: Timeline) -> Iterator[Finding]:
    for rule in (unreadable_split, patient_overlap, unknown_in_split):
        yield from rule(Audit(timeline))


@pytest.mark.parametrize("recipe", RECIPES, **words)
def test_a_made_split_is_clean(recipe: dict, crowd: Crowd, tmp_path: Path) -> None:
    timeline = crowd(40, tmp_path)
    get_split(timeline, **recipe)
    assert list(found(timeline)) == []


@pytest.mark.parametrize("recipe", RECIPES, **words)
def test_an_overlap_an_unknown_patient_and_a_wrong_word_are_found(recipe: dict, crowd: Crowd, tmp_path: Path) -> None:
    timeline = crowd(40, tmp_path)
    name = get_split(timeline, **recipe).name
    path = tmp_path / "splits" / f"{name}.csv"
    text = path.read_text()
    rows = text.splitlines()
    row = next(row for row in rows if ",test," in row)
    path.write_text(f"{text}{row.replace(',test,', ',train,')}\n")
    (overlap,) = found(timeline)
    case = row.split(",")[0 if recipe["by"] == "time" else 1]
    assert (overlap.rule, overlap.examples) == ("patient_overlap", (f"{name}: {case}",))
    path.write_text(f"{text}ghost/0,ghost,train,0,4\n")
    (unknown,) = found(timeline)
    assert (unknown.rule, unknown.examples) == ("unknown_in_split", (f"{name}: ghost, ghost/0",))
    path.write_text(text.replace(",test,", ",dev,"))
    (unreadable,) = found(timeline)
    assert unreadable.rule == "unreadable_split"
    assert "found 'dev'" in unreadable.examples[0]


def test_official_files_of_patients_and_sequences_are_looked_into(crowd: Crowd, tmp_path: Path) -> None:
    timeline = crowd(4, tmp_path)
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "one.csv").write_text("patient_id,subset\np0000,train\np0000,test\nghost,val\n")
    (tmp_path / "splits" / "two.csv").write_text("sequence_id,subset\np0001/0,train\np0001/0,TEST\nghost/0,val\n")
    (tmp_path / "splits" / "two.json").write_text(json.dumps(["no", "object"]))
    overlap, unknown = found(timeline)
    assert overlap.examples == ("one: p0000", "two: p0001")
    assert unknown.examples == ("one: ghost", "two: ghost/0")
