"""What the frames of a multi-frame DICOM file are: moments of a cine loop or slices of a volume, and when they were."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from temmed.timelines.readers.dicom import frame_count, functional_group, slice_heights

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

#: What ``FrameIncrementPointer`` names when frames follow each other in time, and when they are slices.
_TIME_POINTERS = ("FrameTime", "FrameTimeVector")
_SLICE_POINTERS = ("SliceLocationVector", "GridFrameOffsetVector", "SliceVector")
#: Heights of slices that differ by less are the same slice, in millimetres.
SAME_PLACE = 0.01
NO_TIMING = "none"


@dataclass(frozen=True)
class Frames:
    """What the frames of a file are.

    Attributes:
        kind: ``cine``, ``volume``, or ``unknown``.
        times: of a cine loop, since its first frame, one per frame in the order of time.
        order: the frame numbers in that order.
        unit: the unit of the times.
        source: what the times were taken from, or, where the kind is unknown, why.
    """

    kind: str
    times: tuple[float, ...] = ()
    order: tuple[int, ...] = ()
    unit: str = "frame"
    source: str = ""


def frames_of(header: Dataset, frame_seconds: float | None = None) -> Frames:
    """Tell what the frames of a multi-frame file are.

    Args:
        header: the file's header.
        frame_seconds: seconds between the frames of a loop, instead of what the header says.
    """
    count = frame_count(header)
    places = _distinct_places(header, count)
    if places == count:
        return Frames("volume")
    if places > 1:
        return Frames("unknown", source=f"its {count} frames show {places} slices, several times each")
    pointers = _pointers(header)
    if not any(name in _TIME_POINTERS for name in pointers):
        if any(name in _SLICE_POINTERS for name in pointers):
            return Frames("volume")
        if pointers:
            return Frames("unknown", source=f"its frames are ordered by {' and '.join(pointers)}")
        if places == 0 and header.get("VolumetricProperties") == "VOLUME" and "FrameTime" not in header:
            return Frames("volume")
    if frame_seconds is not None:
        return _evenly(count, 1000 * frame_seconds, "--frame-seconds")
    return _timed(header, count, pointers)


def _timed(header: Dataset, count: int, pointers: list[str]) -> Frames:
    """The times of a loop, from the first source of the standard's chain that holds usable values."""
    sources: list[Callable[[], Frames | None]] = [
        lambda: _from_vector(header, count),
        lambda: _from_frame_time(header, count),
        lambda: _from_rate(header, count, "CineRate"),
        lambda: _from_rate(header, count, "RecommendedDisplayFrameRate"),
        lambda: _from_frame_content(header, count),
    ]
    if "FrameTime" in pointers:
        # The pointer says which of the two a header with both means.
        sources[0], sources[1] = sources[1], sources[0]
    for source in sources:
        found = source()
        if found is not None:
            return found
    return Frames("cine", tuple(map(float, range(count))), tuple(range(count)), "frame", NO_TIMING)


def _evenly(count: int, step: float, source: str) -> Frames:
    return Frames("cine", tuple(index * step for index in range(count)), tuple(range(count)), "millisecond", source)


def _from_vector(header: Dataset, count: int) -> Frames | None:
    """``FrameTimeVector``: milliseconds since the frame before, of which the first entry says nothing."""
    steps = _numbers(header, "FrameTimeVector")
    if len(steps) == count:
        steps = steps[1:]
    if len(steps) != count - 1 or not all(step > 0 for step in steps):
        return None
    return Frames("cine", tuple(accumulate(steps, initial=0.0)), tuple(range(count)), "millisecond", "FrameTimeVector")


def _from_frame_time(header: Dataset, count: int) -> Frames | None:
    steps = _numbers(header, "FrameTime")
    return _evenly(count, steps[0], "FrameTime") if len(steps) == 1 and steps[0] > 0 else None


def _from_rate(header: Dataset, count: int, keyword: str) -> Frames | None:
    """A rate in frames per second."""
    rates = _numbers(header, keyword)
    return _evenly(count, 1000 / rates[0], keyword) if len(rates) == 1 and rates[0] > 0 else None


def _from_frame_content(header: Dataset, count: int) -> Frames | None:
    """The frame's own times in an enhanced object, whose frames need not be stored in the order of time."""
    for group, keyword, factor in (
        ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime", 1.0),
        ("TemporalPositionSequence", "TemporalPositionTimeOffset", 1000.0),
        ("FrameContentSequence", "FrameAcquisitionDateTime", 1.0),
    ):
        items = [functional_group(header, frame, group) for frame in range(count)]
        moments = [_moment(item.get(keyword)) if item is not None else None for item in items]
        known = [factor * moment for moment in moments if moment is not None]
        if len(known) == count:
            order = sorted(range(count), key=known.__getitem__)
            times = tuple(known[frame] - known[order[0]] for frame in order)
            if all(later > earlier for earlier, later in pairwise(times)):
                return Frames("cine", times, tuple(order), "millisecond", keyword)
    return None


def _moment(value: object) -> float | None:
    """A number, or a DICOM date and time as milliseconds."""
    if value is None or value == "":
        return None
    text = str(value)
    stamp = parse_datetime(text) if len(text) >= 14 and text[:14].isdigit() else None
    if stamp is not None:
        return stamp.timestamp() * 1000
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def parse_datetime(text: str) -> datetime | None:
    """A DICOM ``DT`` value, ``YYYYMMDDHHMMSS`` with a fraction and perhaps an offset, which is left out."""
    digits, _, fraction = text.split("+")[0].split("-")[0].partition(".")
    try:
        stamp = datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return stamp + timedelta(seconds=float(f"0.{fraction}") if fraction.isdigit() else 0.0)


def _numbers(header: Dataset, keyword: str) -> list[float]:
    value = header.get(keyword)
    if value is None or value == "":
        return []
    values = value if isinstance(value, list) or hasattr(value, "append") else [value]
    return [float(number) for number in values]


def _pointers(header: Dataset) -> list[str]:
    from pydicom.datadict import keyword_for_tag

    value = header.get("FrameIncrementPointer")
    if value is None:
        return []
    values = value if hasattr(value, "append") else [value]
    return [keyword_for_tag(tag) or str(tag) for tag in values]


def _distinct_places(header: Dataset, count: int) -> int:
    """How many distinct slices the frames show; 0 where the header does not say where they lie."""
    direction = functional_group(header, 0, "PlaneOrientationSequence")
    planes = [functional_group(header, frame, "PlanePositionSequence") for frame in range(count)]
    positions = [plane.get("ImagePositionPatient") for plane in planes if plane is not None]
    if direction is None or len(positions) != count or any(position is None for position in positions):
        return 0
    heights = slice_heights(positions, direction.ImageOrientationPatient)
    return len({round(float(height) / SAME_PLACE) for height in heights})
