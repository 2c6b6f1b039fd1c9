"""Sizes of drawn ellipses of known size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from temmed.errors import InputError
from temmed.measuring.segment import Segmenter, Target

Picture = Callable[..., Any]


@pytest.mark.parametrize("diameter", [7.0, 10.0, 16.0, 24.0, 29.0])
def test_discs_without_noise_are_measured_below_the_size_of_a_pixel(
    segmenter: Segmenter, nodule: Target, picture: Picture, diameter: float
) -> None:
    images = dict(enumerate(picture(diameter, shift=shift) for shift in ((0, 0), (1.4, -0.7), (-2.0, 2.9), (0.3, 4.0))))
    found = segmenter.measure(images, [nodule])[nodule]
    assert found.present.all()
    # 6 % of 7 mm are 0.4 mm, an eighth of a pixel: the margin of the model is softer than the one drawn.
    assert np.abs(np.log(found.diameter / diameter)).max() < 0.06


def test_noise_makes_the_error_that_the_fit_states(segmenter: Segmenter, nodule: Target, picture: Picture) -> None:
    images = {seed: picture(14.0, noise=0.05, seed=seed) for seed in range(60)}
    found = segmenter.measure(images, [nodule])[nodule]
    assert found.present.all()
    errors = np.log(found.diameter / 14.0)
    assert abs(errors.mean()) < 0.02
    assert errors.std() < 0.05
    assert 0.6 < errors.std() / np.median(found.log_diameter_sd) < 1.7


def test_the_longest_axis_of_an_ellipse_is_found_at_any_angle(
    segmenter: Segmenter, nodule: Target, picture: Picture
) -> None:
    angles = np.linspace(0, np.pi, 7)[:-1]
    images = dict(enumerate(picture(18.0, aspect=0.75, angle=float(angle), noise=0.02) for angle in angles))
    found = segmenter.measure(images, [nodule])[nodule]
    assert np.abs(np.log(found.diameter / 18.0)).max() < 0.05
    assert found.diameter * found.elongation == pytest.approx(18.0 / np.sqrt(0.75), rel=0.08)


def test_another_structure_nearby_does_not_pull(segmenter: Segmenter, nodule: Target, picture: Picture) -> None:
    plain, disturbed = picture(14.0, noise=0.03), picture(14.0, noise=0.03)
    column = round(segmenter.regions[nodule.location][1] * 64)
    for image in disturbed.values():
        image[:, column + 5 : column + 7] -= 0.5
    found = segmenter.measure({0: plain, 1: disturbed}, [nodule])[nodule]
    assert found.present.all()
    assert abs(np.log(found.diameter[1] / found.diameter[0])) < 0.06


@pytest.mark.parametrize("factor", [1e-3, 7.0, 1e4])
def test_the_scale_of_the_intensities_changes_nothing(
    segmenter: Segmenter, nodule: Target, picture: Picture, factor: float
) -> None:
    image = picture(12.0, noise=0.05)
    both = {0: image, 1: {channel: factor * pixels + 3 * factor for channel, pixels in image.items()}}
    found = segmenter.measure(both, [nodule])[nodule]
    assert found.diameter[1] == pytest.approx(found.diameter[0], rel=1e-6)
    assert found.log_diameter_sd[1] == pytest.approx(found.log_diameter_sd[0], rel=1e-5)
    assert found.present.all()


def test_an_image_is_measured_by_itself(segmenter: Segmenter, nodule: Target, picture: Picture) -> None:
    images = {position: picture(9.0 + position, noise=0.05, seed=position) for position in range(5)}
    cyst = Target("cyst", "right parietal lobe")
    together = segmenter.measure(images, [cyst, nodule])[nodule]
    for position in images:
        alone = segmenter.measure({position: images[position]}, [nodule])[nodule]
        assert alone.diameter[0] == pytest.approx(together.diameter[position], rel=1e-9)


def test_nothing_is_seen_where_nothing_is(segmenter: Segmenter, nodule: Target, picture: Picture) -> None:
    empty = {seed: picture(0.0, noise=0.05, seed=seed) for seed in range(60)}
    assert segmenter.measure(empty, [nodule])[nodule].present.mean() <= 0.05


def test_the_looks_of_a_label_tell_it_from_another(segmenter: Segmenter, nodule: Target, picture: Picture) -> None:
    image = {0: picture(14.0, noise=0.03, contrast=(-0.4, -0.3))}
    cyst = Target("cyst", nodule.location)
    unknown = Target("", nodule.location)
    found = segmenter.measure(image, [nodule, cyst, unknown])
    assert [bool(found[target].present[0]) for target in (nodule, cyst, unknown)] == [False, True, True]


def test_finer_images_and_absent_channels_are_measured_too(
    segmenter: Segmenter, nodule: Target, picture: Picture
) -> None:
    fine = segmenter.measure({0: picture(14.0, noise=0.05, side=256)}, [nodule])[nodule]
    assert fine.present.all()
    assert fine.diameter[0] == pytest.approx(14.0, rel=0.04)
    both = picture(14.0, noise=0.03)
    mixed = segmenter.measure({0: both, 1: {"t1": both["t1"]}}, [nodule])[nodule]
    assert mixed.present.all()
    assert mixed.diameter == pytest.approx([14.0, 14.0], rel=0.06)


def test_without_images_there_is_nothing(segmenter: Segmenter, nodule: Target) -> None:
    assert not len(segmenter.measure({}, [nodule])[nodule].positions)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("has the Cyst in the LEFT frontal lobe progressed?", Target("cyst", "left frontal lobe")),
        ("the nodule in the right occipital lobe", Target("", "right occipital lobe")),
        ("the cyst in the liver", None),
    ],
)
def test_a_text_names_label_and_region(segmenter: Segmenter, text: str, expected: Target | None) -> None:
    assert segmenter.target(text) == expected


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"regions": {"liver": [0.5]}}, "model.measure.*.regions.liver"),
        ({"regions": {"liver": [0.5, 40]}}, "model.measure.*.regions.liver"),
        ({"contrast": {"cyst": {"t1": "drak"}}}, "model.measure.*.contrast.cyst.t1"),
        ({"sizes": [30.0, 5.0]}, "model.measure.*.sizes"),
        ({"starts": [50.0]}, "model.measure.*.starts"),
        ({"edge": 0.0}, "model.measure.*.edge"),
    ],
)
def test_values_that_mean_nothing_are_refused(segmenter: Segmenter, change: Mapping[str, Any], where: str) -> None:
    with pytest.raises(InputError) as caught:
        replace(segmenter, **change)
    assert caught.value.where == where
