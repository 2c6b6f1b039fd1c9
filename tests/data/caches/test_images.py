"""Cached images: the pixels of the files, under a key that any change of a file changes."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from temmed.data.caches.images import CachedPixels, compact, open_pixels
from temmed.data.datamodule import fit
from temmed.data.fitted import Fitted
from temmed.data.images import DecodedPixels, ImageSource
from temmed.data.pixels import Pixels, pack
from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import make_split
from temmed.timelines.synthetic.generate import generate


@pytest.fixture(scope="module")
def cxr(tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    """Radiographs as DICOM files: two sources, of which many positions have one."""
    root = tmp_path_factory.mktemp("cxr") / "set"
    return generate(root, modality="cxr", patients=12, size=32, workers=1, progress=False)


@pytest.fixture
def copied(cxr: Timeline, tmp_path: Path) -> Timeline:
    shutil.copytree(cxr.root, tmp_path / "copy")
    return Timeline.open(tmp_path / "copy")


def _fit(timeline: Timeline, size: int = 32) -> Fitted:
    return fit(timeline, make_split(timeline, by="patient", seed=0), size)


def _cached(timeline: Timeline, fitted: Fitted, cache: Path) -> CachedPixels:
    pixels = open_pixels(timeline, fitted, cache, "always")
    assert isinstance(pixels, CachedPixels)
    return pixels


def _entries(cache: Path) -> set[str]:
    return {path.name for path in (cache / "images").iterdir() if not path.name.startswith(".")}


def assert_same(found: Pixels, timeline: Timeline, fitted: Fitted) -> None:
    """All sequences, whole and in part, are what the files give."""
    source = ImageSource(timeline, fitted.windows)
    decoded = DecodedPixels(source, fitted)
    for sequence in timeline.table("sequences")["sequence_id"]:
        positions = source.positions(sequence)
        for wanted in (positions, positions[::-2], positions[:1] * 2):
            expected, stack = decoded.stack(sequence, wanted), found.stack(sequence, wanted)
            assert len(stack) == len(wanted)
            for one, other in zip(pack([stack], decoded.sources), pack([expected], decoded.sources), strict=True):
                assert np.array_equal(one.float(), other.float())


@pytest.mark.parametrize("size", [32, 24])
def test_cached_pixels_are_those_of_the_files(size: int, cxr: Timeline, tmp_path: Path) -> None:
    fitted = _fit(cxr, size)
    pixels = _cached(cxr, fitted, tmp_path)
    assert_same(pixels, cxr, fitted)
    assert_same(pickle.loads(pickle.dumps(pixels)), cxr, fitted)
    assert len(pickle.dumps(pixels)) < 1000


def test_arrays_are_views_of_the_file_and_cannot_be_written(
    tiny_timeline: Timeline, fitted: Fitted, tmp_path: Path
) -> None:
    pixels = _cached(tiny_timeline, fitted, tmp_path)
    assert_same(pixels, tiny_timeline, fitted)
    array = pixels.stack("s00000", [0]).array
    assert not array.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 0
    with pytest.raises(KeyError, match="no image at \\[99\\]"):
        pixels.stack("s00000", [0, 99])


def test_a_file_changed_in_place_with_equal_size_and_date_is_seen(copied: Timeline, tmp_path: Path) -> None:
    fitted, cache = _fit(copied), tmp_path / "cache"
    _cached(copied, fitted, cache)
    file = copied.root / copied.table("images")["path"].iloc[0]
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1  # the last pixel
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    again = Timeline.open(copied.root)
    assert_same(_cached(again, fitted, cache), again, fitted)
    assert len(_entries(cache)) == 2


def test_an_equal_folder_elsewhere_has_the_same_entry(cxr: Timeline, copied: Timeline, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    _cached(cxr, _fit(cxr), cache)
    _cached(copied, _fit(copied), cache)
    assert len(_entries(cache)) == 1


def test_test_images_have_no_part_in_what_is_fitted(copied: Timeline) -> None:
    split = make_split(copied, by="patient", seed=0)
    before = fit(copied, split, 32)
    unseen = set(split.sequences("test")["sequence_id"])
    images = copied.table("images")
    for path in set(images.loc[images["sequence_id"].isin(unseen), "path"]):
        content = bytearray((copied.root / path).read_bytes())
        content[-200:] = bytes(200)
        (copied.root / path).write_bytes(content)
    assert fit(Timeline.open(copied.root), split, 32) == before


def test_unreadable_images_are_named_and_nothing_is_kept(copied: Timeline, tmp_path: Path) -> None:
    fitted = _fit(copied)
    paths = copied.table("images")["path"].drop_duplicates().tolist()
    for path in (paths[3], paths[-1]):
        (copied.root / path).write_bytes((copied.root / path).read_bytes()[:300])
    with pytest.raises(InputError, match="1 other problem") as caught:
        open_pixels(copied, fitted, tmp_path / "cache", "always")
    assert caught.value.where == str(copied.root / paths[3])
    assert paths[-1] in str(caught.value)
    assert _entries(tmp_path / "cache") == set()


def test_an_image_that_is_absent_is_named(copied: Timeline, tmp_path: Path) -> None:
    fitted = _fit(copied)
    file = copied.root / copied.table("images")["path"].iloc[5]
    file.unlink()
    with pytest.raises(InputError, match="No such file") as caught:
        open_pixels(copied, fitted, tmp_path / "cache", "always")
    assert caught.value.where == str(file)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([-1024.0, 3071.0], np.int16),
        ([0.0, 60000.0], np.uint16),
        ([0.0, 70000.0], np.float32),
        ([0.5, 1.0], np.float32),
        ([np.nan, 1.0], np.float32),
        ([np.inf, 1.0], np.float32),
    ],
)
def test_whole_values_take_16_bits(values: list[float], kind: type) -> None:
    found = compact(np.array(values, np.float32))
    assert found.dtype == kind
    assert np.array_equal(found, np.array(values, np.float32), equal_nan=True)
