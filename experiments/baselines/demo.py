"""Train, score and compare the baselines and the probes on synthetic MRI.

The static model is trained from pixels. The temporal models and the probes start from its image encoder, kept frozen,
so that they differ in how they use time and in nothing else; that also makes them quick to train. They are trained
side by side, one per processor.

Every line printed as `$ python train.py …` can be run by itself. A run that is finished is not trained again, so the
command can be stopped and started.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import shlex
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from temmed.errors import InputError

#: Overrides of `train.py` for the model that trains the encoder.
ENCODER = ("model=static", "trainer.max_epochs=6")
#: What the others share; the checkpoint of the static run of the same seed is added.
FROZEN = (
    "model.backbone.freeze=true",
    "model.start_parts=[backbone,project,place,text,reader,answer,value,event]",
    "data.cache_features=true",
    "trainer.max_epochs=5",
)
OTHERS: dict[str, tuple[str, ...]] = {
    "memory_fusion": ("model=memory_fusion",),
    "probe_text": ("model=memory_fusion", "experiment=probe_text"),
    "temporal_transformer": ("model=temporal_transformer",),
    "probe_asked_image": ("model=memory_fusion", "experiment=probe_asked_image"),
    "probe_prior_image": ("model=memory_fusion", "experiment=probe_prior_image"),
    "difference": ("model=difference",),
    "mean_pool": ("model=mean_pool",),
}


@dataclass(frozen=True)
class Job:
    """One training: its row, its seed, the overrides of `train.py`, and the folder of the run."""

    name: str
    seed: int
    overrides: tuple[str, ...]
    folder: Path

    @property
    def command(self) -> str:
        """What one would type to run it alone."""
        words = [*self.overrides, f"seed={self.seed}", f"paths.run={self.folder}"]
        return f"python train.py {shlex.join(words)}"

    @property
    def log(self) -> Path:
        """Where the output of a job goes that runs beside others."""
        return self.folder.parent / f"seed{self.seed}.log"

    @property
    def done(self) -> bool:
        """Whether it was finished before."""
        return (self.folder / "metrics.json").exists()


def plan(names: Sequence[str], seed: int, out: Path, overrides: Sequence[str]) -> tuple[Job, list[Job]]:
    """The job that trains the encoder, and those that start from it."""
    encoder = Job("static", seed, (*ENCODER, *overrides), out / "static" / f"seed{seed}")
    start = f"model.start_from={encoder.folder}/checkpoints/best.ckpt"
    others = [
        Job(name, seed, (*own, *FROZEN, start, *overrides), out / name / f"seed{seed}")
        for name, own in OTHERS.items()
        if name in names
    ]
    return encoder, others


def train_one(job: Job, quiet: bool = False) -> float:
    """Train one model in this process; returns the seconds it took.

    Args:
        job: what to train.
        quiet: without a progress bar.
    """
    from hydra import compose, initialize_config_dir

    from temmed.config.check import check
    from temmed.config.paths import conf_dir
    from temmed.config.schema import register
    from temmed.run import train

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    started = time.perf_counter()
    register()
    words = [*job.overrides, f"seed={job.seed}", f"paths.run={job.folder}", "logger=csv"]
    words += ["trainer.enable_progress_bar=false"] if quiet else []
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", overrides=words)
    check(config)
    train(config)
    return time.perf_counter() - started


def train_beside_others(job: Job) -> float:
    """`train_one` in a worker process, with its output in a log file."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("w") as log, redirect_stdout(log), redirect_stderr(log):
        return train_one(job, quiet=True)


def summary(job: Job, seconds: float) -> str:
    """One line about a finished job."""
    accuracy = json.loads((job.folder / "metrics.json").read_text())["test/progression/accuracy"]["value"]
    return f"{job.name}, seed {job.seed}: progression accuracy {100 * accuracy:.1f} %, {seconds:.0f} s"


def _use_threads(count: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(count)


def run_all(jobs: Sequence[Job], workers: int, threads: int) -> None:
    """Train all jobs that are not done, ``workers`` of them at a time with ``threads`` threads each."""
    for job in jobs:
        print(f"$ {job.command}" + ("   # done before" if job.done else ""), flush=True)
    waiting = [job for job in jobs if not job.done]
    if len(waiting) <= 1 or workers == 1:
        for job in waiting:
            print(summary(job, train_one(job)), flush=True)
        return
    print(f"{len(waiting)} trainings, {workers} at a time; their output is in {waiting[0].log.parent.parent}/*/*.log")
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_use_threads, initargs=(threads,))
    try:
        futures: dict[Future[float], Job] = {pool.submit(train_beside_others, job): job for job in waiting}
        for future in as_completed(futures):
            print(summary(futures[future], future.result()), flush=True)
    finally:
        pool.shutdown(cancel_futures=True)


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main() -> int:
    """Run the demonstration; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the training (default: 0)")
    parser.add_argument("--models", nargs="+", choices=["static", *OTHERS], default=["static", *OTHERS])
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder of the runs and the page")
    parser.add_argument(
        "--jobs",
        type=int,
        default=processors(),
        help="trainings at a time (default: one per processor; use 1 on a GPU)",
    )
    parser.add_argument("overrides", nargs="*", help="further overrides for every run, for instance data.patients=200")
    options = parser.parse_args()
    started = time.perf_counter()
    plans = [plan(options.models, seed, options.out, options.overrides) for seed in options.seeds]
    encoders = [encoder for encoder, _ in plans]
    others = [job for _, jobs in plans for job in jobs]
    workers = max(1, options.jobs)
    try:
        for job in encoders:
            run_all([job], 1, processors())
        run_all(others, min(workers, max(1, len(others))), max(1, processors() // workers))
        from temmed.cli import app

        command = ["compare", *(str(job.folder) for job in (*encoders, *others)), "--out", f"{options.out}/comparison"]
        print(f"\n$ temmed {shlex.join(command)}", flush=True)
        app(command, standalone_mode=False)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; start again to go on", file=sys.stderr)
        return 130
    print(f"\nAll in {(time.perf_counter() - started) / 60:.1f} minutes.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
