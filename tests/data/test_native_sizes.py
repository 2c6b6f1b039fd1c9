"""Images that keep their own size: batches of one size, and models that can take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from temmed.data.datamodule import TimelineDataModule
from temmed.data.fitted import Fitted
from temmed.data.fitting import fit
from temmed.data.images import DecodedPixels, ImageSource
from temmed.data.pixels import pack
from temmed.data.settings import DataSettings
from temmed.errors import InputError
from temmed.models.build import build_reasoner
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split, make_split

SHAPES = [(32, 48), (40, 40), (32, 48), (24, 64), (40, 40), (32, 48), (40, 40)]


@pytest.fixture
def timeline(visits: Callable[..., Timeline]) -> Timeline:
    rng = np.random.default_rng(0)
    # The second visit of each has a size of its own.
    sequences = {f"s{n}": [{"t1": rng.random(shape)}, {"t1": rng.random((36, 36))}] for n, shape in enumerate(SHAPES)}
    return visits(sequences)


@pytest.fixture
def owner(timeline: Timeline) -> Split:
    return make_split(timeline, by="patient", fractions=(1.0, 0.0, 0.0), seed=0)


@pytest.fixture
def own_size(timeline: Timeline, owner: Split) -> Fitted:
    return fit(timeline, owner, None)


@pytest.mark.parametrize("settings", [{"batch_size": 2}, {"frames_per_batch": 4}], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_a_batch_has_one_size_and_every_sequence_comes_once(
    timeline: Timeline, owner: Split, own_size: Fitted, settings: dict[str, Any], training: bool
) -> None:
    data = TimelineDataModule(timeline, owner, DataSettings(size=None, position_dropout=0.0, **settings), own_size)
    loader = data.loader("train", training=training)
    seen: list[str] = []
    for batch in loader:
        for sequence in batch.sequence_ids:
            assert tuple(batch.images.shape[2:]) == SHAPES[int(sequence[1:])]
        seen += batch.sequence_ids
    assert sorted(seen) == [f"s{n}" for n in range(len(SHAPES))]
    assert len(loader) == 5  # 3 and 3 of two sizes in pairs, and one alone


def test_the_model_says_the_same_in_a_batch_and_alone(
    timeline: Timeline, owner: Split, own_size: Fitted, model_config: Callable[..., dict[str, Any]]
) -> None:
    torch.manual_seed(0)
    model = build_reasoner(model_config(), own_size).eval()
    said: list[dict[str, float]] = []
    for size in (1, 4):
        data = TimelineDataModule(timeline, owner, DataSettings(size=None, batch_size=size), own_size)
        said.append({})
        with torch.no_grad():
            for batch in data.loader("train"):
                values = model(batch)["value"][:, 0].tolist()
                said[-1] |= dict(zip(batch.sequence_ids, values, strict=True))
    assert said[0] == pytest.approx(said[1], abs=1e-5)
    assert len(set(said[0].values())) == len(SHAPES)


def test_a_sequence_without_images_has_a_group_of_its_own(timeline: Timeline, own_size: Fitted) -> None:
    table = timeline.table("images")
    timeline._tables["images"] = table[table["sequence_id"] != "s3"]
    pixels = DecodedPixels(ImageSource(timeline), own_size)
    assert pixels.size("s3") == (0, 0)
    images, mask = pack([pixels.stack("s3", [])], 1)
    assert images.shape == (0, 1, 0, 0)
    assert mask.shape == (0, 1)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"name": "test_vit", "stage": -1, "options": {"dynamic_img_size": False}},
            r"model\.backbone\.name: expected a backbone that takes images of .* 48",
        ),
        ({"grid": None}, r"model\.backbone\.grid: expected as many tokens whatever the size .* data\.size=N"),
    ],
)
def test_a_model_that_cannot_says_so(
    own_size: Fitted, model_config: Callable[..., dict[str, Any]], changes: dict[str, Any], match: str
) -> None:
    config = model_config()
    config["backbone"] |= changes
    with pytest.raises(InputError, match=match):
        build_reasoner(config, own_size)


def test_a_vision_transformer_of_dynamic_size_can(
    own_size: Fitted, model_config: Callable[..., dict[str, Any]]
) -> None:
    config = model_config()
    config["backbone"] |= {"name": "test_vit", "stage": -1, "options": {"dynamic_img_size": True}}
    build_reasoner(config, own_size)
