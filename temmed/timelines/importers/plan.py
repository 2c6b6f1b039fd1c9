"""What an importer finds in a source, before anything is written.

An importer turns files into a :class:`Plan`; everything after that (questions, copying, tables, audit) is the same for
all of them and lives in :mod:`temmed.timelines.importers.build`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from temmed.errors import InputError
from temmed.timelines.schema import TIME_UNITS

#: Hexadecimal digits of a pseudonym: 48 bits, which no two of a million patients share by chance.
_DIGITS = 12
#: Ages above are written as this one: they identify people.
OLDEST = 90.0
_FAMILIES = {"day": timedelta(days=1), "second": timedelta(seconds=1)}
#: How long each unit of time is; ``frame`` and ``ordinal`` have no length.
LENGTHS = {unit: factor * _FAMILIES[family] for unit, (family, factor) in TIME_UNITS.items() if family in _FAMILIES}


@dataclass(frozen=True)
class Options:
    """What the user asked of an import.

    Attributes:
        modality: the modality's name instead of the one the source gives.
        keep_ids: keep the source's patient ids instead of pseudonyms.
        key: what pseudonyms are made with; whoever has it can link them to ids.
        frame_seconds: seconds between frames, instead of what headers say.
        limit: at most so many patients, in the order of their first file.
        workers: processes that read headers and pixels.
        images: where the image files lie that a source's tables name, if not beside them.
    """

    modality: str | None = None
    keep_ids: bool = False
    key: str = ""
    frame_seconds: float | None = None
    limit: int | None = None
    workers: int = 1
    images: Path | None = None


@dataclass(frozen=True)
class Picture:
    """One image of one time point.

    Attributes:
        position: the time point.
        channel: what it shows, such as ``flair``, ``frontal`` or ``rgb``.
        files: its file, or the slices of its volume from the first to the last.
        frame: the frame of that file; ``None`` when the file is one image.
    """

    position: int
    channel: str
    files: tuple[Path, ...]
    frame: int | None = None


@dataclass
class PlannedSequence:
    """One sequence that an import will write.

    Attributes:
        sequence_id: its id.
        patient_id: the id to write, a pseudonym by default.
        modality: its modality.
        time_unit: the unit of ``times``.
        spatial_dims: 2 or 3.
        times: one per position, since the first.
        bounds: the earliest and the latest time of each position, where the source leaves it open.
        pictures: its images.
        timing: what the times were taken from.
        scanner: maker and model.
        clock_offset: when it starts on the patient's own clock, in ``time_unit``.
        start: the date and time of position 0, to find a date in a questions file; never written.
    """

    sequence_id: str
    patient_id: str
    modality: str
    time_unit: str
    spatial_dims: int
    times: list[float]
    pictures: list[Picture]
    timing: str
    scanner: str | None = None
    clock_offset: float | None = None
    start: datetime | None = None
    bounds: list[tuple[float, float]] | None = None

    @property
    def files(self) -> list[Path]:
        """Its files, each once."""
        return list(dict.fromkeys(file for picture in self.pictures for file in picture.files))


@dataclass(frozen=True)
class PlannedMask:
    """Which pixels of an image a finding covers.

    Attributes:
        sequence_id: the sequence of the image.
        finding_id: the finding.
        position: the time point.
        channel: of the image.
        file: an image of the same size; not 0 where the finding is.
    """

    sequence_id: str
    finding_id: str
    position: int
    channel: str
    file: Path


@dataclass(frozen=True)
class Unusable:
    """A file that is not imported, and why."""

    path: Path
    reason: str


@dataclass
class Plan:
    """Everything an import will do.

    Attributes:
        patients: rows of the patients table.
        sequences: the sequences.
        tables: rows of further tables (reports, findings, questions, events, statements, boxes, …), with the ids to
            write.
        masks: rows of the masks table and their files.
        records: what the source's own scoring needs and no table holds: lines of ``source/NAME.jsonl`` by name, each
            with the id of the row it belongs to.
        splits: the source's own divisions: rows with ``sequence_id``, ``patient_id`` and ``subset`` by a name.
        skipped: files left out.
        notes: what the user should know, most important first; some change the meaning of the data.
        aliases: the source's patient ids by the ids to write.
        checksums: SHA-256 of the image files whose content was read to make the plan.
    """

    patients: list[dict[str, Any]] = field(default_factory=list)
    sequences: list[PlannedSequence] = field(default_factory=list)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    masks: list[PlannedMask] = field(default_factory=list)
    records: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    splits: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    skipped: list[Unusable] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    checksums: dict[Path, str] = field(default_factory=dict)

    def skip(self, files: Iterable[Path], reason: str) -> None:
        """Leave files out."""
        self.skipped += [Unusable(file, reason) for file in files]

    def skip_absent(self, files: Iterable[Path]) -> None:
        """Leave out files that the source's tables name and that are not there."""
        self.skip(files, "the tables name it, and it is not there: its time point has no such image")

    def choose(self, identifiers: Iterable[str], options: Options) -> dict[str, str]:
        """The patients to import, in the order of their first mention; how many the limit leaves out is noted.

        Args:
            identifiers: the source's ids, each any number of times.
            options: what the user asked for.

        Returns:
            The id to write for each of them, by the source's id.
        """
        distinct = list(dict.fromkeys(identifiers))
        chosen = distinct[: options.limit]
        if len(chosen) < len(distinct):
            self.notes.append(f"{len(distinct) - len(chosen):,} patients are left out by --limit")
        written = patient_ids(chosen, options)
        self.aliases |= {new: old for old, new in written.items()}
        return written

    def add(self, table: str, **row: Any) -> None:
        """Add a row to one of the further tables."""
        self.tables.setdefault(table, []).append(row)


