"""What the entry points do around the run: errors, exit codes, folders."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError

from temmed.errors import InputError

Start = Callable[..., Any]


def test_a_run_gets_a_folder_of_its_own_below_runs(start: Start, tmp_path: Path) -> None:
    first, second = start("model=static", "seed=3").jobs + start("model=static", "seed=3").jobs
    folders = [Path(job.paths.run) for job in (first, second)]
    assert folders[0] != folders[1]
    for folder in folders:
        assert folder.is_dir()
        assert folder.parent == tmp_path / "runs" / "train" / "static"
        assert folder.name.endswith("_seed3")


def test_the_runs_folder_follows_the_environment(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMMED_RUNS", str(tmp_path / "elsewhere"))
    (job,) = start("debug=fast").jobs
    assert Path(job.paths.run).is_relative_to(tmp_path / "elsewhere" / "debug")


def test_a_sweep_runs_every_job_in_a_folder_of_its_own(start: Start) -> None:
    outcome = start("--multirun", "model=static,difference", "seed=1")
    assert outcome.code == 0
    assert [(job.name, job.seed) for job in outcome.jobs] == [("static", 1), ("difference", 1)]
    folders = [Path(job.paths.run) for job in outcome.jobs]
    assert [folder.name for folder in folders] == ["0_static_seed1", "1_difference_seed1"]
    assert folders[0].parent == folders[1].parent


def test_an_input_error_is_one_message_and_leaves_nothing(start: Start, tmp_path: Path) -> None:
    def body(config: DictConfig) -> None:
        raise InputError("a readable image", "a truncated file", "images/0.npy", "Copy it again.")

    outcome = start("model=static", body=body)
    assert outcome.code == 2
    assert outcome.message == (
        "error: images/0.npy: expected a readable image, found a truncated file. Copy it again.\n"
    )
    assert not list(tmp_path.iterdir())


def test_an_input_error_keeps_what_the_run_wrote(start: Start) -> None:
    written = []

    def body(config: DictConfig) -> None:
        written.append(Path(config.paths.run, "config.yaml"))
        written[0].write_text("kept")
        raise InputError("a", "b", "c", "d")

    assert start("model=static", body=body).code == 2
    assert written[0].read_text() == "kept"


def test_an_input_error_of_evaluate_spares_the_working_folder(start: Start, tmp_path: Path) -> None:
    checkpoint = tmp_path.parent / f"{tmp_path.name}.ckpt"
    checkpoint.touch()

    def body(config: DictConfig) -> None:
        raise InputError("a", "b", "c", "d")

    assert start(f"ckpt_path={checkpoint}", main="evaluate", body=body).code == 2
    assert tmp_path.is_dir()


@pytest.mark.parametrize("bug", [ValueError("a bug"), ConfigAttributeError("a bug"), RuntimeError("a bug")])
def test_a_bug_keeps_its_traceback(bug: Exception, start: Start) -> None:
    def body(config: DictConfig) -> None:
        raise bug

    with pytest.raises(type(bug), match="a bug") as caught:
        start("model=static", body=body)
    assert "body" in [entry.name for entry in caught.traceback]


def test_an_interrupt_ends_quietly(start: Start) -> None:
    def body(config: DictConfig) -> None:
        raise KeyboardInterrupt

    outcome = start("model=static", body=body)
    assert (outcome.code, outcome.message) == (130, "interrupted\n")


def test_hydras_own_account_on_request(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(Exception, match="Could not find 'model/statik'"):
        start("model=statik")
    assert os.environ["HYDRA_FULL_ERROR"] == "1"


def test_the_environment_is_left_as_it_was(start: Start) -> None:
    start("model=statik")
    assert "HYDRA_FULL_ERROR" not in os.environ


@pytest.mark.parametrize("main", ["train", "evaluate"])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_groups_examples_and_keys(main: str, flag: str, start: Start) -> None:
    outcome = start(flag, main=main)
    assert outcome.code == 0
    assert f"python {main}.py" in outcome.output
    assert "$" not in outcome.output
    if main == "train":
        for line in ("model/temporal ", "difference,", "memory_fusion*", "data.batch_size", "--multirun"):
            assert line in outcome.output


def test_the_examples_of_the_help_compose(start: Start, composed: Callable[..., DictConfig]) -> None:
    lines = [line.split()[2:] for line in start("--help").output.splitlines() if "  python train.py " in line]
    assert len(lines) > 4
    overrides = {word for line in lines for word in line if "=" in word and "," not in word}
    composed(*sorted(overrides, reverse=True))  # a repeated group takes its last option
