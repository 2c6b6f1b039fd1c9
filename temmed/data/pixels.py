"""Pixels on their way from the files to the model: as the files hold them, until the model's first step.

What is read, kept in a cache, put into batches and moved to the device are the values of the source in the source's
own number type. Windows and normalisation are applied by `Finish`, on the device, to a whole batch at once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from temmed.data.buffers import Buffers
from temmed.data.fitted import Fitted

_BUFFERS = Buffers()
#: Bytes below which one thread has copied a batch before another has started.
_WORTH_THREADS = 8 << 20


@dataclass
class PixelStack:
    """The images of some positions of one sequence.

    Attributes:
        array: ``(m, C, *spatial)``, in the number type of the source; perhaps a memory-mapped file.
        rows: ``(n,)`` which of the ``m`` these are, in the order of the positions.
        columns: ``(C,)`` which of `Fitted.sources` the second axis holds.
        mask: ``(n, C)`` whether a position has a source; pixels are 0 where not.
    """

    array: NDArray
    rows: NDArray[np.int64]
    columns: tuple[int, ...]
    mask: NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.rows)

    @property
    def spatial(self) -> tuple[int, ...]:
        """Size of the images."""
        return tuple(self.array.shape[2:])


class Pixels(Protocol):
    """Where a data set takes pixels from: the files, or a cache of what they hold."""

    def size(self, sequence_id: str) -> tuple[int, ...]:
        """The size of all images of a sequence; cheap when asked again.

        Raises:
            InputError: a file cannot be read.
        """
        ...

    def stack(self, sequence_id: str, positions: Sequence[int]) -> PixelStack:
        """The images of some positions of a sequence.

        Raises:
            InputError: a file cannot be read.
        """
        ...


def pack(stacks: Sequence[PixelStack], sources: int) -> tuple[Tensor, Tensor]:
    """Join stacks into one tensor, each image copied once.

    Args:
        stacks: one at least, all of one spatial size.
        sources: number of sources.

    Returns:
        ``(N, sources, *spatial)`` in the smallest number type that holds all, 0 where a source is absent; and the
        mask ``(N, sources)``.
    """
    spatial = stacks[0].spatial
    stacks = [stack for stack in stacks if len(stack.rows)]
    starts = list(accumulate((len(stack.rows) for stack in stacks), initial=0))
    kinds = {stack.array.dtype for stack in stacks} or {np.dtype(np.uint8)}
    kind, whole = np.result_type(*kinds), tuple(range(sources))
    alike = len(kinds) == 1 and all(stack.columns == whole for stack in stacks)
    joined = _BUFFERS.empty((starts[-1], sources, *spatial), kind)
    images = joined.numpy()
    if alike and stacks:
        mask = np.concatenate([stack.mask for stack in stacks])
    else:
        images.fill(0)
        mask = np.zeros((starts[-1], sources), dtype=bool)

    def copy(numbers: Sequence[int]) -> None:
        for number in numbers:
            stack, part = stacks[number], slice(starts[number], starts[number + 1])
            if alike:
                # "clip" lets NumPy write into the target at once; the rows are known to exist.
                stack.array.take(stack.rows, axis=0, out=images[part], mode="clip")
            else:
                columns = list(stack.columns)
                for target, row in zip(images[part], stack.rows.tolist(), strict=True):
                    target[columns] = stack.array[row]
                mask[part, columns] = stack.mask

    # One processor does not use all of the memory's speed. Loader processes have one thread each.
    threads = torch.get_num_threads() if images.nbytes >= _WORTH_THREADS else 1
    shares = [range(n, len(stacks), threads) for n in range(threads)]
    others = [_threads(os.getpid(), threads - 1).submit(copy, share) for share in shares[1:]]
    copy(shares[0])
    for other in others:
        other.result()
    return joined, torch.from_numpy(mask)


@cache
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    """Threads of a process, kept; a forked process has none of its parent's."""
    return ThreadPoolExecutor(count, thread_name_prefix="pack")


class Finish(nn.Module):
    """From the pixels of the sources to normalised channels: windows, then mean 0 and deviation 1.

    Args:
        fitted: sources, channels and their normalisation.
    """

    def __init__(self, fitted: Fitted) -> None:
        super().__init__()
        self.plan = fitted.plan
        self.channels = len(fitted.channels)
        self.mean: Tensor
        self.deviation: Tensor
        # In no checkpoint's weights: they are made from what is fitted, which is beside them.
        self.register_buffer("mean", torch.tensor(fitted.mean), persistent=False)
        self.register_buffer("deviation", torch.tensor(fitted.deviation), persistent=False)
        self._as_they_are = [(s, s, None) for s in range(len(fitted.sources))] == list(self.plan)

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        """Finish a batch.

        Args:
            images: ``(N, C, *spatial)`` of any number type.
            mask: ``(N, C)`` whether a source is there.

        Returns:
            ``(N, channels, *spatial)`` float32; 0, the mean, where a channel is absent.
        """
        shape = (-1, *(1,) * (images.ndim - 2))
        if self._as_they_are:
            found = (images.to(self.mean.dtype) - self.mean.view(shape)) / self.deviation.view(shape)
            return found * mask.view(*mask.shape, *shape[1:])
        found = self.mean.new_zeros(len(images), self.channels, *images.shape[2:])
        for channel, source, window in self.plan:
            values = images[:, source].to(self.mean.dtype)
            if window is not None:
                values = ((values - (window.centre - window.width / 2)) / window.width).clamp(0, 1)
            values = (values - self.mean[channel]) / self.deviation[channel]
            there = mask[:, source].view(shape)
            found[:, channel] = torch.where(there, values, found[:, channel])
        return found
