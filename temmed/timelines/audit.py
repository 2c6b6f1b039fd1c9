"""Look for what makes a timeline folder unfit to train or judge a model on.

A rule is a function with the decorator :func:`rule` in a module of :mod:`temmed.timelines.rules`; it is found by
itself. It takes the :class:`Audit` and yields what it found.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from temmed.timelines import rules
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
#: How many examples a finding names.
EXAMPLES = 5

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Finding:
    """What a rule found.

    Attributes:
        rule: the rule's name.
        severity: ``error`` (do not use the data like this), ``warning`` (look at it) or ``info``.
        count: how many cases.
        message: what is wrong with them and why it matters.
        examples: up to five of them.
    """

    rule: str
    severity: Severity
    count: int
    message: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Audit:
    """What a rule may look at.

    Attributes:
        timeline: the folder, opened without validation.
        split: a split to look at besides the written ones.
        progress: called with (done, total) by rules that take long.
    """

    timeline: Timeline
    split: Split | None = None
    progress: Progress = field(default=lambda done, total: None)


Rule = Callable[[Audit], Iterator[Finding]]
_RULES: dict[str, Rule] = {}


def rule(function: Rule) -> Rule:
    """Make a function a rule of the audit, under its own name."""
    _RULES[function.__name__] = function
    return function


def found(name: str, severity: Severity, message: str, cases: Sequence[str]) -> Iterator[Finding]:
    """One finding of these cases, or nothing when there are none."""
    if len(cases):
        yield Finding(name, severity, len(cases), message, tuple(str(case) for case in cases[:EXAMPLES]))


def audit(timeline: Timeline, split: Split | None = None, progress: Progress | None = None) -> list[Finding]:
    """Apply every rule.

    Args:
        timeline: a folder, opened with ``validate=False`` if broken ones are to be told about and not refused.
        split: a split to look at besides those in the folder.
        progress: called with (done, total) while image files are read.

    Returns:
        What was found, errors first.
    """
    for module in pkgutil.iter_modules(rules.__path__):
        importlib.import_module(f"{rules.__name__}.{module.name}")
    context = Audit(timeline, split) if progress is None else Audit(timeline, split, progress)
    findings = [finding for name in sorted(_RULES) for finding in _RULES[name](context)]
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def has_errors(findings: Sequence[Finding]) -> bool:
    """Whether the data should not be used as they are."""
    return any(finding.severity == "error" for finding in findings)


def to_json(timeline: Timeline, findings: Sequence[Finding]) -> str:
    """The findings for another program to read."""
    counts = {severity: sum(finding.severity == severity for finding in findings) for severity in SEVERITIES}
    report = {
        "root": str(timeline.root),
        "fingerprint": timeline.meta.fingerprint,
        "counts": counts,
        "findings": [asdict(finding) for finding in findings],
    }
    return json.dumps(report, indent=2, ensure_ascii=False)
