"""Short diameters, contrast and beats in drawn loops, whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from temmed.errors import InputError
from temmed.measuring.segment import Target
from temmed.measuring.ventricle import Ventricle
from temmed.timelines.synthetic.loops import Loop, draw_loop
from temmed.timelines.synthetic.modalities.ultrasound import render_loop

SEED = 20
CHAMBER, CONTRAST = Target("", "left ventricle"), Target("contrast", "left ventricle")
SYSTOLE = Target("systole of beat 1", "left ventricle")


def _images(loop: Loop, size: int = 96) -> dict[int, dict[str, NDArray[np.uint8]]]:
    return {position: {"cine": image} for position, image in enumerate(render_loop(SEED, loop, size))}


@pytest.fixture(scope="module")
def loop() -> Loop:
    """With contrast that comes and goes, and a beat."""
    return next(one for k in range(100) if (one := draw_loop(SEED, k)).washout is not None and one.beats)


def test_diameter_contrast_and_beats_are_measured(ventricle: Ventricle) -> None:
    errors, contrast, systoles = [], [], []
    for index in range(8):
        loop = draw_loop(SEED, index)
        found = ventricle.measure(_images(loop), [CHAMBER, CONTRAST, SYSTOLE])
        errors.append(np.log(found[CHAMBER].diameter / loop.diameters))
        contrast.append((found[CONTRAST].present == (loop.contrast >= 0.5)).all())
        if loop.beats:
            beat = loop.beats[0]
            off = np.flatnonzero(found[SYSTOLE].present)[[0, -1]] - (beat.diastole + 1, beat.systole)
            systoles.append(np.abs(off).max() <= 1)
        assert found[CHAMBER].present.all()
    size = np.abs(np.concatenate(errors))
    assert np.median(size) < 0.015
    assert np.quantile(size, 0.95) < 0.06
    assert all(contrast)
    assert np.mean(systoles) > 0.7


def test_later_frames_change_nothing(ventricle: Ventricle, loop: Loop) -> None:
    images = _images(loop)
    whole = ventricle.measure(images, [CHAMBER])[CHAMBER]
    half = ventricle.measure({k: images[k] for k in range(loop.washout or 0)}, [CHAMBER])[CHAMBER]
    np.testing.assert_allclose(half.diameter, whole.diameter[: len(half.diameter)], rtol=1e-3)


def test_finer_pixels_have_their_own_size(ventricle: Ventricle, loop: Loop) -> None:
    images = _images(loop, 192)
    found = ventricle.measure({k: images[k] for k in range(4)}, [CHAMBER])[CHAMBER]
    assert found.diameter == pytest.approx(loop.diameters[:4], rel=0.04)


def test_without_images_there_is_nothing(ventricle: Ventricle) -> None:
    assert not len(ventricle.measure({}, [CHAMBER])[CHAMBER].positions)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("left ventricle apical four-chamber view", "Has the Left Ventricle progressed?"), CHAMBER),
        (("left ventricle", "At which frame has contrast arrived in the left ventricle?"), CONTRAST),
        (("left ventricle", "systole of beat 2"), Target("systole of beat 2", "left ventricle")),
        (("", "the mitral valve"), None),
    ],
)
def test_a_text_names_what_is_asked(ventricle: Ventricle, texts: tuple[str, ...], expected: Target | None) -> None:
    assert ventricle.target(*texts) == expected


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"usual": {"diameter": [45.0, 0.2]}}, "usual"),
        ({"depths": [100.0, 10.0]}, "depths"),
        ({"sides": [10.0]}, "sides"),
        ({"pixel": 0.0}, "pixel"),
    ],
)
def test_values_that_mean_nothing_are_refused(ventricle: Ventricle, change: Mapping[str, Any], where: str) -> None:
    with pytest.raises(InputError) as caught:
        replace(ventricle, **change)
    assert caught.value.where == f"model.measure.*.{where}"


def test_a_spread_of_nothing_is_refused(ventricle: Ventricle) -> None:
    with pytest.raises(InputError, match="spread"):
        replace(ventricle, usual={**ventricle.usual, "wall": [11.0, 0.0]})
