"""Memory of batches is used again, but never while anybody holds it."""

from __future__ import annotations

import gc
import pickle
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch

from temmed.data.buffers import Buffers

SHAPE = (3, 1 << 20)


def test_memory_is_used_again_when_nobody_holds_it() -> None:
    buffers = Buffers()
    place = buffers.empty(SHAPE, np.uint8).data_ptr()
    assert buffers.empty(SHAPE, np.uint8).data_ptr() == place
    # A little more than before, and another number type.
    assert buffers.empty((SHAPE[0] * SHAPE[1] // 4 + 1,), np.float32).data_ptr() == place


@pytest.mark.parametrize(
    "hold",
    [
        lambda tensor: tensor,
        lambda tensor: tensor[1:, ::2],
        lambda tensor: tensor[2].view(torch.int8),
        lambda tensor: tensor.numpy(),
        lambda tensor: tensor.numpy()[1:, ::2],
        lambda tensor: np.asarray(tensor[1:])[1],
        lambda tensor: torch.from_numpy(tensor.numpy()[1]),
        lambda tensor: memoryview(tensor.numpy()),
        lambda tensor: tensor.untyped_storage(),
    ],
)
def test_what_is_held_is_never_written_to(hold: Callable[[torch.Tensor], object]) -> None:
    buffers = Buffers()
    tensor = buffers.empty(SHAPE, np.uint8).fill_(7)
    held = hold(tensor)
    del tensor
    gc.collect()
    for _ in range(6):
        buffers.empty(SHAPE, np.uint8).fill_(1)
    assert set(np.unique(np.asarray(held[:9] if isinstance(held, torch.UntypedStorage) else held))) == {7}


def test_a_few_are_kept() -> None:
    buffers = Buffers(kept=2)
    tensors = [buffers.empty(SHAPE, np.uint8) for _ in range(5)]
    places = {tensor.data_ptr() for tensor in tensors}
    tensors.clear()
    again = [buffers.empty(SHAPE, np.uint8) for _ in range(5)]
    assert len(buffers._unused) == 0
    assert sum(tensor.data_ptr() in places for tensor in again[:2]) == 2


def test_small_tensors_are_not_kept() -> None:
    buffers = Buffers()
    assert buffers.empty((4, 4), np.float32).dtype == torch.float32
    assert buffers.empty((0, 1 << 20), np.int16).shape == (0, 1 << 20)
    assert buffers._unused == []


def test_threads_never_share() -> None:
    buffers, wrong = Buffers(), []

    def work(value: int) -> None:
        for _ in range(50):
            tensor = buffers.empty(SHAPE, np.uint8).fill_(value)
            if not bool((tensor == value).all()):
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_pickled_tensor_is_a_copy() -> None:
    buffers = Buffers()
    tensor = buffers.empty(SHAPE, np.uint8).fill_(3)
    copy = pickle.loads(pickle.dumps(tensor))
    del tensor
    buffers.empty(SHAPE, np.uint8).fill_(9)
    assert bool((copy == 3).all())
