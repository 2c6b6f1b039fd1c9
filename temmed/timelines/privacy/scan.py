"""What is left of identifiers in a folder: cleaned once more, and searched byte by byte for those that are known."""

from __future__ import annotations

import gzip
import re
import tempfile
from collections import Counter
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
from temmed.timelines.privacy.vocabulary import folded

#: Words in bytes, in the two encodings that are written; pixels hold few by chance.
_WORDS = ((re.compile(rb"(?:[A-Za-z]|[\xc3-\xc9][\x80-\xbf]){3,}|\d{5,}"), "utf-8"),
          (re.compile(rb"[A-Za-z\xc0-\xff]{3,}"), "latin-1"))  # fmt: skip
#: Runs that may be text.
_RUNS = re.compile(rb"[\x20-\x7e\x80-\xff]{5,}")
_UID = re.compile(rb"2\.25\.\d{10,39}|[0-2](?:\.\d+){5,}")
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


def search_bytes(root: Path, run: Mapper, known: Known) -> list[Left]:
    """Look for known identifiers in the names and raw bytes of files, and unpacked where they are packed.

    Args:
        root: the folder.
        run: calls a function on every file.
        known: the identifiers of the source that the folder was made from.
    """
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    found = run("Searching all bytes", _Search(root, known, known.longest_words()), files)
    return [left for lefts in found for left in lefts]


@dataclass(frozen=True)
class _Search:
    """Searches one file; a plain record, so that it can be sent to a process."""

    root: Path
    known: Known
    words: frozenset[str]

    def __call__(self, path: str) -> list[Left]:
        content = (self.root / path).read_bytes()
        counts: Counter[str] = Counter()
        for part in (content, gzip.decompress(content)) if path.lower().endswith(".gz") else (content,):
            counts += self._search(part)
        left = [Left(path, f"bytes ({kind})", "found", count) for kind, count in counts.items()]
        return left + ([Left(path, "name", "found", 1)] if self._search(path.encode()) else [])

    def _search(self, content: bytes) -> Counter[str]:
        counts = Counter({"uid": sum(match.group().decode() in self.known.uids for match in _UID.finditer(content))})
        if not self._may_hold(content):
            return +counts
        for match in _RUNS.finditer(content):
            for text in {match.group().decode("latin-1"), match.group().decode("utf-8", "ignore")}:
                for span in self.known.find(text, "nobody"):
                    # Shorter ones turn up in pixels by chance.
                    if span.end - span.start >= _LEAST and text[span.start : span.end] != span.replacement:
                        counts[span.kind] += 1
        return +counts

    def _may_hold(self, content: bytes) -> bool:
        """Whether the longest word of any identifier is there: quick to tell, and seldom so."""
        for pattern, encoding in _WORDS:
            for word in set(pattern.findall(content)):
                text = folded(word.decode(encoding))
                if text in self.words or text.lstrip("0") in self.words:
                    return True
        return False
