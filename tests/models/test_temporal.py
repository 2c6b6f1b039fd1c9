"""What every temporal head must keep to; found by themselves in conf/model/temporal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor

from temmed.models.readers.base import Asked, Reader, Shown
from temmed.models.readers.place_and_moment import PlaceAndMoment
from temmed.models.temporal.base import State, TemporalHead, TemporalMemory

B, T, K, D, Q = 2, 7, 3, 24, 4
_TOLERANCE = {"atol": 2e-5, "rtol": 1e-4}


@dataclass(frozen=True)
class Loop:
    """Tokens of a batch of sequences."""

    tokens: Tensor
    times: Tensor
    mask: Tensor
    image_mask: Tensor

    def __getitem__(self, key: Any) -> Loop:
        return Loop(self.tokens[key], self.times[key], self.mask[key], self.image_mask[key])

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.tokens, self.times, self.mask, self.image_mask


def make_loop(seed: int = 0, batch: int = B, length: int = T, missing: bool = True) -> Loop:
    random = torch.Generator().manual_seed(seed)
    image_mask = torch.rand(batch, length, generator=random) > 0.25 if missing else torch.ones(batch, length) > 0
    image_mask[:, 0] = True
    return Loop(
        torch.randn(batch, length, K, D, generator=random),
        torch.rand(batch, length, generator=random).mul(100).add(1).cumsum(dim=1),
        torch.ones(batch, length, dtype=torch.bool),
        image_mask,
    )


def pad(loop: Loop, back: int = 3) -> Loop:
    """More positions that do not exist, full of values that must not matter."""
    batch = len(loop.tokens)
    rubbish = torch.full((batch, back, K, D), 1e3)
    nothing = torch.zeros(batch, back, dtype=torch.bool)
    return Loop(
        torch.cat([loop.tokens, rubbish], dim=1),
        torch.cat([loop.times, torch.zeros(batch, back)], dim=1),
        torch.cat([loop.mask, nothing], dim=1),
        torch.cat([loop.image_mask, nothing], dim=1),
    )


def make_head(config: Mapping[str, Any]) -> TemporalHead:
    torch.manual_seed(0)
    head = instantiate(config)
    assert isinstance(head, TemporalHead)
    # Zeros hide mistakes: a parameter that starts at zero is given a value.
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return head.eval()


def shown(reader: Reader, loop: Loop, memory: TemporalMemory) -> Shown:
    """A loop to read, and its memory."""
    positions = torch.arange(loop.mask.shape[1]).expand_as(loop.mask)
    return Shown(reader.norm(loop.tokens), memory, positions)


def ask(reader: PlaceAndMoment, memory: TemporalMemory, tokens: Tensor, position: int, at: int | None = None) -> Tensor:
    """Answer features of the same questions asked at a position; ``at`` is its place in ``tokens``."""
    prompts = torch.randn(len(tokens), Q, D, generator=torch.Generator().manual_seed(5))
    asked = torch.full((len(tokens), Q), position)
    here = position if at is None else at
    asked_there = Asked(prompts, asked, called=asked)
    reading = reader(asked_there, Shown(reader.norm(tokens[:, here : here + 1]), memory, asked[:, :1], start=position))
    features: Tensor = reading.features
    return features


def assert_close(left: Tensor, right: Tensor) -> None:
    torch.testing.assert_close(left, right, **_TOLERANCE)


def test_declares_what_it_is(head_config: Mapping[str, Any]) -> None:
    head = make_head(head_config)
    assert isinstance(head.bounded, bool)
    assert isinstance(head.addressable, bool)


def test_the_past_never_sees_the_future(head_config: Mapping[str, Any], reader: PlaceAndMoment) -> None:
    head, loop = make_head(head_config), make_loop()
    cut = 4
    other = make_loop(seed=9)
    changed = Loop(
        *(torch.cat([a[:, :cut], b[:, cut:]], dim=1) for a, b in zip(loop.inputs, other.inputs, strict=True))
    )
    before, _ = head(*loop.inputs)
    after, _ = head(*changed.inputs)
    for position in range(cut):
        assert_close(ask(reader, before, loop.tokens, position), ask(reader, after, changed.tokens, position))


def test_gradients_never_reach_the_future(head_config: Mapping[str, Any], reader: PlaceAndMoment) -> None:
    head, loop = make_head(head_config), make_loop()
    tokens = loop.tokens.requires_grad_()
    memory, _ = head(*loop.inputs)
    ask(reader, memory, tokens, 3).square().sum().backward()
    assert tokens.grad is not None
    assert tokens.grad[:, 3].any()
    assert not tokens.grad[:, 4:].any()


def test_padding_changes_nothing(head_config: Mapping[str, Any], reader: PlaceAndMoment) -> None:
    head, loop = make_head(head_config), make_loop()
    padded = pad(loop)
    plain, _ = head(*loop.inputs)
    more, _ = head(*padded.inputs)
    for position in range(T):
        assert_close(ask(reader, plain, loop.tokens, position), ask(reader, more, padded.tokens, position))


def test_company_in_the_batch_changes_nothing(head_config: Mapping[str, Any], reader: PlaceAndMoment) -> None:
    head, loop = make_head(head_config), make_loop(batch=4)
    # Sequences of unlike lengths, as a batch has them.
    lengths = torch.tensor([7, 5, 2, 6])
    there = torch.arange(T) < lengths.unsqueeze(1)
    loop = replace(loop, mask=there, image_mask=loop.image_mask & there)
    together, _ = head(*loop.inputs)
    for row, length in enumerate(lengths.tolist()):
        single = Loop(*(x[row : row + 1, :length] for x in loop.inputs))
        alone, _ = head(*single.inputs)
        for position in range(length):
            of_batch = ask(reader, together, loop.tokens, position)[row]
            # The same first prompts: what is asked of a row does not depend on the batch.
            prompts = torch.randn(4, Q, D, generator=torch.Generator().manual_seed(5))[row : row + 1]
            asked = torch.full((1, Q), position)
            reading = reader(Asked(prompts, asked, called=asked), shown(reader, single, alone))
            assert_close(of_batch, reading.features[0])


@pytest.mark.parametrize("chunk", [1, 3])
def test_streaming_gives_the_same_answers(head_config: Mapping[str, Any], reader: PlaceAndMoment, chunk: int) -> None:
    head, loop = make_head(head_config), make_loop()
    whole, _ = head(*loop.inputs)
    state: State | None = None
    for start in range(0, T, chunk):
        part = Loop(*(x[:, start : start + chunk] for x in loop.inputs))
        memory, state = head(*part.inputs, state)
        for position in range(start, min(start + chunk, T)):
            streamed = ask(reader, memory, part.tokens, position, at=position - start)
            assert_close(streamed, ask(reader, whole, loop.tokens, position))


def test_step_is_a_chunk_of_one(head_config: Mapping[str, Any], reader: PlaceAndMoment) -> None:
    head, loop = make_head(head_config), make_loop(missing=False)
    whole, _ = head(*loop.inputs)
    state: State | None = None
    for position in range(T):
        memory, state = head.step(loop.tokens[:, position], loop.times[:, position], state)
        streamed = ask(reader, memory, loop.tokens[:, position : position + 1], position, at=0)
        assert_close(streamed, ask(reader, whole, loop.tokens, position))


def test_state_keeps_its_size_if_bounded(head_config: Mapping[str, Any]) -> None:
    head, loop = make_head(head_config), make_loop(length=20, missing=False)
    state: State | None = None
    sizes = []
    for position in range(20):
        _, state = head.step(loop.tokens[:, position], loop.times[:, position], state)
        sizes.append(sum(value.numel() for value in state.values()))
    assert (len(set(sizes)) == 1) == head.bounded


def test_missing_images_are_told_apart_from_images(head_config: Mapping[str, Any], reader: PlaceAndMoment) -> None:
    head, loop = make_head(head_config), make_loop(missing=False)
    hidden = loop.image_mask.clone()
    hidden[:, 1:] = False
    memory, _ = head(loop.tokens, loop.times, loop.mask, hidden)
    features = ask(reader, memory, loop.tokens, T - 1)
    assert features.isfinite().all()
    nothing = torch.zeros_like(hidden)
    memory, _ = head(loop.tokens, loop.times, loop.mask, nothing)
    assert ask(reader, memory, loop.tokens, T - 1).isfinite().all()


def test_gradients_reach_every_parameter(head_config: Mapping[str, Any], reader: PlaceAndMoment) -> None:
    head, loop = make_head(head_config).train(), make_loop(missing=False)
    memory, _ = head(*loop.inputs)
    total = sum(ask(reader, memory, loop.tokens, position).square().sum() for position in range(T))
    assert isinstance(total, Tensor)
    total.backward()
    idle = {name for name, p in head.named_parameters() if p.grad is None or not p.grad.any()}
    # Whoever sees one position alone has nothing to choose from: queries get rounding errors at the most.
    alone = {name for name, _ in head.named_parameters() if ".query." in name and head_config.get("window") == 1}
    assert idle <= alone


def test_memory_is_float32_and_finite(head_config: Mapping[str, Any]) -> None:
    head, loop = make_head(head_config), make_loop()
    memory, _ = head(loop.tokens * 100, loop.times * 100, loop.mask, loop.image_mask)
    assert memory.values.dtype == torch.float32
    assert memory.values.isfinite().all()
    assert memory.times.isfinite().all()
    batch, slots, places = memory.values.shape[:3]
    assert places == K
    for x in (memory.times, memory.positions, memory.valid_from, memory.valid_to):
        assert x.shape in ((batch, slots, 1), (batch, slots, K))


def test_state_dict_round_trip(head_config: Mapping[str, Any], reader: PlaceAndMoment) -> None:
    head, loop = make_head(head_config), make_loop()
    torch.manual_seed(77)
    other = instantiate(head_config).eval()
    other.load_state_dict(head.state_dict())
    first, second = head(*loop.inputs)[0], other(*loop.inputs)[0]
    torch.testing.assert_close(first.values, second.values, rtol=0, atol=0)


def test_evidence_pointers_never_point_past_the_question(
    head_config: Mapping[str, Any], reader: PlaceAndMoment
) -> None:
    head, loop = make_head(head_config), make_loop()
    if not head.addressable:
        pytest.skip("its slots stand for no single position")
    memory, _ = head(*loop.inputs)
    asked = torch.tensor([[0, 2, 4, 6]] * B)
    asking = Asked(torch.randn(B, Q, D), asked, called=asked, pointing=True)
    reading = reader(asking, shown(reader, loop, memory))
    assert reading.pointers is not None
    assert_close(reading.pointers.sum(dim=-1), torch.ones(B, Q, 2))
    late = torch.arange(T) > asked[..., None]
    assert not reading.pointers.masked_select(late.unsqueeze(2).expand_as(reading.pointers)).any()
