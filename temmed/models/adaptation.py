"""Which parameters of a pretrained network learn: all, none, those of the last blocks, or low-rank additions.

One way for all libraries: nothing here knows an architecture by its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from temmed.errors import InputError

#: Last names of the projections that attention layers of timm, transformers and MONAI give queries and values.
_ATTENTION = {"qkv", "query", "value", "q_proj", "v_proj", "to_q", "to_v", "q", "v"}
_LORA: dict[str, Any] = {"r": 8, "lora_alpha": 16}


def adapt(network: nn.Module, train: str, lora: Mapping[str, Any] | None = None, where: str = "model.backbone") -> None:
    """Fix what is not to learn; with ``lora``, add what is.

    Args:
        network: changed in place.
        train: ``full``, ``none``, ``last-N``: its last N blocks and all that follows them, or ``lora``: low-rank
            additions (Hu et al. 2021) and nothing else.
        lora: arguments of ``peft.LoraConfig``. Unlike there, ``target_modules`` are by default the projections of
            queries and values as in the paper, and in a network without attention all linear layers and full
            convolutions of its blocks.
        where: the key of the configuration, for messages.

    Raises:
        InputError: another word, more blocks than there are, or arguments that peft refuses.
    """
    if train == "full":
        return
    if train == "none":
        network.requires_grad_(False)
    elif train == "lora":
        _add_lora(network, {**_LORA, **(lora or {})}, where)
    elif found := re.fullmatch(r"last-([1-9]\d*)", train):
        _only_last(network, int(found[1]), f"{where}.train")
    else:
        raise InputError("full, none, lora or last-N", repr(train), f"{where}.train", "Set it to one of them.")


def unadapted(name: str) -> str | None:
    """What a parameter of a network is called before low-rank additions; ``None`` for one of the additions.

    >>> unadapted("stages.0.conv.base_layer.weight"), unadapted("stages.0.conv.lora_A.default.weight")
    ('stages.0.conv.weight', None)
    """
    return None if ".lora_" in name else name.replace(".base_layer.", ".")


def blocks(network: nn.Module) -> dict[str, nn.Module]:
    """The repeated parts of a network by name, in their order: residual blocks, transformer layers.

    A block is an element of an innermost container whose elements are composite modules of one class.
    """
    found: dict[str, nn.Module] = {}
    for name, container in network.named_modules():
        members = list(container.named_children())
        uniform = len({type(member) for _, member in members}) == 1 and any(members[0][1].children())
        if uniform and isinstance(container, nn.ModuleList | nn.Sequential | nn.ModuleDict):
            found |= {f"{name}.{key}".removeprefix("."): member for key, member in members}
    return {name: block for name, block in found.items() if not any(other.startswith(f"{name}.") for other in found)}


def fix_unused(network: nn.Module, images: Tensor) -> None:
    """Fix parameters that the output does not depend on, such as poolers and mask tokens.

    Under DDP all that learn must get a gradient in every step.

    Args:
        network: images → one tensor; changed in place.
        images: ``(N, C, *spatial)``, a trial.
    """
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not learning:
        return
    mode = network.training
    with torch.enable_grad():
        gradients = torch.autograd.grad(network.eval()(images).sum(), learning, allow_unused=True)
    for parameter, gradient in zip(learning, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)
    network.train(mode)


def settle(module: nn.Module) -> None:
    """Put what does not learn into evaluation mode, and BatchNorm anywhere, so that it uses its stored statistics."""
    parameters = list(module.parameters())
    if isinstance(module, _BatchNorm) or (parameters and not any(p.requires_grad for p in parameters)):
        module.eval()
        return
    for child in module.children():
        settle(child)


def _only_last(network: nn.Module, count: int, where: str) -> None:
    names = list(blocks(network))
    if count > len(names):
        raise InputError(f"at most the {len(names)} blocks of this network", str(count), where, "Set train=full.")
    learns = False
    for name, parameter in network.named_parameters():
        learns = learns or name.startswith(f"{names[-count]}.")
        parameter.requires_grad_(learns)


def _add_lora(network: nn.Module, options: dict[str, Any], where: str) -> None:
    from peft import LoraConfig, inject_adapter_in_model  # takes seconds to import

    options.setdefault("target_modules", _targets(network))
    try:
        inject_adapter_in_model(LoraConfig(**options), network)
    except (TypeError, ValueError) as error:
        raise InputError(
            "arguments of peft.LoraConfig that fit the network",
            str(error).splitlines()[0],
            f"{where}.lora",
            "Correct them, or name the layers to adapt in target_modules.",
        ) from error
    for name, parameter in network.named_parameters():
        parameter.requires_grad_("lora_" in name)


def _targets(network: nn.Module) -> list[str]:
    layers = {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.Conv3d) and getattr(layer, "groups", 1) == 1
    }
    attention = [name for name in layers if name.rpartition(".")[2] in _ATTENTION]
    inner = tuple(f"{name}." for name in blocks(network))
    return attention or [name for name in layers if name.startswith(inner)]
