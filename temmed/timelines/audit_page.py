"""What an audit found as one HTML page with pictures of the worst cases; it needs no network and no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from os import PathLike
from pathlib import Path

import pandas as pd
from jinja2 import Environment, StrictUndefined

from temmed import __version__
from temmed.errors import InputError
from temmed.files import atomic_write
from temmed.timelines.audit import Finding, View, count_severities
from temmed.timelines.folder import Timeline
from temmed.timelines.pictures import data_uris

#: Longest side of a picture, in pixels.
_LONGEST = 200


@dataclass(frozen=True)
class _Picture:
    """One time point of a case: its pictures by channel, or why there are none."""

    title: str
    time: str
    is_marked: bool
    channels: dict[str, str]
    missing: str = ""


@dataclass(frozen=True)
class _Case:
    caption: str
    pictures: list[_Picture]


def write_audit_page(timeline: Timeline, findings: Sequence[Finding], out: str | PathLike[str]) -> Path:
    """Write the page.

    Args:
        timeline: what was audited.
        findings: what was found.
        out: the HTML file.

    Returns:
        The file written.
    """
    folder = files("temmed.timelines") / "templates"
    css, template = ((folder / name).read_text(encoding="utf-8") for name in ("audit.css", "audit.html.jinja"))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    rows = [
        (name, len(timeline.table(name))) for name in ("patients", "sequences", "timepoints", "images", "questions")
    ]
    page = environment.from_string(template).render(
        css=css,
        version=__version__,
        meta=timeline.meta,
        root=timeline.root,
        counts=count_severities(findings),
        rows=rows,
        findings=[(finding, [_case(timeline, view) for view in finding.views]) for finding in findings],
        balance=_balance(findings),
        families=_families(findings),
    )
    path = Path(out)
    atomic_write(path, page)
    return path


def _case(timeline: Timeline, view: View) -> _Case:
    wanted: dict[str, set[int]] = {}
    for sequence, position in view.frames:
        wanted.setdefault(sequence, set()).add(position)
    uris: dict[str, dict[int, dict[str, str]] | str] = {}
    for sequence, positions in wanted.items():
        try:
            uris[sequence] = data_uris(timeline, sequence, positions, _LONGEST)[0]
        except (InputError, KeyError, ValueError, TypeError):
            # The folder may be broken in any way; the finding says how.
            uris[sequence] = "cannot be shown"
    several = len(wanted) > 1
    times = _times(timeline, wanted)
    pictures = []
    for place, (sequence, position) in enumerate(view.frames):
        found = uris[sequence]
        channels = {} if isinstance(found, str) else found.get(position, {})
        pictures.append(
            _Picture(
                title=f"{sequence}, position {position}" if several else f"position {position}",
                time=times.get((sequence, position), ""),
                is_marked=place in view.marked,
                channels=channels,
                missing="" if channels else found if isinstance(found, str) else "no image",
            )
        )
    return _Case(view.caption, pictures)


def _times(timeline: Timeline, wanted: dict[str, set[int]]) -> dict[tuple[str, int], str]:
    points = timeline.table("timepoints")
    points = points[points["sequence_id"].isin(list(wanted))]
    unit = timeline.table("sequences").drop_duplicates("sequence_id").set_index("sequence_id")["time_unit"]
    keys = zip(points["sequence_id"], points["position"], points["time"], strict=True)
    return {
        (sequence, position): f"{unit.get(sequence, '')} {time:g}" if pd.notna(time) else "no time"
        for sequence, position, time in keys
    }


def _balance(findings: Sequence[Finding]) -> pd.DataFrame | None:
    """Counts by template and horizon: a row per answer."""
    data = [row for finding in findings if finding.rule == "balance" for row in finding.data]
    if not data:
        return None
    table = pd.DataFrame(data)
    whole = table.groupby(["template", "horizon"])["count"].agg(["sum", "max", "size"]).reset_index()
    top = table.sort_values("count", ascending=False, kind="stable").drop_duplicates(["template", "horizon"])
    whole = whole.merge(top[["template", "horizon", "answer"]], on=["template", "horizon"])
    return whole.assign(share=whole["max"] / whole["sum"]).rename(columns={"sum": "questions", "size": "answers"})


def _families(findings: Sequence[Finding]) -> list[dict[str, object]]:
    return [row for finding in findings if finding.rule == "guessable" for row in finding.data]
