"""Text to ids: moments and numbers stay whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from temmed.data.tokenizer import NUMBER_BASE, POSITION_BASE, TIME_BASE, UNKNOWN, Tokenizer

_TOKENIZER = Tokenizer.fit(["the nodule grew since then"])


@given(st.text())
def test_never_empty_and_never_padding(text: str) -> None:
    tokens = _TOKENIZER.encode(text)
    assert tokens
    assert all(0 < token < 2**35 for token in tokens)


@given(st.integers(0, 10**6))
def test_time_points_carry_their_position(position: int) -> None:
    assert _TOKENIZER.encode(f"Time point {position}") == [POSITION_BASE + position]


@given(st.integers(0, 8 * 10**6), st.integers(0, 999))
def test_numbers_carry_their_value_to_a_thousandth(whole: int, thousandths: int) -> None:
    assert _TOKENIZER.encode(f"{whole}.{thousandths:03d}") == [NUMBER_BASE + 1000 * whole + thousandths]


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("184 days", 184),
        ("1 day", 1),
        ("2 weeks", 14),
        ("3 months", 91.3125),
        ("1 year", 365.25),
        ("2.5 seconds", 2.5),
        ("40 ms", 0.04),
        ("33.333 milliseconds", 0.033),
        ("7 s", 7),
    ],
)
def test_elapsed_times_in_the_canonical_unit(text: str, canonical: float) -> None:
    # A year is 365,250 thousandths of a day; 33.333 ms is rounded to a thousandth of a second.
    assert _TOKENIZER.encode(text) == [TIME_BASE + round(canonical * 1000)]


def test_kinds_do_not_overlap() -> None:
    kinds = [_TOKENIZER.encode(text)[0] for text in ("then", "time point 999999", "99999999 days", "0")]
    assert kinds[0] < POSITION_BASE <= kinds[1] < TIME_BASE <= kinds[2] < NUMBER_BASE <= kinds[3]


def test_words_ignore_case_and_punctuation_and_unknown_ones_share_an_id() -> None:
    assert _TOKENIZER.encode("The NODULE grew!") == _TOKENIZER.encode("the nodule, grew")
    assert _TOKENIZER.encode("zebra")[0] == UNKNOWN
    assert len(_TOKENIZER) == 5 + 2


def test_rare_words_can_be_left_out() -> None:
    assert Tokenizer.fit(["a b", "a"], least=2).words == ("a",)


@pytest.mark.parametrize("text", ["5 mm", "12 south", "4 msec"])
def test_units_are_whole_words(text: str) -> None:
    assert _TOKENIZER.encode(text)[0] >= NUMBER_BASE
