"""DICOM files: cine loops, volumes and images of patients over dated studies.

A multi-frame file in time is one sequence, and so is a series that shows each of its slices at several moments. All
else of a patient and a modality is one sequence of visits, one time point per study, whose series are the channels.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path

from temmed.timelines.importers._dicom_copy import copy
from temmed.timelines.importers._dicom_frames import NO_TIMING, Frames
from temmed.timelines.importers._dicom_header import Header, inspect
from temmed.timelines.importers._dicom_series import Part, assemble
from temmed.timelines.importers.plan import (
    LENGTHS,
    Mapper,
    Options,
    Picture,
    Plan,
    PlannedSequence,
    Unusable,
    Visit,
    pictures_of,
    pseudonym,
    source_files,
)
from temmed.timelines.importers.registry import Importer

#: Digits of the part of a loop's id that comes from its unique id.
_LOOP_DIGITS = 8
_UNDATED = (
    "no date (StudyDate, SeriesDate, AcquisitionDate) while its patient has other studies, so that its place among "
    "them is unknown"
)


@dataclass(frozen=True)
class _Moment:
    """When a study was, on its patient's clock.

    Attributes:
        days: since the patient's first study.
        start: its date and time, where that is what the days come from.
    """

    days: float
    start: datetime | None


#: The visits of a patient in order, by modality and spatial dimensions: when, and what was taken.
_Visits = dict[tuple[str, int], list[tuple[_Moment, list[Part]]]]


def plan(source: Path, options: Options, run: Mapper) -> Plan:
    """Find the sequences of a DICOM file or folder.

    Args:
        source: a DICOM file, or a folder that holds some at any depth, whatever their names.
        options: what the user asked for.
        run: calls a function on every file.

    Raises:
        InputError: there is nothing at ``source``.
    """
    tasks = [(file, options.frame_seconds) for file in source_files(source)]
    result = Plan()
    found = _distinct(run("Reading headers", inspect, tasks), result)
    owners = {header.path: header.patient or f"study {header.study or header.checksum}" for header in found}
    by_patient: dict[str, list[Header]] = defaultdict(list)
    for header in found:
        by_patient[owners[header.path]].append(header)
    for patient, patient_id in result.choose(by_patient, options).items():
        _plan_patient(patient_id, by_patient[patient], options, result)
    nameless = sum(not header.patient for header in found)
    if nameless:
        result.notes.append(
            f"{nameless} files have no PatientID: each study counts as a patient of its own, so that one person may "
            "be in two subsets of a split"
        )
    _note_timing(result)
    return result


def _distinct(results: Sequence[Header | Unusable], result: Plan) -> list[Header]:
    """The headers of distinct images; what is unusable or there twice is skipped."""
    found: list[Header] = []
    first: dict[str, Header] = {}
    for entry in results:
        if isinstance(entry, Unusable):
            result.skip([entry.path], entry.reason)
            continue
        twin = first.setdefault(entry.instance or str(entry.path), entry)
        if twin is entry:
            found.append(entry)
            result.checksums[entry.path] = entry.checksum
        else:
            same = "the same image" if twin.checksum == entry.checksum else "another file with the same SOPInstanceUID"
            result.skip([entry.path], f"{same} as {twin.path.name}")
    return found


def _plan_patient(patient: str, headers: Sequence[Header], options: Options, result: Plan) -> None:
    studies: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        studies[header.study or f"{header.day} {header.clock} {header.series}"].append(header)
    moments, timing = _moments(studies)
    sequences: list[PlannedSequence] = []
    visits: _Visits = defaultdict(list)
    for study in sorted(studies, key=lambda key: (moments[key].days if key in moments else math.inf, key)):
        moment = moments.get(study)
        parts = _parts(patient, studies[study], options, result)
        sequences += [_loop_of_part(patient, part, moment, options) for part in parts if part.is_cine]
        sequences += [
            _loop_of_file(patient, header, header.frames, moment, options)
            for header in studies[study]
            if header.frames is not None and header.frames.kind == "cine"
        ]
        images: dict[tuple[str, int], list[Part]] = defaultdict(list)
        for part in parts:
            if not part.is_cine and moment is None:
                result.skip(part.moments[0], _UNDATED)
            elif not part.is_cine:
                images[options.modality or part.headers[0].modality, part.spatial_dims].append(part)
        for group, found in images.items():
            if moment is not None:
                visits[group].append((moment, found))
    sequences += _longitudinal(patient, visits, timing, result)
    if not sequences:
        return
    result.sequences += sequences
    in_time = sorted(headers, key=lambda header: (header.day or date.max, str(header.path)))
    result.patients.append(
        {
            "patient_id": patient,
            "sex": next((header.sex for header in in_time if header.sex), None),
            "age": next((header.age for header in in_time if header.age is not None), None),
        }
    )


def _moments(studies: Mapping[str, Sequence[Header]]) -> tuple[dict[str, _Moment], str]:
    """When each study of a patient was, as far as that is known, and what says so."""
    offsets = {
        key: [header.offset_days for header in found if header.offset_days is not None]
        for key, found in studies.items()
    }
    if all(offsets.values()):
        first = min(min(days) for days in offsets.values())
        moments = {key: _Moment(min(days) - first, None) for key, days in offsets.items()}
        return moments, "LongitudinalTemporalOffsetFromEvent"
    dated = {
        key: [(header.day, header.clock, header.dated_by) for header in found if header.day is not None]
        for key, found in studies.items()
    }
    known = [entry for entries in dated.values() for entry in entries]
    if not known:
        # One study needs no date to be in order.
        return dict.fromkeys(list(studies)[:1] if len(studies) == 1 else (), _Moment(0.0, None)), "no date"
    by_clock = all(clock is not None for _, clock, _ in known)
    starts = {
        key: min(datetime.combine(day, clock if by_clock and clock else time()) for day, clock, _ in entries)
        for key, entries in dated.items()
        if entries
    }
    first_start = min(starts.values())
    sources = " or ".join(sorted({dated_by for _, _, dated_by in known}))
    return (
        {key: _Moment((start - first_start) / LENGTHS["day"], start) for key, start in starts.items()},
        sources + (" with the time of day" if by_clock else ""),
    )


def _parts(patient: str, study: Sequence[Header], options: Options, result: Plan) -> list[Part]:
    """The images and single-frame loops of a study, series by series."""
    by_series: dict[tuple[int, str], list[Header]] = defaultdict(list)
    for header in study:
        if header.frames is None or header.frames.kind == "volume":
            by_series[header.series_number, header.series].append(header)
    parts: list[Part] = []
    for key in sorted(by_series):
        series = assemble(by_series[key], options.frame_seconds)
        parts += series.parts
        for files, reason in series.unused:
            result.skip(files, reason)
        for channel in series.gaps:
            result.notes.append(f"{patient}: {channel} has a gap between slices: one may be missing")
    return parts


def _loop_id(patient: str, modality: str, header: Header, options: Options) -> str:
    return f"{patient}_{modality}_{pseudonym(header.instance or header.checksum, options.key)[1 : 1 + _LOOP_DIGITS]}"


def _milliseconds(moment: _Moment | None) -> float | None:
    return None if moment is None else moment.days * LENGTHS["day"] / LENGTHS["millisecond"]


def _loop_of_file(
    patient: str, header: Header, frames: Frames, moment: _Moment | None, options: Options
) -> PlannedSequence:
    modality = options.modality or header.modality
    return PlannedSequence(
        sequence_id=_loop_id(patient, modality, header, options),
        patient_id=patient,
        modality=modality,
        time_unit=frames.unit,
        spatial_dims=2,
        times=list(frames.times),
        pictures=[
            Picture(position, "rgb" if header.shape[2] else "image", (header.path,), frame)
            for position, frame in enumerate(frames.order)
        ],
        timing=frames.source,
        scanner=header.scanner,
        clock_offset=_milliseconds(moment) if frames.unit == "millisecond" else None,
    )


def _loop_of_part(patient: str, part: Part, moment: _Moment | None, options: Options) -> PlannedSequence:
    header = part.headers[0]
    modality = options.modality or header.modality
    return PlannedSequence(
        sequence_id=_loop_id(patient, modality, header, options),
        patient_id=patient,
        modality=modality,
        time_unit="millisecond",
        spatial_dims=part.spatial_dims,
        times=list(part.times),
        pictures=[
            Picture(position, "rgb" if header.shape[2] else "image", files)
            for position, files in enumerate(part.moments)
        ],
        timing=part.timing,
        scanner=header.scanner,
        clock_offset=_milliseconds(moment),
    )


def _longitudinal(
    patient: str,
    visits: _Visits,
    timing: str,
    result: Plan,
) -> list[PlannedSequence]:
    """One sequence of visits per modality; two where some of its images are volumes and some are not."""
    both = {modality for modality, count in Counter(modality for modality, _ in visits).items() if count > 1}
    sequences = []
    for (modality, dims), found in sorted(visits.items()):
        start = found[0][0]
        shown = [
            Visit(
                moment.days - start.days,
                [(part.headers[0].channel, part.moments[0]) for part in parts],
            )
            for moment, parts in found
        ]
        pictures = pictures_of(shown)
        again = sum(len(visit.images) - len({channel for channel, _ in visit.images}) for visit in shown)
        sequence_id = f"{patient}_{modality}_{dims}d" if modality in both else f"{patient}_{modality}"
        if again:
            result.notes.append(f"{sequence_id}: {again} images share a channel's name in their visit and are numbered")
        sequences.append(
            PlannedSequence(
                sequence_id=sequence_id,
                patient_id=patient,
                modality=modality,
                time_unit="day",
                spatial_dims=dims,
                times=[visit.time for visit in shown],
                pictures=pictures,
                timing=timing,
                scanner=found[0][1][0].headers[0].scanner,
                clock_offset=start.days,
                start=start.start,
            )
        )
    return sequences


def _note_timing(result: Plan) -> None:
    untimed = [sequence for sequence in result.sequences if sequence.timing == NO_TIMING]
    if untimed:
        result.notes.append(
            f"{len(untimed)} loops do not say how long a frame lasts (FrameTime, FrameTimeVector, CineRate, "
            "RecommendedDisplayFrameRate): their time_unit is frame, so that no model learns real time from them; "
            "give --frame-seconds if you know it"
        )
    displayed = sum(sequence.timing == "RecommendedDisplayFrameRate" for sequence in result.sequences)
    if displayed:
        result.notes.append(
            f"{displayed} loops give only the rate at which to show them (RecommendedDisplayFrameRate), which may not "
            "be the rate at which they were taken"
        )


IMPORTER = Importer(
    name="dicom",
    summary="DICOM files: cine loops, volumes and images of patients over dated studies.",
    needs="a DICOM file, or a folder that holds some at any depth",
    plan=plan,
    copy=copy,
)
