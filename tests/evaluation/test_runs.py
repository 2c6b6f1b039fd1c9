from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from temmed.errors import InputError
from temmed.evaluation.runs import find_runs, named_split, open_dataset
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split, make_split, save_split

MakeRun = Callable[..., Path]


def test_runs_are_found_by_folder_parent_and_pattern(runs: Path) -> None:
    everything = find_runs([runs]).runs
    assert len(everything) == 8
    assert find_runs([runs / "static", f"{runs}/[mtp]*"]).runs == everything
    assert [run.seed for run in find_runs([f"{runs}/static/seed*"]).runs] == [0, 1]
    # Found twice is there once.
    assert find_runs([runs, runs / "static" / "seed0"]).runs == everything


def test_runs_that_did_not_finish(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "static", tmp_path / "static")
    shutil.rmtree(tmp_path / "static" / "seed1" / "predictions")
    found = find_runs([tmp_path])
    assert [run.seed for run in found.runs] == [0]
    assert found.left_out == [f"{tmp_path / 'static' / 'seed1'}: no predictions for test"]
    with pytest.raises(InputError, match="expected predictions for test"):
        find_runs([tmp_path / "static" / "seed1"])


def test_the_newer_of_two_runs_with_one_seed(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(tmp_path / "b_old", created="2026-01-01T00:00:00")
    make_run(tmp_path / "a_new", created="2026-01-02T00:00:00")
    found = find_runs([tmp_path])
    assert [run.folder.name for run in found.runs] == ["a_new"]
    assert "a newer run of static with seed 0" in found.left_out[0]


@pytest.mark.parametrize("what", ["dataset", "split"])
def test_runs_on_different_questions_are_refused(make_run: MakeRun, split: Split, tmp_path: Path, what: str) -> None:
    make_run(tmp_path / "one")
    about = (
        {"dataset_fingerprint": "f" * 32}
        if what == "dataset"
        else {"split": {"name": split.name, "rule": "patient", "seed": 0, "fingerprint": "f" * 32}}
    )
    # Of the same name and seed: it must not be taken for an older run of the same.
    make_run(tmp_path / "other", **about)
    with pytest.raises(InputError, match=rf"runs on one {what}, found 2 fingerprints: .*ffffffffffff \(.*other\)"):
        find_runs([tmp_path])


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found nothing there"):
        find_runs([tmp_path / "nowhere*"])
    with pytest.raises(InputError, match=r"a run folder with a run\.json"):
        find_runs([tmp_path])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "a JSON object"),
        ("[]", "no name"),
        (json.dumps({"name": "x", "split": {}}), r"no model, temporal, .*split\.name"),
    ],
)
def test_damaged_records(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match=message):
        find_runs([tmp_path])


def test_the_dataset_must_be_what_it_was(
    runs: Path, timeline: Timeline, make_timeline: Callable[..., Timeline], tmp_path: Path
) -> None:
    found = find_runs([runs]).runs
    opened, split = open_dataset(found)
    assert (opened.meta.fingerprint, split.fingerprint) == (timeline.meta.fingerprint, found[0].split["fingerprint"])
    with pytest.raises(InputError, match=r"Say where it is now with --dataset\."):
        open_dataset(found, tmp_path / "moved")
    other = make_timeline(patients=12, seed=5)
    with pytest.raises(InputError, match="expected the content"):
        open_dataset(found, other.root)
    copy = tmp_path / "copy"
    shutil.copytree(timeline.root, copy)
    assert open_dataset(found, copy)[0].root == copy


def test_splits_by_name(make_timeline: Callable[..., Timeline]) -> None:
    timeline = make_timeline(patients=12)
    assert named_split(timeline, "time_seed3").fingerprint == make_split(timeline, "time", 3).fingerprint
    by_hand = make_split(timeline, "patient", 7, (0.5, 0.2, 0.3))
    save_split(Split("ours", "by hand", 0, by_hand.frame), timeline.root)
    assert named_split(timeline, "ours").fingerprint == by_hand.fingerprint
    with pytest.raises(InputError, match="theirs"):
        named_split(timeline, "theirs")
