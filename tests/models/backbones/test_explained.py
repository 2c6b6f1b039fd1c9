"""Every backbone can be explained: heat at the resolution of its images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from temmed.data.batch import TimelineBatch
from temmed.data.fitted import Fitted
from temmed.explaining.relevance import METHODS, relevance

from ...training.sequences import make_batch, make_model
from .conftest import Case, config_of


def of_size(batch: TimelineBatch, spatial: tuple[int, ...]) -> TimelineBatch:
    generator = torch.Generator().manual_seed(0)
    return replace(batch, images=torch.randint(0, 1000, (*batch.images.shape[:2], *spatial), generator=generator))


def check(backbone: dict[str, Any], spatial: tuple[int, ...], config: dict[str, Any], fitted: Fitted) -> None:
    model = make_model({**config, "backbone": backbone}, replace(fitted, spatial=spatial)).eval()
    batch = of_size(make_batch(), spatial)
    question = next(q for q, at in enumerate(batch.asked_at[0].tolist()) if batch.image_mask[0, at])
    for method in METHODS:
        found = relevance(model, batch, (0, question), method, steps=2)
        assert found.maps.shape == (len(batch.images), *spatial)
        assert found.maps.isfinite().all()
        assert found.maps[batch.frame_index[:, 0] == 0].any(), method


def test_every_backbone(case: Case, model_config: Callable[..., dict[str, Any]], fitted: Fitted) -> None:
    check({**config_of(case.option), **case.tiny.changes}, case.tiny.spatial, model_config("transformer"), fitted)


@pytest.mark.parametrize("slices", ["mean", "keep"])
def test_volumes_read_by_slices(slices: str, model_config: Callable[..., dict[str, Any]], fitted: Fitted) -> None:
    config = model_config("transformer")
    check({**config["backbone"], "slices": slices}, (4, 16, 16), config, fitted)
