"""The nearest right name for a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that looks most like ``name``, whatever their capitals; ``None`` if none does.

    >>> nearest("memory_fuson", ["static", "memory_fusion"])
    'memory_fusion'
    >>> nearest("xyz", ["static", "memory_fusion"]) is None
    True
    """
    by_folded = {candidate.casefold(): candidate for candidate in candidates}
    found = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def did_you_mean(name: str, candidates: Iterable[str], otherwise: str, prefix: str = "") -> str:
    """What to do about a wrong name.

    Args:
        name: the wrong one.
        candidates: the right ones.
        otherwise: what to say if none of these looks like it.
        prefix: what stands before the right one.

    >>> did_you_mean("tme", ["time", "patient"], "Remove it.", "columns.")
    'Did you mean columns.time?'
    """
    near = nearest(name, candidates)
    return otherwise if near is None else f"Did you mean {prefix}{near}?"
