"""A mistake on the command line: one line, the nearest right name, exit code 2, nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Start = Callable[..., Any]

MISTAKES = [
    # arguments, the place, what the message must say; mistakes of value are in test_check.py
    (["data.batchsize=8"], "data.batchsize", "Did you mean 'batch_size'?"),
    (["modle=static"], "modle", "Did you mean 'model'?"),
    (["model/tempral=none"], "model/tempral", "Did you mean 'model/temporal'?"),
    (["model=memory_fuson"], "model=memory_fuson", "Did you mean 'memory_fusion'?"),
    (["model/temporal=transfomer"], "model/temporal=transfomer", "Did you mean 'transformer'?"),
    (["trainer=xyz"], "trainer=xyz", "Choose auto, cpu or gpu."),
    (["trainer=tpu"], "trainer=tpu", "Did you mean 'gpu'?"),
    (["data.batch_size=many"], "data.batch_size", "expected a whole number, found 'many'"),
    (["data.batch_size=2.5"], "data.batch_size", "expected a whole number, found '2.5'"),
    (["data.cache_features=maybe"], "data.cache_features", "expected true or false"),
    (["data.split=3"], "data.split", "Set its keys one by one: by, seed, fractions, stratify, "),
    (["data.split.stratify=sex"], "data.split.stratify", "expected a list of texts, found 'sex'"),
    (["data.split.by=kfold", "data.split.fold=0"], "data.split.folds", "For example: data.split.folds=5."),
    (["data.split.by=site"], "data.split.site", "For example: data.split.site=NAME."),
    (["data.split.together=groups"], "data.split.together", "expected an existing file, or duplicates, found 'groups'"),
    (["data.split.few_shots=4"], "data.split.few_shots", "Did you mean 'few_shot'?"),
    (["--multirun", "data.split.by=kfold", "data.split.folds=3", "data.split.fold=0,3"], "data.split.fold", "0 … 2"),
    (["data=ct", "data.windows={ct: [lungs]}"], "data.windows.ct", "found 'lungs'"),
    (["data.batch_size=0"], "data.batch_size", "expected at least 1, found 0"),
    (["data=folder"], "data.root", "give data.root=VALUE"),
    (["model.temporal.capcity=4"], "model.temporal.capcity", "Did you mean 'capacity'?"),
    (["+model.temporal.capcity=4"], "model.temporal.capcity", "Did you mean 'capacity'?"),
    (["trainer.max_time=1"], "trainer.max_time", "add it with +trainer.max_time=VALUE"),
    (["+trainer.max_epoch=1"], "trainer.max_epoch", "Did you mean 'max_epochs'?"),
    (["hydra.run.dri=x"], "hydra.run.dri", "Did you mean 'dir'?"),
    (["data"], "the command line", "expected KEY=VALUE, found 'data'"),
    (["data.root=a=b"], "data.root", "Put quotes around it"),
    (["data=mri,folder"], "the command line", "--multirun"),
    (["--config-name", "trian"], "--config-name", "Did you mean 'train'?"),
]


@pytest.mark.parametrize(("arguments", "place", "says"), MISTAKES, ids=[" ".join(row[0]) for row in MISTAKES])
def test_a_mistake_is_answered_in_one_line(
    arguments: list[str], place: str, says: str, start: Start, tmp_path: Path
) -> None:
    outcome = start(*arguments)
    assert outcome.code == 2
    assert not outcome.jobs
    assert outcome.message.startswith(f"error: {place}: expected ")
    assert says in outcome.message
    assert outcome.message.count("\n") == 1
    assert "Traceback" not in outcome.message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "place", "says"),
    [
        ([], "ckpt_path", "give ckpt_path=VALUE"),
        (["ckpt_path=nowhere"], "ckpt_path", "expected an existing file"),
        (["ckpt_path={file}", "subset=tst"], "subset", "Did you mean 'test'?"),
        (["ckpt_path={file}", "model=static"], "model", "expected a key or group of evaluate"),
        (["ckpt_path={file}", "data.batch_size=0"], "data.batch_size", "expected at least 1"),
    ],
)
def test_evaluate_answers_alike(arguments: list[str], place: str, says: str, start: Start, tmp_path: Path) -> None:
    file = tmp_path / "best.ckpt"
    file.touch()
    outcome = start(*(argument.format(file=file) for argument in arguments), main="evaluate")
    assert outcome.code == 2
    assert outcome.message.startswith(f"error: {place}: expected ")
    assert says in outcome.message
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["model=static,statik", "seed=0,1"], "Did you mean 'static'?"),
        (["data.batch_size=4,0"], "data.batch_size: expected at least 1, found 0"),
        (["model=static,memory_fusion", "+model.temporal.capacity=four"], "model.temporal.capacity"),
    ],
)
def test_a_sweep_is_checked_whole_before_its_first_job(
    overrides: list[str], says: str, start: Start, tmp_path: Path
) -> None:
    outcome = start("--multirun", *overrides)
    assert outcome.code == 2
    assert says in outcome.message
    assert not outcome.jobs
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "place", "says"),
    [
        ("data: {batchsize: 8}", "data.batchsize", "Did you mean 'batch_size'?"),
        ("data: {batch_size: many}", "data.batch_size", "expected a whole number, found 'many'"),
        ("optimizer: {lrr: 0.1}", "optimizer.lrr", "Did you mean 'lr'?"),
    ],
)
def test_a_mistake_in_a_file_names_file_or_key(
    content: str, place: str, says: str, start: Start, tmp_path: Path
) -> None:
    mine = tmp_path / "mine" / "experiment" / "own.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text(f"# @package _global_\n{content}\n", encoding="utf-8")
    outcome = start("--config-dir", str(tmp_path / "mine"), "experiment=own")
    assert outcome.code == 2
    assert outcome.message.startswith(f"error: {place}")
    assert says in outcome.message


def test_a_file_that_is_no_yaml_is_named(start: Start, tmp_path: Path) -> None:
    mine = tmp_path / "experiment" / "own.yaml"
    mine.parent.mkdir()
    mine.write_text("data: [unclosed\n", encoding="utf-8")
    outcome = start("--config-dir", str(tmp_path), "experiment=own")
    assert outcome.code == 2
    assert "own.yaml" in outcome.message
