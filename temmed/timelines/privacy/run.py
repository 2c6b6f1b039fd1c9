"""From a source to a folder without identifiers: looked through, cleaned, scanned; whole or not at all."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temmed import __version__
from temmed.errors import InputError
from temmed.files import staged_folder
from temmed.timelines.importers.build import mapper
from temmed.timelines.importers.plan import Mapper
from temmed.timelines.privacy import scan as scanning
from temmed.timelines.privacy.cleaning import Cleaned, Cleaner
from temmed.timelines.privacy.dates import Order
from temmed.timelines.privacy.dicom_profile import OPTIONS
from temmed.timelines.privacy.dicom_table import EDITION
from temmed.timelines.privacy.inventory import LOG, MANIFEST, Inventory, Item, take_inventory
from temmed.timelines.privacy.paths import Names
from temmed.timelines.privacy.scan import Left
from temmed.timelines.privacy.stand_ins import StandIns
from temmed.timelines.privacy.text import Scrubber
from temmed.timelines.progress import Progress, silent


@dataclass(frozen=True)
class Request:
    """One de-identification.

    Attributes:
        source: a raw source or a timeline folder.
        target: the folder to make.
        key: what stand-ins are made with; empty for one that nobody keeps.
        order: of day and month in dates that do not tell it.
        exclude: patterns of paths to leave out.
        skip_unreadable: leave damaged files out.
        leave_out_pixels: leave out files that may have text in their pixels.
        look: look for text in pixels.
        licence, consent: the terms the data are under, where the source does not say.
        overwrite: replace a folder made before.
        dry_run: write nothing.
        workers: processes.
    """

    source: Path
    target: Path
    key: str = ""
    order: Order | None = None
    exclude: tuple[str, ...] = ()
    skip_unreadable: bool = False
    leave_out_pixels: bool = False
    look: bool = True
    licence: str | None = None
    consent: str | None = None
    overwrite: bool = False
    dry_run: bool = False
    workers: int = 1


@dataclass(frozen=True)
class Outcome:
    """What was done.

    Attributes:
        inventory: what the source held.
        cleaned: what was done to each file; for a dry run, nothing.
        left: what the scan at the end found; the folder is there only when it found nothing.
        dropped: files left out because of their pixels.
    """

    inventory: Inventory
    cleaned: list[Cleaned] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    @property
    def actions(self) -> Counter[tuple[str, str]]:
        """How many of each (element, column or kind; action)."""
        total: Counter[tuple[str, str]] = Counter()
        for entry in self.cleaned:
            total.update(entry.actions)
        return total


class _LeftError(Exception):
    """Leaves the staging folder so that it is removed: the scan found something."""


@dataclass(frozen=True)
class _Clean:
    """Cleans one file; a plain record, so that it can be sent to a process."""

    cleaner: Cleaner
    source: Path
    target: Path
    skip: bool

    def __call__(self, item: Item) -> Cleaned | tuple[str, str]:
        """What was done, or the file that could not be read and why."""
        try:
            return self.cleaner.clean(item, self.source, self.target)
        except InputError as error:
            if not self.skip:
                raise
            (self.target / self.cleaner.names.path(item.path, item.owner)).unlink(missing_ok=True)
            return item.path, f"expected {error.expected}, found {error.found}"


def deidentify(request: Request, progress: Progress = silent) -> Outcome:
    """De-identify a source.

    Args:
        request: what to do.
        progress: told how far it is.

    Returns:
        What was done. When the scan at the end finds something, nothing is written.

    Raises:
        InputError: the source or the target cannot be used. Nothing is written.
    """
    _check(request)
    if (request.source / "dataset.json").is_file():
        from temmed.timelines.privacy.timeline_folder import refuse_outside

        refuse_outside(request.source)
    run = mapper(request.workers, progress)
    stand_ins = StandIns(request.key or secrets.token_hex(32))
    found = take_inventory(request.source, stand_ins, run, request.exclude, request.skip_unreadable)
    if not found.items:
        raise InputError("at least one file that can be de-identified", "none", str(request.source), "Check the path.")
    cleaner = Cleaner(
        Scrubber(stand_ins, found.known, request.order), frozenset(found.patients), found.owners, request.look
    )
    _refuse_clashes(found, cleaner)
    if request.dry_run:
        return Outcome(found)
    root = request.source.parent if request.source.is_file() else request.source
    outcome = Outcome(found)
    try:
        with staged_folder(request.target, request.overwrite, marker=MANIFEST) as staging:
            for done in run("De-identifying", _Clean(cleaner, root, staging, request.skip_unreadable), found.items):
                if isinstance(done, Cleaned):
                    outcome.cleaned.append(done)
                else:
                    found.left_out.append(done)
            _drop(request, outcome, staging)
            _finish(request, root, staging, outcome, cleaner.names)
            outcome.left.extend(_scan(staging, request, outcome, run))
            if outcome.left:
                raise _LeftError
    except _LeftError:
        pass
    return outcome


def _check(request: Request) -> None:
    source, target = request.source.resolve(), request.target.resolve()
    if not request.source.exists():
        raise InputError("a file or a folder", "nothing", str(request.source), "Check the path.")
    if source == target or source in target.parents or target in source.parents:
        raise InputError("a folder outside of the source", str(request.target), "OUT", "Write to another place.")
    if request.workers < 1:
        raise InputError("a number of at least 1", str(request.workers), "--workers", "Give a larger number.")
    if request.target.is_dir() and any(request.target.iterdir()) and not request.overwrite:
        raise InputError(
            "an empty or absent folder",
            "a folder with content",
            str(request.target),
            "Give another place to write to, or add --overwrite to replace what was made before.",
        )


def _refuse_clashes(found: Inventory, cleaner: Cleaner) -> None:
    """Refuse names that only identifiers told apart."""
    new = Counter(cleaner.names.path(item.path, item.owner) for item in found.items)
    twice = [path for path, count in new.items() if count > 1]
    if twice:
        raise InputError(
            "names that differ without identifiers",
            f"{new[twice[0]]} files that would all be {twice[0]}",
            "the source",
            "Rename them, or leave some out with --exclude.",
        )


def _drop(request: Request, outcome: Outcome, staging: Path) -> None:
    """Remove what may have text in its pixels, if that was asked for."""
    if request.leave_out_pixels:
        for entry in outcome.cleaned:
            if entry.pixels:
                (staging / entry.path).unlink()
                outcome.dropped.append(entry.path)


def _finish(request: Request, root: Path, staging: Path, outcome: Outcome, names: Names) -> None:
    """Write the log and the manifest; bring a timeline folder's own records in line."""
    lines = [
        {"file": entry.path, "place": place, "action": action, "count": count}
        for entry in sorted(outcome.cleaned, key=lambda entry: entry.path)
        for (place, action), count in sorted(entry.actions.items())
    ]
    lines += [
        {"file": entry.path, "place": "pixels", "action": "warned", "count": 1, "reason": reason}
        for entry in outcome.cleaned
        for reason in entry.pixels
    ]
    (staging / LOG).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    manifest = _manifest(request, outcome)
    (staging / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if (root / "dataset.json").is_file() and (staging / "dataset.json").is_file():
        from temmed.timelines.privacy.timeline_folder import bring_in_line

        bring_in_line(root, staging, manifest, names)


def _manifest(request: Request, outcome: Outcome) -> dict[str, Any]:
    terms = {"licence": request.licence, "consent": request.consent}
    return {
        "tool": "temmed",
        "version": __version__,
        "profile": f"DICOM PS3.15 {EDITION} Annex E",
        "options": [f"{code} {meaning}" for code, meaning in OPTIONS],
        "key": "given" if request.key else "not kept",
        "dates": "moved back by whole days, the same for all of a patient",
        "files": len(outcome.cleaned) - len(outcome.dropped),
        "left_out": len(outcome.inventory.left_out) + len(outcome.dropped),
        "pixels_warned": sum(bool(entry.pixels) for entry in outcome.cleaned),
        **{name: value for name, value in terms.items() if value is not None},
    }


def _scan(staging: Path, request: Request, outcome: Outcome, run: Mapper) -> list[Left]:
    """Scan what was written, with what was learned from the source."""
    result = scanning.scan(staging, run, request.order, look=False)
    return result.left + scanning.search_bytes(staging, run, outcome.inventory.known)
