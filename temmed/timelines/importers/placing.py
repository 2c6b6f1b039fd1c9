"""Putting the image files of an import where its tables say they are: copied, or linked to.

What was copied is noted as it goes, so that an import which was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temmed.errors import InputError
from temmed.files import UnfinishedError, process_name
from temmed.processes import map_many
from temmed.timelines.importers.plan import Picture, Plan, slug
from temmed.timelines.importers.registry import Importer
from temmed.timelines.pixels import suffixes
from temmed.timelines.progress import Progress

IMAGES = "images"
MASKS = "masks"


@dataclass(frozen=True)
class Part:
    """One of several shares of the work, such as one job of an array.

    Attributes:
        index: which one, from 1.
        count: how many there are.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """Read ``3/16``.

        Raises:
            InputError: it is something else.
        """
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
            raise InputError("I/N with I from 1 to N", repr(text), "--part", "Give a part such as 3/16.")
        return cls(int(index), int(count))


@dataclass
class Placement:
    """Where the files of an import go.

    Attributes:
        rows: of the images and masks tables.
        copies: source and patient by the path inside the dataset.
        links: source by the path inside the dataset.
    """

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {IMAGES: [], MASKS: []})
    copies: dict[Path, tuple[Path, str]] = field(default_factory=dict)
    links: dict[Path, Path] = field(default_factory=dict)


def place(plan: Plan, reference: bool) -> Placement:
    """Decide where every file goes; nothing is written.

    Args:
        plan: the sequences.
        reference: leave files where they are.
    """
    placement = Placement()
    patients = {}
    for sequence in plan.sequences:
        patients[sequence.sequence_id] = sequence.patient_id
        folder = Path(IMAGES, _folder_name(sequence.sequence_id))
        taken: dict[str, tuple[Path, ...]] = {}
        for picture in sequence.pictures:
            path = folder / _file_name(picture, taken)
            volume = len(picture.files) > 1
            for number, file in enumerate(picture.files):
                inside = path / f"{number:04d}{_suffix(file)}" if volume else path
                if not reference:
                    placement.copies.setdefault(inside, (file, sequence.patient_id))
                elif volume:
                    placement.links[inside] = file.absolute()
            elsewhere = reference and not volume
            placement.rows[IMAGES].append(
                {
                    "sequence_id": sequence.sequence_id,
                    "position": picture.position,
                    "channel": picture.channel,
                    "path": str(picture.files[0].absolute()) if elsewhere else path.as_posix(),
                    "frame": picture.frame,
                }
            )
    for mask in plan.masks:
        name = f"{mask.position:04d}_{slug(mask.channel)}_{slug(mask.finding_id)}{_suffix(mask.file)}"
        path = Path(MASKS, _folder_name(mask.sequence_id), name)
        if not reference:
            placement.copies[path] = (mask.file, patients[mask.sequence_id])
        placement.rows[MASKS].append(
            {
                "finding_id": mask.finding_id,
                "position": mask.position,
                "channel": mask.channel,
                "path": str(mask.file.absolute()) if reference else path.as_posix(),
            }
        )
    return placement


@dataclass(frozen=True)
class _Copy:
    """One file to copy; a plain record, so that it can be sent to a process."""

    copy: Callable[[Path, Path, str], list[str]]
    source: Path
    target: Path
    patient_id: str


def _copy_one(task: _Copy) -> list[str]:
    task.target.parent.mkdir(parents=True, exist_ok=True)
    return task.copy(task.source, task.target, task.patient_id)


def copy_files(
    placement: Placement,
    importer: Importer,
    staging: Path,
    notes: Path,
    workers: int,
    progress: Progress,
    part: Part | None = None,
) -> dict[str, list[str]]:
    """Copy the files that no process has copied yet.

    Args:
        placement: where they go.
        importer: copies one file.
        staging: the folder that becomes the dataset.
        notes: a folder for the notes of what is copied.
        workers: processes.
        progress: told how far it is.
        part: copy this share of the files alone.

    Returns:
        The header elements that each copy lacks, by its path inside the dataset.

    Raises:
        UnfinishedError: a file cannot be read or written.
    """
    done = _noted(notes)
    mine = list(placement.copies.items())[part.index - 1 :: part.count] if part else list(placement.copies.items())
    left = {path: task for path, task in mine if path.as_posix() not in done}
    before = len(mine) - len(left)
    tasks = [_Copy(importer.copy, source, staging / path, patient) for path, (source, patient) in left.items()]
    progress("Copying images", before, len(mine))
    notes.mkdir(parents=True, exist_ok=True)
    with (notes / f"copied-{process_name()}.jsonl").open("a", encoding="utf-8", buffering=1) as note:
        try:
            with closing(map_many(_copy_one, tasks, workers)) as copied:
                for number, (path, removed) in enumerate(zip(left, copied, strict=True), before + 1):
                    note.write(json.dumps({"path": path.as_posix(), "removed": removed}) + "\n")
                    done[path.as_posix()] = removed
                    progress("Copying images", number, len(mine))
        except OSError as error:
            raise UnfinishedError(
                "files that can be copied",
                error.strerror or str(error),
                str(error.filename or staging.parent),
                "Make room or mend the file; the same command then goes on where it stopped.",
            ) from error
    return done


def _noted(notes: Path) -> dict[str, list[str]]:
    """What was copied before; a line that a kill cut short does not count."""
    done: dict[str, list[str]] = {}
    for file in sorted(notes.glob("copied-*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                entry = json.loads(line)
                done[entry["path"]] = entry["removed"]
    return done


def link_slices(links: Mapping[Path, Path], staging: Path) -> None:
    """Make a folder of links for each volume that the source keeps as slices among other files.

    Raises:
        InputError: the disk holds no links.
    """
    for path, file in links.items():
        (staging / path).parent.mkdir(parents=True, exist_ok=True)
        try:
            (staging / path).unlink(missing_ok=True)
            os.symlink(file, staging / path)
        except OSError as error:
            raise InputError(
                "a disk that can hold links",
                error.strerror or "none",
                str(staging.parent),
                "Leave --reference out: a volume kept as single slices needs links.",
            ) from error


def _folder_name(sequence_id: str) -> str:
    """A sequence's id as a folder's name; kept ids may hold anything."""
    name = slug(sequence_id, "sequence")
    if name == sequence_id:
        return name
    # Lower case alone would give A1 and a1 one folder.
    return f"{name}_{hashlib.sha256(sequence_id.encode()).hexdigest()[:8]}"


def _file_name(picture: Picture, taken: dict[str, tuple[Path, ...]]) -> str:
    """A loop's file is named by its channel alone; a visit's also by its position. A volume of slices is a folder.

    Args:
        picture: the image.
        taken: the files of each name that its sequence has used; other files of the same name get a number.
    """
    channel = slug(picture.channel)
    stem = channel if picture.frame is not None else f"{picture.position:04d}_{channel}"
    suffix = "" if len(picture.files) > 1 else _suffix(picture.files[0])
    name, count = stem + suffix, 1
    while taken.setdefault(name, picture.files) != picture.files:
        count += 1
        name = f"{stem}_{count}{suffix}"
    return name


def _suffix(file: Path) -> str:
    """The suffix of a copy: of a format that is told by its suffix its own, else ``.dcm``."""
    lower = file.name.lower()
    return next((suffix for suffix in suffixes() if lower.endswith(suffix)), ".dcm")
