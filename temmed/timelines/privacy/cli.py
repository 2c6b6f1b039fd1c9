"""``temmed data deidentify`` and ``temmed data scan``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from temmed.errors import InputError
from temmed.processes import processors

if TYPE_CHECKING:
    from temmed.timelines.privacy.dates import Order
    from temmed.timelines.privacy.run import Outcome, Request
    from temmed.timelines.privacy.scan import Left, ScanResult

_LISTED = 10
_Order = Annotated[
    str | None,
    typer.Option("--date-order", help="What 3/4/2020 means: dmy or mdy.", show_default="removed where unclear"),
]
_Look = Annotated[bool, typer.Option("--look/--no-look", help="Look for text in the pixels.")]
_Workers = Annotated[int | None, typer.Option(help="Processes.", min=1, show_default="all cores")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``temmed data``."""
    app.command()(deidentify)
    app.command()(scan)


def deidentify(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="A raw source or a timeline folder.", show_default=False)
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.", show_default=False)],
    pseudonym_key: Annotated[
        str,
        typer.Option(
            envvar="TEMMED_PSEUDONYM_KEY",
            help="Secret for pseudonyms and date shifts; without one, a random one is used and forgotten.",
            show_default=False,
        ),
    ] = "",
    date_order: _Order = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Leave these paths out; may be repeated.")
    ] = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave damaged files out and go on.")
    ] = False,
    leave_out_burned_in: Annotated[
        bool, typer.Option("--leave-out-burned-in", help="Leave out files that may have text in their pixels.")
    ] = False,
    look: _Look = True,
    licence: Annotated[str | None, typer.Option(help="The terms of use.", show_default="what the source says")] = None,
    consent: Annotated[str | None, typer.Option(help="The consent the data are under.", show_default="none")] = None,
    workers: _Workers = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a folder that was made before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and write nothing.")] = False,
) -> None:
    """Write a copy without identifiers that keeps every interval. Exit status 1 when a scan still finds some."""
    from temmed.timelines.console import progress_bar
    from temmed.timelines.privacy.run import Request
    from temmed.timelines.privacy.run import deidentify as run

    request = Request(
        source=source,
        target=out,
        key=pseudonym_key,
        order=_order(date_order),
        exclude=tuple(exclude or ()),
        skip_unreadable=skip_unreadable,
        leave_out_pixels=leave_out_burned_in,
        look=look,
        licence=licence,
        consent=consent,
        overwrite=overwrite,
        dry_run=dry_run,
        workers=workers or processors(),
    )
    with progress_bar() as progress:
        outcome = run(request, progress)
    for line in _summary(request, outcome):
        typer.echo(line)
    if outcome.left:
        raise typer.Exit(1)


def scan(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder, or a file.", show_default=False)],
    date_order: _Order = None,
    look: _Look = True,
    workers: _Workers = None,
) -> None:
    """Look for identifiers that are left. Exit status 1 when there are any."""
    from temmed.timelines.console import progress_bar
    from temmed.timelines.importers.build import mapper
    from temmed.timelines.privacy.scan import scan as run

    with progress_bar() as progress:
        result = run(folder, mapper(workers or processors(), progress), _order(date_order), look)
    for line in _scanned(folder, result):
        typer.echo(line)
    if result.left:
        raise typer.Exit(1)


def _order(text: str | None) -> Order | None:
    from temmed.timelines.privacy.dates import ORDERS

    for order in ORDERS:
        if text == order:
            return order
    if text is None:
        return None
    raise InputError(" or ".join(ORDERS), repr(text), "--date-order", "Say how the source writes dates.")


def _summary(request: Request, outcome: Outcome) -> list[str]:
    found = outcome.inventory
    kinds = Counter(item.kind for item in found.items)
    told = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    if request.dry_run:
        head = typer.style(f"Would de-identify {request.source} to {request.target}; nothing was written", bold=True)
    elif outcome.left:
        text = f"Nothing was written to {request.target}: the scan found identifiers, below"
        head = typer.style(text, fg="red", bold=True)
    else:
        head = typer.style(f"De-identified {request.source} to {request.target}", fg="green", bold=True)
    people = f"{len(found.patients):,} {'patient' if len(found.patients) == 1 else 'patients'}"
    lines = [head, f"  {_files(len(found.items))} of {people}: {told}"]
    lines.append(f"  {len(found.known):,} known identifiers looked for in every text and name")
    actions: Counter[str] = Counter()
    for (_, action), count in outcome.actions.items():
        actions[action] += count
    if actions:
        lines.append("  " + ", ".join(f"{count:,} {action}" for action, count in actions.most_common()))
    if not request.key:
        lines.append("  note: without --pseudonym-key, a second run gives other pseudonyms and other dates")
    unowned = sum(item.owner is None and item.kind in ("text", "dicom", "nifti") for item in found.items)
    if unowned:
        lines.append(f"  note: {_files(unowned)} of no known patient: their dates are removed and not moved")
    warned = [(entry.path, ", ".join(entry.pixels)) for entry in outcome.cleaned if entry.pixels]
    verb = "left out, as they may have" if request.leave_out_pixels else "that may have"
    lines += _listed(f"{_files(len(warned))} {verb} text in their pixels", warned)
    lines += _listed(f"{_files(len(found.left_out))} left out", found.left_out)
    return lines + _left(outcome.left)


def _scanned(folder: Path, result: ScanResult) -> list[str]:
    verdict = (
        typer.style(f"identifiers left in {len({left.path for left in result.left}):,}", fg="red", bold=True)
        if result.left
        else typer.style("no identifier found", fg="green", bold=True)
    )
    lines = [f"{folder}: {verdict} of {_files(result.files)}", *_left(result.left)]
    reasons: dict[str, list[str]] = {}
    for path, reason in result.pixels:
        reasons.setdefault(path, []).append(reason)
    warned = [(path, ", ".join(told)) for path, told in reasons.items()]
    lines += _listed(f"{_files(len(warned))} that may have text in their pixels", warned)
    return lines + _listed(f"{_files(len(result.not_looked_at))} not looked at", result.not_looked_at)


def _left(left: list[Left]) -> list[str]:
    """Where identifiers are, the most frequent places first; never what they are."""
    paths: dict[tuple[str, str], list[str]] = {}
    for entry in left:
        paths.setdefault((entry.place, entry.action), []).append(entry.path)
    ranked = sorted(paths.items(), key=lambda item: -len(item[1]))
    told = [(place, f"to be {action} in {_files(len(found))}, such as {found[0]}") for (place, action), found in ranked]
    return _listed(f"{sum(entry.count for entry in left):,} places, by element, column or kind", told)


def _files(count: int) -> str:
    return f"{count:,} {'file' if count == 1 else 'files'}"


def _listed(heading: str, entries: list[tuple[str, str]]) -> list[str]:
    if not entries:
        return []
    lines = [f"  {heading}:", *(f"    {place}: {told}" for place, told in entries[:_LISTED])]
    return lines + ([f"    … and {len(entries) - _LISTED:,} more"] if len(entries) > _LISTED else [])
