"""BIDS: the Brain Imaging Data Structure, with sessions as visits.

https://bids-specification.readthedocs.io — ``sub-X[/ses-Y]/<data type>/sub-X[_ses-Y]_…_<suffix>.nii.gz``.

The time of a session comes from ``sessions.tsv``, else from the first of its images in ``scans.tsv``. Dates may have
been shifted, some to before 1925, as the specification asks for: only their differences are used.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeGuard

from temmed.errors import InputError
from temmed.timelines.importers._found import Images, channel_of, copy, find_images
from temmed.timelines.importers._items import read_json
from temmed.timelines.importers._tables import LeftOut, attributes, table_rows
from temmed.timelines.importers.nifti import Volume, loop
from temmed.timelines.importers.plan import LENGTHS, Mapper, Options, Plan, source_files
from temmed.timelines.importers.registry import Importer
from temmed.timelines.importers.studies import Study, plan_studies

_IMAGE = re.compile(
    r"sub-(?P<patient>[A-Za-z0-9]+)/(?:ses-(?P<session>[A-Za-z0-9]+)/)?(?P<kind>[a-z]+)/(?P<name>[^/]+)\.nii(\.gz)?"
)
_MODALITIES = {"anat": "mri", "func": "mri", "perf": "mri", "dwi": "mri", "pet": "pet"}
#: Suffixes of files whose fourth axis is time; in the others it is a gradient, a label or an echo.
_IN_TIME = ("bold", "cbv", "pet")
_NUMBERED = re.compile(r"(?P<word>[A-Za-z]*)(?P<number>\d+)")
_UNDATED = (
    "its session has no acq_time in sessions.tsv or scans.tsv, and the patient's sessions are not all numbered in the "
    "order of the times there are"
)
#: The year before which the specification puts shifted dates.
_SHIFTED = 1925


@dataclass(frozen=True)
class _Clock:
    """When the sessions of a patient were.

    Attributes:
        unit: ``day`` or ``ordinal``.
        when: the time of each session; one that is not there has no place in the order.
    """

    unit: str
    when: Mapping[str, datetime | float]

    def elapsed(self, session: str) -> timedelta | None:
        """Since the patient's first session; ``None`` where that is not known."""
        dates = {name: moment for name, moment in self.when.items() if isinstance(moment, datetime)}
        return dates[session] - min(dates.values()) if session in dates else None


def plan(source: Path, options: Options, run: Mapper) -> Plan:
    """Find the sessions of a BIDS folder.

    Args:
        source: the folder that holds ``sub-…`` folders.
        options: what the user asked for.
        run: calls a function on every image.

    Raises:
        InputError: there is nothing at ``source``, or a table lacks a column or holds a value that is none.
    """
    result, left_out = Plan(), LeftOut()
    people = _people(source, result)
    images = find_images(source, source_files(source), options, run, result, _place)
    _leave_out_other_axes(images, result)
    sessions: dict[str, set[str]] = defaultdict(set)
    for key in sorted({*images.volumes, *(key for key, _ in images.loops)}):
        sessions[key[0]].add(key[1])
    written = result.choose(sessions, options)
    clocks = {patient: _clock(source, patient, sessions[patient], left_out) for patient in written}
    silent = sum(patient not in people for patient in written)
    if people and silent:
        result.notes.append(f"{silent:,} patients have no row in participants.tsv")
    _plan_visits(images, clocks, people, options, result)
    _plan_loops(source, images, clocks, people, written, options, result)
    left_out.tell(result)
    shifted = any(
        isinstance(moment, datetime) and moment.year < _SHIFTED
        for clock in clocks.values()
        for moment in clock.when.values()
    )
    if shifted:
        result.notes.append(f"dates before {_SHIFTED} are shifted ones: the time between sessions is kept")
    ordinal = sum(clock.unit == "ordinal" and len(clock.when) > 1 for clock in clocks.values())
    if ordinal:
        result.notes.append(f"{ordinal:,} patients have numbered sessions without times: their time_unit is ordinal")
    return result


