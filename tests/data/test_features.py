"""Stored features: the same numbers as computed directly, and whole or absent."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import torch
from torch import Tensor, nn

from temmed.data.dataset import SequenceDataset
from temmed.data.features import build_features, feature_key
from temmed.data.fitted import Fitted
from temmed.data.images import DecodedPixels
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
    store = build_features(tmp_path / "key", tiny_timeline, fitted, encode, batch_size=7, progress=False)  # type: ignore[arg-type]
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

    again = build_features(tmp_path / "key", tiny_timeline, fitted, fail, progress=False)
    assert torch.equal(again.stack("s00000", [0]), store.stack("s00000", [0]))


def test_crash_while_building_leaves_nothing(tmp_path: Path, tiny_timeline: Timeline, fitted: Fitted) -> None:
    calls = []

    def crash(images: Tensor) -> Tensor:
        calls.append(len(images))
        if len(calls) == 2:
            raise RuntimeError("power cut")
        return images.flatten(2)

    with pytest.raises(RuntimeError, match="power cut"):
        build_features(tmp_path / "key", tiny_timeline, fitted, crash, batch_size=20, progress=False)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_of_two_builders_one_waits_for_the_other(
    tmp_path: Path, tiny_timeline: Timeline, fitted: Fitted, backbone: nn.Module
) -> None:
    seen, together = [], Barrier(2)

    def encode(images: Tensor) -> Tensor:
        seen.append(len(images))
        return _encoder(backbone)(images)  # type: ignore[operator]

    def build(_: int) -> Tensor:
        together.wait()
        store = build_features(tmp_path / "key", tiny_timeline, fitted, encode, batch_size=16, progress=False)
        return store.stack("s00000", [0])

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(build, range(2))
    assert torch.equal(one, other)
    assert sum(seen) == len(tiny_timeline.table("images")[["sequence_id", "position"]].drop_duplicates())


def test_key_follows_weights_images_and_transforms(
    tiny_timeline: Timeline, fitted: Fitted, backbone: nn.Module
) -> None:
    key = feature_key(tiny_timeline, fitted, backbone)
    assert key == feature_key(tiny_timeline, Fitted.from_dict(fitted.to_dict()), copy.deepcopy(backbone))
    other = copy.deepcopy(backbone)
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1e-3
    saved = fitted.to_dict()
    assert key != feature_key(tiny_timeline, fitted, other)
    assert key != feature_key(tiny_timeline, Fitted.from_dict({**saved, "mean": [0.0, 0.0]}), backbone)
    # Words and the scale of answers have no part in the features.
    assert key == feature_key(tiny_timeline, Fitted.from_dict({**saved, "tokenizer": ["other"]}), backbone)
