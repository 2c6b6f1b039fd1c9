"""What a run prints when it is done: its main scores, where everything is, and what to do next."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from temmed.evaluation.scoring import Metrics
from temmed.evaluation.statistics import Estimate
from temmed.evaluation.tables import interval, percent

if TYPE_CHECKING:
    from rich.console import Console

#: The scores shown, in this order, by the name they have in ``metrics.json``; all others are only there.
MAIN = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "relative_error_median": "median relative error",
    "tiou": "temporal IoU",
}
#: What an accuracy is to be held against.
REFERENCES = ("majority", "chance", "ceiling")
#: Width of tables that go to a file or a pipe.
_PIPED = 100


def console() -> Console:
    """Standard output, with a fixed width where it is no terminal."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED)


def print_scores(metrics: Metrics, subset: str) -> None:
    """Print the main scores of a subset, one line each."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table("task", "score", box=box.SIMPLE_HEAD, pad_edge=False, title=f"Scores on {subset}, in percent")
    for heading in ("value", "95 % interval", *REFERENCES, "n"):
        table.add_column(heading, justify="right")
    tasks = list(dict.fromkeys(key.split("/")[1] for key in metrics))
    for task in tasks:
        for name, title in MAIN.items():
            entry = metrics.get(f"{subset}/{task}/{name}")
            if entry is None:
                continue
            estimate = Estimate(entry["value"], entry["low"], entry["high"], int(entry["n"]))
            held = [metrics.get(f"{subset}/{task}/{other}") if name == "accuracy" else None for other in REFERENCES]
            table.add_row(
                task,
                title,
                percent(estimate.value),
                escape(interval(estimate)),
                *("" if other is None else percent(other["value"]) for other in held),
                f"{estimate.n:,}",
            )
    console().print(table)


def print_places(places: Mapping[str, str | Path]) -> None:
    """Print names with paths or commands, one a line; paths are relative where that is shorter."""
    width = max(map(len, places)) + 2
    for name, place in places.items():
        print(f"{name:<{width}}{shortened(place) if isinstance(place, Path) else place}", flush=True)


def shortened(path: Path) -> str:
    """A path as one would type it from here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
