"""Which protocols there are: every module beside this one that defines ``PROTOCOL``."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from temmed.errors import InputError
from temmed.evaluation.scoring import Metrics
from temmed.timelines.folder import Timeline
from temmed.wording import did_you_mean


@dataclass(frozen=True)
class Request:
    """What is to be scored, and how.

    Attributes:
        timeline: the imported benchmark.
        predictions: a folder of prediction tables, or a file in the benchmark's own format.
        parser: how free text is read, where a protocol knows two ways: as the published scripts do, or strictly.
        allow_missing: count items without a prediction as wrong, rather than refuse.
        allow_surplus: ignore predictions for other items, rather than refuse.
        resamples: of the bootstrap over patients.
        seed: of the bootstrap.
    """

    timeline: Timeline
    predictions: Path
    parser: Literal["official", "strict"] = "official"
    allow_missing: bool = False
    allow_surplus: bool = False
    resamples: int = 2000
    seed: int = 0


@dataclass
class Outcome:
    """What a protocol found.

    Attributes:
        metrics: ``PROTOCOL/TASK/METRIC[/SLICE]`` → value, bounds, items; shares, not percentages.
        malformed: the items whose prediction could not be read, and what it was; each is scored as wrong.
        notes: what a reader must know, such as a figure that could not be computed.
    """

    metrics: Metrics = field(default_factory=dict)
    malformed: Mapping[str, str] = field(default_factory=dict)
    notes: Iterable[str] = ()


@dataclass(frozen=True)
class Protocol:
    """The scoring of one benchmark.

    Attributes:
        name: the word after ``--protocol``.
        source: where it was published.
        score: does it.
    """

    name: str
    source: str
    score: Callable[[Request], Outcome]


@cache
def protocols() -> dict[str, Protocol]:
    """All protocols by name."""
    from temmed.evaluation import protocols as package

    found: dict[str, Protocol] = {}
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        protocol = getattr(importlib.import_module(module.name), "PROTOCOL", None)
        if isinstance(protocol, Protocol):
            if protocol.name in found:
                raise RuntimeError(f"two protocols are called {protocol.name!r}")
            found[protocol.name] = protocol
    return dict(sorted(found.items()))


def protocol(name: str) -> Protocol:
    """A protocol by its name.

    Raises:
        InputError: there is none of that name.
    """
    known = protocols()
    if name not in known:
        remedy = did_you_mean(name, known, "See docs/protocols.md.")
        raise InputError(f"one of {', '.join(known)}", repr(name), "--protocol", remedy)
    return known[name]
