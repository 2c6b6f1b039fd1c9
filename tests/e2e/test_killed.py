"""Processes that are killed or interrupted: what is there afterwards is whole, and the next start goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from temmed.config.paths import conf_dir
from temmed.data.streaming.writing import write_shards
from temmed.timelines.folder import Timeline
from temmed.training.checkpoint import AtomicCheckpointIO, read_checkpoint

#: See conftest.
Start = Callable[..., Any]

pytestmark = pytest.mark.slow

REPOSITORY = Path(conf_dir()).parent
#: Longer than any test lets it run.
ENDLESS = (
    "debug=fast",
    "data.patients=24",
    "logger=csv",
    "trainer.max_epochs=100000",
    "callbacks.early_stopping.patience=100000",
)
#: A run of 16 batches in 4 epochs, with a checkpoint after each.
SHORT = (
    "debug=fast",
    "data.patients=24",
    "trainer.limit_train_batches=null",
    "trainer.limit_val_batches=null",
    "trainer.max_epochs=4",
    "callbacks.last_checkpoint.every_minutes=0",
    "+callbacks.witness._target_=tests.e2e.witness.Witness",
    "logger=csv",
    "test=false",
)
DDP = ("strategy=ddp", "trainer.devices=2", "data.split.name=ddp", "data.split.fractions=[0.5,0.25,0.25]")
#: Seconds that a start may take on a busy machine.
PATIENCE = 600


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


@pytest.fixture
def launch(tmp_path: Path, place: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start ``train.py`` as a process group of its own, in an empty folder."""
    started: list[subprocess.Popen[str]] = []

    def run(*overrides: str, cache: Path = place / "data_cache") -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(REPOSITORY / "train.py"), *overrides],
            cwd=tmp_path,
            env={**os.environ, "TEMMED_DATA": str(cache), "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A test run in the background may ignore Ctrl-C, and its children would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_set_whose_writing_was_killed_is_written_again(
    launch: Callable[..., subprocess.Popen[str]], start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    process = launch("debug=fast", "data.patients=2000", cache=cache)
    wait_for(lambda: list(cache.glob(".*partial*/images/*")), process)
    kill(process)
    assert not [path for path in cache.iterdir() if not path.name.startswith(".")]
    (left,) = cache.iterdir()
    # The same folder with few patients takes the place of the one that was being written.
    whole = left.name[1:].partition(".partial")[0]
    left.rename(left.with_name(left.name.replace("-2000x", "-24x")))
    monkeypatch.setenv("TEMMED_DATA", str(cache))
    assert start("test=false").code == 0
    (folder,) = cache.iterdir()
    assert folder.name == whole.replace("-2000x", "-24x")
    timeline = Timeline.open(folder)
    assert timeline.meta.fingerprint == timeline.recorded_fingerprint


def test_a_killed_training_goes_on_from_its_last_checkpoint(
    launch: Callable[..., subprocess.Popen[str]], start: Start, tmp_path: Path, finished: Any
) -> None:
    process = launch(*ENDLESS)
    wait_for(lambda: list(tmp_path.glob("runs/**/last.ckpt")), process)
    # Checkpoints follow each other closely here, so that a kill at any time is often in the middle of one.
    time.sleep(1.3)
    kill(process)
    (last,) = tmp_path.glob("runs/**/last.ckpt")
    epoch = read_checkpoint(last)["epoch"]
    read_checkpoint(last.with_name("best.ckpt"))
    outcome = start(f"ckpt_path={last}", f"trainer.max_epochs={epoch + 2}", "scheduler=cosine")
    assert read_checkpoint(outcome.run / "checkpoints" / "last.ckpt")["epoch"] == epoch + 1


def batches(folder: Path) -> dict[str, list[str]]:
    """The lines of each process."""
    return {path.name: path.read_text().splitlines() for path in sorted(folder.iterdir())}


def epoch(lines: list[str], number: int) -> list[tuple[str, ...]]:
    """The sequences of each batch of an epoch."""
    return [tuple(names) for at, _, *names in map(str.split, lines) if int(at) == number]


def assert_it_went_on(whole: Path, stopped: Path, rest: Path) -> None:
    """Batches of each process, weights, optimizer, schedule, validation and best checkpoint are those of the whole."""
    for name, lines in batches(whole / "batches").items():
        before, after = (batches(folder / "batches")[name] for folder in (stopped, rest))
        assert after == lines[len(lines) - len(after) :]
        assert before == lines[: len(before)]
        assert len(before) + len(after) >= len(lines)
        assert 0 < len(after) < len(lines)
    for name in ("last", "best"):
        expected, found = (read_checkpoint(folder / f"checkpoints/{name}.ckpt") for folder in (whole, rest))
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "callback_metrics"):
            torch.testing.assert_close(found[part], expected[part], rtol=0, atol=0, equal_nan=True)
        assert found["TimelineDataModule"] == expected["TimelineDataModule"]