def _place(path: str, header: object) -> tuple[tuple[str, str, str], str] | str:
    match = _IMAGE.fullmatch(path)
    if match is None:
        return "not sub-<label>[/ses-<label>]/<data type>/<name>.nii.gz, such as what lies in derivatives"
    if match["kind"] not in _MODALITIES:
        return f"the data type {match['kind']} is not imported"
    return (match["patient"], match["session"] or "", _MODALITIES[match["kind"]]), channel_of(match["name"])


def _leave_out_other_axes(images: Images, result: Plan) -> None:
    """Keep the loops whose fourth axis is time."""
    kept = []
    for key, volume in images.loops:
        suffix = volume.path.name.split(".")[0].rsplit("_", 1)[-1]
        if suffix in _IN_TIME:
            kept.append((key, volume))
        else:
            result.skip([volume.path], f"the fourth axis of {suffix} files is not time")
    images.loops = kept


def _clock(source: Path, patient: str, sessions: set[str], left_out: LeftOut) -> _Clock:
    """When a patient's sessions were: dates if all have one, else their numbers, else the dates there are."""
    known = dict(_dates(source, patient, sessions, left_out))
    if len(known) == len(sessions):
        return _Clock("day", known)
    numbers = _numbers(sessions)
    if numbers and sorted(known, key=lambda session: known[session]) == sorted(known, key=lambda name: numbers[name]):
        return _Clock("ordinal", numbers)
    return _Clock("day", known)


def _numbers(sessions: set[str]) -> dict[str, float]:
    """The number of each session, where each is the same word and a number; else none."""
    if len(sessions) == 1:
        return dict.fromkeys(sessions, 0.0)
    matches = {session: _NUMBERED.fullmatch(session) for session in sessions}
    found = {session: (match["word"], float(match["number"])) for session, match in matches.items() if match}
    words, numbers = {word for word, _ in found.values()}, {number for _, number in found.values()}
    if len(found) < len(sessions) or len(words) > 1 or len(numbers) < len(sessions):
        return {}
    return {session: number for session, (_, number) in found.items()}


def _dates(source: Path, patient: str, sessions: set[str], left_out: LeftOut) -> Iterator[tuple[str, datetime]]:
    folder = source / f"sub-{patient}"
    listed: dict[str, datetime] = {}
    table = folder / f"sub-{patient}_sessions.tsv"
    if table.is_file():
        for row in table_rows(table, ("session_id",)):
            session = row.needed("session_id").removeprefix("ses-")
            moment = row.date_in("acq_time")
            if session not in sessions:
                left_out.add(row, "there is no image of the session", "a sessions.tsv")
            elif moment is not None:
                listed[session] = moment
    for session in sorted(sessions):
        moments = [listed[session]] if session in listed else _scan_times(folder, patient, session)
        if moments:
            yield session, min(moments)


def _scan_times(folder: Path, patient: str, session: str) -> list[datetime]:
    inside = folder / f"ses-{session}" if session else folder
    table = inside / (f"sub-{patient}_ses-{session}_scans.tsv" if session else f"sub-{patient}_scans.tsv")
    if not table.is_file():
        return []
    moments = (row.date_in("acq_time") for row in table_rows(table, ("filename",)))
    return [moment for moment in moments if moment is not None]


def _people(source: Path, result: Plan) -> dict[str, dict[str, Any]]:
    """What ``participants.tsv`` says of patients; its ids begin with ``sub-``, but not in every dataset."""
    path = source / "participants.tsv"
    if not path.is_file():
        result.notes.append("there is no participants.tsv: nothing is known about the patients")
        return {}
    told = attributes(table_rows(path, ("participant_id",)), "participant_id", age="age", sex="sex")
    return {name.removeprefix("sub-"): row for name, row in told.items()}


