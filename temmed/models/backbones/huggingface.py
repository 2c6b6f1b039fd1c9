"""Any vision model of Hugging Face transformers as an image encoder (Wolf et al. 2020).

ViT, DINOv2 and DINOv3, Swin, ConvNeXt and the like, and the vision part of CLIP-like models. The last hidden state is
the map; class and register tokens are dropped, and so is pooling.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from temmed.errors import InputError
from temmed.models.backbones.base import Backbone, Norm, Slices
from temmed.models.weights import fetching_transformers, load_into, read_weights

_NAME = "model.backbone.name"


class HuggingFaceBackbone(Backbone):
    """A vision model of transformers.

    Args:
        name: on the hub, or a folder made by ``save_pretrained``.
        in_channels: image channels. Weights for another number are fitted to it by
            `temmed.models.weights.fit_channels`.
        grid: tokens along each side, by average pooling; ``None`` keeps the map as it is.
        slices: of a volume: ``mean`` or ``keep``, see `Backbone`.
        pretrained: load the weights of ``name``, else its architecture alone.
        weights: other weights instead, see `temmed.models.weights.locate`.
        weights_sha256: the digest that their file must have.
        weights_prefix: of the names of those tensors in the file that are the model's.
        weights_match: ``names`` or ``order``, see `temmed.models.weights.load_into`.
        batch_norm: ``frozen`` or ``group``; by default frozen if weights are loaded.
        train: ``full``, ``none``, ``last-N`` or ``lora``.
        lora: arguments of ``peft.LoraConfig``.
        checkpointing: compute activations again in the backward pass, by transformers' own switch, to save memory.
        options: entries of the model's configuration to change.
        config: the configuration itself in place of that of ``name``; checkpoints give it, so that they need no hub.

    Raises:
        InputError: there is no such model or file, or weights cannot be had.
    """

    def __init__(
        self,
        name: str,
        in_channels: int,
        grid: int | Sequence[int] | None = None,
        slices: Slices = "mean",
        pretrained: bool = True,
        weights: str | None = None,
        weights_sha256: str | None = None,
        weights_prefix: str = "",
        weights_match: Literal["names", "order"] = "names",
        batch_norm: Norm | None = None,
        train: str = "full",
        lora: Mapping[str, Any] | None = None,
        checkpointing: bool = False,
        options: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        saved = _config(name, options or {}) if config is None else AutoConfig.for_model(**config)
        if pretrained and weights is None:
            network = _with_channels(_pretrained(name, saved), in_channels)
        else:
            network = _fresh(getattr(saved, "vision_config", saved), in_channels)
        if weights is not None:
            load_into(network, read_weights(weights, weights_sha256, weights_prefix), weights_match)
        if checkpointing:
            if not network.supports_gradient_checkpointing:
                raise InputError(
                    "a model that has checkpointing", repr(name), "model.backbone.checkpointing", "Leave it."
                )
            enable = getattr(network, "activation_checkpointing_enable", network.gradient_checkpointing_enable)
            enable({"use_reentrant": False})
        found = network.config
        super().__init__(
            network,
            int(getattr(found, "hidden_size", None) or found.hidden_sizes[-1]),
            spatial_dims=2,
            grid=grid,
            slices=slices,
            batch_norm=batch_norm,
            loaded=pretrained or weights is not None,
            train=train,
            lora=lora,
            rebuild={"pretrained": False, "config": found.to_dict()},
        )
        self.stride = int(getattr(found, "patch_size", 4)) * 2 ** (len(getattr(found, "depths", [0])) - 1)
        arguments = inspect.signature(network.forward).parameters
        self.any_size = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in arguments else {}

    def maps(self, images: Tensor) -> Tensor:
        """Images ``(N, C, H, W)`` → the last map ``(N, dim, h, w)``.

        Raises:
            InputError: a transformer is given sides that are no multiples of its patches.
        """
        found: Tensor = self.network(pixel_values=images, **self.any_size).last_hidden_state
        if found.ndim == 4:
            return found
        sides = tuple(images.shape[-2:])
        if any(side % self.stride for side in sides):
            expected = f"images whose sides are multiples of {self.stride}"
            raise InputError(expected, " × ".join(map(str, sides)), "data.size", "Set data.size so.")
        rows, columns = (side // self.stride for side in sides)
        return found[:, found.shape[1] - rows * columns :].transpose(1, 2).unflatten(2, (rows, columns))


def _config(name: str, options: Mapping[str, Any]) -> Any:
    with fetching_transformers(name, _NAME):
        found, unknown = AutoConfig.from_pretrained(name, return_unused_kwargs=True, **options)
    if unknown:
        remedy = f"Correct it; {name} is a {found.model_type}."
        raise InputError("entries of the model's configuration", ", ".join(unknown), "model.backbone.options", remedy)
    return found


def _pretrained(name: str, config: Any) -> Any:
    """The vision model with its weights, all of them from the file.

    Raises:
        InputError: they cannot be had, or are not for this model.
    """
    with fetching_transformers(name, _NAME):
        whole, report = AutoModel.from_pretrained(name, config=config, dtype=torch.float32, output_loading_info=True)
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
    if missing:
        raise InputError(
            f"all weights of a {config.model_type}",
            f"none for {', '.join(missing[:3])}",
            _NAME,
            "Choose another model.",
        )
    return _vision(whole, name)


def _vision(network: Any, name: str) -> Any:
    network = getattr(network, "vision_model", network)
    if network.main_input_name != "pixel_values":
        raise InputError(
            "a model of images", f"one of {network.main_input_name}", _NAME, f"{name} is none: choose another."
        )
    return network


def _fresh(config: Any, channels: int) -> Any:
    if not hasattr(config, "num_channels"):
        raise InputError(
            "a vision model that says how many channels it takes", config.model_type, _NAME, "Choose another model."
        )
    config.num_channels = channels
    return _vision(AutoModel.from_config(config, dtype=torch.float32), config.model_type)


def _with_channels(network: nn.Module, channels: int) -> Any:
    """The same network and weights for another number of image channels."""
    if getattr(network.config, "num_channels", None) == channels:
        return network
    state = network.state_dict()
    changed = _fresh(network.config, channels)
    load_into(changed, state)
    return changed
