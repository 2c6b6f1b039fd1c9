"""Random changes of training images: one for a sequence where pixels move, one for each image else."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from temmed.config.paths import conf_dir
from temmed.data.augment import Augmentation
from temmed.data.caches.features import FeatureStore
from temmed.data.datamodule import TimelineDataModule
from temmed.data.dataset import SequenceDataset
from temmed.data.fitted import Fitted, Source
from temmed.data.fitting import fit
from temmed.data.images import DecodedPixels
from temmed.data.pixels import PixelStack
from temmed.data.records import Record
from temmed.data.settings import DataSettings
from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split, make_split

KEY = (0, 1, 2)
MOVE = {"_target_": "temmed.data.augment.RandomMove", "rotation": 10, "shift": 0.1}
NOISE = {"_target_": "monai.transforms.RandGaussianNoise", "prob": 1.0, "std": 0.1}
GAMMA = {"_target_": "monai.transforms.RandAdjustContrast", "prob": 1.0, "gamma": [0.5, 0.9]}
OPTIONS = sorted((Path(conf_dir()) / "data" / "augment").glob("*.yaml"))


def option(name: str) -> dict[str, Any]:
    """``data.augment`` of one of the options."""
    loaded = OmegaConf.to_container(OmegaConf.load(Path(conf_dir()) / "data" / "augment" / f"{name}.yaml"))
    assert isinstance(loaded, dict)
    return {str(key): value for key, value in loaded.items()}


def with_sources(fitted: Fitted, *names: str, units: float = 100.0) -> Fitted:
    return replace(fitted, sources=tuple(map(Source, names)), units=(units,) * len(names))


def same_everywhere(count: int, channels: int, *spatial: int) -> PixelStack:
    """A stack in which all images are one."""
    image = np.random.default_rng(0).integers(0, 500, spatial).astype(np.uint16)
    array = np.broadcast_to(image, (count, channels, *spatial)).copy()
    return PixelStack(array, np.arange(count), tuple(range(channels)), np.ones((count, channels), bool))


@pytest.mark.parametrize("spatial", [(24, 20), (6, 24, 20)], ids=["images", "volumes"])
def test_what_moves_pixels_is_shared_and_what_scanners_do_is_not(spatial: tuple[int, ...], fitted: Fitted) -> None:
    stack = same_everywhere(3, 2, *spatial)
    two = with_sources(fitted, "flair", "t1")
    moved = Augmentation.of({"shared": [MOVE], "each": []}, two)(stack, [0, 1, 2], KEY).array
    assert moved.dtype == np.float32
    assert (moved == moved[:1, :1]).all()
    assert not np.allclose(moved, stack.array)
    noisy = Augmentation.of({"shared": [], "each": [NOISE]}, two)(stack, [0, 1, 2], KEY).array - stack.array
    flat = noisy.reshape(6, -1)
    assert abs(np.corrcoef(flat) - np.eye(6)).max() < 0.2
    # Noise of up to a tenth of the deviation of the pixels, which is 100.
    assert 0 < flat.std(axis=1).max() < 11


def test_the_parts_of_one_image_are_changed_alike(fitted: Fitted) -> None:
    stack = same_everywhere(2, 4, 16, 16)
    parts = with_sources(fitted, "ct.slice1", "ct.slice2", "photo.green", "photo.red")
    changed = Augmentation.of({"shared": [], "each": [GAMMA]}, parts)(stack, [0, 1], KEY).array
    for one, other, alike in ((0, 1, True), (2, 3, True), (0, 2, False)):
        assert np.array_equal(changed[0, one], changed[0, other]) == alike
    assert not np.allclose(changed[0], changed[1])


def test_an_image_is_changed_alike_whichever_others_are_shown(fitted: Fitted) -> None:
    stack = same_everywhere(3, 2, 16, 16)
    augment = Augmentation.of({"shared": [MOVE], "each": [NOISE, GAMMA]}, with_sources(fitted, "flair", "t1"))
    whole = augment(stack, [0, 1, 2], KEY).array
    part = PixelStack(stack.array, np.array([0, 2]), stack.columns, stack.mask[[0, 2]])
    np.testing.assert_allclose(augment(part, [0, 2], KEY).array, whole[[0, 2]], rtol=1e-6)
    assert not np.allclose(augment(stack, [0, 1, 2], (0, 2, 2)).array, whole)


def test_absent_images_stay_absent_and_the_stack_untouched(fitted: Fitted) -> None:
    stack = same_everywhere(2, 2, 16, 16)
    stack.array[1, 0], stack.mask[1, 0] = 0, False
    before = stack.array.copy()
    augment = Augmentation.of({"shared": [MOVE], "each": [NOISE]}, with_sources(fitted, "flair", "t1"))
    changed = augment(stack, [0, 1], KEY)
    assert not changed.array[1, 0].any()
    assert (changed.mask == stack.mask).all()
    np.testing.assert_array_equal(stack.array, before)
    nothing = PixelStack(before[:0], np.arange(0), (0, 1), stack.mask[:0])
    assert len(augment(nothing, [], KEY)) == 0


@pytest.mark.parametrize("path", OPTIONS, ids=[path.stem for path in OPTIONS])
def test_every_option_keeps_sides_and_global_randomness(path: Path, fitted: Fitted) -> None:
    settings = option(path.stem)
    assert "Flip" not in str(settings)
    if path.stem == "none":
        assert settings == {"shared": [], "each": []}
        return
    augment = Augmentation.of(settings, with_sources(fitted, "flair", "t1"))
    numpy_state, torch_state, python_state = np.random.get_state()[1].copy(), torch.get_rng_state(), random.getstate()
    for spatial in ((24, 20), (6, 24, 20)):
        stack = same_everywhere(2, 2, *spatial)
        several = [augment(stack, [0, 1], (0, epoch, 0)).array for epoch in range(6)]
        assert np.isfinite(several).all()
        assert all(array.shape == stack.array.shape for array in several)
        assert len({array.tobytes() for array in several}) > 3
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == python_state


def test_moving_turns_shifts_and_zooms_as_stated(fitted: Fitted) -> None:
    side = np.arange(64) - 31.5
    square = np.where(np.maximum(abs(side[:, None]), abs(side)) < 16, 1000, 0).astype(np.uint16)
    stack = PixelStack(square[None, None], np.arange(1), (0,), np.ones((1, 1), bool))

    def changed(**settings: float) -> np.ndarray:
        node = {"_target_": "temmed.data.augment.RandomMove", **settings}
        augment = Augmentation.of({"shared": [node], "each": []}, with_sources(fitted, "t1"))
        return np.stack([augment(stack, [0], (0, epoch, 0)).array[0, 0] for epoch in range(40)]) / 1000

    areas = changed(zoom=0.1).sum(axis=(1, 2)) / square.sum() * 1000
    assert 1.1**-2 * 0.99 <= areas.min() < 0.9
    assert 1.1 < areas.max() <= 1.1**2 * 1.01
    rows = (changed(shift=0.1) * side[:, None]).sum(axis=(1, 2)) / 1024
    assert 4 < abs(rows).max() <= 6.5
    turned = changed(rotation=10)
    assert abs(turned.sum(axis=(1, 2)) / 1024 - 1).max() < 0.01
    # The corner of a square of half side 16, turned by up to 10 degrees, comes at most so much nearer to its side.
    assert 2 < (np.array([np.flatnonzero(t.max(axis=1) > 0.5).size for t in turned]) - 32).max() <= 6


def test_a_change_of_size_is_refused(fitted: Fitted) -> None:
    crop = {"_target_": "monai.transforms.RandSpatialCrop", "roi_size": 8, "random_size": False}
    augment = Augmentation.of({"shared": [crop], "each": []}, with_sources(fitted, "t1"))
    with pytest.raises(InputError, match=r"data\.augment\.shared: expected images of \(16, 16\) as before"):
        augment(same_everywhere(1, 1, 16, 16), [0], KEY)


def test_items_change_with_the_epoch_and_not_with_the_order(
    records: list[Record], pixels: DecodedPixels, fitted: Fitted
) -> None:
    def items(order: list[tuple[int, int]]) -> dict[tuple[int, int], torch.Tensor]:
        dataset = SequenceDataset(
            records, pixels, len(fitted.sources), seed=3, augmentation=Augmentation.of(option("strong"), fitted)
        )
        return {key: dataset[key].images for key in order}

    keys = [(0, 0), (1, 0), (0, 1), (1, 1)]
    forward, backward = items(keys), items(keys[::-1])
    assert all(torch.equal(forward[key], backward[key]) for key in keys)
    assert not torch.equal(forward[0, 0], forward[1, 0])


@pytest.mark.slow
def test_batches_are_the_same_for_any_number_of_workers(tiny_timeline: Timeline, split: Split, fitted: Fitted) -> None:
    def batches(workers: int) -> list[torch.Tensor]:
        settings = DataSettings(augment=option("light"), batch_size=4, num_workers=workers)
        data = TimelineDataModule(tiny_timeline, split, settings, fitted, seed=1)
        return [batch.images for batch in data.loader("train", training=True)]

    for one, other in zip(batches(0), batches(2), strict=True):
        assert torch.equal(one, other)


def test_only_training_images_change(tiny_timeline: Timeline, split: Split, fitted: Fitted) -> None:
    data = TimelineDataModule(tiny_timeline, split, DataSettings(augment=option("light")), fitted)
    assert data.dataset("train", training=True).augmentation is not None
    assert data.dataset("train").augmentation is None
    assert data.dataset("val").augmentation is None


@pytest.mark.parametrize("stored", [{"settings": {"cache_features": True}}, {"features": True}], ids=["asked", "given"])
def test_stored_features_cannot_change(
    stored: dict[str, Any], tiny_timeline: Timeline, split: Split, fitted: Fitted
) -> None:
    settings = DataSettings(augment=option("light"), **stored.get("settings", {}))
    features = object.__new__(FeatureStore) if "features" in stored else None
    with pytest.raises(InputError, match=r"data\.augment and data\.cache_features: .* Set data/augment=none"):
        TimelineDataModule(tiny_timeline, split, settings, fitted, features=features)


def test_units_are_the_deviation_of_the_source_before_its_windows(visits: Callable[..., Timeline]) -> None:
    image = np.random.default_rng(0).normal(-300, 400, (16, 16)).astype(np.float32)
    timeline = visits({"s0": [{"ct": image}]})
    split = make_split(timeline, by="patient", fractions=(1.0, 0.0, 0.0), seed=0)
    found = fit(timeline, split, 16, {"mri": ["lung", "soft"]})
    assert found.units == pytest.approx((image.std(),), rel=1e-5)
    assert Fitted.from_dict(found.to_dict()).units == found.units
