"""What the trainings on a set have answered, in a file small enough to be kept beside the experiment.

Every table and interval of the results page is made from it, by anyone, without training again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from experiments.runner import Job
from temmed.errors import InputError
from temmed.evaluation.benchmark import Benchmark
from temmed.evaluation.compare import headline_task
from temmed.evaluation.runs import RECORD, Run, open_dataset, read_run
from temmed.evaluation.scoring import read_metrics
from temmed.files import atomic_stream
from temmed.models.temporal.base import State
from temmed.predictions.tables import read_predictions
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import load_split
from temmed.training.checkpoint import load_module

#: Images after which the state is weighed.
IMAGES = 40
#: Columns that every question has; the others are runs.
QUESTION = ("question_id", "patient_id", "template", "horizon", "majority", "ceiling")
_METADATA = b"temmed-experiment"


@dataclass(frozen=True)
class Record:
    """The trainings on one set.

    Attributes:
        about: the set: its name, fingerprints of its content and split, and the task that is recorded.
        questions: one row for each question of the task in the test subset, with the columns of `QUESTION`.
        right: for each run, named ``ROW/SEED``, whether each question was answered right, of shape ``(n,)``.
        runs: for each run, what is known of it: ``commit``, ``processor_seconds``, ``parameters``, ``epochs``,
            ``state_bytes`` and ``metrics`` (those of the whole subset).
    """

    about: dict[str, str]
    questions: pd.DataFrame
    right: dict[str, np.ndarray]
    runs: dict[str, dict[str, Any]]

    def seeds(self, row: str) -> list[str]:
        """The runs of a row, by seed."""
        return sorted(
            (name for name in self.runs if name.rpartition("/")[0] == row), key=lambda name: (len(name), name)
        )

    @property
    def rows(self) -> list[str]:
        """The rows that have runs."""
        return list(dict.fromkeys(name.rpartition("/")[0] for name in self.runs))

    def joined(self, newer: Record) -> Record:
        """With the runs of another record, which take the place of those of the same name.

        Raises:
            InputError: it is of other data.
        """
        if newer.about != self.about or not newer.questions["question_id"].equals(self.questions["question_id"]):
            raise InputError(
                f"trainings on {self.about}", str(newer.about), "the record", "Record them in another folder."
            )
        return Record(self.about, newer.questions, self.right | newer.right, self.runs | newer.runs)


@dataclass(frozen=True)
class Elsewhere:
    """Other data that trained models were judged on.

    Attributes:
        root: the timeline folder.
        split: the name of the split whose test subset it was.
        name: of the folder in each run that holds the predictions.
    """

    root: Path
    split: str
    name: str


def collect(jobs: Sequence[Job], elsewhere: Elsewhere | None = None) -> Record:
    """Judge the answers of finished trainings on one set.

    Args:
        jobs: trained on it.
        elsewhere: take the answers on these data, instead of those on the own test subset.

    Raises:
        InputError: runs or data are not what they were.
    """
    runs = {f"{job.name}/{job.seed}": read_run(job.folder) for job in jobs}
    if elsewhere is None:
        timeline, split = open_dataset(list(runs.values())[:1])
        places = {name: run.folder for name, run in runs.items()}
    else:
        timeline = Timeline.open(elsewhere.root)
        split = load_split(timeline.root, elsewhere.split, timeline)
        places = {name: run.folder / elsewhere.name for name, run in runs.items()}
    benchmark = Benchmark.build(timeline, split, "test")
    task = headline_task(benchmark)
    asked = (benchmark.questions["task"] == task).to_numpy()
    questions = benchmark.questions.join(benchmark.references[["majority", "ceiling"]])
    about = {
        "set": timeline.meta.name if elsewhere is None else f"{timeline.meta.name}, a second test set",
        "fingerprint": timeline.meta.fingerprint,
        "split": split.fingerprint,
        "task": task,
    }
    right = {
        name: benchmark.judge(read_predictions(place / "predictions" / "test")).scores["accuracy"].to_numpy()[asked]
        == 1
        for name, place in places.items()
    }
    told = {name: _told(run, places[name]) for name, run in runs.items()}
    return Record(about, questions.loc[asked, list(QUESTION)].reset_index(drop=True), right, told)


def write(record: Record, path: Path) -> None:
    """Write a record, whole or not at all."""
    table = record.questions.assign(**{name: record.right[name] for name in sorted(record.right)})
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    content = {"about": record.about, "runs": {name: record.runs[name] for name in sorted(record.runs)}}
    arrow = arrow.replace_schema_metadata({_METADATA: json.dumps(content).encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_stream(path) as stream:
        pq.write_table(arrow, stream, compression="zstd")


def read(path: Path) -> Record:
    """Read what `write` wrote.

    Raises:
        InputError: it is something else.
    """
    table = pq.read_table(path)
    if _METADATA not in (table.schema.metadata or {}):
        raise InputError("a record of this experiment", "another table", str(path), "Give the file that run.py wrote.")
    content = json.loads(table.schema.metadata[_METADATA])
    frame = table.to_pandas()
    right = {name: frame[name].to_numpy(dtype=bool) for name in content["runs"]}
    return Record(content["about"], frame[list(QUESTION)], right, content["runs"])


def _told(run: Run, place: Path) -> dict[str, Any]:
    raw: Mapping[str, Any] = json.loads((run.folder / RECORD).read_text(encoding="utf-8"))
    metrics = read_metrics(place / "metrics.json")
    git = raw.get("git") or {}
    return {
        "commit": f"{git.get('commit', 'unknown')[:7]}{'+' if git.get('dirty') else ''}",
        "processor_seconds": raw.get("train_processor_seconds"),
        "parameters": run.n_parameters,
        "epochs": raw.get("epochs"),
        "state_bytes": state_bytes(run.folder),
        "metrics": {
            key.removeprefix("test/"): round(float(entry["value"]), 6)
            for key, entry in metrics.items()
            if key.count("/") == 2 and not np.isnan(entry["value"])
        },
    }


def state_bytes(folder: Path) -> int | None:
    """Bytes a head carries on for each place of the image grid after `IMAGES` images; ``None`` without a checkpoint."""
    path = folder / "checkpoints" / "best.ckpt"
    if not path.exists():
        return None
    model = load_module(path).reasoner.eval()
    dim = model.missing.numel()
    state: State | None = None
    with torch.inference_mode():
        for position in range(IMAGES):
            _, state = model.temporal.step(torch.randn(1, 1, dim), torch.tensor([float(position)]), state)
    return sum(value.numel() * value.element_size() for value in state.values()) if state else 0
