"""``temmed cache …``: what is kept of decoded images and features, and how to be rid of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from temmed.errors import InputError

if TYPE_CHECKING:
    from temmed.data.caches.manage import Item

app = typer.Typer(help="List, check and remove cached images and features.", no_args_is_help=True)

_TIMES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

_Root = Annotated[
    Path | None,
    typer.Option(
        "--root",
        metavar="DIR",
        help="The folder of all caches, paths.cache.",
        show_default="$TEMMED_DATA or data_cache",
    ),
]
_Kind = Annotated[str | None, typer.Option(metavar="KIND", help="Only images, or only features.", show_default="both")]


@app.command()
def info(root: _Root = None, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the entries, and what is left of builds that ended early."""
    import json

    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from temmed.data.caches.building import as_bytes
    from temmed.data.caches.manage import listed
    from temmed.timelines.console import open_console

    folder = _root(root)
    items = listed(folder)
    if as_json:
        rows = [
            {"path": str(i.path), **{k: v for k, v in vars(i).items() if k not in ("path", "about")}, "about": i.about}
            for i in items
        ]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    console = open_console()
    if not items:
        console.print(f"No caches in {escape(str(folder))}.")
        return
    table = Table("kind", "key", "of", "size", "made", "last used", "state", box=box.SIMPLE_HEAD, pad_edge=False)
    for item in items:
        cells = (item.kind, item.path.name, _origin(item), as_bytes(item.size), _day(item.made), _day(item.used))
        table.add_row(*map(escape, cells), "" if item.state == "entry" else item.state)
    console.print(table)
    console.print(f"{as_bytes(sum(item.size for item in items))} in {escape(str(folder))}")


@app.command()
def prune(
    root: _Root = None,
    older_than: Annotated[str | None, typer.Option(metavar="TIME", help="Made longer ago than 30d, 12h, ….")] = None,
    unused_for: Annotated[str | None, typer.Option(metavar="TIME", help="Not used for 30d, 12h, ….")] = None,
    larger_than: Annotated[str | None, typer.Option(metavar="SIZE", help="Larger than 500MB, 2GB, ….")] = None,
    keep: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Those used longest ago, until so much is left.")
    ] = None,
    kind: _Kind = None,
    everything: Annotated[bool, typer.Option("--all", help="All.")] = False,
    leftovers: Annotated[bool, typer.Option("--leftovers", help="What is left of builds that ended early.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove them; without it, they are only listed.")] = False,
) -> None:
    """Remove entries that any of the conditions names. What a process of this machine uses stays."""
    from temmed.data.caches.building import as_bytes
    from temmed.data.caches.manage import chosen, listed, remove

    _check_kind(kind)
    conditions = (older_than, unused_for, larger_than, keep)
    if not (everything or leftovers or any(condition is not None for condition in conditions)):
        raise InputError(
            "a condition", "none", "temmed cache prune", "Say which: --unused-for 30d, --keep 50GB, --leftovers, --all."
        )
    found = chosen(
        listed(_root(root)),
        kind=kind,
        older_than=_seconds(older_than, "--older-than"),
        unused_for=_seconds(unused_for, "--unused-for"),
        larger_than=_size(larger_than, "--larger-than"),
        keep=_size(keep, "--keep"),
        everything=everything,
        leftovers=leftovers,
    )
    freed = 0
    for item in found:
        told = f"{item.path} ({as_bytes(item.size)}, {item.state if item.state != 'entry' else _origin(item)})"
        if not yes:
            typer.echo(f"Would remove {told}")
        elif remove(item):
            typer.echo(f"Removed {told}")
            freed += item.size
        else:
            typer.echo(f"In use, left alone: {told}")
    if not found:
        typer.echo("Nothing to remove.")
    elif yes:
        typer.echo(f"Freed {as_bytes(freed)}.")
    else:
        typer.echo(f"{as_bytes(sum(item.size for item in found))} in all. Add --yes to remove them.")


@app.command()
def verify(
    root: _Root = None,
    kind: _Kind = None,
    take_away: Annotated[bool, typer.Option("--remove", help="Remove damaged entries.")] = False,
) -> None:
    """Read all entries and compare their checksums. Exit status 1 when one is damaged."""
    from temmed.data.caches.entry import damage
    from temmed.data.caches.manage import listed, remove

    _check_kind(kind)
    entries = [i for i in listed(_root(root)) if i.state in ("entry", "damaged") and kind in (None, i.kind)]
    damaged = 0
    for item in entries:
        problems = damage(item.path)
        damaged += bool(problems)
        for problem in problems:
            typer.echo(f"Damaged: {problem}", err=True)
        if problems and take_away:
            typer.echo(f"Removed {item.path}" if remove(item) else f"In use, left alone: {item.path}")
    typer.echo(f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'}, {damaged} damaged.")
    if damaged:
        raise typer.Exit(1)


def _root(given: Path | None) -> Path:
    from temmed.data.streaming.opening import default_cache

    if given is None:
        return default_cache()
    if not given.is_dir():
        raise InputError("a folder", "nothing there", str(given), "Give the folder that paths.cache names.")
    return given


def _check_kind(kind: str | None) -> None:
    from temmed.data.caches.manage import KINDS

    if kind not in (None, *KINDS):
        raise InputError(" or ".join(KINDS), repr(kind), "--kind", "Give one of them, or leave it out for both.")


def _seconds(text: str | None, option: str) -> float | None:
    return None if text is None else _number(text, _TIMES, option, "a time such as 30d, 12h or 2w")


def _size(text: str | None, option: str) -> int | None:
    from temmed.data.streaming.sizes import UNITS

    units = {name.upper(): size for name, size in UNITS.items()}
    return None if text is None else int(_number(text.upper(), units, option, "a size such as 500MB or 2GB"))


def _number(text: str, units: dict[str, int], option: str, expected: str) -> float:
    match = re.fullmatch(rf"\s*(\d+(?:\.\d+)?)\s*({'|'.join(units)})\s*", text)
    if match is None:
        raise InputError(expected, repr(text), option, f"Units: {', '.join(units)}.")
    return float(match.group(1)) * units[match.group(2)]


def _origin(item: Item) -> str:
    made_from = item.about.get("made_from", {})
    size = f", {made_from['size']}" if "size" in made_from else ""
    return f"{made_from['dataset']}{size} ({made_from['root']})" if made_from else ""


def _day(seconds: float) -> str:
    from datetime import datetime

    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"
