"""From a source to a timeline folder: plan, ask, copy, write, audit; whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from temmed import __version__
from temmed.errors import InputError
from temmed.files import atomic_write, resumable_folder
from temmed.processes import map_many
from temmed.timelines.importers.placing import Part, copy_files, link_slices, place
from temmed.timelines.importers.plan import Mapper, Options, Plan, PlannedSequence, folder_of, relative
from temmed.timelines.importers.questions import Asked, read_asked, read_events, read_questions
from temmed.timelines.importers.registry import Importer
from temmed.timelines.progress import Progress, silent

if TYPE_CHECKING:
    import pandas as pd

    from temmed.timelines.audit import Finding

REMOVED_FILE = "deidentification.jsonl"
#: Folder of what the source's own scoring needs; see :attr:`Plan.records`.
RECORDS = "source"
#: Where an import notes what it has done, until it is finished.
_NOTES = ".import"


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
        part: copy this share of the files alone; an import without a part then finishes the dataset.
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
    part: Part | None = None
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

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Rows of a further table: those of the source, then the user's own."""
        return _further_rows(self.plan, self.asked).get(table, [])


class _RefusedError(InputError):
    """The audit found errors: what was imported is thrown away, as with any other input that cannot be used."""


def run_import(importer: Importer, request: Request, progress: Progress = silent) -> Outcome:
    """Import a source.

    What was copied before a kill, Ctrl-C or a full disk is not copied again by the next import of the same request.

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
    placement = place(plan, request.reference)
    findings: list[Finding] = []
    fingerprint = ""
    written = request.part is None
    try:
        key = _key(importer, request, plan)
        with resumable_folder(request.target, key, request.overwrite, finish=request.part is None) as staging:
            notes = staging / _NOTES
            workers = request.options.workers
            removed = copy_files(placement, importer, staging, notes, workers, progress, request.part)
            if request.part is None:
                link_slices(placement.links, staging)
                _log_removed(removed, staging)
                fingerprint = _write(importer, request, plan, asked, placement.rows, staging)
                _write_splits(plan, staging)
                _write_records(plan, staging)
                findings = _audit(staging, progress)
                if _has_errors(findings) and not request.keep_on_error:
                    raise _RefusedError("sound data", "errors", str(request.source), "Mend what the audit tells.")
                shutil.rmtree(notes)
    except _RefusedError:
        written = False
    return Outcome(plan, asked, findings, written, fingerprint if written else "")


def _key(importer: Importer, request: Request, plan: Plan) -> str:
    """What an import must have in common with an earlier one to go on with its copies."""
    about = [_provenance(importer, request, plan), request.options.key, sorted(plan.aliases)]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


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
    if request.part is not None and request.reference:
        raise InputError("files to copy", "--reference", "--part", "Leave one of them out.")
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
        with closing(map_many(function, items, workers)) as found:
            for result in found:
                results.append(result)
                progress(label, len(results), len(items))
        return results

    return run


def _log_removed(removed: dict[str, list[str]], staging: Path) -> None:
    """Write which header elements the copies lack; never what they held."""
    lines = [json.dumps({"path": path, "removed": names}) for path, names in sorted(removed.items()) if names]
    if lines:
        (staging / REMOVED_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write(
    importer: Importer,
    request: Request,
    plan: Plan,
    asked: Asked,
    placed: dict[str, list[dict[str, Any]]],
    staging: Path,
) -> str:
    from temmed.timelines.folder import write_timeline

    return write_timeline(
        staging,
        _tables(plan, asked, placed),
        name=request.name or request.target.absolute().name,
        version="1",
        licence=request.licence,
        provenance=_provenance(importer, request, plan),
    )


def _tables(plan: Plan, asked: Asked, placed: dict[str, list[dict[str, Any]]]) -> dict[str, pd.DataFrame]:
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
        "timepoints": [row for sequence in plan.sequences for row in _timepoints(sequence)],
        **placed,
        **_further_rows(plan, asked),
    }
    return {name: pd.DataFrame(found) for name, found in rows.items() if found}


def _timepoints(sequence: PlannedSequence) -> Iterator[dict[str, Any]]:
    for position, time in enumerate(sequence.times):
        lower, upper = (None, None) if sequence.bounds is None else sequence.bounds[position]
        yield {
            "sequence_id": sequence.sequence_id,
            "position": position,
            "time": time,
            "time_lower": lower,
            "time_upper": upper,
        }


def _further_rows(plan: Plan, asked: Asked) -> dict[str, list[dict[str, Any]]]:
    """The source's rows, then the user's own, by table."""
    own = {"findings": list(asked.findings.values()), "questions": asked.questions, "events": asked.events}
    return {name: plan.tables.get(name, []) + own.get(name, []) for name in (plan.tables | own)}


def _provenance(importer: Importer, request: Request, plan: Plan) -> dict[str, Any]:
    used = {file for sequence in plan.sequences for file in sequence.files}
    digest = hashlib.sha256()
    folder = folder_of(request.source)
    for entry in sorted(f"{relative(file, folder)}\0{_digest(plan, file)}" for file in used):
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
            "images": str(options.images.absolute()) if options.images else None,
            "reference": request.reference,
            "questions": request.questions.name if request.questions else None,
            "events": request.events.name if request.events else None,
        },
        "files": {"used": len(used), "skipped": len(plan.skipped)},
        "timing": {sequence.sequence_id: sequence.timing for sequence in plan.sequences},
        "notes": plan.notes,
    }


def _digest(plan: Plan, file: Path) -> str:
    """What stands for a file's content in the source's fingerprint; only files that were read anyway have a hash."""
    return plan.checksums.get(file) or f"{file.stat().st_size} bytes"


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"temmed": __version__, **{name: version(name) for name in ("numpy", "pydicom", "nibabel")}}


def _write_splits(plan: Plan, staging: Path) -> None:
    """Write the source's own divisions. They have no JSON beside them: nobody made them by a rule and a seed."""
    if not plan.splits:
        return
    import pandas as pd

    from temmed.timelines.splits import FOLDER

    for name, rows in plan.splits.items():
        frame = pd.DataFrame(rows, columns=["sequence_id", "patient_id", "subset"])
        atomic_write(staging / FOLDER / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))


def _write_records(plan: Plan, staging: Path) -> None:
    """Write what the source's own scoring needs, as the source has it."""
    for name, rows in plan.records.items():
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        atomic_write(staging / RECORDS / f"{name}.jsonl", "".join(lines))


def _audit(staging: Path, progress: Progress) -> list[Finding]:
    from temmed.timelines.audit import audit
    from temmed.timelines.folder import Timeline

    return audit(Timeline.open(staging), progress=progress)


def _has_errors(findings: Sequence[Finding]) -> bool:
    return any(finding.severity == "error" for finding in findings)


def _told_reasons(plan: Plan) -> str:
    """How many files were skipped for each reason, as one text."""
    counts = Counter(entry.reason for entry in plan.skipped)
    told = [f"{count} {'file' if count == 1 else 'files'}: {reason}" for reason, count in counts.most_common(3)]
    more = len(counts) - len(told)
    return "; ".join(told) + (f"; and {more} other reasons" if more else "")
