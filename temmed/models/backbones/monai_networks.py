"""MONAI's networks for volumes as image encoders: ResNet, ViT and Swin transformer (Cardoso et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from monai.networks.nets.resnet import ResNetEncoder, ResNetFeatures
from monai.networks.nets.swin_unetr import SwinTransformer
from monai.networks.nets.vit import ViT
from monai.utils.misc import ensure_tuple_rep
from torch import Tensor, nn

from temmed.errors import InputError
from temmed.models.backbones.base import Backbone, Norm, Slices
from temmed.models.weights import load_into, read_weights

#: As in MONAI's SwinUNETR, whose weights can so be loaded with ``weights_prefix: swinViT.``.
_SWIN: dict[str, Any] = {
    "embed_dim": 48,
    "window_size": (7, 7, 7),
    "patch_size": (2, 2, 2),
    "depths": (2, 2, 2, 2),
    "num_heads": (3, 6, 12, 24),
}


class MonaiBackbone(Backbone):
    """A network of MONAI cut at one stage.

    Args:
        name: ``resnet10``, ``resnet18``, … ``resnet200``, ``vit`` or ``swin``.
        in_channels: image channels. Weights for another number are fitted to it by
            `temmed.models.weights.fit_channels`.
        spatial_dims: 3 for volumes; 2 for images, and volumes by slices.
        stage: which map: of a ResNet 0 (stem) to 4, of a Swin transformer 0 (patches) to 4, of a ViT its block; −1 the
            last.
        grid: tokens along each side, by average pooling; ``None`` keeps the map as it is.
        slices: of a volume read by slices: ``mean`` or ``keep``, see `Backbone`.
        weights: see `temmed.models.weights.locate`.
        weights_sha256: the digest that their file must have.
        weights_prefix: of the names of those tensors in the file that are the network's.
        weights_match: ``names`` or ``order``, see `temmed.models.weights.load_into`.
        batch_norm: ``frozen`` or ``group``; by default frozen if weights are loaded.
        train: ``full``, ``none``, ``last-N`` or ``lora``.
        lora: arguments of ``peft.LoraConfig``.
        checkpointing: compute activations again in the backward pass; only MONAI's Swin transformer has the switch.
        options: further arguments of the class: a ViT needs ``img_size`` and ``patch_size``.

    Raises:
        InputError: there is no such network, stage or file, or it has no such options.
    """

    def __init__(
        self,
        name: str,
        in_channels: int,
        spatial_dims: int = 3,
        stage: int = -1,
        grid: int | Sequence[int] | None = 4,
        slices: Slices = "mean",
        weights: str | None = None,
        weights_sha256: str | None = None,
        weights_prefix: str = "",
        weights_match: Literal["names", "order"] = "names",
        batch_norm: Norm | None = None,
        train: str = "full",
        lora: Mapping[str, Any] | None = None,
        checkpointing: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        maps = _resnet if name.startswith("resnet") else {"vit": _vit, "swin": _swin}.get(name)
        if maps is None:
            known = [*ResNetEncoder.get_encoder_names(), "vit", "swin"]
            raise InputError(f"one of {', '.join(known)}", repr(name), "model.backbone.name", "Choose one.")
        arguments = {"spatial_dims": spatial_dims, **(options or {})}
        if checkpointing:
            if name != "swin":
                where = "model.backbone.checkpointing"
                raise InputError("swin, which alone has checkpointing", repr(name), where, "Set it to false.")
            arguments["use_checkpoint"] = True
        try:
            network, dims = maps(name, in_channels, arguments)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"options of MONAI's {name}", str(error).splitlines()[0], "model.backbone.options", "Correct them."
            ) from error
        if not -len(dims) <= stage < len(dims):
            raise InputError(
                f"a stage from 0 to {len(dims) - 1}, or −1", str(stage), "model.backbone.stage", "Set it so."
            )
        chosen = stage % len(dims)
        _cut(network, chosen)
        if weights is not None:
            load_into(network, read_weights(weights, weights_sha256, weights_prefix), weights_match)
        super().__init__(
            network,
            dims[chosen],
            spatial_dims=spatial_dims,
            grid=grid,
            slices=slices,
            batch_norm=batch_norm,
            loaded=weights is not None,
            train=train,
            lora=lora,
            rebuild={},
        )
        self.stage = chosen
        if name == "vit":
            sizes, patches = (ensure_tuple_rep(arguments[key], spatial_dims) for key in ("img_size", "patch_size"))
            self.sides = [size // patch for size, patch in zip(sizes, patches, strict=True)]

    def maps(self, images: Tensor) -> Tensor:
        """Images ``(N, C, *spatial)`` → the stage's map ``(N, dim, *grid)``."""
        found = self.network(images)
        if not isinstance(self.network, ViT):
            stage: Tensor = found[self.stage]
            return stage
        tokens: Tensor = found[0]
        return tokens.transpose(1, 2).unflatten(2, self.sides)


def _resnet(name: str, channels: int, arguments: dict[str, Any]) -> tuple[nn.Module, list[int]]:
    names = ResNetEncoder.get_encoder_names()
    dims = dict(zip(names, ResNetEncoder.num_channels_per_output(), strict=True))[name]
    return ResNetFeatures(name, pretrained=False, in_channels=channels, **arguments), list(dims)


def _swin(_: str, channels: int, arguments: dict[str, Any]) -> tuple[nn.Module, list[int]]:
    arguments = {**_SWIN, **arguments}
    return SwinTransformer(in_chans=channels, **arguments), [arguments["embed_dim"] * 2**stage for stage in range(5)]


def _vit(_: str, channels: int, arguments: dict[str, Any]) -> tuple[nn.Module, list[int]]:
    network = ViT(in_channels=channels, **arguments)
    return network, [network.norm.normalized_shape[0]] * len(network.blocks)


def _cut(network: nn.Module, stage: int) -> None:
    """Let nothing be computed, nor learn, behind a stage."""
    if isinstance(network, ViT):
        network.blocks = network.blocks[: stage + 1]
        return
    for later in range(stage + 1, 5):
        if isinstance(network, ResNetFeatures):
            setattr(network, f"layer{later}", nn.Identity())
        else:
            setattr(network, f"layers{later}", nn.ModuleList([nn.Identity()]))
