"""What of a text is no word: moments, numbers, and numbers with a unit, each kept whole and as a value.

``T2``, ``visit 3``, ``frame 17`` and ``time point 3`` are positions; ``184 days``, ``week 6`` and ``3-month`` are
elapsed times; ``12 mm``, ``3.5 cm``, ``20 %`` and ``-50 HU`` are numbers with a unit, one unit for each kind, so that
35 mm and 3.5 cm are the same; dates are days. Ranges and extents (``3-5 mm``, ``12 x 8 mm``) are one quantity for each
number, all with the unit, with ``to`` and ``x`` between.

Frames and time points are counted from 0, as by all prompts of this project; visits and T from 1, as by people and by
MI-CXR.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from functools import lru_cache
from typing import NamedTuple

from temmed.timelines.schema import TIME_UNITS

#: Kinds of pieces. Positions count from 0; elapsed times are in days or seconds, lengths in mm, areas in mm², volumes
#: in ml, densities in Hounsfield units, dates in days since 1970.
WORD, POSITION, ELAPSED, NUMBER, LENGTH, AREA, VOLUME, PERCENT, DENSITY, DATE = range(10)
KINDS = 10
MOMENTS = (POSITION, ELAPSED)


class Quantity(NamedTuple):
    """A value of some kind."""

    kind: int
    amount: float


_UNITS: dict[str, tuple[int, float]] = {
    **{name: (ELAPSED, factor) for name, (_, factor) in TIME_UNITS.items() if name not in ("frame", "ordinal")},
    "ms": (ELAPSED, TIME_UNITS["millisecond"][1]),
    "s": (ELAPSED, TIME_UNITS["second"][1]),
    "month": (ELAPSED, 30.4375),
    "year": (ELAPSED, 365.25),
    **dict.fromkeys(("mm", "millimetre", "millimeter"), (LENGTH, 1.0)),
    **dict.fromkeys(("cm", "centimetre", "centimeter"), (LENGTH, 10.0)),
    **dict.fromkeys(("mm2", "mm²"), (AREA, 1.0)),
    **dict.fromkeys(("cm2", "cm²"), (AREA, 100.0)),
    **dict.fromkeys(("ml", "cc", "cm3", "cm³", "millilitre", "milliliter"), (VOLUME, 1.0)),
    **dict.fromkeys(("mm3", "mm³"), (VOLUME, 0.001)),
    **dict.fromkeys(("%", "percent", "per cent"), (PERCENT, 1.0)),
    **dict.fromkeys(("hu", "hounsfield unit"), (DENSITY, 1.0)),
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = "(?P<{}>" + "|".join(_MONTHS) + ")[a-z]*\\.?"

_PLAIN = r"(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?|(?<![\w.])\.\d+"
_SIGNED = rf"(?:(?<![\w.)%])[-+\u2212])?(?:{_PLAIN})"
_TO = r"(?:\s*[\u2013\u2014]\s*|-|\s+-\s+|\s+to\s+)"
_BY = r"(?:\s*[x×]\s*(?=[\d.])|\s+by\s+)"
_UNIT = "|".join(re.escape(name) for name in sorted(_UNITS, key=len, reverse=True))
_PATTERN = re.compile(
    rf"""
      (?P<iso>(?<!\d)\d{{4}}-\d{{1,2}}-\d{{1,2}}(?!\d))
    | (?P<dotted>(?<!\d)\d{{1,2}}\.\d{{1,2}}\.\d{{4}}(?!\d))
    | (?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH.format("month")},?\s+(?P<year>\d{{4}})\b
    | \b{_MONTH.format("first_month")}\s+(?P<second_day>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<third_year>\d{{4}})\b
    | (?:time\s*points?|frames?)\s+(?P<position>\d+)
    | \bvisit\s+(?P<visit>\d+)
    | \bt(?P<t>\d{{1,3}})\b
    | \b(?P<since>day|week|month|year(?=\s+\d\d?\b))\s+(?P<count>\d{{1,4}}(?:\.\d+)?)\b
    | (?P<numbers>{_SIGNED}(?:(?:{_TO}|{_BY})(?:{_PLAIN})|\s+to\s+{_SIGNED})*)
      (?:\s*-?\s*(?P<unit>{_UNIT})(?:(?<=[a-z])s)?(?![a-z0-9²³]))?
    | (?P<word>[^\W\d_]+)
    """,
    re.VERBOSE,
)
_NUMBER = re.compile(rf"(?P<number>{_SIGNED})|(?P<by>x|×|by)|(?P<to>to|[-\u2013\u2014])")
#: Where one of these is spoken of, T1 and T2 are ways to take an image, vertebrae or stages, and no time points.
_NO_TIME = re.compile(r"weighted|flair|intens|signal|sequence|contrast|vertebra|spin|fracture|stag")


def read(text: str) -> Iterator[str | Quantity]:
    """Pieces of a text in their order: words in lower case, and quantities.

    Examples:
        >>> list(read("A 3.5 cm mass, by week 6"))
        ['a', Quantity(kind=4, amount=35.0), 'mass', 'by', Quantity(kind=2, amount=42.0)]
    """
    text = text.lower()
    timed = not _NO_TIME.search(text)
    for match in _PATTERN.finditer(text):
        found = match.groupdict()
        if found["word"]:
            yield found["word"]
        elif found["numbers"]:
            yield from _numbers(found["numbers"], found["unit"])
        elif found["position"]:
            yield Quantity(POSITION, int(found["position"]))
        elif found["visit"]:
            yield Quantity(POSITION, max(int(found["visit"]) - 1, 0))
        elif found["t"]:
            yield from (Quantity(POSITION, max(int(found["t"]) - 1, 0)),) if timed else _numbers(found["t"], None, "t")
        elif found["since"]:
            yield Quantity(ELAPSED, float(found["count"]) * _UNITS[found["since"]][1])
        else:
            yield from _date(match)


@lru_cache(maxsize=1 << 16)
def moments(text: str) -> tuple[Quantity, ...]:
    """The positions and elapsed times that a text names, in their order."""
    return tuple(piece for piece in read(text) if isinstance(piece, Quantity) and piece.kind in MOMENTS)


def units(text: str) -> list[str]:
    """The units that a text writes behind numbers, but for those of time: words that may elsewhere stand alone."""
    found = (match["unit"] for match in _PATTERN.finditer(text.lower()))
    return [unit for unit in found if unit is not None and unit.isalpha() and _UNITS[unit][0] != ELAPSED]


def _numbers(numbers: str, unit: str | None, *before: str) -> Iterator[str | Quantity]:
    """One quantity for each number, with words for what stands between."""
    yield from before
    kind, factor = (NUMBER, 1.0) if unit is None else _UNITS[unit]
    for match in _NUMBER.finditer(numbers):
        if match["number"]:
            plain = match["number"].replace(",", "").replace("\u2212", "-")
            yield Quantity(kind, float(plain) * factor)
        else:
            yield "x" if match["by"] else "to"


def _date(match: re.Match[str]) -> Iterator[str | Quantity]:
    """A date; its numbers and words, if there is no such day."""
    found = match.groupdict()
    if found["iso"]:
        year, month, day = map(int, found["iso"].split("-"))
    elif found["dotted"]:
        day, month, year = map(int, found["dotted"].split("."))
    else:
        month = _MONTHS.index(found["month"] or found["first_month"]) + 1
        day, year = int(found["day"] or found["second_day"]), int(found["year"] or found["third_year"])
    try:
        known = date(year, month, day)
    except ValueError:
        yield from (Quantity(NUMBER, number) for number in (year, month, day))
        return
    yield Quantity(DATE, known.toordinal() - date(1970, 1, 1).toordinal())
