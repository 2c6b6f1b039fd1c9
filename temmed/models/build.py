"""A `Reasoner` from a configuration and what was fitted to the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from hydra.utils import instantiate

from temmed.data.fitted import Fitted
from temmed.data.pixels import Finish
from temmed.models.reader import Reader
from temmed.models.reasoner import Reasoner


def build_reasoner(model: Mapping[str, Any], fitted: Fitted) -> Reasoner:
    """Build the model.

    Args:
        model: the ``model`` group, resolved: ``dim, backbone, text, temporal, reader``.
        fitted: channels, image size and vocabulary.

    Returns:
        The model with fresh weights, but for those the backbone loads.
    """
    backbone = instantiate(model["backbone"], in_channels=len(fitted.channels))
    with torch.inference_mode():
        training = backbone.training
        places = backbone.eval()(torch.zeros(1, len(fitted.channels), *fitted.spatial)).shape[1]
        backbone.train(training)
    dim = int(model["dim"])
    return Reasoner(
        finish=Finish(fitted),
        backbone=backbone,
        text=instantiate(model["text"], vocabulary=len(fitted.tokenizer)),
        temporal=instantiate(model["temporal"]),
        reader=Reader(dim, places, **model["reader"]),
        dim=dim,
        places=places,
    )
