"""Joining images of many sequences into one tensor."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from temmed.data.pixels import PixelStack, pack


@pytest.fixture
def threads() -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


@pytest.mark.parametrize("columns", [(0, 1), (1,)])
@pytest.mark.parametrize("side", [16, 400])  # the larger one is copied by several threads
def test_each_image_lies_where_its_sequence_has_it(columns: tuple[int, ...], side: int, threads: int) -> None:
    rng = np.random.default_rng(0)
    stacks = []
    for number in range(5):
        array = rng.integers(0, 9999, (8, len(columns), side, side), dtype=np.uint16)
        rows = np.flatnonzero(rng.random(8) > 0.3) if number else np.zeros(0, np.int64)
        stacks.append(PixelStack(array, rows, columns, rng.random((len(rows), len(columns))) > 0.5))
    images, mask = pack(stacks, sources=2)
    expected = np.zeros((len(images), 2, side, side), np.uint16)
    expected[:, columns] = np.concatenate([stack.array[stack.rows] for stack in stacks])
    assert (images.numpy() == expected).all()
    present = np.zeros((len(images), 2), bool)
    present[:, columns] = np.concatenate([stack.mask for stack in stacks])
    assert (mask.numpy() == present).all()


def test_a_thread_that_fails_is_heard(threads: int) -> None:
    good = PixelStack(np.zeros((8, 1, 800, 800), np.uint8), np.arange(8), (0,), np.ones((8, 1), bool))
    bad = PixelStack(good.array[:, :, 1:], good.rows, (0,), good.mask)
    with pytest.raises(ValueError, match="take"):
        pack([good, good, bad], sources=1)
