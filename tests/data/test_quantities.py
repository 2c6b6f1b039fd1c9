"""What of a text is kept whole: quantities with their values, moments, dates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from temmed.data.quantities import (
    AREA,
    DATE,
    DENSITY,
    ELAPSED,
    LENGTH,
    NUMBER,
    PERCENT,
    POSITION,
    VOLUME,
    Quantity,
    moments,
    read,
)

_DECIMALS = st.decimals(-99999, 99999, allow_nan=False, allow_infinity=False, places=3)
_POSITIVE = st.decimals(0, 9999, allow_nan=False, allow_infinity=False, places=2)
_UNITS = {
    "mm": (LENGTH, 1),
    "cm": (LENGTH, 10),
    "centimetres": (LENGTH, 10),
    "mm²": (AREA, 1),
    "cm2": (AREA, 100),
    "ml": (VOLUME, 1),
    "mm3": (VOLUME, 0.001),
    "%": (PERCENT, 1),
    "percent": (PERCENT, 1),
    "HU": (DENSITY, 1),
    "weeks": (ELAPSED, 7),
    "ms": (ELAPSED, 0.001),
}
_UNIT = st.sampled_from(sorted(_UNITS))


def _same(found: Sequence[object], expected: Sequence[object]) -> bool:
    return len(found) == len(expected) and all(
        one.kind == other.kind and math.isclose(one.amount, other.amount, rel_tol=1e-12, abs_tol=1e-12)
        if isinstance(one, Quantity) and isinstance(other, Quantity)
        else one == other
        for one, other in zip(found, expected, strict=True)
    )


@given(_DECIMALS, st.sampled_from(["{}", "is {}", "({})", "of {}, and"]))
def test_signed_and_decimal_numbers_keep_their_value(number: Decimal, around: str) -> None:
    found = [piece for piece in read(around.format(number)) if isinstance(piece, Quantity)]
    assert _same(list(found), [Quantity(NUMBER, float(number))])


@given(_DECIMALS, _UNIT, st.sampled_from(["", " ", "-"]))
def test_a_number_and_its_unit_are_one_value(number: Decimal, unit: str, between: str) -> None:
    kind, factor = _UNITS[unit]
    assert _same(list(read(f"{number}{between}{unit}")), [Quantity(kind, float(number) * factor)])


@given(_POSITIVE, _POSITIVE, _UNIT, st.sampled_from(["-", " - ", "–", " to "]))
def test_ranges_are_two_values_of_the_unit(low: Decimal, high: Decimal, unit: str, to: str) -> None:
    kind, factor = _UNITS[unit]
    expected = [Quantity(kind, float(low) * factor), "to", Quantity(kind, float(high) * factor)]
    assert _same(list(read(f"{low}{to}{high} {unit}")), expected)


@given(st.lists(_POSITIVE, min_size=2, max_size=3), st.sampled_from(["x", " x ", " × ", " by "]))
def test_extents_are_values_of_the_unit(sides: list[Decimal], by: str) -> None:
    found = list(read(f"measures {by.join(map(str, sides))} cm"))
    expected: list[str | Quantity] = ["measures"]
    for side in sides:
        expected += [Quantity(LENGTH, float(side) * 10), "x"]
    assert _same(found, expected[:-1])


@given(st.integers(1, 10**9))
def test_thousands_may_be_parted_by_commas(number: int) -> None:
    assert list(read(f"{number:,} mm3")) == list(read(f"{number} mm3"))


@given(st.dates(date(1900, 1, 1), date(2100, 1, 1)), st.integers(0, 5000))
def test_dates_are_days_however_they_are_written(day: date, later: int) -> None:
    ways = ("%Y-%m-%d", "%d.%m.%Y", "%d %B %Y", "%d %b. %Y", "%B %d, %Y")
    found = {tuple(read(f"seen on {day.strftime(way)}"))[2:] for way in ways}
    assert found == {(Quantity(DATE, (day - date(1970, 1, 1)).days),)}
    (other,) = read((day + timedelta(later)).isoformat())
    assert isinstance(other, Quantity)
    assert other.amount - next(iter(found))[0].amount == later  # type: ignore[union-attr]  # it is a quantity, as above


@given(st.integers(0, 998))
def test_time_points_are_positions(number: int) -> None:
    for text in (f"Time point {number}", f"frame {number}", f"visit {number + 1}", f"T{number + 1}"):
        assert list(read(text)) == [Quantity(POSITION, number)]


@given(st.lists(st.sampled_from(["12 mm", "time point 3", "grew", "week 6", "-5 HU", "2021-03-04", "3-5 %", "T2"])))
def test_what_stands_beside_a_piece_changes_nothing(parts: list[str]) -> None:
    assert list(read(", ".join(parts))) == [piece for part in parts for piece in read(part)]


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    for piece in read(text):
        assert piece if isinstance(piece, str) else math.isfinite(piece.amount)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2 weeks", [Quantity(ELAPSED, 14)]),
        ("week 6", [Quantity(ELAPSED, 42)]),
        ("3 months", [Quantity(ELAPSED, 91.3125)]),
        ("a 6-month follow-up", ["a", Quantity(ELAPSED, 182.625), "follow", "up"]),
        ("1 year", [Quantity(ELAPSED, 365.25)]),
        ("year 2021", ["year", Quantity(NUMBER, 2021)]),
        ("T2 → T3", [Quantity(POSITION, 1), Quantity(POSITION, 2)]),
        ("T2-weighted", ["t", Quantity(NUMBER, 2), "weighted"]),
        ("fracture of T11", ["fracture", "of", "t", Quantity(NUMBER, 11)]),
        ("31 frames, 33 ms apart", [Quantity(NUMBER, 31), "frames", Quantity(ELAPSED, 0.033), "apart"]),
        ("31.02.2021", [Quantity(NUMBER, 2021), Quantity(NUMBER, 2), Quantity(NUMBER, 31)]),
        (".5 cm", [Quantity(LENGTH, 5)]),
        ("3 -5", [Quantity(NUMBER, 3), Quantity(NUMBER, -5)]),
        ("\u22123 to \u22121 mm", [Quantity(LENGTH, -3), "to", Quantity(LENGTH, -1)]),
        ("12 south", [Quantity(NUMBER, 12), "south"]),
        ("4 msec", [Quantity(NUMBER, 4), "msec"]),
        ("12mm", [Quantity(LENGTH, 12)]),
        ("COVID-19", ["covid", Quantity(NUMBER, 19)]),
    ],
)
def test_by_example(text: str, expected: list[str | Quantity]) -> None:
    assert _same(list(read(text)), expected)


def test_moments_are_positions_and_elapsed_times_in_their_order() -> None:
    text = "Compare time point 3 with 2 weeks: 12 mm on 2021-03-04, 20 %?"
    assert moments(text) == (Quantity(POSITION, 3), Quantity(ELAPSED, 14))
