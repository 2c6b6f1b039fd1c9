"""What one DICOM file says about itself, as far as an import needs it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from temmed.errors import InputError
from temmed.timelines.importers._dicom_frames import Frames, frames_of, parse_datetime
from temmed.timelines.importers.plan import OLDEST, Unusable, checksum, slug
from temmed.timelines.pixels import read_frames
from temmed.timelines.readers.dicom import broken, checked_frame_count, is_colour, reason, sniff

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_MODALITIES = {
    "CR": "xray",
    "CT": "ct",
    "DX": "xray",
    "ES": "endoscopy",
    "IVUS": "ultrasound",
    "MG": "mammography",
    "MR": "mri",
    "NM": "nuclear",
    "OP": "fundus",
    "OPT": "oct",
    "PT": "pet",
    "RF": "fluoroscopy",
    "RG": "xray",
    "US": "ultrasound",
    "XA": "angiography",
}
#: Objects with pixels that are no images of a patient.
_NOT_IMAGES = {"SEG": "a segmentation", "RTDOSE": "a radiation dose", "RTIMAGE": "a treatment beam", "PR": "a display"}
#: Modalities where one visit has several series that show different things, told apart by their description.
_MANY_SERIES = ("ct", "mri", "nuclear", "pet")
_VIEWS = {"PA": "frontal", "AP": "frontal", "LL": "lateral", "RL": "lateral", "LATERAL": "lateral"}
_DATE_CHAIN = ("Study", "Series", "Acquisition", "Content")


@dataclass(frozen=True)
class Header:
    """One image file.

    Attributes:
        path: the file.
        checksum: SHA-256 of its bytes.
        patient: ``PatientID``, or an empty text.
        study, series, instance: their unique ids, or empty texts.
        modality: TemMed's name of the modality.
        day, clock: the date and the time of day of the study; ``None`` where the header has none.
        dated_by: which of the dates was used.
        offset_days: ``LongitudinalTemporalOffsetFromEvent``.
        channel: what it shows: ``rgb``, the view, or the series' description.
        series_number, instance_number: for a stable order.
        shape: rows, columns and whether it is colour: what slices of a volume share.
        frames: what its frames are; ``None`` for a single frame.
        place: ``ImagePositionPatient``.
        direction: ``ImageOrientationPatient``.
        height: ``SliceLocation``.
        moments: (name, milliseconds) of every attribute that can order images of one place in time.
        contrasts: (name, value) of what makes such images differ otherwise.
        sex, age, scanner: about the patient and the device.
    """

    path: Path
    checksum: str
    patient: str
    study: str
    series: str
    instance: str
    modality: str
    day: date | None
    clock: time | None
    dated_by: str
    offset_days: float | None
    channel: str
    series_number: int
    instance_number: int
    shape: tuple[int, int, bool]
    frames: Frames | None
    place: tuple[float, ...] | None
    direction: tuple[float, ...] | None
    height: float | None
    moments: tuple[tuple[str, float], ...]
    contrasts: tuple[tuple[str, float], ...]
    sex: str | None
    age: float | None
    scanner: str | None


def inspect(task: tuple[Path, float | None]) -> Header | Unusable:
    """Read one file's header and try its pixels: the only frame, or the first and the last.

    Args:
        task: the file, and the seconds between frames where the user gave them.
    """
    path, frame_seconds = task
    with warnings.catch_warnings():
        # pydicom warns of every value that breaks the standard; what matters here is told as a reason.
        warnings.simplefilter("ignore")
        try:
            return _inspect(path, frame_seconds)
        except InputError as error:
            return Unusable(path, f"expected {error.expected}, found {error.found}")
        except broken() as error:
            return Unusable(path, f"a header that cannot be read ({reason(error)})")


def _inspect(path: Path, frame_seconds: float | None) -> Header | Unusable:
    from pydicom import dcmread

    if not sniff(path):
        empty = path.stat().st_size == 0
        return Unusable(path, "an empty file" if empty else "not a DICOM file: it lacks the DICM marker")
    header = dcmread(path, stop_before_pixels=True)
    kind = str(header.get("Modality") or "")
    if str(header.file_meta.get("MediaStorageSOPClassUID", "")) == "1.2.840.10008.1.3.10":
        return Unusable(path, "a DICOMDIR, which lists files and is no image")
    if "Rows" not in header or "Columns" not in header:
        return Unusable(path, f"no pixels (a {kind or 'DICOM'} object)")
    if kind in _NOT_IMAGES:
        return Unusable(path, f"not an image of a patient but {_NOT_IMAGES[kind]} ({kind})")
    if "LOCALIZER" in (header.get("ImageType") or ()):
        return Unusable(path, "a localizer, which only plans the scan")
    count = checked_frame_count(path, header)
    frames = frames_of(header, frame_seconds) if count > 1 else None
    if frames is not None and frames.kind == "unknown":
        return Unusable(path, f"{frames.source}; export each as its own series or convert it to 4D NIfTI")
    read_frames(path, None if frames is None else sorted({0, count - 1}))
    return _describe(path, header, kind, frames)


def _describe(path: Path, header: Dataset, kind: str, frames: Frames | None) -> Header:
    day, clock, dated_by = _when(header)
    modality = _MODALITIES.get(kind, "other")
    return Header(
        path=path,
        checksum=checksum(path),
        patient=_text(header, "PatientID"),
        study=_text(header, "StudyInstanceUID"),
        series=_text(header, "SeriesInstanceUID"),
        instance=_text(header, "SOPInstanceUID"),
        modality=modality,
        day=day,
        clock=clock,
        dated_by=dated_by,
        offset_days=_number(header, "LongitudinalTemporalOffsetFromEvent"),
        channel=_channel(header, modality),
        series_number=int(_number(header, "SeriesNumber") or 0),
        instance_number=int(_number(header, "InstanceNumber") or 0),
        shape=(int(header.Rows), int(header.Columns), is_colour(header)),
        frames=frames,
        place=_vector(header, "ImagePositionPatient", 3),
        direction=_vector(header, "ImageOrientationPatient", 6),
        height=_number(header, "SliceLocation"),
        moments=_moments(header),
        contrasts=_present(header, ("EchoTime", "EchoNumbers", "DiffusionBValue", "InversionTime", "FlipAngle")),
        sex=_text(header, "PatientSex") or None,
        age=_age(header, day),
        scanner=" ".join(filter(None, (_text(header, "Manufacturer"), _text(header, "ManufacturerModelName")))) or None,
    )


def _text(header: Dataset, keyword: str) -> str:
    value = header.get(keyword)
    return "" if value is None else str(value).strip()


def _number(header: Dataset, keyword: str) -> float | None:
    try:
        number = float(_text(header, keyword))
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _vector(header: Dataset, keyword: str, length: int) -> tuple[float, ...] | None:
    value = header.get(keyword)
    return tuple(float(number) for number in value) if value is not None and len(value) == length else None


def _present(header: Dataset, keywords: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
    found = ((keyword, _number(header, keyword)) for keyword in keywords)
    return tuple((keyword, number) for keyword, number in found if number is not None)


def _moments(header: Dataset) -> tuple[tuple[str, float], ...]:
    """When the image was taken, in milliseconds, by each attribute that says so."""
    moments = list(_present(header, ("TriggerTime",)))
    index, step = _number(header, "TemporalPositionIdentifier"), _number(header, "TemporalResolution")
    if index is not None and step:
        moments.append(("TemporalPositionIdentifier", index * step))
    day, clock = _date(_text(header, "AcquisitionDate")), _clock(_text(header, "AcquisitionTime"))
    stamp = parse_datetime(_text(header, "AcquisitionDateTime"))
    if stamp is not None:
        moments.append(("AcquisitionDateTime", stamp.timestamp() * 1000))
    elif clock is not None:
        moments.append(
            ("AcquisitionTime", (datetime.combine(day or date.min, clock) - datetime.min).total_seconds() * 1000)
        )
    return tuple(moments)


def _when(header: Dataset) -> tuple[date | None, time | None, str]:
    """The date and the time of day by the first of study, series, acquisition and content that has a date."""
    for level in _DATE_CHAIN:
        day = _date(_text(header, f"{level}Date"))
        if day is not None:
            return day, _clock(_text(header, f"{level}Time")), f"{level}Date"
    stamp = parse_datetime(_text(header, "AcquisitionDateTime"))
    return (stamp.date(), stamp.time(), "AcquisitionDateTime") if stamp else (None, None, "")


def _date(text: str) -> date | None:
    """A ``DA`` value; before DICOM 3 it was written with dots."""
    try:
        return datetime.strptime(text.replace(".", ""), "%Y%m%d").date()
    except ValueError:
        return None


def _clock(text: str) -> time | None:
    """A ``TM`` value: ``HH``, ``HHMM`` or ``HHMMSS`` with a fraction."""
    whole, _, fraction = text.replace(":", "").partition(".")
    if not whole.isdigit() or len(whole) not in (2, 4, 6):
        return None
    hours, minutes, seconds = (int(whole[index : index + 2] or 0) for index in (0, 2, 4))
    micros = int(fraction[:6].ljust(6, "0")) if fraction.isdigit() else 0
    try:
        # 60 is allowed for a leap second.
        return time(hours, minutes, min(seconds, 59), micros)
    except ValueError:
        return None


def _age(header: Dataset, day: date | None) -> float | None:
    """Years, from ``PatientAge`` (``034Y``, ``007M``, ``010W``, ``003D``) or the birth date."""
    text = _text(header, "PatientAge").upper()
    born = _date(_text(header, "PatientBirthDate"))
    if text[:-1].isdigit() and text[-1] in "YMWD":
        years = int(text[:-1]) / {"Y": 1.0, "M": 12.0, "W": 52.1775, "D": 365.25}[text[-1]]
    elif born is not None and day is not None and born < day:
        years = (day - born).days / 365.25
    else:
        return None
    return min(round(years, 1), OLDEST)


def _channel(header: Dataset, modality: str) -> str:
    """The channel of an image over visits: it must be the same at each, so free text is used only where it must be."""
    if is_colour(header):
        return "rgb"
    if modality in _MANY_SERIES:
        return slug(_text(header, "SeriesDescription") or _text(header, "ProtocolName"))
    return _VIEWS.get(_text(header, "ViewPosition").upper(), "image")
