"""Names of files and folders without identifiers: the same name becomes the same, wherever it is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date

from temmed.timelines.privacy import dates
from temmed.timelines.privacy.stand_ins import moved
from temmed.timelines.privacy.text import Scrubber
from temmed.timelines.privacy.vocabulary import is_ordinary

SUFFIXES = (".nii.gz", ".csv.gz", ".tsv.gz", ".json.gz")
_UID = re.compile(r"(?<![\d.])[0-2](?:\.\d+){5,}(?![\d])")
_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,7}$")
_DIGITS = re.compile(r"(?<!\d)\d{7,}(?!\d)")
_WORD = re.compile(r"[^\W\d_]{3,}")
_RUN = re.compile(r"[^\W_]+")
_STAND_IN = re.compile(r"(?<![0-9A-Za-z])(?:p[0-9a-f]{12}|x[0-9a-f]{10})(?![0-9A-Za-z])|2\.25\.\d{20,39}")
#: A part of a BIDS name whose label was chosen by the study and tells of no person.
_LABEL = re.compile(
    r"(?:task|acq|ce|trc|stain|rec|dir|run|mod|echo|flip|inv|mt|part|proc|hemi|space|split|recording|chunk|seg|res|den|"
    r"label|desc)-[0-9A-Za-z]+"
)
_SUBJECT = re.compile(r"sub-([0-9A-Za-z]+)")
_SESSION = re.compile(r"ses-[A-Za-z]*\d*")


@dataclass(frozen=True)
class Names:
    """Cleans names.

    Attributes:
        scrubber: knows the identifiers and makes the stand-ins.
        patients: the source's ids of all patients.
    """

    scrubber: Scrubber
    patients: Collection[str]

    def path(self, path: str, owner: str | None) -> str:
        """Clean a path with forward slashes, part by part.

        Args:
            path: relative to the source.
            owner: the patient it belongs to, for the shift of dates.
        """
        return "/".join(self.name(part, owner) for part in path.split("/"))

    def name(self, name: str, owner: str | None) -> str:
        """Clean the name of a file or folder; its suffix stays."""
        if name in ("", ".", ".."):
            return name
        suffix = suffix_of(name)
        stem = name[: len(name) - len(suffix)] if suffix else name
        return self._stem(stem, owner) + suffix

    def _stem(self, stem: str, owner: str | None) -> str:
        if stem in self.patients:
            return self.scrubber.stand_ins.patient(stem)
        stand_ins = self.scrubber.stand_ins
        stem = _SUBJECT.sub(lambda match: f"sub-{stand_ins.patient(match[1])}", stem)
        stem = self._own_id(stem, owner)
        stem = _outside(_UID, stem, lambda match: stand_ins.uid(match.group()))
        stem = self._known(stem, owner)
        stem = self._dates(stem, owner)
        return _outside(_RUN, stem, self._run)

    def _own_id(self, stem: str, owner: str | None) -> str:
        """The patient's own id as a part of a name, however short it is."""
        if not owner:
            return stem
        pattern = re.compile(rf"(?<![0-9A-Za-z]){re.escape(owner)}(?![0-9A-Za-z])")
        return _outside(pattern, stem, lambda match: self.scrubber.stand_ins.patient(owner), labels=True)

    def _known(self, stem: str, owner: str | None) -> str:
        spans = sorted(self.scrubber.known.find(stem, owner), key=lambda span: (span.start, -span.end))
        parts, position = [], 0
        kept = [match.span() for match in _STAND_IN.finditer(stem)]
        for span in spans:
            if span.start < position or any(start < span.end and span.start < end for start, end in kept):
                continue
            found = stem[span.start : span.end]
            whole = span.replacement if not span.replacement.startswith("[") else self.scrubber.stand_ins.other(found)
            parts += [stem[position : span.start], whole]
            position = span.end
        return "".join([*parts, stem[position:]])

    def _dates(self, stem: str, owner: str | None) -> str:
        days = None if owner is None else self.scrubber.stand_ins.days(owner)
        kept = [match.span() for match in _STAND_IN.finditer(stem)]
        for found in sorted(dates.find(stem, self.scrubber.order), key=lambda found: -found.start):
            if found.match is None or any(start < found.end and found.start < end for start, end in kept):
                continue
            day = None if found.day is None else moved(found.day, days)
            written = stem[found.start : found.end]
            stem = stem[: found.start] + self._date(written, found, day) + stem[found.end :]
        return stem

    def _date(self, written: str, found: dates.Found, day: date | None) -> str:
        return self.scrubber.stand_ins.other(written) if day is None else found.written(day)

    def _run(self, match: re.Match[str]) -> str:
        """Letters and digits without anything between them: replaced when they hold a strange word or a long number."""
        run = match.group()
        strange = not all(is_ordinary(word) for word in _WORD.findall(run))
        if strange or (_DIGITS.search(run) and dates.parse(run) is None):
            return self.scrubber.stand_ins.other(run.lower())
        return run


def suffix_of(name: str) -> str:
    """A name's suffix with its dot, of two parts for packed files; empty where what follows the dot is no suffix."""
    lower = name.lower()
    packed = next((suffix for suffix in SUFFIXES if lower.endswith(suffix)), "")
    if packed:
        return name[-len(packed) :]
    match = _SUFFIX.search(name)
    return match.group() if match and match.start() > 0 else ""


def subject(path: str) -> str | None:
    """The label of the BIDS subject that a path names, if any."""
    match = _SUBJECT.search(path)
    return match[1] if match else None


def _outside(pattern: re.Pattern[str], text: str, write: Callable[[re.Match[str]], str], labels: bool = False) -> str:
    """Replace matches that are no part of a stand-in or, unless asked for, of a BIDS label."""
    kept = [match.span() for match in _STAND_IN.finditer(text)]
    if not labels:
        kept += [match.span() for rule in (_LABEL, _SESSION) for match in rule.finditer(text)]

    def replace(match: re.Match[str]) -> str:
        inside = any(start < match.end() and match.start() < end for start, end in kept)
        return match.group() if inside else write(match)

    return pattern.sub(replace, text)
