"""``temmed score`` and ``temmed compare``. Only Typer is loaded here; each command imports what it needs."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from temmed.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from temmed.evaluation.protocols.registry import Request
    from temmed.evaluation.scoring import Metrics

#: Units of scores that are no shares, by the end of their names.
UNITS = {"nll": " nats", "set_size": " choices", "temperature": ""} | {
    f"{what}_{unit}": f" {unit}" for what in ("error", "width") for unit in ("days", "seconds", "steps")
}
#: Width of tables that go to a file or a pipe.
_PIPED = 160
#: Predictions that could not be read and are shown; all of them are written.
_LISTED = 10

Subset = Annotated[Literal["train", "val", "test"], typer.Option(help="The questions to score.")]
Resamples = Annotated[int, typer.Option(help="Of the bootstrap over patients.", min=1)]
Seed = Annotated[int, typer.Option(help="Of the bootstrap and the permutations.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the ``temmed`` command."""
    app.command()(score)
    app.command()(compare)


def score(
    context: typer.Context,
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A timeline folder.", show_default=False)],
    predictions: Annotated[
        Path,
        typer.Argument(
            metavar="PREDICTIONS",
            help="A folder with answers.parquet or .jsonl; with --protocol also a file in the benchmark's own format.",
            show_default=False,
        ),
    ],
    split: Annotated[str, typer.Option(help="Name of a split of the folder.")] = "patient_seed0",
    subset: Subset = "test",
    out: Annotated[Path | None, typer.Option(help="Write all metrics to this JSON file.", show_default="none")] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Count questions without an answer as wrong.")
    ] = False,
    allow_surplus: Annotated[
        bool, typer.Option("--allow-surplus", help="Ignore answers to questions outside the subset.")
    ] = False,
    validation: Annotated[
        Path | None,
        typer.Option(help="Predictions of the val subset, to fit prediction sets and scaling on.", show_default="none"),
    ] = None,
    calibrate: Annotated[
        Literal["temperature", "platt", "isotonic"] | None,
        typer.Option(help="Scale certainty as fitted on --validation; scores before and after.", show_default="none"),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="Score an imported benchmark, all of its items, by its published definition (docs/protocols.md).",
            show_default="none",
        ),
    ] = None,
    parser: Annotated[
        Literal["official", "strict"],
        typer.Option(help="With --protocol: read answers as the published script does, or without its defects."),
    ] = "official",
    resamples: Resamples = 2000,
    seed: Seed = 0,
) -> None:
    """Score predictions of any model. Needs no model and no GPU."""
    from temmed.evaluation.runs import named_split
    from temmed.evaluation.scoring import score as score_predictions
    from temmed.evaluation.scoring import write_metrics
    from temmed.predictions.tables import read_predictions
    from temmed.timelines.folder import Timeline

    timeline = Timeline.open(dataset)
    if protocol is not None:
        from temmed.evaluation.protocols.registry import Request

        _refuse_beside_protocol(context)
        request = Request(timeline, predictions, parser, allow_missing, allow_surplus, resamples, seed)
        _score_by_protocol(protocol, request, out)
        return
    metrics = score_predictions(
        timeline,
        named_split(timeline, split),
        subset,
        read_predictions(predictions),
        resamples=resamples,
        seed=seed,
        allow_missing=allow_missing,
        allow_surplus=allow_surplus,
        validation=None if validation is None else read_predictions(validation),
        calibrate=calibrate,
    )
    console = _console()
    _print_metrics(console, metrics)
    if out is not None:
        write_metrics(out, metrics)
        console.print(f"Wrote {out}, with all slices.", markup=False)


def _refuse_beside_protocol(context: typer.Context) -> None:
    """A protocol scores all items of its benchmark as they are."""
    for name in ("split", "subset", "validation", "calibrate"):
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise InputError(
                "all items of the benchmark, as its protocol has them",
                "a choice of what to score or fit",
                f"--{name} with --protocol",
                "Leave one of the two out.",
            )


def _score_by_protocol(name: str, request: Request, out: Path | None) -> None:
    from temmed.evaluation.protocols.registry import protocol
    from temmed.evaluation.scoring import write_metrics
    from temmed.files import atomic_write

    chosen = protocol(name)
    outcome = chosen.score(request)
    console = _console()
    console.print(f"By the protocol of {chosen.source}", markup=False)
    _print_metrics(console, outcome.metrics)
    lines = [f"{item}: {said}" for item, said in outcome.malformed.items()]
    if lines:
        console.print(f"{len(lines):,} predictions could not be read and count as wrong:", markup=False)
        for line in [*lines[:_LISTED], *(["…"] if len(lines) > _LISTED else [])]:
            console.print(f"  {line}", markup=False)
    for note in outcome.notes:
        console.print(note, markup=False)
    if out is not None:
        write_metrics(out, outcome.metrics)
        named = out.with_suffix(".malformed.txt")
        atomic_write(named, "".join(f"{line}\n" for line in lines))
        console.print(f"Wrote {out}, with all slices, and {named}.", markup=False)


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN…", help="Run folders, folders of them, or glob patterns.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="Folder for compare.html, compare.md and compare.csv.")] = Path(
        "comparison"
    ),
    reference: Annotated[
        str | None, typer.Option(help="Name of the model that others are tested against.", show_default="static")
    ] = None,
    subset: Subset = "test",
    dataset: Annotated[
        Path | None, typer.Option(help="Where the timeline folder is now.", show_default="where the runs found it")
    ] = None,
    resamples: Resamples = 2000,
    seed: Seed = 0,
) -> None:
    """Compare runs: a table with tests, and a page with curves, questions and pictures."""
    from temmed.evaluation.compare import compare_runs
    from temmed.evaluation.report import write_comparison
    from temmed.evaluation.tables import notes, to_rich

    comparison = compare_runs(runs, subset=subset, reference=reference, dataset=dataset, resamples=resamples, seed=seed)
    console = _console()
    console.print(*to_rich(comparison, console.width))
    for note in notes(comparison):
        console.print(note, markup=False, style="dim")
    page, *others = write_comparison(comparison, out)
    console.print(f"\nOpen {page}; also {', '.join(path.name for path in others)}.", markup=False)


def _console() -> Console:
    from rich.console import Console

    is_terminal = sys.stdout.isatty()
    return Console(highlight=False, width=None if is_terminal else _PIPED)


def _print_metrics(console: Console, metrics: Metrics) -> None:
    """The metrics that are no slices, a line each."""
    from rich import box
    from rich.table import Table

    from temmed.evaluation.statistics import Estimate
    from temmed.evaluation.tables import interval, percent

    table = Table("metric", box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("percent", "95 % interval", "n"):
        table.add_column(title, justify="right")
    task = None
    for key, entry in metrics.items():
        parts = key.split("/")
        if len(parts) > 3:
            continue
        if task is not None and parts[1] != task:
            table.add_section()
        task = parts[1]
        estimate = Estimate(entry["value"], entry["low"], entry["high"], int(entry["n"]))
        unit = next((unit for name, unit in UNITS.items() if parts[2].endswith(name)), None)
        if unit is None:
            shown = percent(estimate.value), interval(estimate)
        else:
            bounds = "" if math.isnan(estimate.low) else f"[{estimate.low:.3f}, {estimate.high:.3f}]"
            shown = f"{estimate.value:.3f}{unit}", bounds
        table.add_row(key, shown[0], shown[1].replace("[", "\\["), f"{estimate.n:,}")
    console.print(table)
