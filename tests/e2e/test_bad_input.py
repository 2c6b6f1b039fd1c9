"""What the user got wrong: one clear message, a non-zero exit code, no traceback, nothing written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from temmed.timelines.folder import Timeline, write_timeline
from temmed.timelines.schema import SCHEMA
from temmed.timelines.splits import make_split, save_split

#: See conftest.
Outcome = Any
Start = Callable[..., Any]


def change(root: Path, name: str, edit: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = root / f"{name}.parquet"
    edit(pd.read_parquet(path)).to_parquet(path, index=False)


def content(root: Path) -> set[Path]:
    return set(root.rglob("*"))


@pytest.fixture
def refuse(start: Start, folder: Path) -> Callable[..., None]:
    """``refuse("word", …)``: training on the spoilt folder says so, and writes nothing there either."""

    def run(*words: str, overrides: tuple[str, ...] = ()) -> None:
        before = content(folder)
        start("data=folder", f"data.root={folder}", *overrides).refused(*words)
        assert content(folder) == before

    return run


def test_an_unknown_key(start: Start) -> None:
    start("data.batchsize=4").refused("batch_size")


def test_a_batch_of_nothing(start: Start) -> None:
    start("data.batch_size=0").refused("data.batch_size", "0")


def test_an_absent_folder(start: Start, tmp_path: Path) -> None:
    start("data=folder", f"data.root={tmp_path}/absent").refused("absent", "folder")


def test_an_empty_folder(start: Start, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    start("data=folder", f"data.root={tmp_path}/empty").refused("dataset.json")


def test_reversed_times(refuse: Callable[..., None], folder: Path) -> None:
    def reverse(table: pd.DataFrame) -> pd.DataFrame:
        times = table.groupby("sequence_id")["time"].transform("max") - table["time"]
        return table.assign(time=times, time_lower=np.nan, time_upper=np.nan)

    change(folder, "timepoints", reverse)
    refuse("timepoints.parquet", "row")


def test_a_duplicate_position(refuse: Callable[..., None], folder: Path) -> None:
    change(folder, "timepoints", lambda table: pd.concat([table, table.iloc[[3]]]))
    refuse("timepoints.parquet", "row")


def test_a_time_that_is_not_a_number(refuse: Callable[..., None], folder: Path) -> None:
    change(folder, "timepoints", lambda table: table.assign(time=table["time"].mask(table.index == 5)))
    refuse("timepoints.parquet", "time")


def test_an_image_that_is_not_there(refuse: Callable[..., None], folder: Path) -> None:
    path = Timeline.open(folder).table("images")["path"].iloc[0]
    (folder / path).unlink()
    refuse("images.parquet", path)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_truncated_image(refuse: Callable[..., None], folder: Path, workers: int) -> None:
    for path in set(Timeline.open(folder).table("images")["path"]):
        data = (folder / path).read_bytes()
        (folder / path).write_bytes(data[: len(data) // 2])
    refuse("truncated", ".npy", overrides=(f"data.num_workers={workers}",))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_truncated_image_that_is_found_in_training(
    start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    from temmed import run

    fit = run.fit

    def spoil_after_fitting(*words: Any) -> Any:
        fitted = fit(*words)
        for path in set(Timeline.open(folder).table("images")["path"]):
            data = (folder / path).read_bytes()
            (folder / path).write_bytes(data[: len(data) // 2])
        return fitted

    monkeypatch.setattr(run, "fit", spoil_after_fitting)
    words = ("data=folder", f"data.root={folder}", "logger=csv", f"data.num_workers={workers}")
    start(*words).refused("truncated", ".npy")


def test_a_split_that_names_an_unknown_patient(
    refuse: Callable[..., None], start: Start, folder: Path, dataset: Path
) -> None:
    shutil.copytree(dataset / "splits", folder / "splits")
    path = folder / "splits" / "patient_seed0.csv"
    table = pd.read_csv(path)
    table.loc[0, "patient_id"] = "nobody"
    table.to_csv(path, index=False)
    refuse("nobody", "patient_seed0.csv")


def test_a_checkpoint_of_another_dataset(start: Start, finished: Outcome, folder: Path, tmp_path: Path) -> None:
    change(folder, "patients", lambda table: table.assign(age=99.0))
    checkpoint = f"ckpt_path={finished.run}/checkpoints/best.ckpt"
    before = content(finished.run)
    words = (f"data.root={folder}", f"out={tmp_path}/out")
    start(checkpoint, *words, main="evaluate").refused("fingerprint", str(folder))
    assert content(finished.run) == before
    assert not (tmp_path / "out").exists()
    start("data=folder", f"data.root={folder}", checkpoint).refused("fingerprint", str(folder))
    start(checkpoint, "data.position_dropout=0.5").refused("best.ckpt", "data.position_dropout=0.1", "found 0.5")


@pytest.mark.parametrize(
    ("table", "edit", "told"),
    [
        ("images", lambda table: table.assign(channel=table["channel"].replace("flair", "t2")), "found t1, t2"),
        ("images", lambda table: table[table["channel"] == "t1"], "found t1."),
        ("patients", lambda table: table.assign(age=99.0), ""),
    ],
    ids=["renamed", "missing", "same"],
)
def test_a_checkpoint_of_images_of_another_kind(
    start: Start,
    finished: Outcome,
    folder: Path,
    tmp_path: Path,
    table: str,
    edit: Callable[[pd.DataFrame], pd.DataFrame],
    told: str,
) -> None:
    change(folder, table, edit)
    split = save_split(make_split(Timeline.open(folder)), folder).stem
    words = (f"data.root={folder}", f"data.split={split}", f"out={tmp_path}/out")
    outcome = start(f"ckpt_path={finished.run}/checkpoints/best.ckpt", *words, main="evaluate")
    if told:
        outcome.refused("expected channels flair, t1, which the checkpoint", told, str(folder), "same channel names")
    else:
        assert outcome.code == 0, outcome.message
    assert (tmp_path / "out").exists() == (not told)


def test_no_question_in_a_subset(refuse: Callable[..., None], folder: Path) -> None:
    timeline = Timeline.open(folder)
    val = make_split(timeline).questions(timeline, "val")["question_id"]
    change(folder, "questions", lambda table: table[~table["question_id"].isin(val)])
    refuse("questions in the val subset", "none")


def test_images_without_questions(refuse: Callable[..., None], folder: Path) -> None:
    timeline = Timeline.open(folder)
    needed = ("patients", "sequences", "timepoints", "images")
    tables = {name: timeline.table(name) for name in needed}
    for name in SCHEMA:
        (folder / f"{name}.parquet").unlink(missing_ok=True)
    write_timeline(folder, tables, name="bare", version="1", licence="CC0-1.0", provenance={"source": "test"})
    refuse("images only", "--questions")


def test_a_device_that_is_not_there(start: Start) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    start("trainer=gpu", "trainer.accelerator=gpu").refused("trainer")


def test_a_part_that_refuses_its_setting(start: Start) -> None:
    start("model.backbone.name=resnet8").refused("model.backbone.name", "resnet8")


def test_a_checkpoint_that_is_none(start: Start, tmp_path: Path) -> None:
    (tmp_path / "none.ckpt").write_bytes(b"nothing")
    start(f"ckpt_path={tmp_path}/none.ckpt").refused("checkpoint", "none.ckpt")
    start(f"ckpt_path={tmp_path}/none.ckpt", main="evaluate").refused("checkpoint", "none.ckpt")
