"""Shifts, places, repeated visits: the parts, each on images whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from temmed.timelines.folder import Timeline
from temmed.timelines.implant.motion import displacement, followed, resampled
from temmed.timelines.implant.places import location_names, survey
from temmed.timelines.implant.scene import read_scene
from temmed.timelines.implant.visits import noise_like, repeated, residual

from .conftest import CT, LOOP, MR, Phantom, task_of


def _structure(shape: tuple[int, ...]) -> np.ndarray:
    return ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 1, shape), 3).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "shift"), [((64, 80), (3.0, -5.0)), ((64, 80), (2.4, 1.6)), ((24, 40, 40), (1, 4, -3))]
)
def test_a_shift_is_found(shape: tuple[int, ...], shift: tuple[float, ...]) -> None:
    image = _structure(shape)
    moved = ndimage.shift(image, shift, order=3, mode="grid-wrap")
    assert_allclose(displacement(image, moved, [10] * len(shape)), shift, atol=0.35)


def test_images_that_have_nothing_in_common_are_not_shifted() -> None:
    image = _structure((64, 64))
    assert_array_equal(displacement(image, np.zeros_like(image), (9, 9)), (0, 0))
    assert_array_equal(displacement(image, image, (9, 9)), (0, 0))


def test_tissue_is_followed_through_a_loop() -> None:
    image = _structure((80, 80))
    path = np.stack([3 * np.sin(np.arange(20) / 4), 2 * np.cos(np.arange(20) / 4) - 2], axis=1)
    frames = [ndimage.shift(image, shift, order=3, mode="grid-wrap") for shift in path]
    found = followed(frames, (40, 40), (16, 16), (6, 6))
    assert_allclose(found, path, atol=0.8)


def test_resampling_keeps_the_middle() -> None:
    image = _structure((40, 40))
    fine = ndimage.zoom(image, 2, order=1, grid_mode=True, mode="nearest")
    back = resampled(fine, (0.5, 0.5), (40, 40), (1.0, 1.0))
    assert np.corrcoef(back.ravel(), image.ravel())[0, 1] > 0.98
    assert_array_equal(resampled(image, (1, 1), (40, 40), (1, 1)), image)


def test_places_lie_in_the_body_wherever_it_moves(phantom: Phantom) -> None:
    timeline = Timeline.open(phantom([(0, 0), (6, -4), (-5, 7)]))
    task = task_of(timeline, MR)
    scene = read_scene(timeline.root, task)
    grounds = survey(scene, MR)
    for position, shift in enumerate([(0, 0), (6, -4), (-5, 7)]):
        assert_allclose(grounds.offsets[position], shift, atol=1.0)
    rng = np.random.default_rng(0)
    chosen = [grounds.choose(cell, 5.0, rng) for cell in range(len(location_names()))]
    assert chosen[4] is not None
    for place in chosen:
        assert place is None or np.hypot(*(place - 48)) + 5.0 < 37
    # The middle cell and the upper left one are apart.
    assert_allclose(chosen[4], (48, 48), atol=14)
    # A ball larger than the body has no place.
    assert grounds.choose(4, 40.0, rng) is None


def test_places_are_not_given_away_twice(phantom: Phantom) -> None:
    timeline = Timeline.open(phantom([(0, 0), (0, 0)]))
    grounds = survey(read_scene(timeline.root, task_of(timeline, MR)), MR)
    rng = np.random.default_rng(0)
    first = grounds.choose(4, 8.0, rng)
    assert first is not None
    grounds.taken.append((first, 8.0))
    for _ in range(20):
        other = grounds.choose(4, 4.0, rng)
        assert other is None or np.linalg.norm(other - first) > 12


def test_ct_places_are_soft_tissue(real: Timeline) -> None:
    task = task_of(real, CT)
    scene = read_scene(real.root, task)
    grounds = survey(scene, CT)
    grey = ndimage.gaussian_filter(scene.grey(scene.positions[0]), 2)
    values = grey[grounds.clearance > 3 * scene.spacing(scene.positions[0])[0]]
    assert len(values) > 50
    assert values.min() > -120
    assert values.max() < 220


def test_writing_and_doppler_are_no_places(real: Timeline) -> None:
    task = task_of(real, LOOP)
    scene = read_scene(real.root, task)
    grounds = survey(scene, task.modality)
    image = scene.images[0][scene.main]
    coloured = (image.max(axis=-1).astype(int) - image.min(axis=-1)) > 60
    factor = round(grounds.step[0] / scene.spacing(0)[0])
    inside = np.kron(grounds.clearance > 2 * grounds.step[0], np.ones((factor, factor)))
    rows, columns = inside.shape
    assert not (coloured[:rows, :columns] & (inside > 0)).any()


@pytest.mark.parametrize("modality", [CT, MR])
def test_repeated_visits_differ_as_scanners_do(real: Timeline, modality: str) -> None:
    task = task_of(real, modality)
    scene = read_scene(real.root, task)
    original = scene.grey(scene.positions[0])
    shown, again, other = (repeated(scene, 4, modality == CT, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.all(np.diff(shown.times) > 0)
    assert shown.moved is not None
    assert_array_equal(shown.moved[0], 0)
    for visit in range(4):
        assert_array_equal(shown.images[visit][shown.main], again.images[visit][shown.main])
        assert (shown.images[visit][shown.main] != other.images[visit][shown.main]).any()
        assert shown.images[visit][shown.main].dtype == scene.images[scene.positions[0]][scene.main].dtype
        assert np.corrcoef(shown.grey(visit).ravel(), original.ravel())[0, 1] > 0.8
        # No smoother and not much noisier than the real image.
        ratio = _grain(shown.grey(visit)) / _grain(original)
        assert 0.9 < ratio < 1.5
    if modality == CT:
        assert np.median(shown.grey(1)) == pytest.approx(np.median(original), abs=15)


def _grain(image: np.ndarray) -> float:
    return float(np.median(np.abs(residual(image[8:-8, 8:-8]))))


def test_new_noise_has_the_old_strength_at_each_place_and_nothing_else_of_it() -> None:
    rng = np.random.default_rng(0)
    strength = np.where(np.arange(128) < 64, 2.0, 8.0)
    image = (50 + rng.normal(0, 1, (128, 128)) * strength).astype(np.float32)
    noise = noise_like(image, rng)
    own = residual(image)
    for half in (np.s_[:, 8:52], np.s_[:, 76:120]):
        assert noise[half].std() == pytest.approx(own[half].std(), rel=0.25)
    assert abs(np.corrcoef(noise.ravel(), own.ravel())[0, 1]) < 0.05


def test_what_is_black_stays_black() -> None:
    image = np.zeros((96, 96), np.float32)
    image[30:60, 30:60] = 100 + np.random.default_rng(0).normal(0, 10, (30, 30))
    noise = noise_like(image, np.random.default_rng(1))
    assert np.abs(noise[:12]).max() < 0.05 * np.abs(noise).max()


def test_unreadable_images_are_told(phantom: Phantom) -> None:
    root = phantom([(0, 0), (1, 1)])
    timeline = Timeline.open(root)
    Path(root / "images" / "s.npy").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"s\.npy"):
        read_scene(root, task_of(timeline, MR))
