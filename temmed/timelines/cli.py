"""``temmed data …``: make, look at, check and divide timeline folders."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from temmed.timelines.audit import Finding
    from temmed.timelines.folder import Timeline

app = typer.Typer(help="Make, look at, check and divide timeline folders.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A timeline folder.", show_default=False)]

_UNFOLDED = 10_000
_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    # In a file or pipe, lines are never folded, so that paths and fingerprints stay whole.
    folded = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, highlight=False, soft_wrap=not folded, width=None if folded else _UNFOLDED)


def _count(number: int, noun: str, plural: str | None = None) -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _grid(console: Console, rows: list[tuple[str, ...]], numbers: bool = False) -> None:
    """Print rows in columns: the first dimmed, the others to the right when they are numbers."""
    from rich.markup import escape
    from rich.table import Table

    if not rows:
        return
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    for _ in rows[0][1:]:
        grid.add_column(justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        grid.add_row(*[escape(f"  {cell}" if not index else cell) for index, cell in enumerate(row)])
    console.print(grid)


@app.command()
def synth(
    modality: Annotated[
        str,
        typer.Argument(
            metavar="MODALITY",
            help="What to imitate: ct, cxr, mri, ultrasound, or mixed for all of them.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.", show_default=False)],
    patients: Annotated[int, typer.Option(help="How many patients, one sequence each.", min=1)] = 3200,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal data.")] = 0,
    size: Annotated[int | None, typer.Option(help="Pixels along each side.", show_default="the modality's own")] = None,
    dims: Annotated[int, typer.Option(help="2 for slices, 3 for volumes.", min=2, max=3)] = 2,
    files: Annotated[
        str | None, typer.Option(help="How ultrasound is written: dicom or avi.", show_default="the modality's own")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes.", min=1, show_default="all cores")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a timeline folder that is there.")] = False,
) -> None:
    """Make a synthetic benchmark from a seed."""
    from temmed.timelines.synthetic import generate

    timeline = generate(
        out,
        modality=modality,
        patients=patients,
        seed=seed,
        size=size,
        spatial_dims=dims,
        workers=workers,
        files=files,
        overwrite=overwrite,
    )
    console = _console()
    console.print(f"[bold green]Made[/] {out}: {_contents(timeline)}")
    _grid(console, [("fingerprint", timeline.meta.fingerprint), ("look at it", f"temmed data view {out}")])


def _contents(timeline: Timeline) -> str:
    parts = [
        _count(len(timeline.table("patients")), "patient"),
        _count(len(timeline.table("sequences")), "sequence"),
        _count(len(timeline.table("timepoints")), "time point"),
        _count(len(timeline.table("images")), "image"),
        _count(len(timeline.table("questions")), "question"),
    ]
    return ", ".join(parts)


@app.command()
def info(
    folder: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    record: Annotated[
        bool, typer.Option("--record", help="Write the fingerprint of the content as it is now into dataset.json.")
    ] = False,
) -> None:
    """Say what a timeline folder holds."""
    import json

    from temmed.timelines.folder import Timeline
    from temmed.timelines.summary import summarise

    timeline = Timeline.open(folder)
    if record:
        timeline.record_fingerprint()
    summary = summarise(timeline)
    if as_json:
        typer.echo(json.dumps(summary, indent=2, ensure_ascii=False))
        return
    console = _console()
    meta = timeline.meta
    console.print(f"[bold]{meta.name}[/] {meta.version} · licence {meta.licence or 'not given'}")
    changed = "" if timeline.recorded_fingerprint == meta.fingerprint else " (dataset.json was written for another)"
    _grid(
        console,
        [
            ("folder", str(timeline.root)),
            ("fingerprint", meta.fingerprint + changed),
            ("source", str(meta.provenance.get("source", "not given"))),
            ("content", _contents(timeline)),
            ("splits", ", ".join(summary["splits"]) or "none yet; `temmed data split` makes one"),
        ],
    )
    for heading, rows in summary["sections"].items():
        console.print(f"\n[bold]{heading}[/]")
        _grid(console, [tuple(row) for row in rows], numbers=True)
    if not timeline.has("questions"):
        console.print("\nNo questions: models can be shown these images but not trained on them.")


@app.command()
def audit(
    folder: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check whether a folder is fit to train and judge models on. Exit status 1 when there are errors."""
    from temmed.timelines import audit as auditing
    from temmed.timelines.folder import Timeline

    timeline = Timeline.open(folder, validate=False)
    with _Progress("Reading images") as progress:
        findings = auditing.audit(timeline, progress=progress)
    if as_json:
        typer.echo(auditing.to_json(timeline, findings))
    else:
        _print_findings(_console(), timeline, findings)
    if auditing.has_errors(findings):
        raise typer.Exit(1)