def test_a_training_killed_anywhere_ends_as_if_it_had_not_been_whatever_the_workers(
    launch: Callable[..., subprocess.Popen[str]], start: Start, tmp_path: Path, finished: Any
) -> None:
    def folders(name: str) -> tuple[str, str]:
        return f"hydra.run.dir={tmp_path}/{name}", f"+callbacks.witness.folder={tmp_path}/{name}/batches"

    whole, stopped, rest = (tmp_path / name for name in ("whole", "stopped", "rest"))
    assert start(*SHORT, *folders("whole"), tiny=()).code == 0
    process = launch(*SHORT, *folders("stopped"))
    wait_for(
        lambda: len(list(stopped.glob("batches/*"))) and len(batches(stopped / "batches")["rank0.txt"]) > 1, process
    )
    kill(process)
    outcome = start(
        *SHORT, *folders("rest"), f"ckpt_path={stopped}/checkpoints/last.ckpt", "data.num_workers=1", tiny=()
    )
    assert outcome.code == 0, outcome.message
    assert_it_went_on(whole, stopped, rest)
    expected, found = ((folder / "metrics.csv").read_text().splitlines() for folder in (whole, rest))
    # A kill just after a checkpoint may come before the step is logged.
    assert set(found) <= set(expected)
    assert len(expected) - 1 <= len(found) <= len(expected)
    assert json.loads((rest / "run.json").read_text())["resumed_after"].startswith(("batch", "epoch"))


@pytest.mark.parametrize("source", ["folder", "shards"])
def test_two_processes_killed_together_go_on_together(
    source: str, launch: Callable[..., subprocess.Popen[str]], tmp_path: Path, dataset: Path
) -> None:
    data: tuple[str, ...] = ()
    if source == "shards":
        shards = tmp_path / "shards"
        assert write_shards(dataset, str(shards), shards, shard_size=40_000, workers=1).shards > 4
        data = ("data=folder", f"data.root={shards}", "data.size=32", "data.frames_per_batch=12")

    def run(name: str, *more: str) -> tuple[Path, int]:
        folder = tmp_path / name
        places = f"hydra.run.dir={folder}", f"+callbacks.witness.folder={folder}/batches"
        process = launch(*SHORT, *data, *DDP, *places, "trainer.max_epochs=2", *more)
        output = process.communicate(timeout=PATIENCE)
        assert process.returncode in (0, -signal.SIGKILL), output
        return folder, process.returncode

    whole, code = run("whole")
    assert code == 0
    shares = [epoch(lines, 0) for lines in batches(whole / "batches").values()]
    assert len(shares) == 2
    assert len(shares[0]) == len(shares[1])
    # Nothing is lost, and nothing read twice but a batch that makes the shares even.
    given = [line for share in shares for line in share]
    split = pd.read_csv((shards if data else dataset) / "splits" / "ddp.csv")
    asked = set(split.loc[split["subset"] == "train", "sequence_id"])
    assert len(given) - len(set(given)) <= 1
    assert sorted(name for line in set(given) for name in line) == sorted(asked)
    # Batches that loader processes had ready are lost with them.
    stopped, code = run("stopped", "+callbacks.witness.epoch=1", "+callbacks.witness.batch=1", "data.num_workers=1")
    assert code == -signal.SIGKILL
    rest, code = run("rest", f"ckpt_path={stopped}/checkpoints/last.ckpt")
    assert code == 0
    assert_it_went_on(whole, stopped, rest)
    assert (rest / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()


def test_a_checkpoint_is_old_or_new_whenever_the_process_dies(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    code = (
        "import sys, torch; from temmed.training.checkpoint import AtomicCheckpointIO as Write\n"
        "for n in range(10**9): Write().save_checkpoint({'n': n, 'x': torch.full((200_000,), n)}, sys.argv[1])"
    )
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
        )
        try:
            before = path.stat().st_mtime_ns if path.exists() else 0
            wait_for(lambda before=before: path.exists() and path.stat().st_mtime_ns > before, process)
            time.sleep(0.05)
        finally:
            process.kill()
            process.wait()
        content = torch.load(path, weights_only=True)
        assert (content["x"] == content["n"]).all()
    AtomicCheckpointIO().save_checkpoint({"n": -1}, path)
    assert [found.name for found in tmp_path.iterdir()] == ["last.ckpt"]


def test_ctrl_c_says_how_to_go_on(
    launch: Callable[..., subprocess.Popen[str]], start: Start, tmp_path: Path, finished: Any
) -> None:
    process = launch(*ENDLESS)
    wait_for(lambda: list(tmp_path.glob("runs/**/last.ckpt")), process)
    os.killpg(process.pid, signal.SIGINT)
    _, message = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    (last,) = tmp_path.glob("runs/**/last.ckpt")
    (line,) = message.strip().splitlines()
    assert line == f"interrupted: add ckpt_path={last.relative_to(tmp_path)} to the same command to go on"
    epoch = read_checkpoint(last)["epoch"]
    assert start(f"ckpt_path={last}", f"trainer.max_epochs={epoch + 2}", "test=false").code == 0


def test_ctrl_c_while_the_set_is_written_leaves_nothing(
    launch: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    process = launch("debug=fast", "data.patients=2000", cache=cache)
    wait_for(lambda: list(cache.glob(".*partial*/images/*")), process)
    os.killpg(process.pid, signal.SIGINT)
    _, message = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert message.strip().splitlines()[-1] == "interrupted"
    assert "Traceback" not in message
    assert not list(cache.iterdir())
    assert not list(tmp_path.glob("runs/**/*seed0"))
