"""What the benchmarks share: interleaved measurements, ratios with their spread, a table and a JSON file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Ratio:
    """A figure relative to another of the same run.

    Attributes:
        what: what is compared with what.
        median: of the ratios of neighbouring measurements.
        low: the least of them.
        high: the greatest of them.
        bar: what the median should reach; ``None`` if it is only told.
    """

    what: str
    median: float
    low: float
    high: float
    bar: float | None = None

    @classmethod
    def of(cls, what: str, ours: Sequence[float], theirs: Sequence[float], bar: float | None = None) -> Ratio:
        """Ratios of measurements that were made in turn."""
        ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
        return cls(what, statistics.median(ratios), min(ratios), max(ratios), bar)

    @property
    def met(self) -> bool:
        """Whether the median reaches the bar."""
        return self.bar is None or self.median >= self.bar


def in_turn(measures: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Each measurement once and thrown away, then all of them ``repeats`` times in turn.

    A change in the machine's load meets all alike. Odd rounds run in reverse order.
    """
    found: dict[str, list[float]] = {name: [] for name in measures}
    for measure in measures.values():
        measure()
    for repeat in range(repeats):
        for name in list(measures)[:: -1 if repeat % 2 else 1]:
            found[name].append(measures[name]())
    return found


def parser(doc: str | None, name: str) -> argparse.ArgumentParser:
    """Options that every benchmark has: ``--repeats`` and ``--out``."""
    made = argparse.ArgumentParser(description=doc.splitlines()[0] if doc else None)
    made.add_argument("--repeats", type=int, default=5, help="interleaved measurements of each (default 5)")
    made.add_argument("--out", type=Path, default=RESULTS / f"{name}.json", help="the JSON file to write")
    return made


def report(out: Path, ratios: Sequence[Ratio], **further: Any) -> int:
    """Print the ratios, write them with the machine and what else was found; 1 if a bar is missed."""
    print_ratios(ratios)
    machine = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
    content = {"ratios": [{**asdict(ratio), "met": ratio.met} for ratio in ratios], **further, **machine}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    missed = [ratio.what for ratio in ratios if not ratio.met]
    if missed:
        print(f"Below the bar: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def print_ratios(ratios: Sequence[Ratio]) -> None:
    """A table of ratios."""
    width = max([8, *(len(ratio.what) for ratio in ratios)])
    print(f"{'compared':<{width}} {'ratio':>7} {'min–max':>15} {'bar':>6}")
    for ratio in ratios:
        spread = f"{ratio.low:.2f}–{ratio.high:.2f}"
        bar = "" if ratio.bar is None else f"{ratio.bar:.2f}"
        print(f"{ratio.what:<{width}} {ratio.median:7.2f} {spread:>15} {bar:>6}{'' if ratio.met else '  missed'}")
    sys.stdout.flush()
