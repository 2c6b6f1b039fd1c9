"""``temmed data audit``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from temmed.timelines.console import contents, counted, open_console, progress_bar

if TYPE_CHECKING:
    from rich.console import Console

    from temmed.timelines.audit import Finding
    from temmed.timelines.folder import Timeline

_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def audit(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A timeline folder.", show_default=False)],
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
    console = open_console(stderr=as_json)
    with progress_bar() as progress:
        findings = auditing.audit(timeline, progress=progress, tables_only=tables_only)
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
        with progress_bar() as progress:
            items = guess_questions(timeline, sample=None, progress=progress).items
        atomic_write(scores, items.to_csv(index=False, lineterminator="\n"))
        console.print(f"[bold green]Wrote[/] {scores}: {counted(len(items), 'question')}")
    if debiased is not None:
        _debias(console, folder, debiased, overwrite)
    if auditing.has_errors(findings):
        raise typer.Exit(1)


def _debias(console: Console, folder: Path, out: Path, overwrite: bool) -> None:
    from temmed.timelines.debias import DROPPED_FILE, write_debiased
    from temmed.timelines.folder import Timeline

    timeline = Timeline.open(folder)
    with progress_bar() as progress:
        result = write_debiased(timeline, out, overwrite, progress)
    kept = len(timeline.table("questions")) - len(result.dropped)
    told = f"{counted(len(result.dropped), 'question')} dropped, listed in {DROPPED_FILE}; {kept:,} kept"
    console.print(f"[bold green]Made[/] {out}: {told}")
    still = result.after.loc[result.after["guessable"].astype(bool), "template"].unique()
    if len(still):
        console.print(f"Still guessable, as more than half would have to go: {', '.join(still)}")


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
    counts = f"{counted(errors, 'error')}, {counted(warnings, 'warning')}"
    console.print(f"{escape(str(timeline.root))}: {verdict}: {counts} in {contents(timeline)}")
