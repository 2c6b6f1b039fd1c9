"""Text to ids: moments and quantities stay whole."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from temmed.data.quantities import DATE, ELAPSED, KINDS, LENGTH, NUMBER, PERCENT, POSITION, WORD, Quantity
from temmed.data.tokenizer import SHIFT, UNKNOWN, Tokenizer, to_id
from temmed.models.encodings import read_ids

_TOKENIZER = Tokenizer.fit(["the nodule grew since then"])


@given(st.text())
def test_never_empty_and_never_padding(text: str) -> None:
    tokens = _TOKENIZER.encode(text)
    assert tokens
    assert all(0 < token < KINDS << SHIFT for token in tokens)


@given(st.integers(POSITION, DATE), st.integers(-(10**8), 10**8))
def test_ids_carry_kind_and_amount(kind: int, thousandths: int) -> None:
    amount = float(thousandths) if kind == POSITION else thousandths / 1000
    kinds, amounts = read_ids(torch.tensor([to_id(Quantity(kind, amount)), 7]))
    assert kinds.tolist() == [kind, WORD]
    assert amounts.tolist() == pytest.approx([amount, 7], abs=1e-9)


@given(st.sampled_from([-1, 1]), st.integers(NUMBER, DATE))
def test_what_is_too_large_stays_of_its_kind(sign: int, kind: int) -> None:
    kinds, amounts = read_ids(torch.tensor([to_id(Quantity(kind, sign * 1e15))]))
    assert kinds.tolist() == [kind]
    assert sign * amounts.item() > 5e8


@pytest.mark.parametrize(
    ("text", "kind", "amount"),
    [
        ("Time point 4", POSITION, 4),
        ("184 days", ELAPSED, 184),
        ("40 ms", ELAPSED, 0.04),
        ("33.333 milliseconds", ELAPSED, 0.033),  # rounded to a thousandth of a second
        ("12.5", NUMBER, 12.5),
        ("3.5 cm", LENGTH, 35),
        ("20 %", PERCENT, 20),
    ],
)
def test_a_quantity_is_one_token(text: str, kind: int, amount: float) -> None:
    assert _TOKENIZER.encode(text) == [to_id(Quantity(kind, amount))]


def test_words_ignore_case_and_punctuation_and_unknown_ones_share_an_id() -> None:
    assert _TOKENIZER.encode("The NODULE grew!") == _TOKENIZER.encode("the nodule, grew")
    assert _TOKENIZER.encode("zebra")[0] == UNKNOWN
    assert len(_TOKENIZER) == 5 + 2
    assert _TOKENIZER.knows("Nodule")
    assert not _TOKENIZER.knows("zebra")


def test_rare_words_can_be_left_out() -> None:
    assert Tokenizer.fit(["a b", "a"], least=2).words == ("a",)


def test_units_that_may_stand_alone_are_words_too() -> None:
    assert Tokenizer.fit(["12 mm, 20 % after 3 days"]).words == ("after", "mm")
