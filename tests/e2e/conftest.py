"""Whole runs in this process: the entry points as a user starts them, on a tiny synthetic set."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.testing
from hydra.core.global_hydra import GlobalHydra

from temmed import entry
from temmed.cli import app

#: One tiny step; few enough patients to be quick, enough for every subset to have questions of every task.
TINY = ("debug=fast", "data.patients=24", "logger=none")


@dataclass
class Outcome:
    """What a start of ``train.py`` or ``evaluate.py`` did.

    Attributes:
        code: exit code.
        output: standard output.
        message: standard error.
        runs: the run folders that are new.
    """

    code: int
    output: str
    message: str
    runs: list[Path]

    @property
    def run(self) -> Path:
        """The one new run folder."""
        assert self.code == 0, self.message
        (folder,) = self.runs
        return folder

    def metrics(self) -> dict[str, Any]:
        """The metrics of the one new run."""
        return json.loads((self.run / "metrics.json").read_text())

    def refused(self, *words: str) -> None:
        """Assert that there was one clear message, and nothing else."""
        assert self.code == 2, self.message
        assert "Traceback" not in self.message + self.output
        lines = [line for line in self.message.splitlines() if line.startswith("error:")]
        assert len(lines) == 1, self.message
        for word in words:
            assert word in self.message
        assert self.runs == []


Start = Callable[..., Outcome]


def start_in(place: Path, *overrides: str, main: str = "train") -> Outcome:
    """Start an entry point with ``place`` as the working folder."""
    before, here, arguments = set(find_runs(place)), Path.cwd(), sys.argv
    out, err = io.StringIO(), io.StringIO()
    handlers = logging.getLogger().handlers[:]
    code = 0
    os.chdir(place)
    # Hydra wants its options before the overrides.
    sys.argv = [f"{main}.py", *sorted(overrides, key=lambda word: not word.startswith("--"))]
    GlobalHydra.instance().clear()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("default")
            getattr(entry, main)()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    finally:
        os.chdir(here)
        sys.argv = arguments
        GlobalHydra.instance().clear()
        logging.getLogger().handlers[:] = handlers
    return Outcome(code, out.getvalue(), err.getvalue(), sorted(set(find_runs(place)) - before))


def find_runs(place: Path) -> Iterator[Path]:
    """Folders below ``place/runs`` in which a run wrote anything at all."""
    files = (path for path in (place / "runs").rglob("*") if path.is_file() or not any(path.iterdir()))
    for path in files:
        if path.name == "multirun.yaml":  # Hydra's account of a sweep
            continue
        parents = [path, *path.parents]
        yield next((p for p in parents if "_seed" in p.name), path)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with the synthetic set in its cache."""
    folder = tmp_path_factory.mktemp("e2e")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEMMED_DATA", str(folder / "data_cache"))
        patch.setenv("TEMMED_RUNS", "runs")
        patch.setenv("WANDB_MODE", "offline")
        patch.delenv("HYDRA_FULL_ERROR", raising=False)
        yield folder


@pytest.fixture(scope="session")
def finished(place: Path) -> Outcome:
    """A run that went well, for all tests that only look at it."""
    return start_in(place, *TINY, "logger=csv", "name=finished")


@pytest.fixture(scope="session")
def measured(place: Path) -> Outcome:
    """A run of the baseline that does not learn, on a small set with images of the usual size."""
    return start_in(place, "model=measure", "data.patients=40", "data.size=64")


@pytest.fixture
def start(place: Path, tmp_path: Path) -> Start:
    """``start("model=static", main="train")`` in an empty folder, with the shared synthetic set."""

    def run(*overrides: str, main: str = "train", tiny: Sequence[str] = TINY) -> Outcome:
        return start_in(tmp_path, *(tiny if main == "train" else ()), *overrides, main=main)

    return run


@pytest.fixture(scope="session")
def dataset(place: Path, finished: Outcome) -> Path:
    """The synthetic timeline folder; not to be changed."""
    return Path(json.loads((finished.run / "run.json").read_text())["dataset_root"])


@pytest.fixture
def folder(dataset: Path, tmp_path: Path) -> Path:
    """A copy of the synthetic timeline folder, without splits, to be spoilt."""
    copy = Path(shutil.copytree(dataset, tmp_path / "folder"))
    shutil.rmtree(copy / "splits", ignore_errors=True)
    return copy


@pytest.fixture
def command() -> Callable[..., typer.testing.Result]:
    """``command("data", "info", folder)``: the ``temmed`` command."""
    runner = typer.testing.CliRunner()
    return lambda *words: runner.invoke(app, [str(word) for word in words])
