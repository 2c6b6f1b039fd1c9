"""Rules of form that opening a folder checks too, told by kind, and whether the folder is the one that was written."""

from __future__ import annotations

from collections.abc import Iterator

from temmed.timelines.audit import EXAMPLES, Audit, Finding, found, rule

#: Told by rules of their own, with more to go on than a row number.
_ELSEWHERE = {
    ("timepoints", "time", "must not go back as the position grows"),
    ("timepoints", "time", "must not be missing"),
}


@rule
def form(audit: Audit) -> Iterator[Finding]:
    """Types, keys, references, positions: all that makes ``Timeline.open`` refuse a folder."""
    problems = audit.timeline.problems
    for (file, column, broken), count in problems.rules.items():
        if (file.rsplit(".", 1)[0], column, broken) in _ELSEWHERE:
            continue
        cases = [one for one in problems.listed if (one.file, one.column, one.rule) == (file, column, broken)]
        examples = tuple(f"row {one.row}: {one.found}" if one.row else one.found for one in cases[:EXAMPLES])
        place = f"{file}, {column}" if column else file
        yield Finding("form", "error", count, f"{place}: {broken}", examples)


@rule
def fingerprint(audit: Audit) -> Iterator[Finding]:
    """Whether tables and images are those that ``dataset.json`` was written for."""
    recorded = audit.timeline.recorded_fingerprint
    now = audit.timeline.meta.fingerprint if audit.tables_only else audit.timeline.recompute_fingerprint()
    if recorded != now:
        message = (
            "the content is not what dataset.json was written for, so that checkpoints trained before the change are "
            "refused; `temmed data info --record` records it as it is"
        )
        yield from found("fingerprint", "warning", message, [f"recorded {recorded or 'none'}, now {now}"])
