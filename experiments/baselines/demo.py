"""Train, score and compare the baselines and the probes on synthetic MRI.

The static model is trained from pixels. The temporal models and the probes start from its image encoder, kept frozen,
so that they differ in how they use time and in nothing else; that also makes them quick to train. They are trained
side by side, one per processor.

Every line printed as `$ python train.py …` can be run by itself. A run that is finished is not trained again, so the
command can be stopped and started.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # experiments are no part of the installed package

from experiments.runner import FROZEN, Job, compare, epochs, finish, parser, train_all

#: Overrides of `train.py` for the model that trains the encoder.
ENCODER = ("model=static", *epochs(6, rate="3e-3"))
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


def main() -> int:
    """Run the demonstration; returns the exit code."""
    arguments = parser(__doc__, [0], "runs/demo")
    arguments.add_argument(
        "--models",
        nargs="+",
        choices=[*SHOWN, *EXTRA],
        default=SHOWN,
        help=f"rows; {' and '.join(EXTRA)} only if named",
    )
    options = arguments.parse_args()
    plans = [plan(options.models, seed, options.out, options.overrides) for seed in options.seeds]
    encoders = [encoder for encoder, _ in plans]
    others = [job for _, jobs in plans for job in jobs]

    def run() -> int:
        train_all(encoders, options.jobs if len(encoders) > 1 else 1)
        train_all(others, options.jobs)
        return compare([*encoders, *others], options.out / "comparison")

    return finish(run)


if __name__ == "__main__":
    sys.exit(main())
