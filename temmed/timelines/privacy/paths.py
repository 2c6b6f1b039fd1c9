"""Names of files and folders without identifiers: the same name becomes the same, wherever it is written."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from temmed.timelines.privacy import dates
from temmed.timelines.privacy.known import Span
from temmed.timelines.privacy.stand_ins import COUNTED, moved
from temmed.timelines.privacy.text import UID, Scrubber, apart, replaced
from temmed.timelines.privacy.vocabulary import is_ordinary, plain

#: Anything else behind a dot may be a name.
_SUFFIX = re.compile(
    r"(?i)(?:\.(?:nii|csv|tsv|json|img|hdr|tar))?\.(?:gz|bz2|zip|tar)$|\.(?:dcm|dicom|ima|nii|img|hdr|png|jpe?g|tiff?|bmp|"
    r"gif|npy|npz|mha|mhd|nrrd|mgz|avi|mp4|m4v|mov|csv|tsv|parquet|jsonl?|ya?ml|toml|txt|md|rst|bvals?|bvecs?|pdf|docx?|"
    r"xlsx?|xml|html?|h5)$"
)
_DIGITS = re.compile(r"(?<!\d)\d{7,}(?!\d)")
_WORD = re.compile(r"[^\W\d_]{3,}")
_RUN = re.compile(r"[^\W_]+")
#: A part of a BIDS name whose label was chosen by the study and tells of no person.
_LABEL = re.compile(
    r"(?:task|acq|ce|trc|stain|rec|dir|run|mod|echo|flip|inv|mt|part|proc|hemi|space|split|recording|chunk|seg|res|den|"
    r"label|desc)-[0-9A-Za-z]+"
)
_SUBJECT = re.compile(r"sub-([0-9A-Za-z]+)")


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
        match = _SUFFIX.search(name)
        suffix = match.group() if match and match.start() > 0 else ""
        stem = name[: len(name) - len(suffix)]
        if stem in self.patients:
            return self.scrubber.stand_ins.patient(stem) + suffix
        new = plain(stem)
        cleaned, counts = replaced(new, apart(new, self._spans(new, owner), self.scrubber.stand_ins.accepted))
        return (cleaned if counts else stem) + suffix

    def _spans(self, stem: str, owner: str | None) -> Iterator[Span]:
        """What identifies, the surest first."""
        stand_ins = self.scrubber.stand_ins
        for match in _SUBJECT.finditer(stem):
            yield Span(*match.span(1), "id", stand_ins.patient(match[1]))
        if owner:
            # However short it is.
            for match in re.finditer(rf"(?<![0-9A-Za-z]){re.escape(owner)}(?![0-9A-Za-z])", stem):
                yield Span(*match.span(), "id", stand_ins.patient(owner))
        for match in UID.finditer(stem):
            yield Span(*match.span(), "uid", stand_ins.uid(match.group()))
        known = self.scrubber.known.find(stem, owner, any_case=True)
        for span in sorted(known, key=lambda span: (span.start, -span.end)):
            found = stem[span.start : span.end]
            stand_in = stand_ins.other(found) if span.replacement.startswith("[") else span.replacement
            yield Span(span.start, span.end, span.kind, stand_in)
        yield from self._dates(stem, owner)
        labels = [match.span() for match in _LABEL.finditer(stem)]
        for match in _RUN.finditer(stem):
            labelled = any(start <= match.start() < end for start, end in labels)
            if not labelled and _is_strange(match.group()):
                yield Span(*match.span(), "id", stand_ins.other(match.group().lower()))

    def _dates(self, stem: str, owner: str | None) -> Iterator[Span]:
        days = None if owner is None else self.scrubber.stand_ins.days(owner)
        for found in dates.find(stem, self.scrubber.order):
            day = None if found.day is None else moved(found.day, days)
            written = stem[found.start : found.end]
            stand_in = self.scrubber.stand_ins.other(written) if day is None else found.written(day)
            yield Span(found.start, found.end, "date", stand_in)


def _is_strange(run: str) -> bool:
    """Whether letters and digits without anything between them hold a word that is not ordinary, or a long number."""
    if COUNTED.fullmatch(run) or dates.parse(run) is not None:
        return False
    return bool(_DIGITS.search(run)) or not all(is_ordinary(word) for word in _WORD.findall(run))


def subject(path: str) -> str | None:
    """The label of the BIDS subject that a path names, if any."""
    match = _SUBJECT.search(path)
    return match[1] if match else None
