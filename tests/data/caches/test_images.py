"""Cached images: the pixels of the files, under a key that any change of a file changes."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from temmed.data.caches import building, digests, images
from temmed.data.caches.images import CachedPixels, build_images, compact, open_pixels, read_states
from temmed.data.fitted import Fitted
from temmed.data.fitting import fit
from temmed.data.images import DecodedPixels
from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import make_split

if TYPE_CHECKING:
    from tests.data.caches.conftest import SameAsFiles


def _fit(timeline: Timeline, size: int = 32) -> Fitted:
    return fit(timeline, make_split(timeline, by="patient", seed=0), size)


def _cached(timeline: Timeline, fitted: Fitted, cache: Path) -> CachedPixels:
    pixels = open_pixels(timeline, fitted, cache, "always")
    assert isinstance(pixels, CachedPixels)
    return pixels


def _entries(cache: Path) -> set[str]:
    return {path.name for path in (cache / "images").iterdir() if not path.name.startswith(".")}


@pytest.mark.parametrize("size", [32, 24])
def test_cached_pixels_are_those_of_the_files(
    same_as_files: SameAsFiles, size: int, cxr: Timeline, tmp_path: Path
) -> None:
    fitted = _fit(cxr, size)
    pixels = _cached(cxr, fitted, tmp_path)
    same_as_files(pixels, cxr, fitted)
    same_as_files(pickle.loads(pickle.dumps(pixels)), cxr, fitted)
    assert len(pickle.dumps(pixels)) < 1000


def test_arrays_are_views_of_the_file_and_cannot_be_written(
    same_as_files: SameAsFiles, tiny_timeline: Timeline, fitted: Fitted, tmp_path: Path
) -> None:
    pixels = _cached(tiny_timeline, fitted, tmp_path)
    same_as_files(pixels, tiny_timeline, fitted)
    array = pixels.stack("s00000", [0]).array
    assert not array.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 0
    with pytest.raises(KeyError, match="no image at \\[99\\]"):
        pixels.stack("s00000", [0, 99])


def test_a_file_changed_in_place_with_equal_size_and_date_is_seen(
    same_as_files: SameAsFiles, copied: Timeline, tmp_path: Path
) -> None:
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
    same_as_files(_cached(again, fitted, cache), again, fitted)
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
    rows = copied.table("images")
    for path in set(rows.loc[rows["sequence_id"].isin(unseen), "path"]):
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


def test_auto_keeps_no_second_copy_of_plain_arrays(tiny_timeline: Timeline, fitted: Fitted, tmp_path: Path) -> None:
    assert isinstance(open_pixels(tiny_timeline, fitted, tmp_path, "auto"), DecodedPixels)
    assert not any(tmp_path.iterdir())
    smaller = fit(tiny_timeline, make_split(tiny_timeline, by="patient", seed=0), 16)
    assert isinstance(open_pixels(tiny_timeline, smaller, tmp_path, "auto"), CachedPixels)


def test_auto_caches_plain_arrays_of_many_files(
    tiny_timeline: Timeline, fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tiny_timeline.table("images")
    files = table["path"].nunique() / table["sequence_id"].nunique()
    monkeypatch.setattr(images, "_MOST_PLAIN_FILES", files)
    assert isinstance(open_pixels(tiny_timeline, fitted, tmp_path, "auto"), DecodedPixels)
    monkeypatch.setattr(images, "_MOST_PLAIN_FILES", 0.9 * files)
    assert isinstance(open_pixels(tiny_timeline, fitted, tmp_path, "auto"), CachedPixels)


def test_native_sizes_are_what_the_files_give(cxr: Timeline, tmp_path: Path, same_as_files: SameAsFiles) -> None:
    native = fit(cxr, make_split(cxr, by="patient", seed=0), None)
    assert native.preparation.size is None
    cached = open_pixels(cxr, native, tmp_path, "always")
    assert isinstance(cached, CachedPixels)
    decoded = open_pixels(cxr, native, tmp_path, "never")
    for sequence in cxr.table("sequences")["sequence_id"]:
        assert cached.size(sequence) == decoded.size(sequence)
    same_as_files(cached, cxr, native)


def test_what_is_read_once_is_cached_only_already(cxr: Timeline, cxr_fitted: Fitted, tmp_path: Path) -> None:
    assert isinstance(open_pixels(cxr, cxr_fitted, tmp_path, once=True), DecodedPixels)
    assert isinstance(open_pixels(cxr, cxr_fitted, tmp_path, "never"), DecodedPixels)
    assert not any(tmp_path.iterdir())
    _cached(cxr, cxr_fitted, tmp_path)
    assert isinstance(open_pixels(cxr, cxr_fitted, tmp_path, once=True), CachedPixels)


def test_no_space_is_said_before_anything_is_decoded(
    cxr: Timeline, cxr_fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(InputError, match=r"space for \d+\.\d kB, found 1.0 kB free"):
        open_pixels(cxr, cxr_fitted, tmp_path, "always")


def test_a_disk_that_is_full_is_told_and_what_was_written_is_used(
    cxr: Timeline, cxr_fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_as_files: SameAsFiles
) -> None:
    monkeypatch.setattr(images, "_SMALLEST_PART", 20_000)
    add, left = building.PartWriter.add, [6]

    def until_full(writer: building.PartWriter, slab: building.Slab) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(writer, slab)

    monkeypatch.setattr(building.PartWriter, "add", until_full)
    with pytest.raises(InputError, match="expected more space, found a full disk"):
        open_pixels(cxr, cxr_fitted, tmp_path, "always")
    assert _entries(tmp_path) == set()
    sequences = left[0] = cxr.table("images")["sequence_id"].nunique()
    same_as_files(_cached(cxr, cxr_fitted, tmp_path), cxr, cxr_fitted)
    assert 0 < left[0] < sequences


def test_a_cache_that_cannot_be_written_is_read_and_else_refused(
    cxr: Timeline, cxr_fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_as_files: SameAsFiles
) -> None:
    _cached(cxr, cxr_fitted, tmp_path / "full")
    for module in (building, digests):
        monkeypatch.setattr(module, "is_writable", lambda folder: False)
    same_as_files(_cached(cxr, cxr_fitted, tmp_path / "full"), cxr, cxr_fitted)
    with pytest.raises(InputError, match="a folder for caches that can be written to"):
        open_pixels(cxr, cxr_fitted, tmp_path / "empty", "always")
    assert not (tmp_path / "empty").exists()


def test_a_file_changed_while_it_is_cached_is_refused(
    copied: Timeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted, file = _fit(copied), copied.root / copied.table("images")["path"].iloc[0]
    write = images.write_part

    def change_first(*args: object) -> None:
        file.write_bytes(file.read_bytes()[:-1] + b"x")
        write(*args)

    monkeypatch.setattr(images, "write_part", change_first)
    with pytest.raises(InputError, match="that it was changed meanwhile") as caught:
        open_pixels(copied, fitted, tmp_path / "cache", "always")
    assert caught.value.where == str(file)
    assert _entries(tmp_path / "cache") == set()


@pytest.mark.slow
def test_processes_decode_the_same_and_name_what_is_unreadable(
    copied: Timeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_as_files: SameAsFiles
) -> None:
    fitted, cache = _fit(copied), tmp_path / "cache"
    monkeypatch.setattr(images, "_SMALLEST_PART", 20_000)
    file = copied.root / copied.table("images")["path"].iloc[-1]
    whole = file.read_bytes()
    file.write_bytes(whole[:300])
    with pytest.raises(InputError) as caught:
        build_images(cache / "images" / "one", copied, fitted, read_states(copied, cache), workers=2)
    assert caught.value.where == str(file)
    file.write_bytes(whole)
    found = build_images(cache / "images" / "two", copied, fitted, read_states(copied, cache), workers=2)
    assert len(found.entry.about["files"]) > 5
    same_as_files(found, copied, fitted)
