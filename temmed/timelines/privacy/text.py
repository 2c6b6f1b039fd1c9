"""Identifiers taken out of free text, and whole dates moved with their patient's shift."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from temmed.timelines.privacy import dates, names, patterns
from temmed.timelines.privacy.dates import Order
from temmed.timelines.privacy.known import Known, Span
from temmed.timelines.privacy.stand_ins import WRITTEN, StandIns, moved
from temmed.timelines.privacy.vocabulary import plain

#: A unique id of DICOM: of many parts, or made from random bits.
UID = re.compile(r"(?<![\d.])(?:2\.25\.[1-9]\d{9,38}|[0-2](?:\.(?:0|[1-9]\d*)){5,})(?![\d.]*\d)")
#: Rounds after which nothing new can come up; what one round removes may show the next one a name.
_ROUNDS = 8
_STANDARD_UIDS = "1.2.840.10008."


@dataclass(frozen=True)
class Scrubbed:
    """A text without identifiers.

    Attributes:
        text: the text.
        counts: how many of each kind were removed; ``shifted date`` counts the moved ones.
    """

    text: str
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Scrubber:
    """Takes identifiers out of texts.

    Attributes:
        stand_ins: makes what is written instead.
        known: the identifiers of the source.
        order: of day and month in dates that do not tell it.
    """

    stand_ins: StandIns
    known: Known = field(default_factory=Known)
    order: Order | None = None

    def scrub(self, text: str, owner: str | None = None, strange: bool = True) -> Scrubbed:
        """Remove identifiers.

        Args:
            text: any text.
            owner: the source's id of the patient it is about. Without one, dates are removed and not moved.
            strange: take capitalised words that are not ordinary for names, as in prose.

        Returns:
            The text with ``[NAME]`` and the like instead. Doing it again changes nothing but the dates.
        """
        counts: Counter[str] = Counter()
        new = plain(text)
        found = list(dates.find(new, self.order))
        spans = [*self._identifiers(new, found, owner, strange), *self._dates(new, found, owner)]
        spans = apart(new, spans, self.stand_ins.accepted)
        for _ in range(_ROUNDS):
            if not spans:
                break
            new, done = replaced(new, spans)
            counts += done
            # Moved dates look like any others: they are left alone from now on.
            spans = apart(new, self._identifiers(new, dates.find(new, self.order), owner, strange), WRITTEN)
        return Scrubbed(new if counts else text, counts)

    def _identifiers(self, text: str, found: Iterable[dates.Found], owner: str | None, strange: bool) -> Iterable[Span]:
        yield from self.known.find(text, owner)
        for match in UID.finditer(text):
            if not match.group().startswith(_STANDARD_UIDS):
                yield Span(*match.span(), "uid", self.stand_ins.uid(match.group()))
        taken = [(date.start, date.end) for date in found]
        for span in (*patterns.find(text), *names.find(text, strange)):
            # 20240131 is a date and no number; a date inside of an address is part of it.
            if span.kind not in ("id", "phone") or not any(
                start <= span.start and span.end <= end for start, end in taken
            ):
                yield span

    def _dates(self, text: str, found: Iterable[dates.Found], owner: str | None) -> Iterable[Span]:
        days = None if owner is None else self.stand_ins.days(owner)
        births = self.known.births.get(owner or "", set())
        for date in found:
            before = text[max(0, date.start - 20) : date.start].lower()
            born = date.day in births or re.search(r"\b(?:dob|born|birth(?:day| ?date)?)\b[^.\n]*$", before)
            day = None if date.day is None or born else moved(date.day, days)
            if day is None:
                yield Span(date.start, date.end, "date", "[DATE]")
            else:
                yield Span(date.start, date.end, "shifted date", date.written(day))


def apart(text: str, spans: Iterable[Span], kept: re.Pattern[str]) -> list[Span]:
    """Those spans, in their order in the text, that neither overlap an earlier one of the list nor what is kept."""
    chosen: list[Span] = []
    covered = bytearray(len(text))
    for match in kept.finditer(text):
        covered[match.start() : match.end()] = b"\1" * (match.end() - match.start())
    for span in spans:
        place = slice(span.start, span.end)
        if all(covered[place]):
            continue
        if any(covered[place]):
            # Half of a name that is known gives way to the whole that a rule sees.
            within = [part for part in chosen if span.start <= part.start and part.end <= span.end]
            if sum(covered[place]) != sum(part.end - part.start for part in within if _gives_way(part)):
                continue
            chosen = [part for part in chosen if part not in within]
        covered[place] = b"\1" * (span.end - span.start)
        chosen.append(span)
    return sorted(chosen, key=lambda span: span.start)


def _gives_way(span: Span) -> bool:
    return span.replacement.startswith("[") and span.kind != "date"


def replaced(text: str, spans: Iterable[Span]) -> tuple[str, Counter[str]]:
    """A text with spans of :func:`apart` replaced, and how many of each kind that changed."""
    counts: Counter[str] = Counter()
    parts, position = [], 0
    for span in spans:
        parts += [text[position : span.start], span.replacement]
        position = span.end
        counts[span.kind] += text[span.start : span.end] != span.replacement
    return "".join([*parts, text[position:]]), +counts
