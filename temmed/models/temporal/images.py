"""What heads have in common that read one image after another at each place and skip positions without one."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from temmed.models.encodings import ElapsedTime
from temmed.models.temporal.base import Chunk, State, TemporalHead, TemporalMemory


@dataclass(frozen=True)
class Images:
    """The images of a chunk, one behind another; at most L of a sequence.

    Attributes:
        tokens: ``(B, L, K, D)``, with the time of the image and that since the image before; zeros behind the last.
        gaps: ``(B, L)`` time since the image before, also if that was in the chunk before; 0 for the very first, and
            behind the last.
        there: ``(B, L)`` bool, which are not behind the last.
        lengths: ``(B,)`` long, how many there are.
    """

    tokens: Tensor
    gaps: Tensor
    there: Tensor
    lengths: Tensor


class ImageByImage(TemporalHead):
    """A summary of all images so far at each place, which stays as it is where there is no image.

    Two times enter: that since the start of the sequence and that since the image before. Subclasses implement `run`.

    Args:
        dim: size of the tokens.
    """

    bounded = True
    addressable = False

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.time = ElapsedTime(dim)
        self.gap = ElapsedTime(dim)

    @abstractmethod
    def run(self, images: Images, state: State) -> tuple[Tensor, State]:
        """Read images in their order.

        Args:
            images: to read.
            state: what this returned for the images before; empty at the start.

        Returns:
            ``(B, L, K, D)``, what is known after each image (anything behind the last), and the state after the last
            image of each sequence, with B first in all shapes.
        """

    def read(self, chunk: Chunk, state: State | None) -> tuple[TemporalMemory, State]:
        """See `TemporalHead.read`."""
        if state is None:
            nothing = chunk.times.new_zeros(len(chunk.times))
            state = {"known": torch.zeros_like(chunk.tokens[:, 0]), "seen_at": nothing, "seen": nothing > 0}
        tokens, times, there = chunk.tokens, chunk.times, chunk.image_mask
        lengths, complete = there.sum(dim=1), bool(there.all())
        if not complete:
            order = torch.argsort(~there, dim=1, stable=True)[:, : max(1, int(lengths.max()))]
            times, there = times.gather(1, order), there.gather(1, order)
            tokens = rows(tokens, order).masked_fill(~there[..., None, None], 0.0)
        images = self._between(tokens, times, there, lengths, state)
        outputs, after = self.run(images, {k: v for k, v in state.items() if k not in _OWN})
        moments = torch.cat([state["seen_at"].unsqueeze(1), times], dim=1)
        after["seen_at"] = moments.gather(1, lengths.unsqueeze(1)).squeeze(1)
        after["seen"] = state["seen"] | (lengths > 0)
        if not complete:
            outputs = torch.cat([state["known"].unsqueeze(1).to(outputs.dtype), outputs], dim=1)
            outputs = rows(outputs, chunk.image_mask.cumsum(dim=1))
        return chunk.slot_now(outputs), {**after, "known": outputs[:, -1]}

    def _between(self, tokens: Tensor, times: Tensor, there: Tensor, lengths: Tensor, state: State) -> Images:
        """Images with the time that has passed between them."""
        before = torch.cat([state["seen_at"].unsqueeze(1), times[:, :-1]], dim=1)
        known = torch.cat([state["seen"].unsqueeze(1), there[:, 1:]], dim=1) & there
        # A control may put images into another order than that of time: no gap is negative.
        gaps = (times - before).clamp(min=0) * known
        passed = self.gap(gaps) * known[..., None, None]
        return Images(tokens + (self.time(times) + passed), gaps, there, lengths)


#: What `ImageByImage` itself carries: the latest summary, the time of the latest image, and whether there was one.
_OWN = ("known", "seen_at", "seen")


def rows(x: Tensor, index: Tensor) -> Tensor:
    """Of ``(B, L, K, D)`` those at an index ``(B, S)``: ``(B, S, K, D)``."""
    start = torch.arange(len(x), device=x.device).unsqueeze(1) * x.shape[1]
    return x.flatten(0, 1).index_select(0, (index + start).flatten()).unflatten(0, index.shape)
