"""What the commands of ``temmed data`` print with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from temmed.timelines.folder import Timeline
    from temmed.timelines.progress import Progress

_UNFOLDED = 10_000


def open_console(stderr: bool = False) -> Console:
    """A console on stdout or stderr; in a file or pipe it never folds lines, so that paths stay whole."""
    from rich.console import Console

    folded = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, highlight=False, soft_wrap=not folded, width=None if folded else _UNFOLDED)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on stderr for each step; silent where nobody looks."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    tasks: dict[str, Any] = {}

    def show(label: str, done: int, total: int) -> None:
        if label not in tasks:
            tasks[label] = bar.add_task(label, total=total)
        bar.update(tasks[label], completed=done, total=total)

    with bar:
        yield show


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "patient"), counted(1200, "patient")
    ('1 patient', '1,200 patients')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def contents(timeline: Timeline) -> str:
    """What a folder holds, in a line."""
    tables = {
        "patients": "patient",
        "sequences": "sequence",
        "timepoints": "time point",
        "images": "image",
        "questions": "question",
    }
    return ", ".join(counted(len(timeline.table(name)), noun) for name, noun in tables.items())


def print_grid(console: Console, rows: list[tuple[str, ...]], numbers: bool = False) -> None:
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
