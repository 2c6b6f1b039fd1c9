"""``temmed data implant``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

_NAMED = 5


def implant(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="A timeline folder with real images.", show_default=False)
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.", show_default=False)],
    visits: Annotated[
        int | None,
        typer.Option(help="Make so many visits of a sequence with a single image.", show_default="leave it out"),
    ] = None,
    findings: Annotated[
        int | None, typer.Option(help="Findings in a sequence, at the most.", show_default="2 to 4")
    ] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal data.")] = 0,
    limit: Annotated[int | None, typer.Option(help="At most so many patients.", show_default="all")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes.", min=1, show_default="all cores")] = None,
    keep_reports: Annotated[
        bool, typer.Option("--keep-reports", help="Keep the reports of SRC, which know nothing of the findings.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a timeline folder that is there.")] = False,
) -> None:
    """Put findings that change over time into real images: semi-synthetic data with exact truth."""
    from temmed.timelines.implant.build import implant as run

    outcome = run(
        source,
        out,
        visits=visits,
        findings=findings,
        seed=seed,
        limit=limit,
        workers=workers,
        keep_reports=keep_reports,
        overwrite=overwrite,
    )
    timeline = outcome.timeline
    counts = ", ".join(
        f"{len(timeline.table(name)):,} {name}" for name in ("patients", "sequences", "images", "findings", "questions")
    )
    typer.echo(typer.style(f"Made {out}", fg="green", bold=True) + f": {counts}")
    typer.echo(f"  {timeline.meta.provenance['source']}")
    for reason, count in Counter(outcome.left_out.values()).most_common():
        named = [name for name, why in outcome.left_out.items() if why == reason]
        more = ", …" if count > _NAMED else ""
        typer.echo(f"  left out: {', '.join(named[:_NAMED])}{more}: {reason}")
    for name, notes in list(outcome.notes.items())[:_NAMED]:
        typer.echo(f"  {name}: {'; '.join(notes)}")
    if len(outcome.notes) > _NAMED:
        typer.echo(f"  … and notes on {len(outcome.notes) - _NAMED:,} more sequences in {out / 'dataset.json'}")
    typer.echo(f"  look at it: temmed data view {out}")
