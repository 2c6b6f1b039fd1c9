"""Look for what makes a timeline folder unfit to train or judge a model on.

A rule is a function with the decorator :func:`rule` in a module of :mod:`temmed.timelines.rules`; it is found by
itself. It takes the :class:`Audit` and yields what it found.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import pandas as pd

from temmed.timelines import rules
from temmed.timelines.folder import Timeline
from temmed.timelines.image_scan import ImageScan, scan_images
from temmed.timelines.progress import Progress, silent
from temmed.timelines.shortcuts import Guesses, guess_questions
from temmed.timelines.splits import Split
from temmed.timelines.tables import duplicated, named_rows

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
#: How many examples a finding names, and how many of them a page shows pictures of.
EXAMPLES = 5


@dataclass(frozen=True)
class View:
    """Images that show a case, to be put beside each other.

    Attributes:
        caption: what the case is.
        frames: (sequence_id, position) of each time point to show, in order.
        marked: indices into ``frames`` of those at fault.
    """

    caption: str
    frames: tuple[tuple[str, int], ...]
    marked: tuple[int, ...] = ()


@dataclass(frozen=True)
class Finding:
    """What a rule found.

    Attributes:
        rule: the rule's name.
        severity: ``error`` (do not use the data like this), ``warning`` (look at it) or ``info``.
        count: how many cases.
        message: what is wrong with them and why it matters.
        examples: up to five of them.
        data: rows of numbers for another program, where a rule counts something.
        views: pictures of the worst cases.
    """

    rule: str
    severity: Severity
    count: int
    message: str
    examples: tuple[str, ...] = ()
    data: tuple[dict[str, Any], ...] = ()
    views: tuple[View, ...] = ()


@dataclass(frozen=True)
class Audit:
    """What a rule may look at.

    Attributes:
        timeline: the folder, opened without validation.
        split: a split to look at besides the written ones.
        progress: told by rules that take long.
        tables_only: leave out what needs the image files.
    """

    timeline: Timeline
    split: Split | None = None
    progress: Progress = silent
    tables_only: bool = False

    @cached_property
    def image_scan(self) -> ImageScan:
        """What the image files hold; each is read once, for all rules. Empty when only tables are looked at."""
        return scan_images(self.timeline, self.progress, skip=self.tables_only)

    @cached_property
    def times(self) -> pd.DataFrame:
        """``sequence_id, position, time`` of every time point; of a repeated one the first."""
        points = self.timeline.table("timepoints")[["sequence_id", "position", "time"]]
        return points[~duplicated(points, ["sequence_id", "position"])]

    @cached_property
    def guesses(self) -> Guesses:
        """How well a sample of the questions is answered without a look at the images."""
        return guess_questions(self.timeline, progress=self.progress)


Rule = Callable[[Audit], Iterator[Finding]]
_RULES: dict[str, Rule] = {}


def rule(function: Rule) -> Rule:
    """Make a function a rule of the audit, under its own name."""
    _RULES[function.__name__] = function
    return function


def found(
    name: str, severity: Severity, message: str, cases: Sequence[str], views: Sequence[View] = ()
) -> Iterator[Finding]:
    """One finding of these cases, or nothing when there are none."""
    if len(cases):
        examples = tuple(str(case) for case in cases[:EXAMPLES])
        yield Finding(name, severity, len(cases), message, examples, views=tuple(views[:EXAMPLES]))


def found_rows(
    name: str,
    severity: Severity,
    message: str,
    rows: pd.DataFrame,
    text: Callable[[Any], str],
    view: Callable[[Any, str], View] | None = None,
) -> Iterator[Finding]:
    """One finding of the rows of a frame, or nothing when it has none; only the examples are put into words.

    Args:
        name: the rule's name.
        severity: of the finding.
        message: what is wrong with the rows.
        rows: a case each.
        text: a row, as a named tuple, in words.
        view: the row and its text as a picture.
    """
    if len(rows):
        shown = list(named_rows(rows.head(EXAMPLES)))
        examples = tuple(text(row) for row in shown)
        views = () if view is None else tuple(view(row, told) for row, told in zip(shown, examples, strict=True))
        yield Finding(name, severity, len(rows), message, examples, views=views)


def audit(
    timeline: Timeline, split: Split | None = None, progress: Progress = silent, tables_only: bool = False
) -> list[Finding]:
    """Apply every rule.

    Args:
        timeline: a folder, opened with ``validate=False`` if broken ones are to be told about and not refused.
        split: a split to look at besides those in the folder.
        progress: told what is being done, how much of it is done and how much there is.
        tables_only: leave out what needs the image files.

    Returns:
        What was found, errors first.
    """
    return run_rules(Audit(timeline, split, progress, tables_only))


def run_rules(context: Audit) -> list[Finding]:
    """As :func:`audit`, for a context that is of use afterwards."""
    for module in pkgutil.iter_modules(rules.__path__):
        importlib.import_module(f"{rules.__name__}.{module.name}")
    findings = [finding for name in sorted(_RULES) for finding in _RULES[name](context)]
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def has_errors(findings: Sequence[Finding]) -> bool:
    """Whether the data should not be used as they are."""
    return any(finding.severity == "error" for finding in findings)


def count_severities(findings: Sequence[Finding]) -> dict[str, int]:
    """How many findings there are of each severity."""
    return {severity: sum(finding.severity == severity for finding in findings) for severity in SEVERITIES}


def to_json(timeline: Timeline, findings: Sequence[Finding]) -> str:
    """The findings for another program to read."""
    report = {
        "root": str(timeline.root),
        "fingerprint": timeline.meta.fingerprint,
        "counts": count_severities(findings),
        "findings": [asdict(finding) for finding in findings],
    }
    return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
