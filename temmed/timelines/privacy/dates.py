"""Dates as people and tables write them: found, moved by days, and written again in the same form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Literal

#: Whether 3/4/2020 is the 3rd of April (dmy) or the 4th of March (mdy); ``None`` when nobody said.
Order = Literal["dmy", "mdy"]
ORDERS: tuple[Order, ...] = ("dmy", "mdy")

_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_SHORT = 3
_NAMES = "|".join(f"{name[:_SHORT]}(?:{name[_SHORT:]})?" for name in _MONTHS) + "|sept"
_CAPITAL = "|".join(
    f"{name[:_SHORT].title()}(?:{name[_SHORT:]})?|{name[:_SHORT].upper()}(?:{name[_SHORT:].upper()})?"
    for name in _MONTHS
)
#: Public sets have years up to 2210: their dates were moved ahead.
_YEAR = r"(?:1[89]|2[0-2])\d{2}"
_DAY = r"(?:3[01]|[12]\d|0?[1-9])"
_ORDINAL = "st|nd|rd|th"
_UNIT = r"(?! ?(?:mm|cm|ml|mg|kg|hu|cc|ms|cells|images|frames|%|x|×|\d|\.\d))"
#: Dates with groups ``d``, ``m``, ``y``, or with ``first`` and ``second`` where the order of day and month is open.
_FULL = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?<![\d.])(?P<y>{_YEAR})(?P<gap>[-/.])(?P<m>\d{{1,2}})(?P=gap)(?P<d>\d{{1,2}})(?!\d)",
        rf"(?<![\d.])(?P<y>{_YEAR})(?P<m>0[1-9]|1[0-2])(?P<d>3[01]|[12]\d|0[1-9])(?!\d)",
        rf"(?<![\d./-])(?P<first>\d{{1,2}})(?P<gap>[-/])(?P<second>\d{{1,2}})(?P=gap)(?P<y>{_YEAR}|\d{{2}})(?![\d/-])",
        rf"(?<![\d.])(?P<first>\d{{1,2}})\.(?P<second>\d{{1,2}})\.(?P<y>{_YEAR})(?!\d)",
        r"(?<![\d.])(?P<first>\d{2})\.(?P<second>\d{2})\.(?P<y>\d{2})(?![\d.]*\d)",
        rf"(?<![\d.])(?P<d>{_DAY})(?:{_ORDINAL})?(?: of)?[ /-]?(?P<m>{_NAMES})\.?,?[ /-]?['’]?"
        rf"(?P<y>{_YEAR}|\d{{2}})(?!\d)",
        rf"(?<![^\W_])(?P<m>{_NAMES})\.?[ -]{{0,2}}(?P<d>{_DAY})(?:{_ORDINAL})?(?:,?[ -]{{1,2}}|,)(?P<y>{_YEAR})(?!\d)",
    )
)
#: Less than a whole date, which cannot be moved by days; the group ``part`` where more than that is matched.
_PARTIAL = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?<![^\W_])(?:{_CAPITAL})[ .,_-]{{0,2}}{_YEAR}(?!\d)",
        rf"(?<![\d/.-]){_YEAR}[-/_](?:0[1-9]|1[0-2])(?![\d/-])",
        rf"(?<![\d/.-])(?:(?:0?[1-9]|1[0-2])/|(?:0[1-9]|1[0-2])[.-]){_YEAR}(?![\d/-])",
        rf"\b(?:{_CAPITAL})\.? {_DAY}(?:{_ORDINAL})?\b(?!\.\d|\s?(?i:mm|cm|ml|kg))",
        rf"(?<![\d.]){_DAY}(?:{_ORDINAL})?(?: of)? (?:{_CAPITAL})\b",
        rf"(?i:(?<![^\W\d_])(?:in|since|from|of|year|dated|until|till|by|before|after|during|early|late|mid|spring|summer|autumn|"
        rf"fall|winter)[- ]+)(?P<part>{_YEAR})\b(?i:{_UNIT})",
        r"(?i:\b(?:on|dated|since|until|(?:study|exam|examination|film|radiograph|cxr|ct|mri?|scan) (?:of|from))[: ]+)"
        rf"(?P<part>(?:0?[1-9]|1[0-2])/{_DAY})(?![\d/]| (?:views?|images?|slices?|phases?|sequences?)\b)",
    )
)
_DIGIT = re.compile(r"\d")
_TWO_DIGITS = 2
#: Two-digit years up to this one belong to this century.
_PIVOT = 69


@dataclass(frozen=True)
class Found:
    """A date in a text.

    Attributes:
        start, end: its place.
        day: the date; ``None`` where the text does not give the whole of it, or in an order that nobody said.
        match: what was matched.
    """

    start: int
    end: int
    day: date | None
    match: re.Match[str] | None = None
    order: Order | None = None

    def written(self, day: date) -> str:
        """Another date in the form of this one."""
        assert self.match is not None
        month_first = self.order == "mdy"
        parts = {
            "y": day.year, "d": day.day, "m": day.month,
            "first": day.month if month_first else day.day, "second": day.day if month_first else day.month,
        }  # fmt: skip
        text, origin = self.match.group(), self.match.start()
        for name in sorted(
            (name for name in parts if name in self.match.re.groupindex), key=self.match.start, reverse=True
        ):
            start, end = self.match.start(name) - origin, self.match.end(name) - origin
            text = text[:start] + _like(text[start:end], parts[name]) + text[end:]
        return text


def find(text: str, order: Order | None = None) -> Iterator[Found]:
    """The dates of a text; matches may overlap, whole dates come first.

    Args:
        text: any text.
        order: of day and month where a date does not tell it; else that of another date of the text that does.
    """
    if not _DIGIT.search(text):
        return
    matches = [match for pattern in _FULL for match in pattern.finditer(text)]
    order = order or _told_order(matches)
    for match in matches:
        found, own = _day(match, order)
        yield Found(match.start(), match.end(), found, match, own)
    for pattern in _PARTIAL:
        for match in pattern.finditer(text):
            start, end = match.span("part" if "part" in pattern.groupindex else 0)
            yield Found(start, end, None)


def parse(text: str, order: Order | None = None) -> Found | None:
    """The date that a text begins with and is, but for a time of day behind it; ``None`` if it is none."""
    text = text.strip()
    for found in find(text, order):
        rest = text[found.end :]
        if found.start == 0 and found.match is not None and not re.match(r"\w*[^\W\dT]", rest):
            return found if re.fullmatch(r"(?:[T ]?[\d:.,+ Z-]*(?i:\s?[ap]m)?)?", rest) else None
    return None


def _told_order(matches: list[re.Match[str]]) -> Order | None:
    """The order of numeric dates, when at least one tells it and no other says otherwise."""
    told: set[Order] = set()
    for match in matches:
        if "first" in match.re.groupindex:
            first, second = int(match["first"]), int(match["second"])
            if first > 12 >= second:
                told.add("dmy")
            elif second > 12 >= first:
                told.add("mdy")
    return told.pop() if len(told) == 1 else None


def _day(match: re.Match[str], order: Order | None) -> tuple[date | None, Order | None]:
    year = int(match["y"])
    if len(match["y"]) == _TWO_DIGITS:
        year += 2000 if year <= _PIVOT else 1900
    if "first" not in match.re.groupindex:
        return _date(year, _month(match["m"]), int(match["d"])), None
    first, second = int(match["first"]), int(match["second"])
    own: Order | None = "dmy" if first > 12 else "mdy" if second > 12 else order
    if first == second:
        own = own or "dmy"
    if own is None:
        return None, None
    day, month = (first, second) if own == "dmy" else (second, first)
    return _date(year, month, day), own


def _month(text: str) -> int:
    if text.isdigit():
        return int(text)
    return next(number for number, name in enumerate(_MONTHS, 1) if name.startswith(text[:_SHORT].lower()))


def _date(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None


def _like(text: str, number: int) -> str:
    """A number, or the month of that number, in the form of another text."""
    if text.isdigit():
        return f"{number % 100:02d}" if len(text) == _TWO_DIGITS < len(str(number)) else f"{number:0{len(text)}d}"
    name = _MONTHS[number - 1]
    name = name[:_SHORT] if len(text) <= _SHORT or text.lower() == "sept" else name
    return name.upper() if text.isupper() else name.title() if text[0].isupper() else name
