"""Memory of batches that is taken up again when nobody holds them any more.

A batch of images is large, so that the system would map fresh pages for each and clear them one by one, which takes as
long as half of filling them.
"""

from __future__ import annotations

import math
import threading
import weakref

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

#: Smaller arrays come from the allocator's own store.
_LEAST = 1 << 20


class Buffers:
    """Tensors whose memory is taken up again once they, their views and arrays made of them are gone.

    Args:
        kept: the most unused buffers that are kept.
    """

    def __init__(self, kept: int = 4) -> None:
        self.kept = kept
        self._unused: list[NDArray[np.uint8]] = []
        self._lock = threading.Lock()

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Tensor:
        """A tensor of a shape and NumPy's number type, with anything in it."""
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        if size < _LEAST:
            return torch.from_numpy(np.empty(shape, kind))
        buffer = self._take(size)
        # The tensor alone holds this array, so that it is gone when the tensor's memory is. Arrays do not hold one
        # another: NumPy lets a view of a view hold the buffer itself.
        array: NDArray = np.ndarray(shape, kind, buffer.data)
        weakref.finalize(array, self._unused.append, buffer).atexit = False
        return torch.from_numpy(array)

    def _take(self, size: int) -> NDArray[np.uint8]:
        with self._lock:
            del self._unused[: -self.kept]
            for number, buffer in enumerate(self._unused):
                if size <= buffer.nbytes <= 4 * size:
                    return self._unused.pop(number)
        # Somewhat more than is wanted: the next batch may be a little larger.
        return np.empty(size + size // 4, np.uint8)
