"""What the single-frame files of one DICOM series make together: images, a volume, or a loop of either.

Slices are told apart by where they lie and moments by when they were taken; never by file names or instance numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median

from temmed.timelines.importers._dicom_frames import SAME_PLACE
from temmed.timelines.importers._dicom_header import Header
from temmed.timelines.readers.dicom import slice_heights

#: A gap between slices this many times the usual one means that a slice is missing.
_GAP = 1.5
#: Modalities whose series are volumes, so that slices without a position cannot be used.
_TOMOGRAPHIC = ("ct", "mri", "pet")


@dataclass(frozen=True)
class Part:
    """One image, or one loop.

    Attributes:
        headers: the files' headers, first slice of the first moment first.
        moments: the files of each moment; one for an image.
        spatial_dims: 2 or 3.
        times: milliseconds (or frame numbers) since the first moment; empty for an image.
        timing: what the times were taken from.
    """

    headers: tuple[Header, ...]
    moments: tuple[tuple[Path, ...], ...]
    spatial_dims: int
    times: tuple[float, ...] = ()
    timing: str = ""

    @property
    def is_cine(self) -> bool:
        """Whether it is a loop."""
        return bool(self.times)


@dataclass
class Series:
    """What was made of a series.

    Attributes:
        parts: its images and loops.
        unused: files that fit into none, with the reason.
        gaps: the channel of each volume that seems to lack a slice.
    """

    parts: list[Part] = field(default_factory=list)
    unused: list[tuple[list[Path], str]] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)


def assemble(headers: Sequence[Header], frame_seconds: float | None = None) -> Series:
    """Put the files of one series together.

    Args:
        headers: single-frame files, and multi-frame files that are volumes, of one series.
        frame_seconds: seconds between the moments of a loop, instead of what headers say.
    """
    series = Series()
    ordered = sorted(headers, key=lambda header: (header.instance_number, header.instance, str(header.path)))
    stacked = [header for header in ordered if header.frames is not None]
    series.parts += [Part((header,), ((header.path,),), 3) for header in stacked]
    flat = [header for header in ordered if header.frames is None]
    for group in _grouped(flat, _geometry):
        heights = _heights(group)
        if heights is not None and len(group) > 1:
            _stack(group, heights, series, frame_seconds)
        elif len(group) > 1 and group[0].modality in _TOMOGRAPHIC:
            reason = "a slice without ImagePositionPatient or SliceLocation: the order of its series is unknown"
            series.unused.append(([header.path for header in group], reason))
        else:
            series.parts += [Part((header,), ((header.path,),), 2) for header in group]
    return series


def _geometry(header: Header) -> Hashable:
    """Slices of one volume have one size and one direction."""
    direction = tuple(round(cosine, 3) + 0.0 for cosine in header.direction or ())
    return header.shape, direction, header.place is not None


def _grouped(headers: Sequence[Header], key: Callable[[Header], Hashable]) -> list[list[Header]]:
    groups: dict[Hashable, list[Header]] = defaultdict(list)
    for header in headers:
        groups[key(header)].append(header)
    return list(groups.values())


def _heights(group: Sequence[Header]) -> list[float] | None:
    """Where each file lies along the normal of the slices, in millimetres; ``None`` where that is not known."""
    direction = group[0].direction
    places = [header.place for header in group if header.place is not None]
    if direction is not None and len(places) == len(group):
        return [float(height) for height in slice_heights(places, direction)]
    heights = [header.height for header in group if header.height is not None]
    return heights if len(heights) == len(group) and group[0].modality in _TOMOGRAPHIC else None


def _stack(group: Sequence[Header], heights: Sequence[float], series: Series, frame_seconds: float | None) -> None:
    """Sort files of one geometry into a volume, or into moments when every place was taken several times."""
    places: dict[int, list[Header]] = defaultdict(list)
    for header, height in zip(group, heights, strict=True):
        places[round(height / SAME_PLACE)].append(header)
    levels = sorted(places)
    repeats = sorted({len(found) for found in places.values()})
    files = [header.path for header in group]
    if len(repeats) > 1:
        reason = f"slices of its series repeat unevenly: {repeats[0]} to {repeats[-1]} files at one place"
        series.unused.append((files, reason))
        return
    if _has_gap(levels):
        series.gaps.append(group[0].channel)
    dims = 3 if len(levels) > 1 else 2
    if repeats[0] == 1:
        slices = tuple(places[level][0] for level in levels)
        series.parts.append(Part(slices, (tuple(header.path for header in slices),), dims))
        return
    columns = [places[level] for level in levels]
    varying = _varying(group)
    if varying:
        series.unused.append(
            (files, f"its series repeats each slice with another {varying}: that is no course of time")
        )
        return
    loop = _loop(columns, dims, frame_seconds)
    if loop is None:
        reason = (
            f"its series repeats each slice {repeats[0]} times, and nothing in the headers orders them in time "
            "(TriggerTime, TemporalPositionIdentifier, acquisition time)"
        )
        series.unused.append((files, reason))
    else:
        series.parts.append(loop)


def _loop(columns: Sequence[Sequence[Header]], dims: int, frame_seconds: float | None) -> Part | None:
    """A loop from the files at each place, by the first attribute that orders them all."""
    names = [name for name, _ in columns[0][0].moments]
    for name in names:
        stamped = [[(dict(header.moments).get(name), header) for header in column] for column in columns]
        if any(moment is None for column in stamped for moment, _ in column):
            continue
        ordered = [sorted(column, key=lambda pair: pair[0] or 0.0) for column in stamped]
        if any(one[0] == other[0] for column in ordered for one, other in pairwise(column)):
            continue
        phases = list(zip(*ordered, strict=True))
        times = [fmean(moment or 0.0 for moment, _ in phase) for phase in phases]
        since_first = tuple(time - times[0] for time in times)
        if frame_seconds is not None:
            since_first, name = tuple(1000 * frame_seconds * index for index in range(len(phases))), "--frame-seconds"
        return Part(
            tuple(header for phase in phases for _, header in phase),
            tuple(tuple(header.path for _, header in phase) for phase in phases),
            dims,
            since_first,
            name,
        )
    return None


def _varying(group: Sequence[Header]) -> str:
    """The first attribute by which files at one place differ, other than time; empty where there is none."""
    for name, _ in group[0].contrasts:
        if len({dict(header.contrasts).get(name) for header in group}) > 1:
            return name
    return ""


def _has_gap(levels: Sequence[int]) -> bool:
    steps = [later - earlier for earlier, later in pairwise(levels)]
    return len(steps) > 1 and max(steps) > _GAP * median(steps)
