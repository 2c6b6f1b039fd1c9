"""``temmed data import …``: one command per importer, with the same options."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from temmed.processes import processors
from temmed.timelines.console import counted, progress_bar

if TYPE_CHECKING:
    from temmed.timelines.importers.build import Outcome, Request
    from temmed.timelines.importers.plan import Plan
    from temmed.timelines.importers.registry import Importer

#: How many files are named per reason, and how many sequences are listed, unless the user asks for all.
_NAMED = 5
_LISTED = 8
_COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}
_QUESTIONS, _PRIVACY, _RUN = "Questions", "Identity", "Run"


class _Importers(TyperGroup):
    """Finds the importers when one is asked for, so that `temmed --help` loads none of them."""

    def list_commands(self, ctx: Any) -> list[str]:
        from temmed.timelines.importers.registry import importers

        return list(importers())

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:
        from temmed.timelines.importers.registry import importer

        return _command(importer(cmd_name))


app = typer.Typer(cls=_Importers, help="Turn your own images into a timeline folder.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Turn your own images into a timeline folder."""


def _command(importer: Importer) -> TyperCommand:
    def run(
        source: Annotated[
            Path,
            typer.Argument(metavar="SRC", help="What to import; see above.", show_default=False),
        ],
        out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.", show_default=False)],
        questions: Annotated[
            Path | None, typer.Option(help="CSV of questions; see docs/own-data.md.", rich_help_panel=_QUESTIONS)
        ] = None,
        events: Annotated[
            Path | None, typer.Option(help="CSV of events; see docs/own-data.md.", rich_help_panel=_QUESTIONS)
        ] = None,
        modality: Annotated[
            str | None, typer.Option(help="Name of the modality.", show_default="what the source says")
        ] = None,
        frame_seconds: Annotated[
            float | None, typer.Option(help="Seconds between frames of a loop.", show_default="what the header says")
        ] = None,
        images: Annotated[
            Path | None,
            typer.Option(help="Folder of the image files that SRC names.", show_default="where SRC is"),
        ] = None,
        copy: Annotated[
            bool, typer.Option("--copy/--reference", help="Copy image files into OUT, or point to where they are.")
        ] = True,
        name: Annotated[str | None, typer.Option(help="The dataset's name.", show_default="the name of OUT")] = None,
        licence: Annotated[str, typer.Option(help="The terms the images are under.")] = "unknown",
        keep_ids: Annotated[
            bool, typer.Option("--keep-ids", help="Keep patient ids; else pseudonyms.", rich_help_panel=_PRIVACY)
        ] = False,
        pseudonym_key: Annotated[
            str,
            typer.Option(
                envvar="TEMMED_PSEUDONYM_KEY",
                help="Secret that pseudonyms are made with; without one, ids that can be guessed can be found again.",
                show_default=False,
                rich_help_panel=_PRIVACY,
            ),
        ] = "",
        limit: Annotated[int | None, typer.Option(help="At most so many patients.", rich_help_panel=_RUN)] = None,
        workers: Annotated[
            int | None, typer.Option(help="Processes.", show_default="all cores", rich_help_panel=_RUN)
        ] = None,
        overwrite: Annotated[
            bool, typer.Option("--overwrite", help="Replace a timeline folder that is there.", rich_help_panel=_RUN)
        ] = False,
        part: Annotated[
            str | None,
            typer.Option(
                metavar="I/N",
                help="Copy one of N shares of the files, for job arrays; without it the import is finished.",
                show_default=False,
                rich_help_panel=_RUN,
            ),
        ] = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Say what would be done and write nothing.", rich_help_panel=_RUN)
        ] = False,
        keep_on_error: Annotated[
            bool,
            typer.Option("--keep-on-error", help="Keep OUT although its audit found errors.", rich_help_panel=_RUN),
        ] = False,
        verbose: Annotated[
            bool, typer.Option("--verbose", help="Name every sequence and skipped file.", rich_help_panel=_RUN)
        ] = False,
    ) -> None:
        from temmed.timelines.importers.build import Request, run_import
        from temmed.timelines.importers.placing import Part
        from temmed.timelines.importers.plan import Options

        request = Request(
            source=source,
            target=out,
            options=Options(
                modality=modality,
                keep_ids=keep_ids,
                key=pseudonym_key,
                frame_seconds=frame_seconds,
                limit=limit,
                # Not `or`: 0 is refused like any other number below 1.
                workers=processors() if workers is None else workers,
                images=images,
            ),
            questions=questions,
            events=events,
            reference=not copy,
            overwrite=overwrite,
            keep_on_error=keep_on_error,
            dry_run=dry_run,
            part=Part.parse(part) if part else None,
            name=name,
            licence=licence,
        )
        with progress_bar() as progress:
            outcome = run_import(importer, request, progress)
        for line in summary_lines(outcome, request, verbose):
            typer.echo(line)
        if outcome.has_errors:
            raise typer.Exit(1)

    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(importer.name, help=f"{importer.summary}\n\nSRC must be {importer.needs}.")(run)
    command = typer.main.get_command(single)
    assert isinstance(command, TyperCommand)
    return command


