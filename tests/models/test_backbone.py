"""Images in, tokens out, whatever else is in the batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from temmed.errors import InputError
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


def test_wrong_name_is_answered_with_near_ones() -> None:
    with pytest.raises(InputError, match="resnet") as caught:
        TimmBackbone("resnet_1800", in_channels=2)
    assert "resnet18" in caught.value.remedy or "resnet" in caught.value.remedy.split("Near it:")[1]


def test_frozen_backbone_has_no_gradient_and_stays_in_evaluation_mode() -> None:
    frozen = TimmBackbone("test_byobnet", in_channels=1, stage=1, freeze=True)
    frozen.train()
    assert not any(module.training for module in frozen.modules())
    assert not any(p.requires_grad for p in frozen.parameters())
