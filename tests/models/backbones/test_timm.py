"""Images in, tokens out, whatever else is in the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from temmed.errors import InputError
from temmed.models.backbones.monai_networks import MonaiBackbone
from temmed.models.backbones.timm_backbone import TimmBackbone


@pytest.fixture(scope="module")
def backbone() -> TimmBackbone:
    torch.manual_seed(0)
    return TimmBackbone("test_byobnet", in_channels=2, stage=2, grid=4)


def test_one_image_alone_gives_what_it_gives_in_a_batch(backbone: TimmBackbone) -> None:
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in backbone.modules())
    images = torch.randn(5, 2, 32, 32)
    backbone.train()
    together = backbone(images)
    assert together.shape == (5, 16, backbone.dim)
    alone = torch.cat([backbone(image[None]) for image in images])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_volumes_are_read_slice_by_slice(backbone: TimmBackbone) -> None:
    volume = torch.randn(3, 2, 4, 32, 32)
    slices = torch.stack([backbone(volume[:, :, k]) for k in range(4)], dim=1)
    torch.testing.assert_close(backbone(volume), slices.mean(dim=1), atol=1e-5, rtol=1e-4)


def test_slices_are_kept_as_places_of_their_own() -> None:
    torch.manual_seed(0)
    kept = TimmBackbone("test_byobnet", in_channels=2, stage=2, grid=2, slices="keep").eval()
    volume = torch.randn(3, 2, 4, 32, 32)
    tokens = kept(volume)
    assert tokens.shape == (3, 16, kept.dim)
    torch.testing.assert_close(tokens[:, 4:8], kept(volume[:, :, 1]), atol=1e-5, rtol=1e-4)


def test_wrong_name_is_answered_with_near_ones() -> None:
    with pytest.raises(InputError, match="resnet") as caught:
        TimmBackbone("resnet_1800", in_channels=2)
    assert "resnet18" in caught.value.remedy or "resnet" in caught.value.remedy.split("Near it:")[1]


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"stage": 9}, "model.backbone.stage"),
        ({"train": "last-99"}, "model.backbone.train"),
        ({"train": "some"}, "model.backbone.train"),
        ({"train": "lora", "lora": {"rank": 8}}, "model.backbone.lora"),
        ({"train": "lora", "lora": {"target_modules": ["nothing"]}}, "model.backbone.lora"),
        ({"options": {"no_such": 1}}, "model.backbone.name"),
        ({"name": "owner/name"}, "model.backbone.name"),
        ({"name": "local-dir:/nowhere"}, "model.backbone.name"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(InputError) as caught:
        TimmBackbone(**{"name": "test_byobnet", "in_channels": 1, **changes})
    assert caught.value.where == where


def test_networks_for_volumes_refuse_images() -> None:
    backbone = MonaiBackbone("resnet10", in_channels=1, stage=0)
    with pytest.raises(InputError, match=r"expected volumes, .* data\.spatial_dims=3"):
        backbone(torch.zeros(1, 1, 32, 32))


def test_a_folder_of_timm_is_rebuilt_from_its_architecture(tmp_path: Path) -> None:
    model = timm.create_model("test_vit", img_size=64, num_classes=5)
    timm.models.save_for_hf(model, tmp_path, model_args={"img_size": 64, "num_classes": 5}, safe_serialization=True)
    backbone = TimmBackbone(f"local-dir:{tmp_path}", 3, stage=-1, grid=None, pretrained=True).eval()
    again = TimmBackbone(in_channels=3, stage=-1, grid=None, **backbone.rebuild)
    again.load_state_dict(backbone.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again.eval()(images), backbone(images))
        (expected,) = model.eval().get_intermediate_layers(images, n=1)
    torch.testing.assert_close(backbone(images), expected, atol=1e-5, rtol=1e-4)
