"""What every backbone must do, those of new YAML files included."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from temmed.errors import InputError
from temmed.models.adaptation import blocks, fix_unused
from temmed.models.backbones.base import Backbone

from .conftest import Case

#: Parts of names of parameters that no token depends on.
UNUSED = (".pooler.", ".mask_token", ".post_layernorm.", "network.layernorm.", ".norm_cross_attn.")

#: Stand-ins whose library has no switch for them.
WITHOUT_CHECKPOINTING = ("huggingface", "monai_resnet", "monai_vit")


def _gradients(backbone: nn.Module, images: Tensor) -> dict[str, Tensor]:
    tokens = backbone(images)
    (tokens * torch.linspace(-1, 1, tokens.shape[-1])).sum().backward()
    return {name: p.grad for name, p in backbone.named_parameters() if p.grad is not None}


def _close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_grid_of_tokens_from_any_number_of_channels(case: Case, channels: int) -> None:
    backbone = case.build(channels).eval()
    tokens = backbone(case.images(2, channels))
    assert tokens.ndim == 3
    assert tokens.shape[::2] == (2, backbone.dim)
    assert tokens.isfinite().all()
    assert case.build(channels, grid=1)(case.images(2, channels)).shape == (2, 1, backbone.dim)


def test_weights_give_what_the_library_gives(case: Case) -> None:
    if case.tiny.reference is None:
        pytest.skip("no weights, or the real ones")
    images = case.images(2, case.tiny.channels)
    with torch.no_grad():
        expected = case.tiny.reference(images).flatten(2).mT
        _close(case.build(case.tiny.channels).eval()(images), expected)


def test_a_grey_image_gives_what_it_does_in_colour(case: Case) -> None:
    if case.tiny.reference is None or case.tiny.channels == 1:
        pytest.skip("no weights of colour images")
    grey = case.images(2, 1)
    with torch.no_grad():
        colour = case.build(3).eval()(grey.expand(-1, 3, *case.tiny.spatial))
        _close(case.build(1).eval()(grey), colour)


def test_one_image_alone_gives_what_it_gives_in_a_batch(case: Case) -> None:
    backbone, images = case.build(train="full").train(), case.images(3)
    with torch.no_grad():
        _close(backbone(images), torch.cat([backbone(image[None]) for image in images]))


def test_all_that_the_tokens_depend_on_learns(case: Case) -> None:
    backbone = case.build(train="full")
    fix_unused(backbone, case.images(1))
    fixed = [name for name, p in backbone.named_parameters() if not p.requires_grad]
    assert all(any(part in name for part in UNUSED) for name in fixed)
    learns = {name for name, p in backbone.named_parameters() if p.requires_grad}
    assert learns == _gradients(backbone.train(), case.images()).keys()


def test_frozen_stays_as_it_is(case: Case) -> None:
    backbone = case.build(train="none").train()
    assert not any(p.requires_grad for p in backbone.parameters())
    assert not any(module.training for module in backbone.modules())
    assert not backbone(case.images()).requires_grad


def test_last_block_and_what_follows_learns(case: Case) -> None:
    backbone = case.build(train="last-1")
    fix_unused(backbone, case.images(1))
    *before, last = blocks(backbone.network)
    gradients = _gradients(backbone.train(), case.images())
    inside = [name for name in gradients if name.startswith(f"network.{last}.")]
    assert inside
    assert not any(name.startswith(tuple(f"network.{block}." for block in before)) for name in gradients)
    names = [name for name, _ in backbone.named_parameters()]
    assert min(map(names.index, gradients)) == names.index(inside[0])
    assert not any(block.training for name, block in backbone.network.named_modules() if name in before)


def test_low_rank_additions_start_from_nothing_and_learn_alone(case: Case) -> None:
    torch.manual_seed(1)
    plain = case.build(train="none").eval()
    torch.manual_seed(1)
    backbone = case.build(train="lora")
    _close(backbone.eval()(case.images()), plain(case.images()))
    fix_unused(backbone, case.images(1))
    gradients = _gradients(backbone.train(), case.images())
    assert gradients
    assert all("lora_" in name for name in gradients)
    assert any(gradient.any() for gradient in gradients.values())


class _Saved:
    """Counts the bytes that a forward pass keeps for the backward pass."""

    def __init__(self) -> None:
        self.bytes = 0

    def __call__(self, tensor: Tensor) -> Tensor:
        self.bytes += tensor.numel() * tensor.element_size()
        return tensor


def test_checkpointing_saves_memory_and_changes_nothing(case: Case) -> None:
    if case.option in WITHOUT_CHECKPOINTING:
        with pytest.raises(InputError, match=r"model\.backbone\.checkpointing: expected"):
            case.build(checkpointing=True)
        return
    found: dict[bool, Any] = {}
    for checkpointing in (False, True):
        torch.manual_seed(2)
        backbone = case.build(train="full", checkpointing=checkpointing).train()
        saved = _Saved()
        with torch.autograd.graph.saved_tensors_hooks(saved, lambda tensor: tensor):
            tokens = backbone(case.images())
        tokens.square().sum().backward()
        gradients = {name: p.grad for name, p in backbone.named_parameters() if p.grad is not None}
        found[checkpointing] = (tokens.detach(), gradients, saved.bytes)
    _close(found[False][0], found[True][0])
    assert found[False][1].keys() == found[True][1].keys()
    for name, gradient in found[False][1].items():
        torch.testing.assert_close(gradient, found[True][1][name], atol=1e-4, rtol=1e-3)
    assert found[True][2] < found[False][2]


@pytest.mark.parametrize("train", ["none", "lora"])
def test_a_checkpoint_needs_neither_hub_nor_file(case: Case, train: str) -> None:
    backbone = case.build(train=train).eval()
    changes = dict(backbone.rebuild)
    if "config" in changes:
        changes["name"] = "not/there"
    again = case.build(train=train, **changes)
    again.load_state_dict(backbone.state_dict())
    torch.testing.assert_close(again.eval()(case.images()), backbone(case.images()), atol=0, rtol=0)
    assert again.rebuild == backbone.rebuild


def test_half_precision_by_autocast(case: Case) -> None:
    backbone = case.build().eval()
    with torch.no_grad():
        whole = backbone(case.images())
        with torch.autocast("cpu", torch.bfloat16):
            half = backbone(case.images()).float()
    assert (half - whole).norm() < 0.05 * whole.norm()


def test_printed_form_tells_what_tokens_are(case: Case) -> None:
    """Stored features go by weights and printed form."""

    def printed(backbone: Backbone) -> str:
        return repr(backbone)

    assert printed(case.build()) == printed(case.build())
    assert printed(case.build(slices="keep")) != printed(case.build(slices="mean"))
    assert printed(case.build(grid=1)) != printed(case.build(grid=2))
