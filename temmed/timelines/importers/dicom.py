"""DICOM files: cine loops, volumes and images of patients over dated studies.

A multi-frame file in time is one sequence, and so is a series that shows each of its slices at several moments. All
else of a patient and a modality is one sequence of visits, one time point per study, whose series are the channels.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time
from pathlib import Path

from temmed.timelines.importers._dicom_copy import copy
from temmed.timelines.importers._dicom_frames import NO_TIMING
from temmed.timelines.importers._dicom_header import Header, inspect
from temmed.timelines.importers._dicom_series import Part, assemble
from temmed.timelines.importers.plan import (
    Mapper,
    Options,
    Picture,
    Plan,
    PlannedSequence,
    Unusable,
    Visit,
    limited,
    patient_ids,
    pictures_of,
    pseudonym,
    source_files,
)
from temmed.timelines.importers.registry import Importer

_DAY = 86_400.0
#: Digits of the part of a loop's id that comes from its unique id.
_LOOP_DIGITS = 8


@dataclass(frozen=True)
class _Moment:
    """When a study was, on its patient's clock.

    Attributes:
        days: since the patient's first study.
        start: its date and time, where that is what the days come from.
    """

    days: float
    start: datetime | None


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
    owners = {header.path: header.patient or f"study {header.study or header.path}" for header in found}
    chosen = limited(owners.values(), options.limit)
    written = patient_ids(chosen, options)
    result.aliases = {new: old for old, new in written.items()}
    by_patient: dict[str, list[Header]] = defaultdict(list)
    for header in found:
        by_patient[owners[header.path]].append(header)
    for patient in chosen:
        _plan_patient(written[patient], by_patient[patient], options, result)
    left = sum(len(by_patient[patient]) for patient in by_patient.keys() - set(chosen))
    if left:
        result.notes.append(f"{len(by_patient) - len(chosen)} patients with {left} files are left out by --limit")
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
    moments, timing = _moments(studies, result)
    sequences: list[PlannedSequence] = []
    visits: dict[tuple[str, int], list[tuple[_Moment, str, list[Part]]]] = defaultdict(list)
    for study in sorted(moments, key=lambda key: (moments[key].days, key)):
        parts = _parts(patient, studies[study], options, result)
        sequences += [_loop_of_part(patient, part, moments[study], options) for part in parts if part.is_cine]
        sequences += [
            _loop_of_file(patient, header, moments[study], options)
            for header in studies[study]
            if header.frames is not None and header.frames.kind == "cine"
        ]
        images: dict[tuple[str, int], list[Part]] = defaultdict(list)
        for part in parts:
            if not part.is_cine:
                images[options.modality or part.headers[0].modality, part.spatial_dims].append(part)
        for group, found in images.items():
            visits[group].append((moments[study], study, found))
    sequences += _longitudinal(patient, visits, timing, result)
    if not sequences:
        return
    result.sequences += sequences
    in_time = sorted(headers, key=lambda header: (header.day or datetime.max.date(), str(header.path)))
    result.patients.append(
        {
            "patient_id": patient,
            "sex": next((header.sex for header in in_time if header.sex), None),
            "age": next((header.age for header in in_time if header.age is not None), None),
        }
    )


def _moments(studies: dict[str, list[Header]], result: Plan) -> tuple[dict[str, _Moment], str]:
    """When each study of a patient was, and what says so; studies without a date are skipped where it matters."""
    offsets = {
        key: min((header.offset_days for header in found if header.offset_days is not None), default=None)
        for key, found in studies.items()
    }
    if all(offset is not None for offset in offsets.values()):
        days = {key: float(offset) for key, offset in offsets.items() if offset is not None}
        first = min(days.values())
        return {key: _Moment(day - first, None) for key, day in days.items()}, "LongitudinalTemporalOffsetFromEvent"
    dated = {key: [header for header in found if header.day is not None] for key, found in studies.items()}
    if len(studies) == 1 and not any(dated.values()):
        return dict.fromkeys(studies, _Moment(0.0, None)), "a single study without a date"
    for key, found in dated.items():
        if not found:
            reason = "no date (StudyDate, SeriesDate, AcquisitionDate), so that its place among the visits is unknown"
            result.skip([header.path for header in studies[key]], reason)
    dated = {key: found for key, found in dated.items() if found}
    by_clock = all(header.clock is not None for found in dated.values() for header in found)
    starts = {
        key: min(
            datetime.combine(header.day, header.clock if by_clock and header.clock else time())
            for header in found
            if header.day is not None
        )
        for key, found in dated.items()
    }
    first_start = min(starts.values())
    names = sorted({header.dated_by for found in dated.values() for header in found})
    return (
        {key: _Moment((start - first_start).total_seconds() / _DAY, start) for key, start in starts.items()},
        " or ".join(names) + (" with the time of day" if by_clock else ""),
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


def _loop_of_file(patient: str, header: Header, moment: _Moment, options: Options) -> PlannedSequence:
    frames = header.frames
    assert frames is not None
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
        clock_offset=moment.days * _DAY * 1000 if frames.unit == "millisecond" else None,
    )


def _loop_of_part(patient: str, part: Part, moment: _Moment, options: Options) -> PlannedSequence:
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
        clock_offset=moment.days * _DAY * 1000,
    )


def _longitudinal(
    patient: str,
    visits: dict[tuple[str, int], list[tuple[_Moment, str, list[Part]]]],
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
            for moment, _, parts in found
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
                scanner=found[0][2][0].headers[0].scanner,
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
    plan=plan,
    copy=copy,
)
