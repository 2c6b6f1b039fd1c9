"""What experiments share: trainings in processes of their own, several side by side, and the comparison of their runs.

Every line printed as `$ python train.py …` can be run by itself. A run that is finished is not trained again, so an
experiment can be stopped and started.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from temmed.processes import processors

_ROOT = Path(__file__).resolve().parents[1]
#: What models share that start from the encoder of another run, kept frozen; `model.start_from` is to be added.
FROZEN = (
    "model.backbone.train=none",
    "model.start_parts=[backbone,project,place,text,reader,heads]",
    "model.heads.value.early_weight=null",  # they start from a model that reads
    "data.cache_features=true",
    "data.batch_size=16",
)


def epochs(number: int, rate: str = "2e-3") -> tuple[str, ...]:
    """Overrides for so many epochs; only the end is validated, where the rate has fallen to nothing."""
    only_the_end = "trainer.check_val_every_n_epoch=${trainer.max_epochs}"
    return (f"trainer.max_epochs={number}", only_the_end, f"optimizer.lr={rate}")


@dataclass(frozen=True)
class Job:
    """One training: its row, its seed, the overrides of `train.py`, and the folder of the run."""

    name: str
    seed: int
    overrides: tuple[str, ...]
    folder: Path

    @property
    def words(self) -> list[str]:
        """The arguments of `train.py`."""
        return [*self.overrides, f"seed={self.seed}", f"paths.run={self.folder}"]

    @property
    def log(self) -> Path:
        """Where the output of a job goes that runs beside others."""
        return self.folder.parent / f"seed{self.seed}.log"

    @property
    def done(self) -> bool:
        """Whether it was finished before."""
        return (self.folder / "metrics.json").exists()


class TrainingError(Exception):
    """A training ended with this exit code; what it had to say is printed."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def train(job: Job, threads: int, beside_others: bool) -> str:
    """Train one model in a process of its own; returns one line about it.

    Args:
        job: what to train.
        threads: how many it may use.
        beside_others: its output goes to its log instead of the terminal.

    Raises:
        TrainingError: with the exit code of the training.
    """
    started = time.perf_counter()
    command = [sys.executable, str(_ROOT / "train.py"), *job.words]
    settings = os.environ | {"OMP_NUM_THREADS": str(threads)}
    if beside_others:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("w") as log:
            command.append("trainer.enable_progress_bar=false")
            code = subprocess.run(command, env=settings, stdout=log, stderr=subprocess.STDOUT).returncode
        if code:
            print(f"{job.name}, seed {job.seed} failed:\n{job.log.read_text()}", file=sys.stderr, flush=True)
    else:
        code = subprocess.run(command, env=settings).returncode
    if code:
        raise TrainingError(code)
    accuracy = json.loads((job.folder / "metrics.json").read_text())["test/progression/accuracy"]["value"]
    seconds = time.perf_counter() - started
    return f"{job.name}, seed {job.seed}: progression accuracy {100 * accuracy:.1f} %, {seconds:.0f} s"


def train_all(jobs: Sequence[Job], workers: int) -> None:
    """Train all jobs that are not done, ``workers`` of them at a time."""
    for job in jobs:
        print(f"$ python train.py {shlex.join(job.words)}" + ("   # done before" if job.done else ""), flush=True)
    waiting = [job for job in jobs if not job.done]
    workers = max(1, min(workers, len(waiting)))
    threads = max(1, processors() // workers)
    if workers > 1:
        place = waiting[0].log.parent.parent
        print(f"{len(waiting)} trainings, {workers} at a time; their output is in {place}/*/*.log", flush=True)
    with ThreadPoolExecutor(workers) as pool:
        try:
            futures = [pool.submit(train, job, threads, workers > 1) for job in waiting]
            for future in as_completed(futures):
                print(future.result(), flush=True)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def judge_elsewhere(jobs: Sequence[Job], root: Path, split: str, name: str, workers: int) -> None:
    """Judge finished trainings on other data, into a folder of that name in each run; those that were are not again.

    Raises:
        TrainingError: with the exit code of one that failed; what it had to say is printed.
    """

    def judge(job: Job) -> str:
        words = [f"ckpt_path={job.folder}/checkpoints/best.ckpt", f"data.root={root}", f"data.split={split}"]
        words += [f"out={job.folder / name}", "trainer.enable_progress_bar=false"]
        told = f"$ python evaluate.py {shlex.join(words)}"
        if (job.folder / name / "metrics.json").exists():
            return f"{told}   # done before"
        settings = os.environ | {"OMP_NUM_THREADS": str(max(1, processors() // workers))}
        command = [sys.executable, str(_ROOT / "evaluate.py"), *words]
        done = subprocess.run(command, env=settings, capture_output=True, text=True)
        if done.returncode:
            print(f"{told}\n{done.stdout}{done.stderr}", file=sys.stderr, flush=True)
            raise TrainingError(done.returncode)
        return told

    with ThreadPoolExecutor(max(1, workers)) as pool:
        for told in pool.map(judge, jobs):
            print(told, flush=True)


def compare(jobs: Sequence[Job], out: Path) -> int:
    """Compare the runs of jobs into a folder, and print the command; returns its exit code."""
    command = ["compare", *(str(job.folder) for job in jobs), "--out", str(out)]
    print(f"\n$ temmed {shlex.join(command)}", flush=True)
    return subprocess.run([sys.executable, "-m", "temmed.cli", *command]).returncode


def parser(description: str | None, seeds: Sequence[int], out: str) -> argparse.ArgumentParser:
    """Arguments of every experiment, with its seeds and its folder when none are given."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    told = " ".join(str(seed) for seed in seeds)
    found.add_argument("--seeds", type=int, nargs="+", default=seeds, help=f"seeds of the training (default: {told})")
    found.add_argument("--out", type=Path, default=Path(out), help="folder of the runs and the page")
    found.add_argument(
        "--jobs",
        type=int,
        default=processors(),
        help="trainings at a time (default: one per processor; use 1 on a GPU)",
    )
    found.add_argument("overrides", nargs="*", help="further overrides for every run, for instance data.patients=200")
    return found


def finish(experiment: Callable[[], int]) -> int:
    """Run an experiment to its end or to the first training that fails; returns the exit code."""
    started = time.perf_counter()
    try:
        code = experiment()
    except TrainingError as failed:
        return failed.code
    except KeyboardInterrupt:
        print("interrupted; start again to go on", file=sys.stderr)
        return 130
    print(f"\nAll in {(time.perf_counter() - started) / 60:.1f} minutes.")
    return code
