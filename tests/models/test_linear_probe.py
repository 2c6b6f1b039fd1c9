"""Linear probes: `model.train=outputs`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from temmed.data.batch import TimelineBatch
from temmed.data.collate import Collator
from temmed.data.dataset import SequenceDataset
from temmed.data.fitted import Fitted
from temmed.data.images import DecodedPixels, ImageSource
from temmed.data.records import build_records
from temmed.errors import InputError
from temmed.models.build import build_reasoner
from temmed.models.reasoner import Reasoner
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split

from .conftest import task_heads, with_boxes

#: Heads with output layers; the evidence head has no parameters.
PROBED = sorted(task_heads().keys() - {"report", "evidence"})
Config = Callable[..., dict[str, Any]]


def build(model_config: Config, fitted: Fitted, backbone: str = "none", **changes: Any) -> Reasoner:
    model = model_config()
    heads = {name: node for name, node in task_heads().items() if name != "report"}
    model |= {"heads": heads, "backbone": {**model["backbone"], "train": backbone}, "train": "outputs", **changes}
    torch.manual_seed(0)
    return build_reasoner(model, fitted)


@pytest.fixture(scope="module")
def batch(tiny_timeline: Timeline, split: Split, fitted: Fitted) -> TimelineBatch:
    records = [with_boxes(r) for r in build_records(tiny_timeline, split, "train", fitted, needs_written=True)[:6]]
    dataset = SequenceDataset(records, DecodedPixels(ImageSource(tiny_timeline), fitted), len(fitted.sources))
    return Collator()([dataset[n] for n in range(len(records))])


def learning(reasoner: Reasoner) -> set[str]:
    return {name for name, parameter in reasoner.named_parameters() if parameter.requires_grad}


def test_the_last_layer_of_each_head_learns_and_nothing_else(
    model_config: Config, fitted: Fitted, batch: TimelineBatch
) -> None:
    reasoner = build(model_config, fitted).train()
    expected = {
        f"heads.{name}.{layer}.{kind}"
        for name in PROBED
        for layer in reasoner.tasks[name].outputs
        for kind in ("weight", "bias")
    }
    assert learning(reasoner) == expected
    assert {name.split(".")[1] for name in expected} == set(PROBED)
    reasoner.losses(reasoner(batch), batch).sum().backward()
    for name, parameter in reasoner.named_parameters():
        if name in expected:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
        else:
            assert parameter.grad is None, name


@pytest.mark.parametrize("name", ["answer", "value", "event", "statement"])
def test_what_is_said_is_linear_in_what_learns(
    name: str, model_config: Config, fitted: Fitted, batch: TimelineBatch
) -> None:
    """So there is one best probe, whatever it starts from."""
    reasoner = build(model_config, fitted).eval()
    parameters = [parameter for parameter in reasoner.tasks[name].parameters() if parameter.requires_grad]
    ends = [[torch.randn_like(parameter) for parameter in parameters] for _ in range(2)]

    def say(values: list[Tensor]) -> Tensor:
        with torch.no_grad():
            for parameter, value in zip(parameters, values, strict=True):
                parameter.copy_(value)
            said = reasoner(batch)[name]
        return said[said.isfinite()].double()

    first, last = (say(end) for end in ends)
    middle = say([(a + b) / 2 for a, b in zip(*ends, strict=True)])
    assert not torch.allclose(first, last, atol=1e-2)
    torch.testing.assert_close(middle, (first + last) / 2, atol=2e-4, rtol=1e-4)


def test_the_backbone_keeps_to_its_own_rule(model_config: Config, fitted: Fitted) -> None:
    found = learning(build(model_config, fitted, backbone="lora"))
    outside = {name for name in found if not name.startswith("backbone.")}
    assert outside == learning(build(model_config, fitted))
    assert found > outside
    assert all(".lora_" in name for name in found - outside)


def test_what_is_fixed_has_no_dropout(model_config: Config, fitted: Fitted, batch: TimelineBatch) -> None:
    model = model_config()
    reader = {**model["reader"], "dropout": 0.5}
    probe = build(model_config, fitted, reader=reader).train()
    with torch.no_grad():
        assert torch.equal(probe(batch)["value"], probe(batch)["value"])
        whole = build(model_config, fitted, reader=reader, train="full").train()
        assert not torch.equal(whole(batch)["value"], whole(batch)["value"])


def test_a_head_without_an_output_layer_is_refused(model_config: Config, fitted: Fitted) -> None:
    with pytest.raises(InputError, match=r"model\.train: expected task heads with output layers .*found report"):
        build(model_config, fitted, heads=task_heads())
