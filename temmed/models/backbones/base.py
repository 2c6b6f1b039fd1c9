"""What all image encoders share: volumes slice by slice, the grid of tokens, what learns and what is fixed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from temmed.errors import InputError
from temmed.models.adaptation import adapt, settle

#: What becomes of BatchNorm, whose output for one image otherwise depends on those it is packed with.
Norm = Literal["frozen", "group"]
Slices = Literal["mean", "keep"]


class Backbone(nn.Module, ABC):
    """A network whose feature map becomes a grid of tokens. Subclasses build it and implement `maps`.

    Args:
        network: the library's own, with weights.
        dim: channels of its map.
        spatial_dims: 2 or 3. A network of 2 reads volumes slice by slice (2.5D).
        grid: tokens along each side, one number or one for each axis, by average pooling; ``None`` keeps the map.
        slices: ``mean`` averages the tokens of slices; ``keep`` makes those of each slice places of their own.
        batch_norm: ``frozen`` uses the stored statistics, ``group`` puts GroupNorm in its place; by default frozen if
            weights are loaded.
        loaded: whether the network has weights from elsewhere.
        train: what learns, see `temmed.models.adaptation.adapt`.
        lora: see there.
        rebuild: arguments with which the subclass builds the same network without fetching anything; a checkpoint
            keeps them.

    Attributes:
        dim: size of the tokens.
    """

    def __init__(
        self,
        network: nn.Module,
        dim: int,
        *,
        spatial_dims: int,
        grid: int | Sequence[int] | None,
        slices: Slices,
        batch_norm: Norm | None,
        loaded: bool,
        train: str,
        lora: Mapping[str, Any] | None,
        rebuild: Mapping[str, Any],
    ) -> None:
        super().__init__()
        batch_norm = batch_norm or ("frozen" if loaded else "group")
        if batch_norm == "group":
            _without_batch_norm(network)
        adapt(network, train, lora)
        self.network: Any = network
        self.dim, self.spatial_dims, self.slices = dim, spatial_dims, slices
        sides = grid if grid is None or isinstance(grid, int) else tuple(grid)
        pooling = nn.AdaptiveAvgPool2d if spatial_dims == 2 else nn.AdaptiveAvgPool3d
        self.pool = nn.Identity() if sides is None else pooling(sides)
        self.train()
        self.rebuild = {"weights": None, "weights_sha256": None, "batch_norm": batch_norm, **rebuild}

    @abstractmethod
    def maps(self, images: Tensor) -> Tensor:
        """Images ``(N, C, *spatial)`` → feature maps ``(N, dim, *grid)``."""

    def train(self, mode: bool = True) -> Backbone:
        """What does not learn stays in evaluation mode, as does BatchNorm."""
        super().train(mode)
        if mode:
            settle(self)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Encode images.

        Args:
            images: ``(N, C, H, W)`` or ``(N, C, D, H, W)``.

        Returns:
            ``(N, K, dim)``: tokens in row-major order of the grid.

        Raises:
            InputError: a network for volumes is given images.
        """
        sliced = images.ndim - 2 > self.spatial_dims
        if images.ndim - 2 < self.spatial_dims:
            remedy = "Set data.spatial_dims=3 for volumes, or model.backbone.spatial_dims=2 where a network has it."
            raise InputError("volumes", "images of two dimensions", "model.backbone", remedy)
        depth = images.shape[2]
        if sliced:
            images = images.transpose(1, 2).flatten(0, 1)
        tokens: Tensor = self.pool(self.maps(images)).flatten(2).transpose(1, 2)
        if not sliced:
            return tokens
        tokens = tokens.unflatten(0, (-1, depth))
        return tokens.mean(dim=1) if self.slices == "mean" else tokens.flatten(1, 2)

    def extra_repr(self) -> str:
        """What the printed parts do not say: stored features go by the printed form."""
        return f"dim={self.dim}, spatial_dims={self.spatial_dims}, slices={self.slices}"


def _without_batch_norm(module: nn.Module) -> None:
    """Replace BatchNorm by GroupNorm, whose output for one image does not depend on the others of the batch."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            groups = next(g for g in (8, 4, 2, 1) if child.num_features % g == 0)
            norm: nn.Module = nn.GroupNorm(groups, child.num_features)
            if any(child.children()):  # timm's BatchNorm holds dropout and activation
                norm = nn.Sequential(norm, *child.children())
            setattr(module, name, norm)
        else:
            _without_batch_norm(child)
