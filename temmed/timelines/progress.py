"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

#: Told of progress: what is being done, how many are done, how many there are.
Progress = Callable[[str, int, int], None]


def silent(label: str, done: int, total: int) -> None:
    """Show no progress."""
