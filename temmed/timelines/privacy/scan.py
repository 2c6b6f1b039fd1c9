"""What is left of identifiers in a folder: cleaned once more, and searched byte by byte for those that are known."""

from __future__ import annotations

import gzip
import re
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from temmed.timelines.importers.plan import Mapper
from temmed.timelines.privacy.cleaning import Cleaner
from temmed.timelines.privacy.dates import Order
from temmed.timelines.privacy.dicom_file import read_header
from temmed.timelines.privacy.inventory import LOG, MANIFEST, Item, take_inventory
from temmed.timelines.privacy.known import Known
from temmed.timelines.privacy.stand_ins import Recognising
from temmed.timelines.privacy.text import Scrubber

#: Runs of letters and digits that may be text, in bytes that may be pixels.
_RUNS = re.compile(rb"[\x20-\x7e\xc0-\xff]{5,}")
_UID = re.compile(rb"[0-2](?:\.\d+){5,}")
_LEAST = 6


@dataclass(frozen=True)
class Left:
    """Something that looks like an identifier, by its place and never by its value.

    Attributes:
        path: the file.
        place: the element, column or kind; ``name`` for the file's name.
        action: what cleaning would do with it.
        count: how many.
    """

    path: str
    place: str
    action: str
    count: int


@dataclass(frozen=True)
class ScanResult:
    """What a scan found.

    Attributes:
        files: how many files were looked at.
        left: identifiers.
        not_looked_at: files of other kinds, with the reason.
        pixels: files that may have text in their pixels, with the reason.
    """

    files: int
    left: list[Left]
    not_looked_at: list[tuple[str, str]]
    pixels: list[tuple[str, str]]


def scan(root: Path, run: Mapper, order: Order | None = None, look: bool = True) -> ScanResult:
    """Look for identifiers in a folder.

    Every file is cleaned again in a way that accepts stand-ins and, in a folder that was de-identified before, dates;
    whatever that changes was left.

    Args:
        root: a file or a folder.
        run: calls a function on every file.
        order: of day and month in dates that do not tell it.
        look: look for text in pixels.

    Raises:
        InputError: there is nothing, or a file is damaged.
    """
    dated = (root / MANIFEST).is_file()
    stand_ins = Recognising("", dated=dated)
    found = take_inventory(root, stand_ins, run)
    cleaner = Cleaner(Scrubber(stand_ins, found.known, order), frozenset(found.patients), found.owners, look)
    folder = root.parent if root.is_file() else root
    left: list[Left] = []
    pixels: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as scratch:
        task = _Scan(cleaner, folder, Path(scratch))
        for item, (again, reasons) in zip(found.items, run("Scanning", task, found.items), strict=True):
            left += again
            pixels += [(item.path, reason) for reason in reasons]
    unread = [(path, reason) for path, reason in found.left_out if path not in (LOG, MANIFEST)]
    return ScanResult(len(found.items), left, unread, pixels)


@dataclass(frozen=True)
class _Scan:
    """Cleans one file again; a plain record, so that it can be sent to a process."""

    cleaner: Cleaner
    root: Path
    scratch: Path

    def __call__(self, item: Item) -> tuple[list[Left], tuple[str, ...]]:
        names = self.cleaner.names
        left = [] if names.path(item.path, item.owner) == item.path else [Left(item.path, "name", "renamed", 1)]
        path = self.root / item.path
        if item.kind == "dicom":
            header = read_header(path)
            # An instance that was never cleaned has none of the marks; one that was has only those.
            was_clean = str(header.get("PatientIdentityRemoved") or "") == "YES"
            actions = self.cleaner.apply_profile(header, item.owner)
            if not was_clean:
                left.append(Left(item.path, "PatientIdentityRemoved", "missing", 1))
        else:
            with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
                actions = self.cleaner.write(item, path, Path(folder, path.name))
        left += [Left(item.path, place, action, count) for (place, action), count in actions.items() if count]
        return left, self.cleaner.pixels(item, path)


def search_bytes(root: Path, files: Iterable[str], known: Known) -> list[Left]:
    """Look for known identifiers in the raw bytes of files, and unpacked where they are packed.

    Args:
        root: the folder.
        files: paths below it.
        known: the identifiers of the source that the folder was made from.
    """
    left = []
    for path in files:
        content = (root / path).read_bytes()
        counts: Counter[str] = Counter()
        for part in (content, gzip.decompress(content)) if path.endswith(".gz") else (content,):
            counts += _search(part, known)
        left += [Left(path, f"bytes ({kind})", "found", count) for kind, count in counts.items()]
        left += [Left(path, "name", "found", 1)] if _search(path.encode(), known) else []
    return left


def _search(content: bytes, known: Known) -> Counter[str]:
    counts: Counter[str] = Counter()
    for run in _RUNS.finditer(content):
        for text in {run.group().decode("latin-1"), run.group().decode("utf-8", "ignore")}:
            for span in known.find(text, "nobody"):
                # Shorter ones turn up in pixels by chance.
                if span.end - span.start >= _LEAST and text[span.start : span.end] != span.replacement:
                    counts[span.kind] += 1
    for match in _UID.finditer(content):
        if match.group().decode() in known.uids:
            counts["uid"] += 1
    return counts
