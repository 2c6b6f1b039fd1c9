"""``temmed data …``: make, look at, check and divide timeline folders."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from temmed.timelines.audit import Finding
    from temmed.timelines.folder import Timeline
    from temmed.timelines.splits import Split

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


@app.command("importers")
def list_importers() -> None:
    """List the kinds of sources that can be imported, and what each needs."""
    from temmed.timelines.importers.registry import importers

    console = _console()
    for importer in importers().values():
        console.print(f"[bold]{importer.name}[/]  {importer.summary}")
        console.print(f"    needs {importer.needs}", markup=False, highlight=False)


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
    json_file: Annotated[Path | None, typer.Option("--json-file", help="Write the findings as JSON.")] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page with pictures of the worst cases; it needs no network.")
    ] = None,
    tables_only: Annotated[
        bool, typer.Option("--tables-only", help="Leave the image files alone: no look at pixels and headers.")
    ] = False,
    scores: Annotated[
        Path | None, typer.Option("--scores", help="Write how well each question can be guessed, as CSV.")
    ] = None,
    debiased: Annotated[
        Path | None, typer.Option("--debias", help="Write a folder without the questions that can be guessed best.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a timeline folder that is at the place of --debias.")
    ] = False,
) -> None:
    """Check whether a folder is fit to train and judge models on. Exit status 1 when there are errors."""
    from temmed.files import atomic_write
    from temmed.timelines import audit as auditing
    from temmed.timelines.folder import Timeline
    from temmed.timelines.shortcuts import guess_questions

    timeline = Timeline.open(folder, validate=False, files=not tables_only)
    console = _console(stderr=as_json)
    with (bar := _Progress("Reading images")):
        findings = auditing.audit(timeline, progress=bar.labelled, tables_only=tables_only)
    if as_json:
        typer.echo(auditing.to_json(timeline, findings))
    else:
        _print_findings(console, timeline, findings)
    if json_file is not None:
        atomic_write(json_file, auditing.to_json(timeline, findings) + "\n")
        console.print(f"[bold green]Wrote[/] {json_file}")
    if html is not None:
        from temmed.timelines.audit_page import write_audit_page

        write_audit_page(timeline, findings, html)
        console.print(f"[bold green]Wrote[/] {html} ({html.stat().st_size / 1e6:.1f} MB); open it in a browser.")
    if scores is not None:
        with (bar := _Progress("Guessing answers")):
            items = guess_questions(timeline, sample=None, progress=bar.labelled).items
        atomic_write(scores, items.to_csv(index=False, lineterminator="\n"))
        console.print(f"[bold green]Wrote[/] {scores}: {_count(len(items), 'question')}")
    if debiased is not None:
        _debias(console, folder, debiased, overwrite)
    if auditing.has_errors(findings):
        raise typer.Exit(1)


def _debias(console: Console, folder: Path, out: Path, overwrite: bool) -> None:
    from temmed.timelines.debias import DROPPED_FILE, write_debiased
    from temmed.timelines.folder import Timeline

    timeline = Timeline.open(folder)
    with (bar := _Progress("Guessing answers")):
        result = write_debiased(timeline, out, overwrite, bar.labelled)
    kept = len(timeline.table("questions")) - len(result.dropped)
    told = f"{_count(len(result.dropped), 'question')} dropped, listed in {DROPPED_FILE}; {kept:,} kept"
    console.print(f"[bold green]Made[/] {out}: {told}")
    still = result.after.loc[result.after["guessable"].astype(bool), "template"].unique()
    if len(still):
        console.print(f"Still guessable, as more than half would have to go: {', '.join(still)}")


class _Progress:
    """A progress bar on stderr, as a context whose value takes (done, total); silent where nobody looks."""

    def __init__(self, title: str) -> None:
        from rich.progress import Progress

        self._bar = Progress(console=_console(stderr=True), transient=True, disable=not sys.stderr.isatty())
        self._task = self._bar.add_task(title, total=None)

    def __enter__(self) -> Any:
        self._bar.start()
        return lambda done, total: self._bar.update(self._task, completed=done, total=total)

    def labelled(self, label: str, done: int, total: int) -> None:
        """Take the place of the value, for work in several parts."""
        self._bar.update(self._task, description=label, completed=done, total=total)

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
    by: Annotated[
        str, typer.Option(help="patient, time, patient_time, stratified, kfold, site or file; docs/splits.md.")
    ] = "patient",
    seed: Annotated[int, typer.Option(help="Seed of chance.")] = 0,
    fractions: Annotated[
        tuple[float, float, float], typer.Option(help="Shares of the patients for train, val and test.")
    ] = (0.6, 0.1, 0.3),
    stratify: Annotated[
        list[str] | None,
        typer.Option(help="stratified, kfold: a column of the patients table, such as sex or site; may be repeated."),
    ] = None,
    folds: Annotated[int | None, typer.Option(help="kfold: how many.", show_default=False)] = None,
    fold: Annotated[
        int | None, typer.Option(help="kfold: the one that is the test; the next is val.", show_default="all in turn")
    ] = None,
    site: Annotated[str | None, typer.Option(help="site: the one that is the test.", show_default=False)] = None,
    name: Annotated[
        str | None,
        typer.Option(help="file: of splits/NAME.csv. Else: for the new file.", show_default="from the rule"),
    ] = None,
    together: Annotated[
        Path | None,
        typer.Option(help="CSV file with columns patient_id, group: no group is on two sides.", show_default=False),
    ] = None,
    few_shot: Annotated[int | None, typer.Option(help="Train on so many patients only.", show_default=False)] = None,
    few_shot_per: Annotated[
        str | None,
        typer.Option(
            help="So many for each value of this column of the patients table, or for each answer to this task.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Divide a folder into train, val and test, once; later calls show the division that is there.

    temmed data split DIR --by stratified --stratify sex --stratify site

    temmed data split DIR --by kfold --folds 5

    temmed data split DIR --by site --site B

    temmed data split DIR --by file --name official --few-shot 16
    """
    from temmed.timelines.folder import Timeline
    from temmed.timelines.recipe import Recipe, as_option
    from temmed.timelines.splits import find_split, keep_split

    recipe = Recipe(
        by, seed, fractions, tuple(stratify or ()), folds, fold, site, name, together, few_shot, few_shot_per
    )
    in_turn = by == "kfold" and folds is not None and fold is None
    recipes = [replace(recipe, fold=number) for number in range(max(folds or 1, 1))] if in_turn else [recipe]
    recipes[0].check(as_option)
    timeline = Timeline.open(folder)
    divisions = [find_split(timeline, each) for each in recipes]
    console = _console()
    for division in divisions:
        path = folder / "splits" / f"{division.name}.csv"
        state = "[bold]Already there[/]" if path.is_file() else "[bold green]Written[/]"
        keep_split(division, timeline)
        console.print(f"{state}: {path}")
        _print_subsets(console, division, timeline)
    if by == "time":
        console.print("Every patient is in every subset: report scores on it as within-patient.")


def _print_subsets(console: Console, division: Split, timeline: Timeline) -> None:
    """How many of everything are in each subset, and in none."""
    from temmed.timelines.splits import SUBSETS

    rows: list[tuple[str, ...]] = [("", "patients", "sequences", "questions")]
    parts = [(subset, division.sequences(subset), division.questions(timeline, subset)) for subset in SUBSETS]
    rest = division.left_out(timeline)
    if len(rest):
        questions = timeline.table("questions")
        parts.append(("in none", rest, questions[questions["sequence_id"].isin(rest["sequence_id"])]))
    for subset, part, asked in parts:
        counts = (part["patient_id"].nunique(), part["sequence_id"].nunique(), len(asked))
        rows.append((subset, *[f"{count:,}" for count in counts]))
    _grid(console, rows, numbers=True)
    frozen = "" if division.basis is None else " (frozen: never made again by itself)"
    _grid(console, [("fingerprint", division.fingerprint + frozen)])


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
if find_spec("temmed.timelines.privacy") is not None:
    import_module("temmed.timelines.privacy.cli").register(app)
if find_spec("temmed.timelines.implant") is not None:
    import_module("temmed.timelines.implant.cli").register(app)
