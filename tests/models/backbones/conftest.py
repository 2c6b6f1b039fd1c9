"""Every backbone of conf/, with a tiny network saved in the very format that its weights come in."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from monai.networks.nets import ResNetFeatures
from omegaconf import OmegaConf
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    ConvNextConfig,
    ConvNextModel,
    Dinov2Config,
    Dinov2Model,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    PreTrainedModel,
)

from temmed.config.help import groups
from temmed.config.paths import conf_dir
from temmed.config.schema import register
from temmed.models.backbones.base import Backbone

_VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 9}


@dataclass
class Tiny:
    """A small stand-in.

    Attributes:
        changes: of the YAML's keys.
        reference: images ``(N, channels, *spatial)`` → the map, computed without temmed; ``None`` without weights.
        spatial: size of images that it takes.
        channels: of the reference.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    reference: Callable[[Tensor], Tensor] | None = None
    spatial: tuple[int, ...] = (32, 32)
    channels: int = 3


def _saved(model: PreTrainedModel, folder: Path) -> dict[str, Any]:
    model.eval().save_pretrained(folder)
    return {"name": str(folder)}


def _patches(model: nn.Module, side: int) -> Callable[[Tensor], Tensor]:
    """The last patch tokens of a square transformer as a map, by a call of the library."""
    return lambda images: model(images).last_hidden_state[:, -side * side :].mT.unflatten(2, (side, side))


def _timm(folder: Path) -> Tiny:
    return Tiny({"grid": 2})


def _huggingface(folder: Path) -> Tiny:
    model = ConvNextModel(ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2))
    return Tiny(_saved(model, folder), lambda images: model(images).last_hidden_state)


def _rad_dino(folder: Path) -> Tiny:
    model = Dinov2Model(Dinov2Config(**_VIT, image_size=28, patch_size=14))
    return Tiny(_saved(model, folder), _patches(model, 2), (28, 28))


def _dinov3(folder: Path) -> Tiny:
    model = DINOv3ViTModel(DINOv3ViTConfig(**_VIT, image_size=32, patch_size=16, num_register_tokens=3))
    return Tiny(_saved(model, folder), _patches(model, 2))


def _clip(folder: Path) -> Tiny:
    model = CLIPModel(CLIPConfig(vision_config={**_VIT, "image_size": 32, "patch_size": 16}, text_config=_TEXT))
    return Tiny(_saved(model, folder), _patches(model.vision_model, 2))


def _biomedclip(folder: Path) -> Tiny:
    model = timm.create_model("test_vit", dynamic_img_size=True).eval()
    state = {f"visual.trunk.{name}": value for name, value in model.state_dict().items()}
    torch.save({**state, "logit_scale": torch.ones(()), "text.proj.weight": torch.ones(2)}, folder / "open_clip.bin")
    return Tiny(
        {"name": "test_vit", "weights": str(folder / "open_clip.bin")},
        lambda images: model.get_intermediate_layers(images, n=1, reshape=True)[0],
    )


def _vit_base(folder: Path) -> Tiny:
    return Tiny({"name": "test_vit", "pretrained": False})


def _biovil_t(folder: Path) -> Tiny:
    model = timm.create_model("test_resnet").eval()
    state = {f"encoder.encoder.{name}": value for name, value in model.state_dict().items()}
    torch.save({**state, "encoder.missing_previous_emb": torch.ones(1)}, folder / "image_model.pt")
    changes = {"name": "test_resnet", "weights": str(folder / "image_model.pt"), "grid": None}
    return Tiny(changes, model.forward_features)


def _monai_resnet(folder: Path) -> Tiny:
    model = ResNetFeatures("resnet10", pretrained=False, in_channels=1).eval()
    state = {f"module.{k}": v for k, v in model.state_dict().items() if k.startswith(("conv1", "bn1", "layer1"))}
    torch.save({"state_dict": state}, folder / "resnet.pth")
    changes = {"name": "resnet10", "stage": 1, "grid": None, "weights": str(folder / "resnet.pth")}
    return Tiny(changes, lambda images: model(images)[1], (16, 32, 32), channels=1)


def _monai_vit(folder: Path) -> Tiny:
    options = {"img_size": [16, 32, 32], "patch_size": [8, 16, 16], "hidden_size": 24, "mlp_dim": 32, "num_layers": 2}
    return Tiny({"options": {**options, "num_heads": 3}}, spatial=(16, 32, 32))


def _monai_swin(folder: Path) -> Tiny:
    options = {"embed_dim": 12, "num_heads": [3, 3, 3, 3], "window_size": [2, 2, 2]}
    return Tiny({"stage": 2, "options": options}, spatial=(16, 16, 16))


def _efficientnet_lite0(folder: Path) -> Tiny:
    return Tiny({"grid": 2})  # the real weights: see test_efficientnet


@functools.cache
def config_of(option: str) -> dict[str, Any]:
    """What ``model/backbone=option`` composes to."""
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        found = OmegaConf.to_container(compose("train", [f"model/backbone={option}"]).model.backbone, resolve=True)
    assert isinstance(found, dict)
    return found


@dataclass
class Case:
    """A backbone of conf/ and its stand-in."""

    option: str
    tiny: Tiny

    def build(self, in_channels: int = 2, **changes: Any) -> Backbone:
        config = {**config_of(self.option), **self.tiny.changes, **changes}
        backbone: Backbone = get_class(config.pop("_target_"))(in_channels=in_channels, **config)
        return backbone

    def images(self, count: int = 2, channels: int = 2) -> Tensor:
        return torch.randn(count, channels, *self.tiny.spatial, generator=torch.Generator().manual_seed(count))


@pytest.fixture(scope="session", params=groups()["model/backbone"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    make = globals().get(f"_{request.param}")
    assert make is not None, f"Add a tiny stand-in for model/backbone={request.param} here."
    torch.manual_seed(0)
    return Case(request.param, make(tmp_path_factory.mktemp(request.param)))
