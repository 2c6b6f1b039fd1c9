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
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from temmed.processes import processors

_ROOT = Path(__file__).resolve().parents[2]


def epochs(number: int, rate: str = "2e-3") -> tuple[str, ...]:
    """Overrides for so many epochs; only the end is validated, where the rate has fallen to nothing."""
    only_the_end = "trainer.check_val_every_n_epoch=${trainer.max_epochs}"
    return (f"trainer.max_epochs={number}", only_the_end, f"optimizer.lr={rate}")


#: Overrides of `train.py` for the model that trains the encoder.
ENCODER = ("model=static", *epochs(6, rate="3e-3"))
#: What the others share; the checkpoint of the static run of the same seed is added.
FROZEN = (
    "model.backbone.train=none",
    "model.start_parts=[backbone,project,place,text,reader,heads]",
    "model.heads.value.early_weight=null",  # they start from a model that reads
    "data.cache_features=true",
    "data.batch_size=16",
)
OTHERS: dict[str, tuple[str, ...]] = {
    "memory_fusion": ("model=memory_fusion", *epochs(5)),
    "temporal_transformer": ("model=temporal_transformer", *epochs(5)),
    "probe_text": ("model=memory_fusion", "experiment=probe_text", *epochs(1)),
    "probe_asked_image": ("model=memory_fusion", "experiment=probe_asked_image", *epochs(1)),
    "probe_prior_image": ("model=memory_fusion", "experiment=probe_prior_image", *epochs(1)),
    "difference": ("model=difference", *epochs(5)),
    "mean_pool": ("model=mean_pool", *epochs(5)),
}
#: Rows that are trained only if asked for.
EXTRA = ("difference", "mean_pool")
SHOWN = ("static", *(name for name in OTHERS if name not in EXTRA))


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


def main() -> int:
    """Run the demonstration; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the training (default: 0)")
    parser.add_argument(
        "--models",
        nargs="+",
        choices=[*SHOWN, *EXTRA],
        default=SHOWN,
        help=f"rows; {' and '.join(EXTRA)} only if named",
    )
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
    try:
        train_all(encoders, options.jobs if len(encoders) > 1 else 1)
        train_all(others, options.jobs)
        folders = [str(job.folder) for job in (*encoders, *others)]
        command = ["compare", *folders, "--out", str(options.out / "comparison")]
        print(f"\n$ temmed {shlex.join(command)}", flush=True)
        code = subprocess.run([sys.executable, "-m", "temmed.cli", *command]).returncode
    except TrainingError as failed:
        return failed.code
    except KeyboardInterrupt:
        print("interrupted; start again to go on", file=sys.stderr)
        return 130
    print(f"\nAll in {(time.perf_counter() - started) / 60:.1f} minutes.")
    return code


if __name__ == "__main__":
    sys.exit(main())
