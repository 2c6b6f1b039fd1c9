"""NIfTI files: 4D files as loops, and folders of dated visits.

A file with a fourth axis is one sequence, wherever it lies. Other files are visits when their path says whose and when:

- ``<patient>/<session>/<channel>.nii.gz``
- ``<patient>_<YYYYMMDD>_<channel>.nii.gz``, at any depth

A session is a date (``20240131``, ``2024-01-31``, with or without ``ses-``), days or weeks (``day-12``, ``d0129``,
``week-044``), or any other word with one number, such as ``ses-02``: then only the order is known.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from temmed.errors import InputError
from temmed.timelines.importers.plan import (
    Mapper,
    Options,
    Picture,
    Plan,
    PlannedSequence,
    Unusable,
    Visit,
    checksum,
    folder_of,
    pictures_of,
    relative,
    slug,
    source_files,
)
from temmed.timelines.importers.registry import Importer
from temmed.timelines.pixels import read_frames
from temmed.timelines.readers.nifti import BROKEN, frame_count, open_image, spatial_dims, voxel_type

_SUFFIX = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_FLAT = re.compile(r"(?P<patient>.+)_(?P<date>\d{8})_(?P<channel>.+)")
_DATE = re.compile(r"(?:ses-)?(\d{4})-?(\d{2})-?(\d{2})")
_NUMBERED = re.compile(r"(?P<word>\D*)(?P<number>\d+)(?P<rest>\D*)")
_WORDS = {"day": "day", "d": "day", "week": "week", "w": "week"}
#: The header's units of time, as TemMed's unit and the factor to it.
_UNITS = {"sec": ("second", 1.0), "msec": ("millisecond", 1.0), "usec": ("millisecond", 1e-3)}
#: A longer step between the volumes of a loop is more likely milliseconds that the header calls seconds.
_LONGEST_STEP = 60.0
_LAYOUT = (
    "it is not 4D, and its path is neither <patient>/<session>/<channel>.nii.gz nor "
    "<patient>_<YYYYMMDD>_<channel>.nii.gz"
)
_LOOP_DIGITS = 8


@dataclass(frozen=True)
class Volume:
    """What one file says about itself.

    Attributes:
        path: the file.
        checksum: SHA-256 of its bytes.
        frames: the size of its fourth axis.
        spatial_dims: 2 or 3.
        colour: whether its voxels are RGB.
        step: ``pixdim[4]``.
        unit: the unit of ``step``: ``sec``, ``msec``, ``usec`` or another text.
    """

    path: Path
    checksum: str
    frames: int
    spatial_dims: int
    colour: bool
    step: float
    unit: str


@dataclass(frozen=True)
class _Place:
    """Where a file stands by its path.

    Attributes:
        patient: whose it is.
        unit: ``day``, ``week`` or ``ordinal``.
        value: days since year 1 for a date; otherwise the session's number.
        dated: whether the value is a date.
        word: what stands around the number, which must be the same for all sessions of a patient.
        channel: the channel.
    """

    patient: str
    unit: str
    value: float
    dated: bool
    word: str
    channel: str


def plan(source: Path, options: Options, run: Mapper) -> Plan:
    """Find the sequences of a NIfTI file or folder.

    Args:
        source: a ``.nii`` or ``.nii.gz`` file, or a folder of them in one of the layouts above.
        options: what the user asked for.
        run: calls a function on every file.

    Raises:
        InputError: there is nothing at ``source``.
    """
    result = Plan()
    volumes: list[Volume] = []
    for entry in run("Reading headers", inspect, source_files(source)):
        if isinstance(entry, Unusable):
            result.skip([entry.path], entry.reason)
        else:
            volumes.append(entry)
            result.checksums[entry.path] = entry.checksum
    folder = folder_of(source)
    places = {volume.path: _place(relative(volume.path, folder)) for volume in volumes}
    used: dict[str, list[Volume]] = defaultdict(list)
    for volume in volumes:
        place = places[volume.path]
        if isinstance(place, str) and volume.frames == 1 and volume.path != source:
            result.skip([volume.path], place)
        else:
            owner = place.patient if isinstance(place, _Place) else _owner(relative(volume.path, folder))
            used[owner].append(volume)
    for patient, patient_id in result.choose(used, options).items():
        loops = _distinct([volume for volume in used[patient] if volume.frames > 1], result)
        visits = [(volume, places[volume.path]) for volume in used[patient] if volume.frames == 1]
        sequences = [loop(patient_id, volume, options, result) for volume in loops]
        sequences += _visits(patient_id, visits, options, result)
        if sequences:
            result.sequences += sequences
            result.patients.append({"patient_id": patient_id})
    if options.modality is None and result.sequences:
        result.notes.append("NIfTI does not name a modality: mri is assumed; say otherwise with --modality")
    return result


def inspect(path: Path) -> Volume | Unusable:
    """Read one file's header and try its voxels: the last frame, before which a cut file ends."""
    if not _SUFFIX.search(path.name):
        return Unusable(path, "not a NIfTI file by its name (.nii, .nii.gz)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = open_image(path)
            count = frame_count(image)
            read_frames(path, [count - 1])
            header: Any = image.header
            zooms, units = header.get_zooms(), header.get_xyzt_units()
            return Volume(
                path=path,
                checksum=checksum(path),
                frames=count,
                spatial_dims=spatial_dims(image),
                colour=voxel_type(image).names is not None,
                # The shortest number that is this float32: 0.72 and not 0.7200000286102295.
                step=float(str(zooms[3])) if len(zooms) > 3 else 0.0,
                unit=str(units[1]),
            )
        except InputError as error:
            return Unusable(path, f"expected {error.expected}, found {error.found}")
        except BROKEN as error:
            return Unusable(path, f"a header that cannot be read ({error})")


def _distinct(loops: Sequence[Volume], result: Plan) -> list[Volume]:
    """A patient's loops, each once: a second copy of a file is skipped."""
    first: dict[str, Volume] = {}
    for volume in loops:
        twin = first.setdefault(volume.checksum, volume)
        if twin is not volume:
            result.skip([volume.path], f"the same file as {twin.path.name}")
    return list(first.values())


def _place(path: str) -> _Place | str:
    """What a path relative to the source says, or why it says nothing."""
    *folders, name = path.split("/")
    stem = _SUFFIX.sub("", name)
    flat = _FLAT.fullmatch(stem)
    if flat:
        day = _day(flat["date"])
        if day is None:
            return f"{flat['date']} is not a date"
        return _Place(flat["patient"], "day", day, True, "", slug(flat["channel"]))
    if len(folders) != 2:
        return _LAYOUT
    patient, session = folders
    if _DATE.fullmatch(session):
        day = _day(session)
        return f"{session} is not a date" if day is None else _Place(patient, "day", day, True, "", slug(stem))
    number = _NUMBERED.fullmatch(session)
    if number is None:
        return f"the session {session} has neither a date nor a single number, so that its order is unknown"
    word = (number["word"] + number["rest"]).lower()
    unit = _WORDS.get(word.removeprefix("ses-").strip("-_ "), "ordinal")
    return _Place(patient, unit, float(number["number"]), False, word, slug(stem))


def _day(text: str) -> float | None:
    match = _DATE.fullmatch(text)
    try:
        return float(date(*map(int, match.groups())).toordinal()) if match else None
    except ValueError:
        return None


def _owner(path: str) -> str:
    """The patient of a file whose path does not follow a layout: its first folder, or its own name."""
    parts = path.split("/")
    return parts[0] if len(parts) > 1 else _SUFFIX.sub("", parts[0])


def loop(
    patient: str,
    volume: Volume,
    options: Options,
    result: Plan,
    modality: str = "mri",
    told: tuple[list[float], str] | None = None,
) -> PlannedSequence:
    """The sequence of a file with a fourth axis.

    Args:
        patient: the id to write.
        volume: the file.
        options: what the user asked for.
        result: the plan in which doubts are noted.
        modality: unless the user named one.
        told: seconds of each frame and what says so, where there is better than the header.
    """
    modality = options.modality or modality
    sequence_id = f"{patient}_{modality}_{volume.checksum[:_LOOP_DIGITS]}"
    if told is not None and options.frame_seconds is None:
        unit, (times, timing) = "second", told
    else:
        unit, step, timing, note = _timing(volume, options.frame_seconds)
        times = [index * step for index in range(volume.frames)]
        if note:
            result.notes.append(f"{sequence_id}: {note}")
    return PlannedSequence(
        sequence_id=sequence_id,
        patient_id=patient,
        modality=modality,
        time_unit=unit,
        spatial_dims=volume.spatial_dims,
        times=times,
        pictures=[
            Picture(frame, "rgb" if volume.colour else "image", (volume.path,), frame) for frame in range(volume.frames)
        ],
        timing=timing,
    )


def _timing(volume: Volume, frame_seconds: float | None) -> tuple[str, float, str, str]:
    """Unit and step of a loop's time, what they were taken from, and what the user should know about them."""
    if frame_seconds is not None:
        return "second", frame_seconds, "--frame-seconds", ""
    unit, factor = _UNITS.get(volume.unit, ("frame", 0.0))
    if not factor or volume.step <= 0:
        lacking = "no step (pixdim[4] is 0)" if factor else f"the unit of time {volume.unit!r}"
        note = (
            f"the header gives {lacking}, so that its time_unit is frame and no model learns real time from it; "
            "give --frame-seconds if you know it"
        )
        return "frame", 1.0, "none", note
    step = volume.step * factor
    seconds = step if unit == "second" else step / 1000
    note = (
        f"the header says {seconds:g} seconds from one volume to the next; if that should be milliseconds, import "
        f"again with --frame-seconds {seconds / 1000:g}"
    )
    return unit, step, f"pixdim[4] in {volume.unit}", note if seconds > _LONGEST_STEP else ""


def _visits(
    patient: str, visits: Sequence[tuple[Volume, _Place | str]], options: Options, result: Plan
) -> list[PlannedSequence]:
    """The sequences of a patient's visits: one, or two where some images are volumes and some are not."""
    placed = [(volume, place) for volume, place in visits if isinstance(place, _Place)]
    if len({(place.unit, place.dated, place.word) for _, place in placed}) > 1:
        reason = "the patient's sessions are named in different ways, so that their order is unknown"
        result.skip([volume.path for volume, _ in placed], reason)
        placed = []
    # A single file given by itself needs no layout: it is a sequence of one time point.
    placed = placed or [
        (volume, _Place(patient, "ordinal", 0.0, False, "", "image"))
        for volume, place in visits
        if not isinstance(place, _Place)
    ]
    dims = sorted({volume.spatial_dims for volume, _ in placed})
    modality = options.modality or "mri"
    return [
        _longitudinal(
            f"{patient}_{modality}" + (f"_{number}d" if len(dims) > 1 else ""),
            patient,
            modality,
            [(volume, place) for volume, place in placed if volume.spatial_dims == number],
            result,
        )
        for number in dims
    ]


def _longitudinal(
    sequence_id: str, patient: str, modality: str, placed: Sequence[tuple[Volume, _Place]], result: Plan
) -> PlannedSequence:
    by_value: dict[float, list[tuple[str, tuple[Path, ...]]]] = defaultdict(list)
    for volume, place in placed:
        by_value[place.value].append(("rgb" if volume.colour else place.channel, (volume.path,)))
    unit, dated = placed[0][1].unit, placed[0][1].dated
    values = sorted(by_value)
    times = [float(rank) if unit == "ordinal" else value - values[0] for rank, value in enumerate(values)]
    visits = [Visit(time, sorted(by_value[value])) for time, value in zip(times, values, strict=True)]
    if any(len({channel for channel, _ in visit.images}) < len(visit.images) for visit in visits):
        result.notes.append(f"{sequence_id}: images that share a channel's name in their visit are numbered")
    if unit == "ordinal" and len(times) > 1:
        result.notes.append(f"{sequence_id}: its sessions have an order and no date, so that its time_unit is ordinal")
    return PlannedSequence(
        sequence_id=sequence_id,
        patient_id=patient,
        modality=modality,
        time_unit=unit,
        spatial_dims=placed[0][0].spatial_dims,
        times=times,
        pictures=pictures_of(visits),
        timing="the date in the path" if dated else "the session's number",
        start=datetime.fromordinal(int(values[0])) if dated else None,
    )


IMPORTER = Importer(
    name="nifti",
    summary="NIfTI files: 4D files as loops, folders of dated or numbered visits.",
    needs="a .nii or .nii.gz file, or a folder of <patient>/<session>/<channel>.nii.gz",
    plan=plan,
)
