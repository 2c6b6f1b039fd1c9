"""The output of every temporal head of conf/model/temporal, pinned: a change of numbers is seen and meant."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from temmed.models.temporal.base import TemporalMemory

from .. import golden as golden_module
from ..golden import FOLDER, Golden
from .conftest import LIMITS, temporal_configs

B, T, K, D = 2, 9, 2, 8
HEADS = {path.stem: path for path in temporal_configs()}


def _read(path: Path) -> TemporalMemory:
    """What a head makes of fixed tokens with missing images, a shorter sequence and random weights."""
    config = OmegaConf.merge({"model": {"dim": D}, "it": OmegaConf.load(path)})
    node = OmegaConf.to_container(config, resolve=True)["it"]
    # As the conformance tests: what happens when a window, a segment or a bank is full is at work.
    node |= dict.fromkeys(LIMITS & node.keys(), 3)
    torch.manual_seed(0)
    head = instantiate(node).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    random = torch.Generator().manual_seed(1)
    mask = torch.arange(T) < torch.tensor([[T], [T - 2]])
    image_mask = mask & (torch.rand(B, T, generator=random) > 0.25)
    times = torch.rand(B, T, generator=random).mul(30).cumsum(dim=1)
    with torch.inference_mode():
        return head(torch.randn(B, T, K, D, generator=random), times, mask, image_mask)[0]


def _summary(memory: TemporalMemory) -> dict[str, Tensor]:
    """Sums over the slots that may be read at each position, in which their order means nothing.

    Times and positions weigh the values, so that a value that stands for another moment is seen.
    """
    readable = memory.readable(torch.arange(T).expand(B, -1)).double().expand(-1, -1, -1, K)
    weights = {
        "number": readable,
        "values": readable,
        "values_by_time": readable * memory.times.double().unsqueeze(1) / 30,
        "values_by_position": readable * memory.positions.double().unsqueeze(1) / T,
    }
    summed = {name: torch.einsum("btsk,bskd->btkd", w, memory.values.double()) for name, w in weights.items()}
    return summed | {"number": readable.sum(dim=2)}


@pytest.mark.parametrize("name", HEADS)
def test_golden_output_of_each_head(name: str, golden: Golden) -> None:
    # Sums in float32 in another order (threads, vector widths, versions of torch) move these numbers by some 1e-6;
    # a change of a formula moves them by a hundredth or more.
    golden.check(name, _summary(_read(HEADS[name])), rtol=1e-4, atol=2e-5)


def test_golden_files_belong_to_heads() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} - {"loss_curve"} == set(HEADS)


def test_golden_numbers_that_moved_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden_module, "FOLDER", tmp_path)
    said: list[str] = []
    numbers = {"x": torch.tensor([1.0, 2.0])}
    checking, refreshing = Golden(False, said.append), Golden(True, said.append)
    with pytest.raises(pytest.fail.Exception, match="--refresh-golden"):
        checking.check("case", numbers, rtol=0, atol=1e-3)
    refreshing.check("case", numbers, rtol=0, atol=1e-3)
    checking.check("case", {"x": numbers["x"] + 5e-4}, rtol=0, atol=1e-3)
    with pytest.raises(AssertionError, match="x: "):
        checking.check("case", {"x": numbers["x"] + 2e-3}, rtol=0, atol=1e-3)
    refreshing.check("case", {"x": numbers["x"] + 0.5}, rtol=0, atol=1e-3)
    assert said == ["case: x is new, (2,)", "case: x moved by at most 0.5"]