def _plan_visits(
    images: Images,
    clocks: Mapping[str, _Clock],
    people: Mapping[str, Mapping[str, Any]],
    options: Options,
    result: Plan,
) -> None:
    groups: dict[tuple[str, str], list[Study]] = defaultdict(list)
    for (patient, session, modality), volumes in sorted(images.volumes.items()):
        clock = clocks.get(patient)
        if clock is None:
            continue
        if session not in clock.when:
            result.skip((file for _, files in volumes for file in files), _UNDATED)
        else:
            found = tuple(sorted(volumes, key=lambda image: (image[0], _run(image[1][0]))))
            groups[modality, clock.unit].append(Study(patient, session, clock.when[session], found))
    for (modality, unit), studies in sorted(groups.items()):
        places = plan_studies(
            studies,
            result,
            replace(options, limit=None),
            modality=modality,
            timing="acq_time" if unit == "day" else "the session's number",
            time_unit=unit,
            spatial_dims=3,
            attributes=people,
        )
        for (patient, session), place in places.items():
            since = clocks[patient].elapsed(session)
            if place.position == 0 and since is not None:
                place.sequence.clock_offset = since / LENGTHS["day"]
    # A patient with images of two modalities was added once for each.
    result.patients = list({row["patient_id"]: row for row in result.patients}.values())


def _run(path: Path) -> int:
    match = re.search(r"_run-(\d+)", path.name)
    return int(match[1]) if match else 0


def _plan_loops(
    source: Path,
    images: Images,
    clocks: Mapping[str, _Clock],
    people: Mapping[str, Mapping[str, Any]],
    written: Mapping[str, str],
    options: Options,
    result: Plan,
) -> None:
    there = {row["patient_id"] for row in result.patients}
    for (patient, session, modality), volume in images.loops:
        if patient not in clocks:
            continue
        told = _frame_times(source, volume)
        sequence = loop(written[patient], volume, options, result, modality, told)
        since = clocks[patient].elapsed(session)
        if since is not None and sequence.time_unit in LENGTHS:
            sequence.clock_offset = since / LENGTHS[sequence.time_unit]
        result.sequences.append(sequence)
        if written[patient] not in there:
            there.add(written[patient])
            result.patients.append({"patient_id": written[patient], **people.get(patient, {})})


def _frame_times(source: Path, volume: Volume) -> tuple[list[float], str] | None:
    """Seconds of each frame since the first by the loop's JSON files; ``None`` if they do not say."""
    about = _sidecar(source, volume.path)
    for name in ("VolumeTiming", "FrameTimesStart"):
        times = about.get(name)
        if isinstance(times, list) and len(times) == volume.frames and all(map(_is_number, times)):
            if any(before >= after for before, after in pairwise(times)):
                raise InputError(
                    f"{name} that grows", "times that do not", f"the JSON files of {volume.path}", "Correct them."
                )
            return [float(time) - float(times[0]) for time in times], name
    step = about.get("RepetitionTime")
    if _is_number(step) and step > 0:
        return [index * float(step) for index in range(volume.frames)], "RepetitionTime"
    return None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _sidecar(source: Path, image: Path) -> dict[str, Any]:
    """What the JSON files say that apply to an image: those beside and above it whose parts are all parts of its name.

    A file nearer to the image goes before one further up.
    """
    parts = image.name.split(".")[0].split("_")
    above = [folder for folder in image.parents if folder == source or source in folder.parents]
    about: dict[str, Any] = {}
    for folder in reversed(above):
        for path in sorted(folder.glob("*.json"), key=lambda file: len(file.name)):
            named = path.stem.split("_")
            if named[-1] == parts[-1] and set(named) <= set(parts):
                about |= _object(path)
    return about


def _object(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict):
        raise InputError("a JSON object", type(found).__name__, str(path), "Correct it, or leave it out.")
    return found


IMPORTER = Importer(
    name="bids",
    summary="BIDS: sessions as visits, functional runs as loops, participants.tsv.",
    needs="a folder of sub-<label>[/ses-<label>]/<data type>/*.nii.gz",
    plan=plan,
    copy=copy,
)