class _Progress:
    """A progress bar on stderr, as a context whose value takes (done, total); silent where nobody looks."""

    def __init__(self, title: str) -> None:
        from rich.progress import Progress

        self._bar = Progress(console=_console(stderr=True), transient=True, disable=not sys.stderr.isatty())
        self._task = self._bar.add_task(title, total=None)

    def __enter__(self) -> Any:
        self._bar.start()
        return lambda done, total: self._bar.update(self._task, completed=done, total=total)

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()


def _print_findings(console: Console, timeline: Timeline, findings: list[Finding]) -> None:
    from rich.markup import escape

    for finding in findings:
        style = _STYLES[finding.severity]
        head = f"[{style}]{finding.severity}[/] [bold]{finding.rule}[/] ({finding.count:,})"
        console.print(f"{head}: {escape(finding.message)}")
        for example in finding.examples:
            console.print(f"    {escape(example)}", style="dim")
        if finding.count > len(finding.examples):
            console.print(f"    … and {finding.count - len(finding.examples):,} more", style="dim")
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = sum(finding.severity == "warning" for finding in findings)
    verdict = "[bold red]not fit for use[/]" if errors else "[bold green]fit for use[/]"
    counts = f"{_count(errors, 'error')}, {_count(warnings, 'warning')}"
    console.print(f"{escape(str(timeline.root))}: {verdict}: {counts} in {_contents(timeline)}")


@app.command()
def split(
    folder: Folder,
    by: Annotated[str, typer.Option(help="patient, time or patient_time.")] = "patient",
    seed: Annotated[int, typer.Option(help="Seed of the hash that places patients.")] = 0,
    fractions: Annotated[
        tuple[float, float, float], typer.Option(help="Shares of the patients for train, val and test.")
    ] = (0.6, 0.1, 0.3),
) -> None:
    """Divide a folder into train, val and test, once; later calls show the division that is there."""
    from temmed.timelines.folder import Timeline
    from temmed.timelines.splits import FOLDER, SUBSETS, get_split

    timeline = Timeline.open(folder)
    written = {path.name for path in (folder / FOLDER).glob("*.csv")}
    division = get_split(timeline, by, seed, fractions)
    file = f"{division.name}.csv"
    console = _console()
    state = "[bold]Already there[/]" if file in written else "[bold green]Written[/]"
    console.print(f"{state}: {folder / FOLDER / file}")
    rows: list[tuple[str, ...]] = [("", "patients", "sequences", "questions")]
    for subset in SUBSETS:
        part = division.sequences(subset)
        questions = len(division.questions(timeline, subset))
        counts = (part["patient_id"].nunique(), part["sequence_id"].nunique(), questions)
        rows.append((subset, *[f"{count:,}" for count in counts]))
    _grid(console, rows, numbers=True)
    _grid(console, [("fingerprint", division.fingerprint)])
    if by == "time":
        console.print("Every patient is in every subset: report scores on it as within-patient.")


@app.command()
def view(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path("timelines.html"),
    limit: Annotated[int, typer.Option(help="At most so many sequences, spread over the folder.", min=1)] = 24,
    sequence: Annotated[
        list[str] | None, typer.Option("--sequence", "-s", help="Show this sequence; may be repeated.")
    ] = None,
) -> None:
    """Write a page to scrub through sequences; it needs no network."""
    from temmed.timelines.folder import Timeline
    from temmed.timelines.viewer import write_viewer

    timeline = Timeline.open(folder)
    with _Progress("Reading images") as progress:
        path = write_viewer(timeline, out, limit=limit, sequences=sequence, progress=progress)
    console = _console()
    console.print(f"[bold green]Wrote[/] {path} ({path.stat().st_size / 1e6:.1f} MB); open it in a browser.")


if find_spec("temmed.timelines.importers") is not None and find_spec("temmed.timelines.importers.cli") is not None:
    app.add_typer(import_module("temmed.timelines.importers.cli").app, name="import")
