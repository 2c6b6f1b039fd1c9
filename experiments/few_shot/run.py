"""Adapt a trained model to other data with few patients: linear probe, low-rank additions, all weights, from scratch.

Every way of adapting is tried with the same few train patients of the target, drawn anew for each seed. Of one seed,
who is among the few is among the more too; the test patients are always the same. Rates and lengths of the trainings
are fixed below; no patient of the target chooses between them, or between epochs.

    python experiments/few_shot/run.py --source runs/demo/memory_fusion/seed0
    python experiments/few_shot/run.py --source RUN --target DIR --per response

Every line printed as `$ python train.py …` can be run by itself. A run that is finished is not trained again, so the
command can be stopped and started.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # experiments are no part of the installed package

from omegaconf import OmegaConf

from experiments.few_shot.results import Source, write_results
from experiments.runner import Job, TrainingError, epochs, finish, parser, train_all
from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Recipe, find_split, keep_split
from temmed.timelines.synthetic import generate

_ROOT = Path(__file__).resolve().parents[2]
#: The target unless another is named: other patients, with pixels of 4 mm instead of 3.
TARGET: dict[str, Any] = {"modality": "mri", "patients": 600, "size": 48, "seed": 1}
#: Of the target's split: few-shot needs few to train on, and many to tell the ways apart.
FRACTIONS = (0.3, 0.1, 0.6)
SPLIT = "few_shot"
SHOTS = (1, 5, 10, 20)
#: Passes over the few patients, by the number for each class; about 40 to 110 steps.
EPOCHS = {1: 40, 5: 25, 10: 20, 20: 15}
#: Everything but what the ways of adapting change.
PARTS = "model.start_parts=[backbone,project,place,missing,text,temporal,reader,heads]"
ADAPTED = ("model.start_data=other", PARTS, "model.heads.value.early_weight=null")
#: Way → peak learning rate and overrides of `train.py`.
WAYS: dict[str, tuple[str, tuple[str, ...]]] = {
    "probe": ("3e-3", ("model.train=outputs", "model.backbone.train=none", *ADAPTED)),
    "lora": ("3e-3", ("model.train=outputs", "model.backbone.train=lora", *ADAPTED)),
    "full": ("1e-3", ADAPTED),
    "scratch": ("3e-3", ()),
}


@dataclass(frozen=True)
class Target:
    """What is adapted to.

    Attributes:
        root: the timeline folder.
        split: the name of the whole split, before few are drawn.
        per: what makes a class: a task, whose answers are the classes, or a column of the patients table.
    """

    root: Path
    split: str
    per: str

    @property
    def words(self) -> tuple[str, ...]:
        """As overrides of `train.py`."""
        return ("data=folder", f"data.root={self.root}", "data.split.by=file", f"data.split.name={self.split}")


def plan(
    source: Source, target: Target, shots: Sequence[int], draws: Sequence[int], out: Path, overrides: Sequence[str]
) -> list[Job]:
    """All trainings: every way with every number of patients for each class, in every draw."""
    return [
        Job(
            f"{way}_{shot}",
            draw,
            (*_words(way, shot, draw, source, target), *overrides),
            out / f"{way}_{shot}/seed{draw}",
        )
        for draw in draws
        for shot in shots
        for way in WAYS
    ]


def _words(way: str, shot: int, draw: int, source: Source, target: Target) -> tuple[str, ...]:
    rate, own = WAYS[way]
    return (
        f"name={way}_{shot}",
        f"model={source.model}",
        f"data.size={source.size}",
        *target.words,
        f"data.split.few_shot={shot}",
        f"data.split.few_shot_per={target.per}",
        f"data.split.seed={draw}",
        *own,
        *(() if way == "scratch" else (f"model.start_from={source.checkpoint}",)),
        *epochs(EPOCHS[shot], rate),
    )


def open_source(run: Path) -> Source:
    """What the run folder of the trained model says."""
    config = run / "config.yaml"
    if not config.is_file():
        raise InputError("the folder of a run", "no config.yaml", str(run), "Train a model first, or check the path.")
    content = OmegaConf.load(config)
    return Source(run / "checkpoints" / "best.ckpt", content.model.name, content.data.size)


def prepare(folder: Path | None, split: str, per: str, out: Path) -> Target:
    """The target with its split, both made unless they are there."""
    root = folder or out / "target"
    if folder is None and not root.exists():
        generate(root, **TARGET)
    timeline = Timeline.open(root)
    if not (root / "splits" / f"{split}.csv").exists():
        keep_split(find_split(timeline, Recipe(by="patient", fractions=FRACTIONS, name=split)), timeline)
    return Target(root, split, per)


def not_adapted(source: Source, target: Target, out: Path) -> Path | None:
    """Judge the trained model as it is; the folder of its predictions, or nothing if it takes other channels."""
    folder = out / "none"
    if source.channels() != set(Timeline.open(target.root).table("images")["channel"].unique()):
        print("The trained model takes other channels: without adaptation it answers nothing.", flush=True)
        return None
    if not (folder / "metrics.json").exists():
        words = [f"ckpt_path={source.checkpoint}", f"data.root={target.root}", f"data.split={target.split}"]
        words.append(f"out={folder}")
        print(f"$ python evaluate.py {shlex.join(words)}", flush=True)
        code = subprocess.run([sys.executable, str(_ROOT / "evaluate.py"), *words]).returncode
        if code:
            raise TrainingError(code)
    return folder


def main() -> int:
    """Run the experiment; returns the exit code."""
    arguments = parser(__doc__, [0, 1, 2], "runs/few_shot")
    arguments.add_argument("--source", type=Path, required=True, help="folder of the run whose model is adapted")
    arguments.add_argument(
        "--target", type=Path, help="timeline folder to adapt to (default: a built-in set, made anew)"
    )
    arguments.add_argument("--split", default=SPLIT, help="name of its split, which is made if it is not there")
    arguments.add_argument(
        "--per", default="progression", help="whose answers are the classes; or a column of patients"
    )
    arguments.add_argument(
        "--shots", type=int, nargs="+", choices=list(EPOCHS), default=SHOTS, help="patients per class"
    )
    options = arguments.parse_args()

    def run() -> int:
        source = open_source(options.source)
        target = prepare(options.target, options.split, options.per, options.out)
        jobs = plan(source, target, options.shots, options.seeds, options.out, options.overrides)
        none = not_adapted(source, target, options.out)
        train_all(jobs, options.jobs)
        write_results(jobs, none, options.out)
        return 0

    try:
        return finish(run)
    except InputError as refused:
        print(f"error: {refused}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
