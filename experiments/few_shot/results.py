"""The results of few-shot adaptation: accuracy by number of patients, with intervals over patients and draws."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.runner import Job
from temmed.evaluation.benchmark import Benchmark
from temmed.evaluation.charts import Level, Series, lines
from temmed.evaluation.compare import headline_task
from temmed.evaluation.runs import open_dataset, read_run
from temmed.evaluation.statistics import Estimate, PatientResampler, Replicates
from temmed.evaluation.tables import interval, percent
from temmed.files import atomic_write
from temmed.predictions.tables import read_predictions

LABELS = {"probe": "linear probe", "lora": "LoRA", "full": "all weights", "scratch": "from scratch"}
_COLOURS = {"probe": "#0072b2", "lora": "#d55e00", "full": "#009e73", "scratch": "#6b7280"}
_STYLE = (
    ".chart{font:12px system-ui,sans-serif;background:#fff}.grid{stroke:#ddd}text{fill:#222}"
    ".level{stroke:#777;stroke-dasharray:3 3;fill:none}.line{fill:none;stroke:var(--c);stroke-width:2}"
    ".whisker{stroke:var(--c);stroke-width:1.5;opacity:.65}.series{fill:var(--c)}"
)


@dataclass(frozen=True)
class Source:
    """The model that is adapted.

    Attributes:
        checkpoint: its weights.
        model: its option of ``conf/model``.
        size: of the images it was trained on.
    """

    checkpoint: Path
    model: str
    size: int | None

    def channels(self) -> set[str]:
        """Kinds of images that it takes."""
        from temmed.training.checkpoint import read_fitted  # torch takes seconds to import

        return {source.channel for source in read_fitted(self.checkpoint).sources}


@dataclass(frozen=True)
class Cell:
    """One way with one number of patients for each class.

    Attributes:
        way: of adapting.
        shot: patients for each class.
        patients: train patients in each draw.
        parameters: that learn.
        draws: accuracy in each draw.
        accuracy: mean over the draws, with an interval over test patients and draws.
    """

    way: str
    shot: int
    patients: list[int]
    parameters: int
    draws: list[float]
    accuracy: Estimate


def collect(jobs: Sequence[Job], none: Path | None, resamples: int = 2000) -> tuple[list[Cell], dict[str, Estimate]]:
    """Judge all runs on the same questions.

    Args:
        jobs: finished, named ``WAY_SHOT``.
        none: where the predictions of the model are that was not adapted, if there are any.
        resamples: of the bootstrap.

    Returns:
        A cell for each way and number; and the references: majority, ceiling, and without adaptation.
    """
    runs = {job: read_run(job.folder) for job in jobs}
    timeline, split = open_dataset(list(runs.values())[:1])
    benchmark = Benchmark.build(timeline, split, "test")
    asked = (benchmark.questions["task"] == headline_task(benchmark)).to_numpy()
    resampler = PatientResampler(benchmark.questions["patient_id"], resamples)

    def accuracy(predictions: Path) -> Replicates:
        right = benchmark.judge(read_predictions(predictions)).scores["accuracy"]
        return resampler.means(np.where(asked, right, np.nan))

    references = {
        label: resampler.means(np.where(asked, benchmark.references[column], np.nan)).estimates()[0]
        for label, column in (("majority", "majority"), ("ceiling", "ceiling"))
    }
    if none is not None:
        references["not adapted"] = accuracy(none / "predictions" / "test").estimates()[0]
    cells = []
    for name in dict.fromkeys(job.name for job in jobs):
        members = [run for job, run in runs.items() if job.name == name]
        draws = [accuracy(run.predictions("test")) for run in members]
        way, _, shot = name.rpartition("_")
        cells.append(
            Cell(
                way,
                int(shot),
                [_train_patients(run.folder, timeline.root) for run in members],
                int(members[0].n_parameters or 0),
                [float(draw.value[0]) for draw in draws],
                Replicates.over_runs(draws).estimates()[0],
            )
        )
    return cells, references


def _train_patients(run: Path, root: Path) -> int:
    path = root / json.loads((run / "run.json").read_text())["split"]["path"]
    rows = pd.read_csv(path)
    return int(rows.loc[rows["subset"] == "train", "patient_id"].nunique())


def to_markdown(cells: Sequence[Cell], references: dict[str, Estimate]) -> str:
    """The table, in percent."""
    shots = sorted({cell.shot for cell in cells})
    titles = ["way", "parameters that learn", *(f"k = {shot} ({_patients(cells, shot)})" for shot in shots)]
    rows = [titles, ["---"] * len(titles)]
    for way in dict.fromkeys(cell.way for cell in cells):
        own = {cell.shot: cell for cell in cells if cell.way == way}
        learned = f"{next(iter(own.values())).parameters:,}"
        rows.append([LABELS[way], learned, *(_cell(own[shot]) for shot in shots)])
    for label, estimate in references.items():
        rows.append([label, "", *[f"{percent(estimate.value)} {interval(estimate)}".strip()] * len(shots)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _patients(cells: Sequence[Cell], shot: int) -> str:
    found = sorted({number for cell in cells if cell.shot == shot for number in cell.patients})
    return f"{found[0]}–{found[-1]} patients" if len(found) > 1 else f"{found[0]} patients"


def _cell(cell: Cell) -> str:
    spread = f" ± {percent(float(np.std(cell.draws, ddof=1)))}" if len(cell.draws) > 1 else ""
    return f"{percent(cell.accuracy.value)}{spread} {interval(cell.accuracy)}"


def to_svg(cells: Sequence[Cell], references: dict[str, Estimate]) -> str:
    """Accuracy against the number of patients for each class, as a picture of its own."""
    shots = sorted({cell.shot for cell in cells})
    ways = list(dict.fromkeys(cell.way for cell in cells))
    series = [
        Series(LABELS[way], {str(cell.shot): cell.accuracy for cell in cells if cell.way == way}, number)
        for number, way in enumerate(ways)
    ]
    levels = [Level(label, {str(shot): estimate for shot in shots}) for label, estimate in references.items()]
    names = [(str(shot), "") for shot in shots]
    chart = lines(names, series, levels, "Accuracy by number of patients", "patients for each class")
    colours = "".join(f".c{number}{{--c:{_COLOURS[way]}}}" for number, way in enumerate(ways))
    legend = "".join(
        f'<text x="52" y="{28 + 16 * number}" style="fill:{_COLOURS[way]}">{LABELS[way]}</text>'
        for number, way in enumerate(ways)
    )
    opened = chart.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    head, _, rest = opened.partition(">")
    return f"{head}><style>{_STYLE}{colours}</style>{rest.removesuffix('</svg>')}{legend}</svg>\n"


def write_results(jobs: Sequence[Job], none: Path | None, out: Path) -> None:
    """Write ``few_shot.md``, ``few_shot.csv`` and ``few_shot.svg``, and print the table."""
    cells, references = collect(jobs, none)
    table = to_markdown(cells, references)
    rows = [
        {
            "way": cell.way,
            "per_class": cell.shot,
            "parameters": cell.parameters,
            "accuracy": cell.accuracy.value,
            "low": cell.accuracy.low,
            "high": cell.accuracy.high,
            "draws": " ".join(f"{value:.4f}" for value in cell.draws),
            "patients": " ".join(map(str, cell.patients)),
        }
        for cell in cells
    ]
    atomic_write(out / "few_shot.md", table)
    atomic_write(out / "few_shot.csv", pd.DataFrame(rows).to_csv(index=False))
    atomic_write(out / "few_shot.svg", to_svg(cells, references))
    print(f"\n{table}\n{out / 'few_shot.svg'}", flush=True)