def summary_lines(outcome: Outcome, request: Request, verbose: bool = False) -> list[str]:
    """What an import did, for a person to read.

    Args:
        outcome: what it did.
        request: what it was asked.
        verbose: name every sequence and every skipped file.
    """
    lines = [
        _heading(outcome, request),
        *_counts(outcome),
        *_sequences(outcome.plan, request.source, verbose),
        *_skipped(outcome.plan, request.source, verbose),
        *[f"  note: {note}" for note in outcome.plan.notes],
    ]
    if request.reference and not request.dry_run:
        lines.append(f"  note: images stay where they are, with their headers: {request.source}")
    if not request.dry_run and request.part is None:
        lines += _audit(outcome)
    return [*lines, *_next_steps(outcome, request)]


def _heading(outcome: Outcome, request: Request) -> str:
    if request.dry_run:
        return typer.style(f"Would import {request.source} to {request.target}; nothing was written", bold=True)
    if request.part is not None:
        text = f"Copied part {request.part.index} of {request.part.count} of {request.source}"
        return typer.style(text, fg="green", bold=True)
    if not outcome.written:
        text = f"Nothing was written to {request.target}: the audit of {request.source} found errors, below"
        return typer.style(text, fg="red", bold=True)
    return typer.style(f"Imported {request.source} to {request.target}", fg="green", bold=True)


def _counts(outcome: Outcome) -> list[str]:
    plan = outcome.plan
    units = Counter(sequence.time_unit for sequence in plan.sequences for _ in sequence.times)
    modalities = Counter(sequence.modality for sequence in plan.sequences)
    images = sum(len(sequence.pictures) for sequence in plan.sequences)
    files = len({file for sequence in plan.sequences for file in sequence.files})
    rows = [
        ("patients", len(plan.patients), ""),
        ("sequences", len(plan.sequences), ", ".join(f"{count:,} {name}" for name, count in modalities.most_common())),
        ("time points", sum(units.values()), ", ".join(f"{count:,} in {unit}s" for unit, count in units.most_common())),
        ("images", images, f"from {files:,} {'file' if files == 1 else 'files'}"),
        *[(name, len(outcome.rows(name)), "") for name in ("reports", "questions", "events", "statements")],
        ("files skipped", len(plan.skipped), ""),
    ]
    return [f"  {label:<14}{count:>9,}" + (f"  {told}" if told else "") for label, count, told in rows]


def _sequences(plan: Plan, source: Path, verbose: bool) -> list[str]:
    from temmed.timelines.importers.plan import relative

    shown = plan.sequences if verbose else plan.sequences[:_LISTED]
    lines = []
    for sequence in shown:
        channels = ", ".join(dict.fromkeys(picture.channel for picture in sequence.pictures))
        span = f"{len(sequence.times):,} time points over {sequence.times[-1]:g} {sequence.time_unit}s"
        if len(sequence.times) == 1:
            span = "1 time point"
        first = next((relative(file, source) for file in sequence.files), "no image")
        lines.append(f"  {sequence.sequence_id}: {span} ({sequence.timing}); {channels}; {first}")
    if len(plan.sequences) > len(shown):
        lines.append(f"  … and {len(plan.sequences) - len(shown):,} more sequences; --verbose lists them")
    return lines


def _skipped(plan: Plan, source: Path, verbose: bool) -> list[str]:
    from temmed.timelines.importers.plan import relative

    reasons: dict[str, list[str]] = defaultdict(list)
    for entry in plan.skipped:
        reasons[entry.reason].append(relative(entry.path, source))
    lines = []
    for reason, files in sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0])):
        lines.append(f"  skipped {len(files):,}: {reason}")
        shown = files if verbose else files[:_NAMED]
        lines += [f"    {file}" for file in shown]
        if len(files) > len(shown):
            lines.append(f"    … and {len(files) - len(shown):,} more; --verbose lists them")
    return lines


def _audit(outcome: Outcome) -> list[str]:
    counts = Counter(finding.severity for finding in outcome.findings)
    verdict = "not fit for use" if counts["error"] else "fit for use"
    lines = [f"  audit: {verdict}: {counted(counts['error'], 'error')}, {counted(counts['warning'], 'warning')}"]
    for finding in outcome.findings:
        if finding.severity == "info":
            continue
        label = typer.style(finding.severity, fg=_COLOURS[finding.severity])
        lines.append(f"    {label} {finding.rule} ({finding.count:,}): {finding.message}")
        lines += [f"      {example}" for example in finding.examples]
    return lines


def _next_steps(outcome: Outcome, request: Request) -> list[str]:
    if request.part is not None:
        return ["When all parts are copied, the same command without --part finishes the dataset."]
    if request.dry_run or (outcome.has_errors and not outcome.written):
        return []
    lines = [f"Look at it: temmed data view {request.target}"]
    if outcome.rows("questions"):
        few = len(outcome.plan.patients) < 10
        dims = {sequence.spatial_dims for sequence in outcome.plan.sequences}
        command = f"python train.py data=folder data.root={request.target}"
        command += " data.spatial_dims=3" if dims == {3} else ""
        lines.append(f"Train on it: {command}" + (" data.split.by=time" if few else ""))
    else:
        lines.append(
            "No questions: this folder can be looked at and not trained on. Write a questions file as in "
            "docs/own-data.md and import again with --questions FILE --overwrite."
        )
    return lines
