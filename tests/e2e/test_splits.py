"""Training and judging with every way of dividing the patients."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from temmed.predictions.tables import read_predictions
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import load_split, make_split, save_split
from temmed.training.checkpoint import read_checkpoint

#: See conftest.
Start = Callable[..., Any]


def record(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())["split"]


@pytest.fixture
def given(folder: Path) -> tuple[str, ...]:
    return "model=static", "data=folder", f"data.root={folder}"


def test_a_sweep_over_folds_tests_every_question_once(start: Start, folder: Path, given: tuple[str, ...]) -> None:
    sweep = ("data.split.by=kfold", "data.split.folds=3", "data.split.fold=0,1,2")
    outcome = start("--multirun", *given, *sweep)
    assert outcome.code == 0, outcome.message
    assert [record(run)["parameters"] for run in outcome.runs] == [{"folds": 3, "fold": fold} for fold in range(3)]
    answered = [read_predictions(run / "predictions" / "test").answers["question_id"] for run in outcome.runs]
    questions = Timeline.open(folder).table("questions")["question_id"]
    assert sorted(pd.concat(answered)) == sorted(questions)
    assert sorted(path.stem for path in (folder / "splits").glob("*.csv")) == [f"kfold3-{n}_seed0" for n in range(3)]


def test_a_stratified_few_shot_run_is_judged_on_its_own_split(
    start: Start, folder: Path, given: tuple[str, ...]
) -> None:
    words = ("data.split.by=stratified", "data.split.stratify=[sex,site]", "data.split.few_shot=6")
    run = start(*given, *words).run
    timeline = Timeline.open(folder)
    whole, few = (load_split(folder, f"stratified-sex-site_seed0{end}", timeline) for end in ("", "_few6"))
    assert few.sequences("train")["patient_id"].nunique() == 6
    checkpoint = run / "checkpoints" / "best.ckpt"
    provenance = read_checkpoint(str(checkpoint))["hyper_parameters"]["provenance"]
    assert provenance["split"] == few.record
    assert record(run) == {**few.record, "path": "splits/stratified-sex-site_seed0_few6.csv"}
    assert few.fingerprint != whole.fingerprint
    judged = start(f"ckpt_path={checkpoint}", main="evaluate")
    assert judged.code == 0, judged.message
    again = run / "evaluations" / "test" / "metrics.json"
    assert json.loads(again.read_text()) == json.loads((run / "metrics.json").read_text())
    # Another division under the same name is told apart by the fingerprint.
    path = folder / "splits" / "stratified-sex-site_seed0_few6.csv"
    path.write_text(path.read_text().replace(",val,", ",test,"))
    path.with_suffix(".json").unlink()
    start(f"ckpt_path={checkpoint}", main="evaluate").refused("the split the checkpoint was trained with")
    path.unlink()
    start(f"ckpt_path={checkpoint}", main="evaluate").refused("a split 'stratified-sex-site_seed0_few6'")


def test_near_duplicates_stay_together_in_training_and_at_evaluation(
    start: Start, folder: Path, given: tuple[str, ...]
) -> None:
    images = Timeline.open(folder).table("images")
    sequences = images["sequence_id"].drop_duplicates().tolist()
    one, other = (folder / images.loc[images["sequence_id"] == name, "path"].iloc[0] for name in sequences[:2])
    shutil.copyfile(one, other)
    Timeline.open(folder).record_fingerprint()
    run = start(*given, "data.split.together=duplicates").run
    timeline = Timeline.open(folder)
    split = load_split(folder, "patient-duplicates_seed0", timeline)
    assert record(run) == {**split.record, "path": "splits/patient-duplicates_seed0.csv"}
    patients = timeline.table("sequences").set_index("sequence_id")["patient_id"][sequences[:2]].tolist()
    assert split.basis is not None
    assert split.basis.groups == (tuple(sorted(patients)),)
    path = folder / "splits" / "patient-duplicates_seed0.csv"
    sides = split.frame.set_index("patient_id")["subset"]
    assert sides[patients[0]] == sides[patients[1]]
    checkpoint = f"ckpt_path={run}/checkpoints/best.ckpt"
    assert start(checkpoint, main="evaluate").code == 0
    path.unlink()
    start(checkpoint, main="evaluate").refused("a split 'patient-duplicates_seed0'")


def test_an_official_split_is_chosen_by_name(
    start: Start, folder: Path, given: tuple[str, ...], tmp_path: Path
) -> None:
    timeline = Timeline.open(folder)
    patients = timeline.table("patients")["patient_id"].tolist()
    rows = [f"{patient},{('train', 'train', 'validate', 'test')[n % 4]}" for n, patient in enumerate(patients[:20])]
    (folder / "splits").mkdir()
    (folder / "splits" / "official.csv").write_text("\n".join(["patient_id,subset", *rows]) + "\n")
    outcome = start(*given, "data.split.by=file", "data.split.name=official")
    assert record(outcome.run)["fingerprint"] == load_split(folder, "official", timeline).fingerprint
    assert "4 patients are wholly or partly in no subset of the split official" in outcome.message + outcome.output
    assert (folder / "splits" / "official.json").is_file()
    # A model must not be judged on a split whose test it was trained on; the same split by name is no other.
    checkpoint = (f"ckpt_path={outcome.run}/checkpoints/best.ckpt", f"data.root={folder}", f"out={tmp_path}/out")
    other = save_split(make_split(timeline, seed=1), folder).stem
    start(*checkpoint, f"data.split={other}", main="evaluate").refused(
        "a test subset that had no part in the training with the split official", "patient_seed1"
    )
    assert not (tmp_path / "out").exists()
    assert start(*checkpoint, "data.split=official", main="evaluate").code == 0
    # Nor one that started from it, at the next remove either.
    following = (*given, "data.split.by=file", "model.start_data=other", "model.start_parts=[text]")
    first = f"model.start_from={outcome.run}/checkpoints/best.ckpt"
    start(*following, f"data.split.name={other}", first).refused("a test subset that had no part in the training")
    second = start(*following, "data.split.name=official", first).run
    of_second = (f"ckpt_path={second}/checkpoints/best.ckpt", f"data.root={folder}", f"out={tmp_path}/out")
    start(*of_second, f"data.split={other}", main="evaluate").refused("in the training with the split official")
    before = read_checkpoint(second / "checkpoints" / "best.ckpt")["hyper_parameters"]["provenance"]["before"]
    assert [training["split"]["name"] for training in before] == ["official"]


def test_a_refused_split_leaves_nothing_behind(start: Start, folder: Path, given: tuple[str, ...]) -> None:
    for words, told in (
        (("data.split.by=stratified", "data.split.stratify=[sax]"), "expected a column of the patients table"),
        (("data.split.by=site", "data.split.site=nowhere"), "patients of the site 'nowhere'"),
        (("data.split.by=file", "data.split.name=official"), "a split 'official', found splits: none"),
        (("data.split.few_shot=1000",), "at least 1000 train patients"),
    ):
        start(*given, *words).refused(told)
    assert not (folder / "splits").exists()
