"""``temmed data …``: make, look at, check and divide timeline folders."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from temmed.timelines import cli_audit, cli_split
from temmed.timelines.console import contents, open_console, print_grid, progress_bar
from temmed.timelines.implant.cli import implant
from temmed.timelines.importers import cli as importing
from temmed.timelines.privacy import cli as privacy

app = typer.Typer(help="Make, look at, check and divide timeline folders.", no_args_is_help=True)
app.add_typer(importing.app, name="import")

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A timeline folder.", show_default=False)]


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
    console = open_console()
    console.print(f"[bold green]Made[/] {out}: {contents(timeline)}")
    print_grid(console, [("fingerprint", timeline.meta.fingerprint), ("look at it", f"temmed data view {out}")])


@app.command("importers")
def list_importers() -> None:
    """List the kinds of sources that can be imported, and what each needs."""
    from temmed.timelines.importers.registry import importers

    console = open_console()
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
    console = open_console()
    meta = timeline.meta
    console.print(f"[bold]{meta.name}[/] {meta.version} · licence {meta.licence or 'not given'}")
    changed = "" if timeline.recorded_fingerprint == meta.fingerprint else " (dataset.json was written for another)"
    print_grid(
        console,
        [
            ("folder", str(timeline.root)),
            ("fingerprint", meta.fingerprint + changed),
            ("source", str(meta.provenance.get("source", "not given"))),
            ("content", contents(timeline)),
            ("splits", ", ".join(summary["splits"]) or "none yet; `temmed data split` makes one"),
        ],
    )
    for heading, rows in summary["sections"].items():
        console.print(f"\n[bold]{heading}[/]")
        print_grid(console, [tuple(row) for row in rows], numbers=True)
    if not timeline.has("questions"):
        console.print("\nNo questions: models can be shown these images but not trained on them.")


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
    with progress_bar() as progress:
        show = partial(progress, "Reading images")
        path = write_viewer(timeline, out, limit=limit, sequences=sequence, progress=show)
    console = open_console()
    console.print(f"[bold green]Wrote[/] {path} ({path.stat().st_size / 1e6:.1f} MB); open it in a browser.")


app.command()(cli_audit.audit)
app.command()(cli_split.split)
privacy.register(app)
app.command()(implant)