#: Calls a function on every item, in order, in as many processes as were asked for, and shows how far it is.
Mapper = Callable[[str, Callable[[Any], Any], Sequence[Any]], list[Any]]


@dataclass(frozen=True)
class Visit:
    """The images of one visit, before it has a position.

    Attributes:
        time: since the first visit.
        images: (channel, files) of each image.
    """

    time: float
    images: list[tuple[str, tuple[Path, ...]]]


def pseudonym(identifier: str, key: str) -> str:
    """A stable stand-in for an identifier: the same for the same identifier and key, in every import.

    Args:
        identifier: the source's id.
        key: a secret. Without one, anybody who can guess an id can find its pseudonym.

    Returns:
        ``p`` and 12 hexadecimal digits of HMAC-SHA256.

    Examples:
        >>> pseudonym("204", "")
        'pb3e39e7bfacc'
    """
    return "p" + hmac.new(key.encode(), identifier.encode(), hashlib.sha256).hexdigest()[:_DIGITS]


def patient_ids(identifiers: Iterable[str], options: Options) -> dict[str, str]:
    """The id to write for each of the source's patients."""
    return {
        identifier: identifier if options.keep_ids else pseudonym(identifier, options.key) for identifier in identifiers
    }


def source_files(source: Path) -> list[Path]:
    """Every file of a source, in a stable order: the file itself, or all that lie in a folder.

    Raises:
        InputError: there is nothing at that place, or the folder holds no file.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise InputError("a file or a folder", "nothing", str(source), "Check the path.")
    files = sorted(Path(folder, name) for folder, _, names in os.walk(source) for name in names)
    if not files:
        raise InputError("a folder with images", "an empty folder", str(source), "Check the path.")
    return files


def checksum(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_of(source: Path) -> Path:
    """The folder that a source is or lies in."""
    return source.parent if source.is_file() else source


def relative(file: Path, folder: Path) -> str:
    """A file's path below a folder, with forward slashes; of a file elsewhere its whole path."""
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else str(file)


def slug(text: str, otherwise: str = "image") -> str:
    """Text as a channel name or part of a path: lower-case letters, digits and underscores.

    Examples:
        >>> slug("T2 FLAIR (ax)")
        't2_flair_ax'
    """
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or otherwise


def numbered(names: Sequence[str]) -> list[str]:
    """The names with a number at every repeated one, so that all are distinct.

    Examples:
        >>> numbered(["frontal", "lateral", "frontal"])
        ['frontal', 'lateral', 'frontal_2']
        >>> numbered(["a", "a", "a_2"])
        ['a', 'a_2', 'a_2_2']
    """
    result: list[str] = []
    for name in names:
        free, count = name, 1
        while free in result:
            count += 1
            free = f"{name}_{count}"
        result.append(free)
    return result


def pictures_of(visits: Sequence[Visit]) -> list[Picture]:
    """The images of visits in the order of time, with distinct channels inside each visit."""
    pictures = []
    for position, visit in enumerate(visits):
        channels = numbered([channel for channel, _ in visit.images])
        pictures += [
            Picture(position, channel, files) for channel, (_, files) in zip(channels, visit.images, strict=True)
        ]
    return pictures
