"""The offline text encoder: padding, duplicates, and numbers that mean the same as an image's time."""

from __future__ import annotations

from math import nan

import pytest
import torch

from temmed.data.tokenizer import Tokenizer
from temmed.models.encodings import (
    MOMENT_SIZE,
    POSITION_PERIODS,
    TIME_PERIODS,
    TIME_SIZE,
    encode_named,
    encode_position,
    encode_time,
    sinusoids,
)
from temmed.models.text.builtin import BuiltinTextEncoder

_TEXTS = [
    "Compare time point 3 with time point 1: did the cyst grow?",
    "Since 184 days, has it changed?",
    "nodule",
    "What is 12.5 millimetres?",
]
_TOKENIZER = Tokenizer.fit(_TEXTS)


@pytest.fixture(scope="module", params=[0, 1], ids="layers={}".format)
def encoder(request: pytest.FixtureRequest) -> BuiltinTextEncoder:
    torch.manual_seed(0)
    return BuiltinTextEncoder(len(_TOKENIZER), 16, layers=request.param, heads=2, max_length=20).eval()


def _ids(texts: list[str], length: int = 20) -> torch.Tensor:
    ids = torch.zeros(len(texts), length, dtype=torch.long)
    for row, text in enumerate(texts):
        tokens = _TOKENIZER.encode(text)
        ids[row, : len(tokens)] = torch.tensor(tokens)
    return ids


def test_padding_and_company_change_nothing(encoder: BuiltinTextEncoder) -> None:
    together = encoder(_ids(_TEXTS))
    for row, text in enumerate(_TEXTS):
        alone = encoder(torch.tensor([_TOKENIZER.encode(text)]))
        torch.testing.assert_close(together[row], alone[0], atol=1e-5, rtol=1e-4)


def test_duplicates_and_shapes(encoder: BuiltinTextEncoder) -> None:
    ids = _ids([_TEXTS[0], _TEXTS[1], _TEXTS[0], _TEXTS[2]]).reshape(2, 2, -1)
    encoded = encoder(ids)
    assert encoded.shape == (2, 2, 16)
    assert torch.equal(encoded[0, 0], encoded[1, 0])
    assert not torch.allclose(encoded[0, 0], encoded[0, 1])


def test_text_of_padding_alone_is_zero_and_nothing_is_nothing(encoder: BuiltinTextEncoder) -> None:
    assert not encoder(torch.zeros(2, 3, 5, dtype=torch.long)).any()
    assert encoder(torch.zeros(2, 0, 5, dtype=torch.long)).shape == (2, 0, 16)


def test_order_and_numbers_matter(encoder: BuiltinTextEncoder) -> None:
    first, second, third = encoder(
        _ids(
            [
                "compare time point 3 with time point 1",
                "compare time point 1 with time point 3",
                "compare time point 3 with time point 2",
            ]
        )
    )
    assert not torch.allclose(first, second, atol=1e-3)
    assert not torch.allclose(first, third, atol=1e-3)


def test_moments_in_text_share_the_encoding_of_images(encoder: BuiltinTextEncoder) -> None:
    position, days, weeks = (torch.tensor(_TOKENIZER.encode(t)) for t in ("time point 3", "184 days", "2 weeks"))
    kinds = encoder.kinds.weight
    nothing = encoder.words.weight[0]
    expected = nothing + kinds[1] + encoder.position(encode_position(torch.tensor([3])))
    torch.testing.assert_close(encoder.embed(position), expected)
    for ids, value in ((days, 184.0), (weeks, 14.0)):
        expected = nothing + kinds[2] + encoder.time(encode_time(torch.tensor([value])))
        torch.testing.assert_close(encoder.embed(ids), expected)


def test_units_are_told_apart_once_learned_and_lengths_are_one(encoder: BuiltinTextEncoder) -> None:
    twelve, percent, millimetres, centimetres = (
        torch.tensor(_TOKENIZER.encode(text)) for text in ("12", "12 %", "12 mm", "1.2 cm")
    )
    assert torch.equal(millimetres, centimetres)
    with torch.no_grad():
        assert torch.equal(encoder.embed(twelve), encoder.embed(millimetres))
        encoder.units.normal_()
        lengths, shares = encoder.embed(millimetres), encoder.embed(percent)
        encoder.units.zero_()
    assert not torch.allclose(lengths, shares, atol=1e-3)


def test_unknown_words_and_padding_are_told_apart(encoder: BuiltinTextEncoder) -> None:
    known, unknown = encoder(torch.tensor([_TOKENIZER.encode("nodule"), _TOKENIZER.encode("zebra")]))
    assert not torch.allclose(known, unknown, atol=1e-3)


@pytest.mark.parametrize("periods", [TIME_PERIODS, POSITION_PERIODS])
def test_encoding_depends_on_differences_alone(periods: tuple[float, float]) -> None:
    start = torch.tensor([0.0, 5.0, 300.0, 4000.0])
    products = (sinusoids(start, periods, 32) * sinusoids(start + 7.0, periods, 32)).sum(dim=-1)
    torch.testing.assert_close(products, products[:1].expand(4), atol=1e-3, rtol=1e-3)
    assert (products < 16).all()


def test_named_moments_are_the_encodings_of_images() -> None:
    nothing = [nan, nan]
    named = encode_named(torch.tensor([[[nan, 3.0], [nan, 1.0]], [[14.0, nan], nothing], [nothing, nothing]]))
    assert named.shape == (3, 2, MOMENT_SIZE)
    torch.testing.assert_close(named[0, :, TIME_SIZE:], encode_position(torch.tensor([3, 1])))
    torch.testing.assert_close(named[1, 0, :TIME_SIZE], encode_time(torch.tensor(14.0)))
    assert not named[0, :, :TIME_SIZE].any()
    assert not named[1, 1].any()
    assert not named[2].any()


def test_pairs_of_words_tell_texts_of_the_same_words_apart() -> None:
    torch.manual_seed(0)
    tokenizer = Tokenizer.fit(["left frontal right temporal"])
    encoder = BuiltinTextEncoder(len(tokenizer), 32).eval()
    with torch.no_grad():
        encoder.order.weight.zero_()  # so that nothing but the pairs depends on the order
        left, right = (
            encoder(torch.tensor([tokenizer.encode(text)]))
            for text in ("left frontal right temporal", "left temporal right frontal")
        )
        assert torch.cosine_similarity(left, right).item() < 0.9
        encoder.pairs.weight.zero_()
        left, right = (
            encoder(torch.tensor([tokenizer.encode(text)]))
            for text in ("left frontal right temporal", "left temporal right frontal")
        )
    torch.testing.assert_close(left, right)
