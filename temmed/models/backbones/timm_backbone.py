"""Any timm model as an image encoder that yields a grid of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import BatchNormAct2d, freeze_batch_norm_2d
from torch import Tensor, nn

from temmed.errors import InputError


def _without_batch_norm(module: nn.Module) -> nn.Module:
    """Replace BatchNorm by GroupNorm, whose output for one image does not depend on the others of the batch."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            groups = next(g for g in (8, 4, 2, 1) if child.num_features % g == 0)
            norm: nn.Module = nn.GroupNorm(groups, child.num_features)
            if isinstance(child, BatchNormAct2d):
                norm = nn.Sequential(norm, child.drop, child.act)
            setattr(module, name, norm)
        else:
            _without_batch_norm(child)
    return module


class TimmBackbone(nn.Module):
    """A timm feature extractor (Wightman 2019) cut at one stage.

    Volumes are read slice by slice and averaged (2.5D).

    Args:
        name: a timm model with ``features_only`` support.
        in_channels: image channels.
        stage: which of the model's feature maps to take.
        grid: tokens along each side, by average pooling; ``None`` keeps the map as it is.
        pretrained: load the hub's weights.
        weights: a file with the model's own state dict (``.pth`` or ``.safetensors``) instead.
        freeze: whether to keep the parameters fixed.
        options: further arguments of ``timm.create_model``.
    """

    def __init__(
        self,
        name: str,
        in_channels: int,
        stage: int = 1,
        grid: int | None = 8,
        pretrained: bool = False,
        weights: str | None = None,
        freeze: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not timm.is_model(name):
            near = timm.list_models(f"*{name.split('_')[0]}*")[:5]
            raise InputError(
                "the name of a timm model", repr(name), "model.backbone.name", f"Near it: {', '.join(near) or 'none'}."
            )
        self.freeze = freeze
        checkpoint = {} if weights is None else {"checkpoint_path": str(Path(weights).expanduser())}
        model = timm.create_model(
            name,
            pretrained=pretrained,
            in_chans=in_channels,
            features_only=True,
            out_indices=(stage,),
            **checkpoint,
            **dict(options or {}),
        )
        if pretrained or weights:
            self.model = freeze_batch_norm_2d(model)
        else:
            self.model = _without_batch_norm(model)
        self.model = self.model.to(memory_format=torch.channels_last)
        self.pool = nn.Identity() if grid is None else nn.AdaptiveAvgPool2d(grid)
        self.dim: int = self.model.feature_info.channels()[0]
        if freeze:
            self.requires_grad_(False)

    def train(self, mode: bool = True) -> TimmBackbone:
        """A frozen backbone stays in evaluation mode."""
        return super().train(mode and not self.freeze)

    def forward(self, images: Tensor) -> Tensor:
        """Encode images.

        Args:
            images: ``(N, C, H, W)`` or ``(N, C, D, H, W)``.

        Returns:
            ``(N, K, dim)``: tokens in row-major order of the grid.
        """
        depth = images.shape[2] if images.ndim == 5 else 1
        if images.ndim == 5:
            images = images.transpose(1, 2).flatten(0, 1)
        features = self.model(images.contiguous(memory_format=torch.channels_last))[0]
        if features.shape[1] != self.dim:  # some models keep channels last
            features = features.permute(0, 3, 1, 2)
        tokens = self.pool(features).flatten(2).transpose(1, 2)
        return tokens.unflatten(0, (-1, depth)).mean(dim=1) if depth > 1 else tokens
