"""Stored features: the same numbers as computed directly, and whole or absent."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn

from temmed.data.caches import features, images
from temmed.data.caches.digests import ImageState
from temmed.data.caches.features import FeatureStore, build_features, feature_key, open_features
from temmed.data.caches.images import read_states
from temmed.data.dataset import SequenceDataset
from temmed.data.fitted import Fitted
from temmed.data.images import DecodedPixels, ImageSource
from temmed.data.pixels import Finish, pack
from temmed.data.records import Record
from temmed.timelines.folder import Timeline


@pytest.fixture(scope="module")
def backbone() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 8, 8), nn.Flatten(2))


def _encoder(backbone: nn.Module) -> object:
    def encode(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return backbone(images).transpose(1, 2)

    return encode


def test_store_equals_direct_computation(
    tmp_path: Path,
    tiny_timeline: Timeline,
    fitted: Fitted,
    backbone: nn.Module,
    records: list[Record],
    pixels: DecodedPixels,
) -> None:
    encode = _encoder(backbone)
    store = _build(tmp_path, tiny_timeline, fitted, encode, batch_size=7)
    finish = Finish(fitted)
    direct = SequenceDataset(records, pixels, len(fitted.sources))
    stored = SequenceDataset(records, pickle.loads(pickle.dumps(store)), len(fitted.sources))
    for index in range(len(records)):
        expected, found = direct[index], stored[index]
        assert isinstance(found.pixels, Tensor)
        assert found.positions == expected.positions
        torch.testing.assert_close(found.images, encode(finish(*pack([expected.pixels], 2))), atol=1e-3, rtol=1e-3)  # type: ignore[operator]

    def fail(images: Tensor) -> Tensor:
        raise AssertionError("computed again")

    again = _build(tmp_path, tiny_timeline, fitted, fail)
    assert torch.equal(again.stack("s00000", [0]), store.stack("s00000", [0]))


def test_a_build_goes_on_where_a_crash_left_it(
    tmp_path: Path, tiny_timeline: Timeline, fitted: Fitted, backbone: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "_IN_PART", 20)
    seen: list[int] = []

    def crash(images: Tensor) -> Tensor:
        seen.append(len(images))
        if sum(seen) > 60:
            raise RuntimeError("power cut")
        return _encoder(backbone)(images)  # type: ignore[operator]

    with pytest.raises(RuntimeError, match="power cut"):
        _build(tmp_path, tiny_timeline, fitted, crash, batch_size=10)
    assert not (tmp_path / "features" / "key").exists()
    seen[:] = [-1000]
    resumed = _build(tmp_path, tiny_timeline, fitted, crash, batch_size=10)
    assert 0 < sum(seen) + 1000 < _images(tiny_timeline) - 30
    whole = _build(tmp_path / "elsewhere", tiny_timeline, fitted, _encoder(backbone), batch_size=10)
    for sequence, group in tiny_timeline.table("images").groupby("sequence_id"):
        positions = sorted(set(group["position"]))
        assert torch.equal(resumed.stack(str(sequence), positions), whole.stack(str(sequence), positions))


def test_of_two_builders_one_waits_for_the_other(
    tmp_path: Path, tiny_timeline: Timeline, fitted: Fitted, backbone: nn.Module
) -> None:
    seen, together = [], Barrier(2)
    states = read_states(tiny_timeline, tmp_path)

    def encode(images: Tensor) -> Tensor:
        seen.append(len(images))
        return _encoder(backbone)(images)  # type: ignore[operator]

    def build(_: int) -> Tensor:
        together.wait()
        store = _build(tmp_path, tiny_timeline, fitted, encode, batch_size=16, states=states)
        return store.stack("s00000", [0])

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(build, range(2))
    assert torch.equal(one, other)
    assert sum(seen) == _images(tiny_timeline) + 1  # the first tells the size


def test_key_follows_weights_images_and_transforms(fitted: Fitted, backbone: nn.Module) -> None:
    key = feature_key("images", fitted, backbone)
    assert key == feature_key("images", Fitted.from_dict(fitted.to_dict()), copy.deepcopy(backbone))
    other = copy.deepcopy(backbone)
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1e-3
    saved = fitted.to_dict()
    assert key != feature_key("images", fitted, other)
    assert key != feature_key("images", fitted, copy.deepcopy(backbone).to(torch.bfloat16))
    assert key != feature_key("other images", fitted, backbone)
    assert key != feature_key("images", Fitted.from_dict({**saved, "mean": [0.0, 0.0]}), backbone)
    # Words and the scale of answers have no part in the features.
    assert key == feature_key("images", Fitted.from_dict({**saved, "tokenizer": ["other"]}), backbone)


@pytest.mark.parametrize("mode", ["auto", "always"])
def test_features_of_cached_and_of_decoded_images_are_equal(
    mode: str,
    tmp_path: Path,
    tiny_timeline: Timeline,
    fitted: Fitted,
    backbone: nn.Module,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encode, looked = _encoder(backbone), Mock(wraps=images.image_states)
    monkeypatch.setattr(images, "image_states", looked)
    found = open_features(tiny_timeline, fitted, backbone, encode, tmp_path, mode)  # type: ignore[arg-type]
    looked.assert_called_once()
    assert (tmp_path / "images").exists() == (mode == "always")
    expected = _build(tmp_path / "elsewhere", tiny_timeline, fitted, encode)
    assert torch.equal(found.stack("s00001", [0, 1]), expected.stack("s00001", [0, 1]))


def _build(
    cache: Path,
    timeline: Timeline,
    fitted: Fitted,
    encode: object,
    batch_size: int = 128,
    states: dict[str, ImageState] | None = None,
) -> FeatureStore:
    return build_features(
        cache / "features" / "key",
        timeline,
        fitted,
        lambda: DecodedPixels(ImageSource(timeline), fitted),
        encode,  # type: ignore[arg-type]
        states or read_states(timeline, cache),
        batch_size,
        progress=False,
    )


def _images(timeline: Timeline) -> int:
    return len(timeline.table("images")[["sequence_id", "position"]].drop_duplicates())
