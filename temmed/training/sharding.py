"""Models that are too large for one GPU: every process keeps a share of each weight (FSDP; Zhao et al. 2023).

The sharding is torch's own (``fully_shard``, FSDP2), the strategy Lightning's ``ModelParallelStrategy``. Each block of
the image encoder and each layer of the language model is gathered when it is read, all else at the start.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from temmed.errors import InputError
from temmed.models.adaptation import blocks


def shard(model: nn.Module, mesh: DeviceMesh, precision: Any) -> None:
    """Divide the weights of a model among the processes of a mesh, in place.

    Args:
        model: its blocks are found as for ``train=last-N``.
        mesh: of one dimension.
        precision: of the trainer; with one of bfloat16, weights are gathered in it, and kept in float32.

    Raises:
        InputError: weights are of several number types, which cannot be sharded together.
    """
    kinds = {parameter.dtype for parameter in model.parameters()}
    if len(kinds) > 1:
        found = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
        remedy = "Set model.text.dtype=float32 and model.text.bits=null; trainer.precision=bf16-mixed saves as much."
        raise InputError("weights of one number type to shard", found, "strategy=fsdp", remedy)
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()  # convolutions may be channels-last, which cannot be sharded
    half = torch.bfloat16 if str(precision).startswith("bf16") else None
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in blocks(model).values():
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)


def hold(model: nn.Module, whole: bool) -> None:
    """Gather all weights until further notice, or give them back.

    In validation processes have different numbers of batches and questions: none may wait for the weights of another.

    Args:
        model: sharded; of one that is not, nothing changes.
        whole: gather, or give back.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_reshard_after_forward(not whole, recurse=False)
            if whole:
                module.unshard()
            else:
                module.reshard()
