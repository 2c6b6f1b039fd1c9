"""Reading long sequences in chunks, so that training holds the activations of one chunk at a time.

A chunk of positions goes through backbone, temporal head and reader before the next one is looked at; what the head
carries on is its state. In training, a chunk keeps only what it was given, and is computed again when its gradient is
wanted (gradient checkpointing, Chen et al. 2016), so the gradient is that of the whole sequence. Cut between chunks, it
is that of truncated backpropagation through time (Williams & Peng 1990): a question then teaches the head by its own
chunk alone. What differs from truncated training of recurrent networks: there is one step of the optimizer for whole
sequences, so the loss does not depend on where they are cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NoReturn

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from temmed.data.batch import TimelineBatch
from temmed.errors import InputError
from temmed.models.heads.base import Encoded
from temmed.models.readers.base import POINTERS, Asked, Reader, Reading, Shown
from temmed.models.temporal.base import State, TemporalMemory

#: Reads the next positions of sequences: (batch, state) → tokens after the reader's norm, memory, state.
ReadImages = Callable[[TimelineBatch, State | None], tuple[Tensor, TemporalMemory, State]]


class Deferred(Encoded):
    """A batch whose images are not read yet: task heads are run once to hear what they ask, and again to be answered.

    Args:
        batch: whole sequences.
        reports: those that are input, if any.
        texts: what the heads asked to be encoded.
        reader: reads images and memory.
        addressable: whether slots of the memory stand for positions.
    """

    def __init__(
        self,
        batch: TimelineBatch,
        reports: TemporalMemory | None,
        texts: Mapping[str, Tensor],
        reader: Reader,
        addressable: bool,
    ) -> None:
        self.batch, self.reports, self.texts = batch, reports, texts
        self.reader, self.addressable = reader, addressable
        self.asked: list[Asked] = []
        self.looked: list[Tensor] = []
        self._readings: list[Reading] | None = None
        self._seen: list[Tensor] = []

    def __getattr__(self, name: str) -> NoReturn:
        """There is no moment at which all images or all of the memory are there."""
        if name in ("images", "memory"):
            raise InputError(
                "task heads that read through `ask`, `look` or `reading`, to read in chunks",
                f"one that takes all {name} at once",
                "model.chunk",
                "Set model.chunk=null, or the weight of that head to 0.",
            )
        raise AttributeError(name)

    def _read(self, asked: Asked) -> Reading:
        if self._readings is not None:
            return self._readings.pop(0)
        self.asked.append(asked)
        nothing = torch.zeros_like(asked.prompts)
        shape = (*nothing.shape[:2], POINTERS, self.batch.mask.shape[1])
        return Reading(nothing, nothing.new_zeros(shape) if asked.pointing else None)

    def look(self, prompts: Tensor) -> Tensor:
        """See `Encoded.look`."""
        if self._readings is not None:
            return self._seen.pop(0)
        self.looked.append(prompts)
        return prompts.new_zeros(*prompts.shape[:2], self.batch.mask.shape[1], self.reader.size)

    def answer(self, read: ReadImages, size: int, detach: bool) -> None:
        """Read the images in chunks, each question at the chunk in which it is asked.

        Args:
            read: reads one chunk.
            size: positions in a chunk.
            detach: cut the gradient between chunks.
        """
        length = self.batch.mask.shape[1]
        state: State | None = None
        places: list[list[tuple[Tensor, Tensor]]] = [[] for _ in self.asked]
        readings: list[list[Reading]] = [[] for _ in self.asked]
        seen: list[list[Tensor]] = [[] for _ in self.looked]
        for start in range(0, length, size):
            stop = min(start + size, length)
            parts = [_between(asked, start, stop) for asked in self.asked]
            found, looks, state = self._chunk(read, [part for part, *_ in parts], state, start, stop)
            if detach:
                state = {name: value.detach() for name, value in state.items()}
            for n, ((_, mask, place), reading) in enumerate(zip(parts, found, strict=True)):
                places[n].append(place)
                pointers = None if reading.pointers is None else reading.pointers[mask]
                readings[n].append(Reading(reading.features[mask], pointers))
            for n, look in enumerate(looks):
                seen[n].append(look)
        self.__dict__.pop("reading", None)  # what was noted of it
        self._readings = [
            _join(asked, where, given) for asked, where, given in zip(self.asked, places, readings, strict=True)
        ]
        self._seen = [torch.cat(looks, dim=2) for looks in seen]

    def _chunk(
        self, read: ReadImages, asked: list[Asked], state: State | None, start: int, stop: int
    ) -> tuple[list[Reading], list[Tensor], State]:
        def run(texts: Mapping[str, Tensor], carried: State | None) -> tuple[list[Reading], list[Tensor], State]:
            # Cut inside, so that a chunk of the images is not kept until the backward pass.
            images, memory, after = read(_cut(self.batch, start, stop), carried)
            shown = Shown(images, memory, self.batch.positions, start)
            readings = [self.reader(of, shown) for of in asked]
            return readings, [self.reader.look(x, images) for x in self.looked], after

        if torch.is_grad_enabled():
            # Given texts and state, it also finds the device whose random numbers are to come again.
            return checkpoint(run, self.texts, state, use_reentrant=False)
        return run(self.texts, state)


def _between(asked: Asked, start: int, stop: int) -> tuple[Asked, Tensor, tuple[Tensor, Tensor]]:
    """What is asked at some positions, padded to the most of one sequence.

    Returns:
        It; ``(B, q)`` bool, which of it is no padding; and where that stood: the sequences and questions.
    """
    inside = (start <= asked.asked_at) & (asked.asked_at < stop)
    most = int(inside.sum(dim=1).max()) if inside.numel() else 0
    index = torch.argsort(~inside, dim=1, stable=True)[:, :most]
    rows = torch.arange(len(index), device=index.device).unsqueeze(1)
    mask = inside.gather(1, index)
    part = replace(
        asked,
        prompts=asked.prompts[rows, index],
        asked_at=asked.asked_at[rows, index].clamp(start, stop - 1),
        called=asked.called[rows, index],
        named=None if asked.named is None else asked.named[rows, index],
    )
    return part, mask, (rows.expand_as(index)[mask], index[mask])


def _cut(batch: TimelineBatch, start: int, stop: int) -> TimelineBatch:
    """The images, masks, times and names of some positions; what is asked stays that of the whole sequences."""
    position = batch.frame_index[:, 1]
    inside = (start <= position) & (position < stop)
    frames = batch.frame_index[inside]
    named = ("mask", "image_mask", "channel_mask", "times", "positions")
    return replace(
        batch,
        images=batch.images[inside],
        frame_index=torch.stack([frames[:, 0], frames[:, 1] - start], dim=1),
        **{name: getattr(batch, name)[:, start:stop] for name in named},
    )


def _join(asked: Asked, places: list[tuple[Tensor, Tensor]], readings: list[Reading]) -> Reading:
    """The readings of all chunks, each question in its place."""
    where = tuple(torch.cat(index) for index in zip(*places, strict=True))

    def placed(parts: list[Tensor]) -> Tensor:
        values = torch.cat(parts)
        return values.new_zeros(*asked.asked_at.shape, *values.shape[1:]).index_put(where, values)

    pointers = [reading.pointers for reading in readings if reading.pointers is not None]
    return Reading(placed([reading.features for reading in readings]), placed(pointers) if pointers else None)
