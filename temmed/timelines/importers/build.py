"""From a source to a timeline folder: plan, ask, copy, write, audit; whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from temmed import __version__
from temmed.errors import InputError
from temmed.files import staged_folder
from temmed.processes import map_in_processes
from temmed.timelines.importers.plan import Mapper, Options, Picture, Plan, relative, slug
from temmed.timelines.importers.questions import Asked, read_asked, read_events, read_questions
from temmed.timelines.importers.registry import Importer

if TYPE_CHECKING:
    import pandas as pd

    from temmed.timelines.audit import Finding

IMAGES = "images"
REMOVED_FILE = "deidentification.jsonl"
#: Fewer files than this are done sooner in one process than other processes start.
_WORTH_PROCESSES = 64


@dataclass(frozen=True)
class Request:
    """One import.

    Attributes:
        source: the file or folder to read.
        target: the timeline folder to write.
        options: how to read.
        questions: the user's questions file.
        events: the user's events file.
        reference: leave image files where they are and write their paths.
        overwrite: replace a dataset at ``target``.
        keep_on_error: keep the folder although its audit found errors.
        dry_run: write nothing.
        name: the dataset's name.
        licence: the terms the data are under.
    """

    source: Path
    target: Path
    options: Options = field(default_factory=Options)
    questions: Path | None = None
    events: Path | None = None
    reference: bool = False
    overwrite: bool = False
    keep_on_error: bool = False
    dry_run: bool = False
    name: str | None = None
    licence: str = "unknown"


@dataclass(frozen=True)
class Outcome:
    """What an import did.

    Attributes:
        plan: the sequences found and the files skipped.
        asked: the questions and events.
        findings: what the audit found; empty for a dry run.
        written: whether the folder is there.
        fingerprint: the dataset's content fingerprint; empty for a dry run.
    """

    plan: Plan
    asked: Asked
    findings: list[Finding]
    written: bool
    fingerprint: str

    @property
    def has_errors(self) -> bool:
        """Whether the audit found errors."""
        return _has_errors(self.findings)


class _RefusedError(Exception):
    """Leaves the staging folder so that it is removed: the audit found errors."""


#: Told of progress: a label, how many are done, how many there are.
Progress = Callable[[str, int, int], None]


def silent(label: str, done: int, total: int) -> None:
    """Show no progress."""


def run_import(importer: Importer, request: Request, progress: Progress = silent) -> Outcome:
    """Import a source.

    Args:
        importer: the kind of source.
        request: what to do.
        progress: told how far it is.

    Returns:
        What was done. When the audit found errors nothing is written, unless the request keeps it.

    Raises:
        InputError: the source, the target or the user's files cannot be used. Nothing is written.
    """
    _check(request)
    run = mapper(request.options.workers, progress)
    plan = importer.plan(request.source, request.options, run)
    if not plan.sequences:
        raise InputError(
            f"at least one image that the {importer.name} importer can use",
            _told_reasons(plan) or "none",
            str(request.source),
            "Check the path and the kind of source.",
        )
    asked = read_asked(request.questions, request.events, plan, request.source)
    if request.dry_run:
        return Outcome(plan, asked, [], False, "")
    findings: list[Finding] = []
    fingerprint = ""
    written = True
    try:
        with staged_folder(request.target, request.overwrite) as staging:
            images = _place_images(importer, request, plan, staging, run)
            fingerprint = _write(importer, request, plan, asked, images, staging)
            findings = _audit(staging, progress)
            if _has_errors(findings) and not request.keep_on_error:
                raise _RefusedError
    except _RefusedError:
        written = False
    return Outcome(plan, asked, findings, written, fingerprint if written else "")


def _check(request: Request) -> None:
    """Everything that can be refused before a file is read."""
    source, target = request.source.resolve(), request.target.resolve()
    if not request.source.exists():
        raise InputError("a file or a folder", "nothing", str(request.source), "Check the path.")
    if source == target or source in target.parents or target in source.parents:
        raise InputError(
            "a folder outside of the source", str(request.target), "OUT", "Write the dataset to another place."
        )
    if request.target.is_dir() and any(request.target.iterdir()) and not request.overwrite:
        raise InputError(
            "an empty or absent folder",
            "a folder with content",
            str(request.target),
            "Give another place to write to, or add --overwrite to replace the dataset there.",
        )
    if request.options.frame_seconds is not None and not request.options.frame_seconds > 0:
        raise InputError(
            "seconds above 0", f"{request.options.frame_seconds:g}", "--frame-seconds", "Give the time of one frame."
        )
    for name, number in (("--limit", request.options.limit), ("--workers", request.options.workers)):
        if number is not None and number < 1:
            raise InputError("a number of at least 1", str(number), name, "Give a larger number or leave it out.")
    if request.questions is not None:
        read_questions(request.questions)
    if request.events is not None:
        read_events(request.events)


def mapper(workers: int, progress: Progress) -> Mapper:
    """What calls a function on every item in that many processes, and tells how far it is."""

    def run(label: str, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        results = []
        progress(label, 0, len(items))
        processes = workers if len(items) >= _WORTH_PROCESSES else 1
        chunk = max(1, min(32, len(items) // (4 * workers)))
        with closing(map_in_processes(function, items, processes, chunk)) as found:
            for result in found:
                results.append(result)
                progress(label, len(results), len(items))
        return results

    return run


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


def _place_images(
    importer: Importer,
    request: Request,
    plan: Plan,
    staging: Path,
    run: Callable[[str, Callable[[Any], Any], Sequence[Any]], list[Any]],
) -> list[dict[str, Any]]:
    """Copy the image files, or link to them, and list them as rows of the images table."""
    rows: list[dict[str, Any]] = []
    copies: dict[Path, _Copy] = {}
    links: dict[Path, Path] = {}
    for sequence in plan.sequences:
        folder = Path(IMAGES, _folder_name(sequence.sequence_id))
        for picture in sequence.pictures:
            path = folder / _file_name(picture)
            volume = len(picture.files) > 1
            for number, file in enumerate(picture.files):
                inside = path / f"{number:04d}{_suffix(file)}" if volume else path
                if request.reference and volume:
                    links[inside] = file.absolute()
                elif not request.reference:
                    copies.setdefault(inside, _Copy(importer.copy, file, staging / inside, sequence.patient_id))
            shown = path.as_posix()
            if request.reference and not volume:
                shown = str(picture.files[0].absolute())
            rows.append(
                {
                    "sequence_id": sequence.sequence_id,
                    "position": picture.position,
                    "channel": picture.channel,
                    "path": shown,
                    "frame": picture.frame,
                }
            )
    if request.reference:
        _link_slices(links, staging)
    else:
        removed = run("Copying images", _copy_one, list(copies.values()))
        _log_removed(dict(zip(copies, removed, strict=True)), staging)
    return rows


def _folder_name(sequence_id: str) -> str:
    """A sequence's id as a folder's name; kept ids may hold anything."""
    name = slug(sequence_id, "sequence")
    if name == sequence_id:
        return name
    # Lower case alone would give A1 and a1 one folder.
    return f"{name}_{hashlib.sha256(sequence_id.encode()).hexdigest()[:8]}"


def _file_name(picture: Picture) -> str:
    """A loop's file is named by its channel alone; a visit's also by its position. A volume of slices is a folder."""
    channel = slug(picture.channel)
    name = channel if picture.frame is not None else f"{picture.position:04d}_{channel}"
    return name if len(picture.files) > 1 else name + _suffix(picture.files[0])


def _suffix(file: Path) -> str:
    """The suffix of a copy: of NIfTI its own, of DICOM always ``.dcm``, whatever the source called it."""
    lower = file.name.lower()
    return next((suffix for suffix in (".nii.gz", ".nii") if lower.endswith(suffix)), ".dcm")


def _link_slices(links: dict[Path, Path], staging: Path) -> None:
    """Make a folder of links for each volume that the source keeps as slices among other files."""
    for path, file in links.items():
        (staging / path).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.symlink(file, staging / path)
        except OSError as error:
            raise InputError(
                "a disk that can hold links",
                error.strerror or "none",
                str(staging.parent),
                "Leave --reference out: a volume kept as single slices needs links.",
            ) from error


def _log_removed(removed: dict[Path, list[str]], staging: Path) -> None:
    """Write which header elements the copies lack; never what they held."""
    lines = [
        json.dumps({"path": path.as_posix(), "removed": names}) for path, names in sorted(removed.items()) if names
    ]
    if lines:
        (staging / REMOVED_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write(
    importer: Importer, request: Request, plan: Plan, asked: Asked, images: list[dict[str, Any]], staging: Path
) -> str:
    from temmed.timelines.folder import write_timeline

    return write_timeline(
        staging,
        _tables(plan, asked, images),
        name=request.name or request.target.absolute().name,
        version="1",
        licence=request.licence,
        provenance=_provenance(importer, request, plan),
    )


def _tables(plan: Plan, asked: Asked, images: list[dict[str, Any]]) -> dict[str, pd.DataFrame]:
    import pandas as pd

    rows: dict[str, list[dict[str, Any]]] = {
        "patients": plan.patients,
        "sequences": [
            {
                "sequence_id": sequence.sequence_id,
                "patient_id": sequence.patient_id,
                "modality": sequence.modality,
                "time_unit": sequence.time_unit,
                "clock_offset": sequence.clock_offset,
                "spatial_dims": sequence.spatial_dims,
                "scanner": sequence.scanner,
            }
            for sequence in plan.sequences
        ],
        "timepoints": [
            {"sequence_id": sequence.sequence_id, "position": position, "time": time}
            for sequence in plan.sequences
            for position, time in enumerate(sequence.times)
        ],
        "images": images,
        "findings": list(asked.findings.values()),
        "questions": asked.questions,
        "events": asked.events,
    }
    return {name: pd.DataFrame(found) for name, found in rows.items() if found}


def _provenance(importer: Importer, request: Request, plan: Plan) -> dict[str, Any]:
    used = {file for sequence in plan.sequences for file in sequence.files}
    digest = hashlib.sha256()
    for entry in sorted(f"{relative(file, request.source)}\0{plan.checksums[file]}" for file in used):
        digest.update(entry.encode() + b"\0")
    options = request.options
    return {
        "source": str(request.source.absolute()),
        "source_fingerprint": digest.hexdigest(),
        "importer": importer.name,
        "versions": _versions(),
        "parameters": {
            "modality": options.modality,
            "keep_ids": options.keep_ids,
            "pseudonym_key": bool(options.key),
            "frame_seconds": options.frame_seconds,
            "limit": options.limit,
            "reference": request.reference,
            "questions": request.questions.name if request.questions else None,
            "events": request.events.name if request.events else None,
        },
        "files": {"used": len(used), "skipped": len(plan.skipped)},
        "timing": {sequence.sequence_id: sequence.timing for sequence in plan.sequences},
        "notes": plan.notes,
    }


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"temmed": __version__, **{name: version(name) for name in ("numpy", "pydicom", "nibabel")}}


def _audit(staging: Path, progress: Progress) -> list[Finding]:
    from temmed.timelines.audit import audit
    from temmed.timelines.folder import Timeline

    return audit(Timeline.open(staging), progress=lambda done, total: progress("Auditing images", done, total))


def _has_errors(findings: Sequence[Finding]) -> bool:
    return any(finding.severity == "error" for finding in findings)


def _told_reasons(plan: Plan) -> str:
    """How many files were skipped for each reason, as one text."""
    counts = Counter(entry.reason for entry in plan.skipped)
    told = [f"{count} {'file' if count == 1 else 'files'}: {reason}" for reason, count in counts.most_common(3)]
    more = len(counts) - len(told)
    return "; ".join(told) + (f"; and {more} other reasons" if more else "")
