"""Any timm model as an image encoder: convolutional networks and transformers (Wightman 2019).

The model is cut at one of its feature maps; class and register tokens of transformers are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import timm
import torch
from timm.models import parse_model_name
from torch import Tensor

from temmed.errors import InputError
from temmed.models.backbones.base import Backbone, Norm, Slices
from temmed.models.weights import fetching, load_into, read_weights

_NAME = "model.backbone.name"


class TimmBackbone(Backbone):
    """A timm model cut at one stage.

    Args:
        name: of ``timm.list_models()``, perhaps with a tag; or ``hf-hub:OWNER/NAME``, ``local-dir:PATH``.
        in_channels: image channels. Weights for another number are fitted to it, by timm or
            `temmed.models.weights.fit_channels`.
        stage: which of the model's feature maps to take, −1 the last.
        grid: tokens along each side, by average pooling; ``None`` keeps the map as it is.
        slices: of a volume: ``mean`` or ``keep``, see `Backbone`.
        pretrained: load the weights that timm knows for the name.
        weights: other weights instead, see `temmed.models.weights.locate`.
        weights_sha256: the digest that their file must have.
        weights_prefix: of the names of those tensors in the file that are the model's.
        weights_match: ``names`` or ``order``, see `temmed.models.weights.load_into`.
        batch_norm: ``frozen`` or ``group``; by default frozen if weights are loaded.
        train: ``full``, ``none``, ``last-N`` or ``lora``.
        lora: arguments of ``peft.LoraConfig``.
        checkpointing: compute activations again in the backward pass, by timm's own switch, to save memory.
        options: further arguments of ``timm.create_model``.

    Raises:
        InputError: there is no such model, stage or file, or weights cannot be had.
    """

    def __init__(
        self,
        name: str,
        in_channels: int,
        stage: int = 1,
        grid: int | Sequence[int] | None = 8,
        slices: Slices = "mean",
        pretrained: bool = False,
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
        network = _created(name, in_channels, pretrained and weights is None, options or {})
        dim, kept = _cut(network, stage, name)
        if weights is not None:
            load_into(network, read_weights(weights, weights_sha256, weights_prefix), weights_match)
        if checkpointing:
            network.set_grad_checkpointing(True)
        super().__init__(
            network.to(memory_format=torch.channels_last),
            dim,
            spatial_dims=2,
            grid=grid,
            slices=slices,
            batch_norm=batch_norm,
            loaded=pretrained or weights is not None,
            train=train,
            lora=lora,
            rebuild={"pretrained": False, **_rebuild(name, network, options or {})},
        )
        self.kept = kept

    def maps(self, images: Tensor) -> Tensor:
        """Images ``(N, C, H, W)`` → the stage's feature map ``(N, dim, h, w)``."""
        images = images.contiguous(memory_format=torch.channels_last)
        found: Tensor = self.network.forward_intermediates(images, indices=self.kept, intermediates_only=True)[0]
        return found


def _created(name: str, channels: int, pretrained: bool, options: Mapping[str, Any]) -> Any:
    """The whole model.

    Raises:
        InputError: there is none of this name, its weights cannot be had, or it does not take the options.
    """
    try:
        source, model = parse_model_name(name)
    except ValueError as error:
        raise InputError("the name of a timm model", repr(name), _NAME, str(error)) from error
    repository = model
    if source is None:
        if not timm.is_model(model):
            near = timm.list_models(f"*{name.split('_')[0]}*")[:5]
            remedy = f"Near it: {', '.join(near) or 'none'}."
            raise InputError("the name of a timm model", repr(name), _NAME, remedy)
        repository = timm.get_pretrained_cfg(model).hf_hub_id or model
    try:
        with fetching(repository, _NAME):
            return timm.create_model(name, pretrained=pretrained, in_chans=channels, **options)
    except (RuntimeError, TypeError) as error:
        remedy = "Correct model.backbone.options or model.backbone.pretrained."
        raise InputError("a timm model", str(error).splitlines()[0], _NAME, remedy) from error


def _cut(network: Any, stage: int, name: str) -> tuple[int, list[int]]:
    """Drop what follows a stage. Returns the channels of its map, and its index in what is left.

    Raises:
        InputError: the model gives no maps, or fewer.
    """
    if not hasattr(network, "prune_intermediate_layers"):
        raise InputError("a timm model that gives feature maps", repr(name), _NAME, "Choose another model.")
    count = len(network.feature_info)
    if not -count <= stage < count:
        raise InputError(f"a stage from 0 to {count - 1}, or −1", str(stage), "model.backbone.stage", "Set it so.")
    dim = int(network.feature_info[stage]["num_chs"])
    return dim, network.prune_intermediate_layers([stage], prune_norm=True)


def _rebuild(name: str, network: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Name and options that need no file and no hub."""
    if parse_model_name(name)[0] is None:
        return {}
    found = network.pretrained_cfg
    size = {"img_size": list(found["input_size"][-2:])} if found.get("fixed_input_size") else {}
    saved = {key: value for key, value in network.pretrained_model_args.items() if key != "in_chans"}
    return {"name": found["architecture"], "options": {**size, **saved, **options}}
