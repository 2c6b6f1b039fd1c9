"""What every image goes through before the model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import zoom

from temmed.data.fitted import Fitted, Source
from temmed.data.fitting import fit
from temmed.data.images import DecodedPixels, ImageSource, PreparedImages
from temmed.data.preparation import Preparation
from temmed.data.resampling import cut_or_pad, resample, resize
from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import make_split
from temmed.timelines.synthetic.generate import generate

Visits = Callable[..., Timeline]
ALL = Preparation(register="rigid", spacing=(3.0, 1.0, 1.0), slices=5, size=(32, 32))


def test_it_comes_back_from_json_with_the_same_key() -> None:
    again = Preparation.from_dict(json.loads(json.dumps(ALL.to_dict())))
    assert again == ALL
    assert again.key() == ALL.key()
    changes = ({"register": None}, {"spacing": (3.0, 1.0, 1.1)}, {"slices": 6}, {"size": None})
    assert len({ALL.key(), *(replace(ALL, **change).key() for change in changes)}) == 5


def test_images_of_no_given_size_keep_their_own(fitted: Fitted) -> None:
    assert fitted.preparation == Preparation(size=(32, 32))
    assert not fitted.native
    assert replace(fitted, preparation=Preparation()).native


def disc(shape: tuple[int, int], spacing: tuple[float, float], radius: float) -> np.ndarray:
    """A bright disc in the middle, ``radius`` mm large, on dark ground."""
    rows, columns = ((np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing, strict=True))
    return np.where(np.hypot(rows[:, None], columns) < radius, 1000, 100).astype(np.float32)


def read(timeline: Timeline, preparation: Preparation, sequence: str = "s0") -> list[np.ndarray]:
    """The images of a sequence of one source, in order."""
    found = PreparedImages(ImageSource(timeline), preparation).read(sequence)
    return [next(iter(found[position].values())) for position in sorted(found)]


def test_spacing_makes_a_millimetre_the_same_number_of_pixels(visits: Visits) -> None:
    grids = [((60, 40), (1.0, 1.5)), ((90, 130), (0.7, 0.5))]
    images = [{"t1": disc(shape, spacing, 15.0)} for shape, spacing in grids]
    timeline = visits({"s0": images}, [[spacing for _, spacing in grids]])
    first, second = read(timeline, Preparation(spacing=(0.8,)))
    assert first.shape == second.shape == (75, 75)  # 60 mm × 60 mm; the second, 63 mm × 65 mm, is cut to it
    for image in (first, second):
        assert (image > 550).sum() * 0.8**2 == pytest.approx(np.pi * 15**2, rel=0.03)
    small, _ = read(timeline, Preparation(spacing=(0.8,), size=(64, 96)))
    np.testing.assert_array_equal(small[:, 10:85], first[5:69, :])
    assert (small[:, :10] == first.min()).all()


def test_volumes_are_resampled_along_every_axis(visits: Visits) -> None:
    volume = np.random.default_rng(0).random((6, 20, 24)).astype(np.float32)
    timeline = visits({"s0": [{"t1": volume}]}, (5.0, 0.5, 0.5))
    [image] = read(timeline, Preparation(spacing=(2.5, 1.0, 1.0)))
    assert image.shape == (12, 10, 12)
    assert image.mean() == pytest.approx(volume.mean(), abs=0.01)
    # Four pixels and more become one: noise is averaged and not merely picked.
    assert image.std() < 0.6 * volume.std()
    with pytest.raises(InputError, match=r"data\.spacing: expected one number, or 3 for images of 3 dimensions"):
        read(timeline, Preparation(spacing=(1.0, 1.0)))


def test_finer_spacing_is_that_of_scipy() -> None:
    """Every axis by a factor of its own; the field of view, and not the middle of the first pixel, stays in place."""
    volume = np.random.default_rng(0).normal(0, 1000, (5, 12, 9)).astype(np.float32)
    spacing, target = (6.0, 1.0, 1.6), (2.0, 0.5, 0.4)
    found = resample(volume, spacing, target)
    expected = zoom(volume, (3, 2, 4), order=1, mode="nearest", grid_mode=True)
    assert found.shape == expected.shape == (15, 24, 36)
    np.testing.assert_allclose(found, expected, atol=0.01)
    plane = resample(volume[0], spacing[1:], target[1:])
    np.testing.assert_allclose(plane, zoom(volume[0], (2, 4), order=1, mode="nearest", grid_mode=True), atol=0.01)


def test_a_file_that_tells_no_spacing_is_refused(visits: Visits) -> None:
    timeline = visits({"s0": [{"t1": disc((16, 16), (1, 1), 4)}]}, None)
    with pytest.raises(InputError, match=r"s0_0_t1\.npy: expected a header that says .* Set data\.spacing=null"):
        read(timeline, Preparation(spacing=(1.0,)))


def test_dicom_series_tell_their_spacing(tmp_path: Path) -> None:
    timeline = generate(tmp_path / "ct", "ct", patients=1, size=16, spatial_dims=3, workers=1, progress=False)
    source = ImageSource(timeline)
    sequence = timeline.table("images")["sequence_id"].iloc[0]
    position = source.positions(sequence)[0]
    assert source.spacing(sequence, position, Source("ct"))[0] == pytest.approx(4.0)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.float32])
def test_number_types_stay_and_values_are_rounded(kind: type) -> None:
    image = np.random.default_rng(0).integers(0, 250, (20, 31)).astype(kind)
    for changed in (resize(image, (15, 16)), cut_or_pad(image, (15, 40)), resample(image, (1.0, 2.0), (1.5, 1.5))):
        assert changed.dtype == kind
        assert abs(changed.mean(dtype=float) - image.mean(dtype=float)) < 30
    whole = resize(image.astype(np.float32), (15, 16))
    if kind is not np.float32:
        np.testing.assert_array_equal(resize(image, (15, 16)), np.rint(whole))


@pytest.mark.parametrize("kind", [np.int32, np.uint32, np.int64])
def test_numbers_that_float32_does_not_hold_stay_exact(kind: type) -> None:
    image = np.random.default_rng(0).integers(0, 250, (20, 31))
    large = (image + 2**30).astype(kind)
    for step in (lambda i: resize(i, (15, 16)), lambda i: resize(i, (40, 60)), lambda i: cut_or_pad(i, (15, 40))):
        changed = step(large)
        assert changed.dtype == kind
        assert abs(changed - 2.0**30 - step(image.astype(float))).max() <= 0.5 + 1e-6
    volume = np.full((4, 5, 6), 2**24 + 1, kind)
    np.testing.assert_array_equal(resize(volume, (3, 7, 9)), np.full((3, 7, 9), 2**24 + 1))


def test_cutting_and_padding_keep_the_middle() -> None:
    image = np.zeros((9, 9), np.uint16) + 3
    image[4, 4] = 9
    for size in ((5, 5), (15, 15), (5, 15)):
        changed = cut_or_pad(image, size)
        assert changed.shape == size
        assert np.unravel_index(changed.argmax(), size) == (size[0] // 2, size[1] // 2)
        assert changed.min() == 3


def test_a_volume_is_read_as_slices(visits: Visits) -> None:
    volume = np.arange(10, dtype=np.float32)[:, None, None] + np.zeros((10, 8, 12), np.float32)
    timeline = visits({"s0": [{"t1": volume}], "s1": [{"t1": volume[:3]}]}, (1.0, 1.0, 1.0))
    images = PreparedImages(ImageSource(timeline), Preparation(slices=5, size=(8, 8)))
    found = images.read("s0")[0]
    assert [(kind.channel, image.shape, image[0, 0]) for kind, image in found.items()] == [
        (f"t1.slice{n}", (8, 8), value) for n, value in zip(range(1, 6), (1, 3, 5, 7, 9), strict=True)
    ]
    assert [image[0, 0] for image in images.read("s1")[0].values()] == [0, 0, 1, 2, 2]
    flat = visits({"s0": [{"t1": volume[0]}]})
    with pytest.raises(InputError, match=r"expected volumes .* Leave data\.slices out"):
        PreparedImages(ImageSource(flat), Preparation(slices=5)).read("s0")


def test_each_sequence_may_keep_its_own_size(visits: Visits) -> None:
    rng = np.random.default_rng(0)
    shapes = {"s0": [(20, 30), (25, 30)], "s1": [(16, 16), (16, 16)]}
    timeline = visits({key: [{"t1": rng.random(shape)} for shape in value] for key, value in shapes.items()})
    split = make_split(timeline, by="patient", fractions=(1.0, 0.0, 0.0), seed=0)
    fitted = fit(timeline, split, None)
    assert fitted.native
    assert fitted.spatial == (20, 30)
    pixels = DecodedPixels(ImageSource(timeline), fitted)
    assert pixels.stack("s0", [1]).spatial == pixels.stack("s0", [0, 1]).spatial == (20, 30)
    assert pixels.stack("s1", [0, 1]).spatial == (16, 16)


def test_sizes_that_cannot_be_are_refused(visits: Visits) -> None:
    timeline = visits({"s0": [{"t1": np.zeros((40, 8, 8), np.float32)}]}, (1.0, 1.0, 1.0))
    split = make_split(timeline, by="patient", fractions=(1.0, 0.0, 0.0), seed=0)
    assert fit(timeline, split, 16).spatial == (32, 16, 16)
    assert fit(timeline, split, [10, 16, 16], steps=Preparation(spacing=(2.0,))).preparation.size == (10, 16, 16)
    with pytest.raises(InputError, match=r"data\.size: expected 3 numbers"):
        fit(timeline, split, [16, 16])
    with pytest.raises(InputError, match=r"data\.size: expected \[slices, rows, columns\], found 16"):
        fit(timeline, split, 16, steps=Preparation(spacing=(2.0,)))
