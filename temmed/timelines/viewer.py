"""A page to scrub through sequences: one HTML file with everything in it, for a browser without a network."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined

from temmed.errors import InputError
from temmed.files import atomic_write
from temmed.timelines.folder import Timeline
from temmed.timelines.pictures import data_uris

#: Longer loops are thinned to this many time points; the page says so.
_MOST_POINTS = 120


def write_viewer(
    timeline: Timeline,
    out: str | PathLike[str],
    limit: int = 24,
    sequences: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the page.

    Args:
        timeline: what to show.
        out: the HTML file.
        limit: at most so many sequences, spread evenly over the folder.
        sequences: these instead.
        progress: called with (done, total) sequences.

    Returns:
        The file written.

    Raises:
        InputError: a sequence asked for is not there, or an image cannot be read.
    """
    known = timeline.table("sequences")["sequence_id"].tolist()
    if sequences:
        unknown = [name for name in sequences if name not in set(known)]
        if unknown:
            raise InputError(
                f"a sequence of {timeline.root}, such as {known[0]}", repr(unknown[0]), "--sequence", "Correct the id."
            )
        chosen = list(dict.fromkeys(sequences))
    else:
        places = np.unique(np.linspace(0, len(known) - 1, min(limit, len(known))).round().astype(int))
        chosen = [known[place] for place in places]
    shown = []
    for done, name in enumerate(chosen, start=1):
        shown.append(_sequence(timeline, name))
        if progress is not None:
            progress(done, len(chosen))
    data = {
        "name": timeline.meta.name,
        "version": timeline.meta.version,
        "licence": timeline.meta.licence,
        "fingerprint": timeline.meta.fingerprint,
        "total": len(known),
        "sequences": shown,
    }
    out = Path(out)
    atomic_write(out, _page(data))
    return out


def _page(data: dict[str, Any]) -> str:
    folder = files("temmed.timelines") / "templates"
    parts = {name: (folder / f"viewer.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
    template = (folder / "viewer.html.jinja").read_text(encoding="utf-8")
    # `<` is written as an escape, so that no text of a report can end the script element.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(template).render(title=data["name"], data=text, **parts)


def _sequence(timeline: Timeline, name: str) -> dict[str, Any]:
    """Everything the page shows of one sequence."""
    row = _records(_of(timeline, "sequences", name))[0]
    patients = timeline.table("patients")
    patient = _records(patients[patients["patient_id"] == row["patient_id"]])[0]
    timepoints = _of(timeline, "timepoints", name)
    kept = _thin(timepoints["position"].to_numpy())
    pictures, size = data_uris(timeline, name, kept)
    findings = _records(_of(timeline, "findings", name))
    places = {finding["finding_id"]: finding for finding in findings}
    for finding in findings:
        finding["measurements"] = []
    measurements = timeline.table("measurements")
    for record in _records(measurements[measurements["finding_id"].isin(list(places))]):
        places[record.pop("finding_id")]["measurements"].append(record)
    boxes = timeline.table("boxes")
    return {
        "id": name,
        "modality": row["modality"],
        "unit": row["time_unit"],
        "scanner": row["scanner"],
        "patient": {key: value for key, value in patient.items() if value is not None},
        "positions": timepoints["position"].tolist(),
        "times": timepoints["time"].tolist(),
        "kept": kept,
        "channels": sorted(
            dict.fromkeys(channel for point in pictures.values() for channel in point), key=_image_channel
        ),
        "pictures": pictures,
        "size": size,
        "dims": row["spatial_dims"],
        "findings": findings,
        "boxes": _records(boxes[boxes["finding_id"].isin(list(places))]),
        "questions": _records(_of(timeline, "questions", name)),
        "reports": _reports(timeline, name, row["patient_id"]),
        "events": _records(_of(timeline, "events", name)),
        "statements": _records(_of(timeline, "statements", name)),
        "treatments": _treatments(timeline, row),
    }


def _image_channel(picture: str) -> str:
    """The channel of an image that a picture shows, perhaps in a window: ``ct`` of ``ct.lung``."""
    return picture.partition(".")[0]


def _of(timeline: Timeline, table: str, sequence: str) -> pd.DataFrame:
    frame = timeline.table(table)
    return frame[frame["sequence_id"] == sequence]


def _thin(positions: np.ndarray) -> list[int]:
    if len(positions) <= _MOST_POINTS:
        return [int(position) for position in positions]
    places = np.unique(np.linspace(0, len(positions) - 1, _MOST_POINTS).round().astype(int))
    return [int(positions[place]) for place in places]


def _reports(timeline: Timeline, sequence: str, patient: str) -> list[dict[str, Any]]:
    """The reports of the sequence, and those of the patient that belong to no sequence."""
    reports = timeline.table("reports")
    mine = (reports["sequence_id"] == sequence) | (reports["sequence_id"].isna() & (reports["patient_id"] == patient))
    return _records(reports[mine])


def _treatments(timeline: Timeline, sequence: dict[str, Any]) -> list[dict[str, Any]]:
    """Treatments on the sequence's own clock; treatments are noted on the patient's."""
    treatments = timeline.table("treatments")
    found = _records(treatments[treatments["patient_id"] == sequence["patient_id"]])
    offset = sequence["clock_offset"] or 0.0
    for record in found:
        record["start"] -= offset
        record["stop"] = None if record["stop"] is None else record["stop"] - offset
    return found


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    rows = frame.astype("object").to_dict("records")
    return [{str(column): _plain(value) for column, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    """A value as JSON has it: missing is null, and infinite, which JSON cannot say, is a word."""
    if isinstance(value, list):
        return value
    if pd.isna(value):
        return None
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return number if np.isfinite(number) else ("-inf" if number < 0 else "inf")
    return value.item() if isinstance(value, np.generic) else value
