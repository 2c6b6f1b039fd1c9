"""Every temporal head, the probes and `measure` (where it has an atlas) on synthetic MRI, CT and ultrasound.

With one budget: for each set and seed the static model is trained from pixels; all others start from its image
encoder, kept frozen, and are trained for the same number of epochs with the same rate, as in `experiments/baselines`.
Then the rows are compared, what they answered is recorded, and a page is made of it (`page.py`), with every model
against memory_fusion by horizon.

Every line printed as `$ python train.py …` can be run by itself. A run that is finished is not trained again, so the
command can be stopped and started; rows that were recorded before stay in the record.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # experiments are no part of the installed package

from experiments.modalities.page import REFERENCE, write_page
from experiments.modalities.record import Elsewhere, Record, collect, read, write
from experiments.runner import FROZEN, Job, compare, epochs, finish, judge_elsewhere, parser, train_all
from temmed.timelines.folder import Timeline
from temmed.timelines.recipe import Recipe
from temmed.timelines.splits import find_split, keep_split
from temmed.timelines.synthetic import generate

#: Few sequences in a batch, where sequences are long and the set has few.
SMALL = "data.batch_size=4"
#: The sets: what all rows share, what trains the encoder, and what trains all others.
SETS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "mri": (("data=mri",), epochs(6, rate="3e-3"), epochs(5)),
    "ct": (("data=ct", "data.patients=1600"), epochs(10, rate="3e-3"), epochs(8)),
    "ultrasound": (("data=ultrasound",), (*epochs(6, rate="3e-3"), SMALL), (*epochs(4), SMALL)),
}
HEADS = (
    "mean_pool",
    "difference",
    "temporal_conv",
    "gru",
    "lstm",
    "ssm",
    "temporal_transformer",
    "windowed_transformer",
    "memory_tokens",
    "memory_fusion",
)
#: Heads of other sizes. `_equal` have as many bytes of state as memory_fusion (ssm has them as it is), `_double` as
#: many as memory_fusion_16.
SIZES = {
    "gru_equal": ("model=gru", "name=gru_equal", "model.temporal.hidden=1024"),
    "memory_tokens_equal": ("model=memory_tokens", "name=memory_tokens_equal", "model.temporal.segment=4"),
    "ssm_double": ("model=ssm", "name=ssm_double", "model.temporal.state_size=33"),
    "memory_tokens_double": ("model=memory_tokens", "name=memory_tokens_double", "model.temporal.segment=10"),
    "memory_fusion_16": ("model=memory_fusion", "name=memory_fusion_16", "model.temporal.capacity=16"),
    "memory_fusion_32": ("model=memory_fusion", "name=memory_fusion_32", "model.temporal.capacity=32"),
}
PROBES = ("probe_text", "probe_asked_image", "probe_prior_image")
ROWS = ("static", "measure", *HEADS, *SIZES, *PROBES)
#: Of the second test set; the sets that models are trained on have 0.
SECOND_SEED = 1
#: Sets of whose places and looks of findings `measure` has an atlas.
MEASURED = ("mri", "ultrasound")


def plan(dataset: str, rows: Sequence[str], seed: int, out: Path, overrides: Sequence[str]) -> tuple[Job, list[Job]]:
    """The training of the encoder of a set and seed, and those that start from it."""
    shared, encoder, following = SETS[dataset]

    def job(row: str, *own: str) -> Job:
        return Job(row, seed, (*own, *shared, *overrides), out / dataset / row / f"seed{seed}")

    first = job("static", "model=static", *encoder)
    frozen = (*FROZEN, *following, f"model.start_from={first.folder}/checkpoints/best.ckpt")
    models = {row: (f"model={row}",) for row in HEADS} | SIZES
    models |= {row: (f"model={REFERENCE}", f"experiment={row}") for row in PROBES}
    return first, [job(row, *own, *frozen) for row, own in models.items() if row in rows]


def measured(dataset: str, out: Path, overrides: Sequence[str]) -> Job:
    """The row that learns nothing, and so has one seed."""
    return Job("measure", 0, ("model=measure", *SETS[dataset][0], *overrides), out / dataset / "measure" / "seed0")


def main() -> int:
    """Run the experiment; returns the exit code."""
    arguments = parser(__doc__, [0, 1, 2], "runs/modalities")
    arguments.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS), help="all by default")
    arguments.add_argument(
        "--rows", nargs="+", choices=ROWS, default=ROWS, help="all by default; static is always there"
    )
    arguments.add_argument(
        "--second", type=int, metavar="N", help="judge on a second test set, too, of about N patients of another seed"
    )
    arguments.add_argument("--record", type=Path, help="folder of the records and pages (default: OUT/results)")
    options = arguments.parse_args()
    return finish(lambda: max(_one_set(dataset, options) for dataset in options.sets))


def _one_set(dataset: str, options: argparse.Namespace) -> int:
    """All rows on one set; returns the exit code of the comparison."""
    plans = [plan(dataset, options.rows, seed, options.out, options.overrides) for seed in options.seeds]
    jobs = [encoder for encoder, _ in plans]
    train_all(jobs[:1], 1)  # it makes the set
    train_all(jobs[1:], options.jobs)
    others = [job for _, following in plans for job in following]
    if "measure" in options.rows and dataset in MEASURED:
        others.append(measured(dataset, options.out, options.overrides))
    train_all(others, options.jobs)
    code = compare([*jobs, *others], options.out / dataset / "comparison")
    place = options.record or options.out / "results"
    _keep(collect([*jobs, *others]), place / f"{dataset}.parquet")
    if options.second is not None:
        trained = [job for job in (*jobs, *others) if (job.folder / "checkpoints").exists()]
        elsewhere = second_set(dataset, options.second, options.out)
        judge_elsewhere(trained, elsewhere.root, elsewhere.split, elsewhere.name, options.jobs)
        _keep(collect(trained, elsewhere), place / f"{dataset}_second.parquet")
    return code


def second_set(dataset: str, patients: int, out: Path) -> Elsewhere:
    """Patients of another seed, nearly all of them test; those of train tell the majority answer.

    They are in no training, and no choice was made by them.
    """
    root = out / dataset / "second_set"
    timeline = Timeline.open(root) if root.exists() else generate(root, dataset, patients=patients, seed=SECOND_SEED)
    split = find_split(timeline, Recipe(fractions=(0.02, 0.02, 0.96)))
    keep_split(split, timeline)
    return Elsewhere(root, split.name, "second")


def _keep(found: Record, path: Path) -> None:
    """Add what was found to the record, and make the page."""
    write(read(path).joined(found) if path.exists() else found, path)
    print(f"\nRecord: {path}\nPage: {write_page(path)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
