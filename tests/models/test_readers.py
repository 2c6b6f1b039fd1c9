"""What every reader must keep to; found by themselves in conf/model/reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from temmed.config.paths import conf_dir
from temmed.data.batch import NAMED
from temmed.models.encodings import MOMENT_SIZE, encode_position
from temmed.models.readers.base import Asked, Reader, Reading
from temmed.models.temporal.base import FOREVER, TemporalHead, TemporalMemory
from temmed.models.temporal.memory_fusion import MemoryFusion
from temmed.models.temporal.none import NoMemory
from temmed.models.temporal.transformer import CausalTransformer

from .test_temporal import B, D, K, Loop, Q, T, assert_close, make_loop, pad, shown

ASKED = torch.tensor([[0, 2, 4, 6], [6, 3, 3, 1]])
_CONFIGS = sorted((Path(conf_dir()) / "model" / "reader").glob("*.yaml"))
_HEADS = {
    # Slots that stand for the same moment at all places, for another at each, and none at all.
    "transformer": lambda: CausalTransformer(D, layers=1, heads=2),
    "memory_fusion": lambda: MemoryFusion(D, capacity=2),
    "none": lambda: NoMemory(D),
}


@pytest.fixture(params=_CONFIGS, ids=lambda path: path.stem)
def config(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    merged = OmegaConf.merge({"model": {"dim": D}}, {"it": OmegaConf.load(request.param)})
    resolved = OmegaConf.to_container(merged, resolve=True)
    assert isinstance(resolved, dict)
    return {**resolved["it"], "heads": 6, "head_dim": 4, "hidden": 16}


@pytest.fixture(params=list(_HEADS))
def head(request: pytest.FixtureRequest) -> TemporalHead:
    torch.manual_seed(0)
    return _HEADS[request.param]().eval()


def make_reader(config: Mapping[str, Any]) -> Reader:
    torch.manual_seed(1)
    reader = instantiate(config, places=K)
    assert isinstance(reader, Reader)
    # Zeros hide mistakes: a parameter that starts at zero is given a value.
    with torch.no_grad():
        for parameter in reader.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return reader.eval()


def prompts(rows: int = B) -> Tensor:
    return torch.randn(rows, Q, D, generator=torch.Generator().manual_seed(5))


def read(reader: Reader, head: TemporalHead, loop: Loop, asked: Tensor, explain: bool = True, **more: Any) -> Reading:
    memory, _ = head(*loop.inputs)
    more = {"prompts": prompts(len(loop.tokens)), "pointing": head.addressable, **more}
    reading: Reading = reader(Asked(asked_at=asked, called=asked, **more), shown(reader, loop, memory), explain)
    return reading


def assert_same(left: Reading, right: Reading, length: int = T) -> None:
    """Equal in all that is told; behind ``length`` there are positions that do not exist."""
    assert_close(left.features, right.features)
    assert left.maps is not None
    assert right.maps is not None
    assert_close(left.maps, right.maps)
    for name in ("pointers", "slots"):
        one, other = getattr(left, name), getattr(right, name)
        assert (one is None) == (other is None)
        if one is not None:
            assert_close(one[..., :length], other[..., :length])
            assert not one[..., length:].any()
            assert not other[..., length:].any()


def part(reading: Reading, key: Any) -> Reading:
    """What is told of some sequences and questions."""
    return Reading(**{name: None if x is None else x[key] for name, x in vars(reading).items()})


def test_nothing_is_read_after_the_asked_position(config: Mapping[str, Any], head: TemporalHead) -> None:
    reader, loop, other = make_reader(config), make_loop(), make_loop(seed=9)
    asked = torch.tensor([[0, 1, 3, 3]] * B)
    changed = Loop(*(torch.cat([a[:, :4], b[:, 4:]], dim=1) for a, b in zip(loop.inputs, other.inputs, strict=True)))
    assert_same(read(reader, head, loop, asked), read(reader, head, changed, asked))


def test_padding_and_company_change_nothing(config: Mapping[str, Any], head: TemporalHead) -> None:
    reader, loop = make_reader(config), make_loop(batch=3)
    lengths = torch.tensor([7, 4, 5])
    there = torch.arange(T) < lengths.unsqueeze(1)
    loop = replace(loop, mask=there, image_mask=loop.image_mask & there)
    asked = torch.tensor([[6, 0, 3, 5], [3, 3, 1, 0], [4, 2, 0, 1]])
    together = read(reader, head, pad(loop), asked)
    for row, length in enumerate(lengths.tolist()):
        single = Loop(*(x[row : row + 1, :length] for x in loop.inputs))
        alone = read(reader, head, single, asked[row : row + 1], prompts=prompts(3)[row : row + 1])
        assert_same(part(together, slice(row, row + 1)), alone, length)


def test_other_questions_change_nothing(config: Mapping[str, Any], head: TemporalHead) -> None:
    reader, loop = make_reader(config), make_loop()
    whole = read(reader, head, loop, ASKED)
    first = read(reader, head, loop, ASKED[:, :2], prompts=prompts()[:, :2])
    assert_same(part(whole, (slice(None), slice(0, 2))), first)


def test_gradients_reach_every_parameter(config: Mapping[str, Any]) -> None:
    reader, head, loop = make_reader(config).train(), _HEADS["transformer"](), make_loop(missing=False)
    reading = read(reader, head, loop, ASKED, named=torch.randn(B, Q, NAMED, MOMENT_SIZE))
    assert reading.pointers is not None
    looked = reader.look(prompts(), reader.norm(loop.tokens))
    sum(x.square().sum() for x in (reading.features, reading.pointers, looked)).backward()  # type: ignore[union-attr]
    idle = [name for name, p in reader.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-12]
    assert idle == []


def test_maps_slots_and_pointers_are_shares(config: Mapping[str, Any], head: TemporalHead) -> None:
    reader, loop = make_reader(config), make_loop()
    reading = read(reader, head, loop, ASKED)
    assert reading.maps is not None
    assert reading.maps.shape == (B, Q, K)
    assert (reading.maps >= 0).all()
    assert_close(reading.maps.sum(dim=-1), torch.ones(B, Q))
    if not head.addressable:
        assert reading.pointers is None
        assert reading.slots is None
        return
    assert reading.pointers is not None
    assert reading.slots is not None
    late = torch.arange(T) > ASKED[..., None]
    for shares in (reading.slots, *reading.pointers.unbind(dim=2)):
        assert shares.shape == (B, Q, T)
        assert (shares >= 0).all()
        assert_close(shares.sum(dim=-1), torch.ones(B, Q))
        assert not shares[late].any()


def test_explaining_changes_no_answer(config: Mapping[str, Any], head: TemporalHead) -> None:
    reader, loop = make_reader(config), make_loop()
    told, plain = (read(reader, head, loop, ASKED, explain=explain) for explain in (True, False))
    assert plain.maps is None
    assert plain.slots is None
    assert torch.equal(told.features, plain.features)
    if head.addressable:
        assert_close(told.pointers, plain.pointers)


def test_nothing_to_remember_is_nothing_remembered(config: Mapping[str, Any]) -> None:
    reader, head, loop = make_reader(config), _HEADS["transformer"](), make_loop()
    memory, _ = head(*loop.inputs)
    hidden = replace(memory, valid_from=torch.full_like(memory.valid_from, FOREVER))
    asking = Asked(prompts(), ASKED, called=ASKED, pointing=True)
    reading = reader(asking, shown(reader, loop, hidden), explain=True)
    assert reading.features.isfinite().all()
    assert reading.slots is not None
    assert not reading.slots.any()
    none = read(reader, _HEADS["none"](), loop, ASKED)
    assert_close(reading.features, none.features)


def test_images_are_looked_at_one_by_one(config: Mapping[str, Any]) -> None:
    reader, loop = make_reader(config), make_loop()
    images = reader.norm(loop.tokens)
    looked = reader.look(prompts(), images)
    assert looked.shape == (B, Q, T, reader.size)
    for t in (0, 5):
        assert_close(looked[:, :, t : t + 1], reader.look(prompts(), images[:, t : t + 1]))
    assert not torch.allclose(looked[:, :, 0], looked[:, :, 1], atol=1e-3)


def test_reports_are_read_from_their_moment_on(config: Mapping[str, Any]) -> None:
    reader, head, loop = make_reader(config), _HEADS["transformer"](), make_loop()
    start = torch.tensor([[[2], [5]]] * B)
    values = torch.randn(B, 2, 1, D)
    reports = TemporalMemory(values, start * 30.0, start.float(), start, torch.full_like(start, FOREVER))
    asked = torch.tensor([[1, 2, 4, 6]] * B)
    without = read(reader, head, loop, asked).features
    noted = read(reader, head, loop, asked, reports=reports).features
    later = replace(reports, values=torch.cat([values[:, :1], torch.randn(B, 1, 1, D)], dim=1))
    changed = read(reader, head, loop, asked, reports=later).features
    assert_close(noted[:, 0], without[:, 0])
    assert_close(noted[:, :3], changed[:, :3])
    assert not torch.allclose(noted[:, 1], without[:, 1], atol=1e-4)
    assert not torch.allclose(noted[:, 3], changed[:, 3], atol=1e-4)


def test_named_moments_can_be_found(config: Mapping[str, Any]) -> None:
    """With an open gate the pointers lie on the named position, whatever else is asked."""
    reader, head, loop = make_reader(config), _HEADS["transformer"](), make_loop(missing=False)
    gates = [module for name, module in reader.named_modules() if name.endswith("named_gate")]
    with torch.no_grad():
        for gate in gates:
            gate.weight.zero_()
            gate.bias.fill_(30.0)
    named = torch.zeros(B, Q, NAMED, MOMENT_SIZE)
    named[:, :, 0, -encode_position(torch.tensor(3)).shape[-1] :] = encode_position(torch.tensor(3))
    reading = read(reader, head, loop, torch.full((B, Q), T - 1), named=named)
    assert gates
    assert reading.pointers is not None
    assert (reading.pointers.argmax(dim=-1) == 3).all()


@pytest.mark.slow
@pytest.mark.nightly
def test_compiled_readers_say_the_same(config: Mapping[str, Any]) -> None:
    reader, head, loop = make_reader(config), _HEADS["transformer"](), make_loop()
    plain = read(reader, head, loop, ASKED)
    torch.compiler.reset()
    reader.compile(backend="aot_eager")
    assert_same(read(reader, head, loop, ASKED), plain)
    torch.compiler.reset()


def test_too_few_heads_are_refused(config: Mapping[str, Any]) -> None:
    with pytest.raises(InstantiationException, match="heads >= 3, got 2"):
        instantiate({**config, "heads": 2}, places=K)
