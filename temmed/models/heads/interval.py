"""Says from when to when a labelled event lasts, or with which probability it never happens.

Each image has a score for the event being on in it. A course of the event is "never", or one run of images in which it
is on; the probability of a course is the exponential of the sum of the scores of its run (0 for "never"), over that of
all courses: a linear-chain conditional random field (Lafferty et al. 2001) with one run at most, as in a
semi-Markov field (Sarawagi and Cohen 2004). What the bounds of an event leave open is summed over, so that an event
known to lie between two images is learned from as it is. The likelihood is a proper score: the probability of "never"
is trained to be one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from temmed.data.batch import IGNORE, TimelineBatch, valid_items
from temmed.data.fitted import Fitted
from temmed.models.heads.base import Encoded, Rows, Sizes, TaskHead

#: Taken off the score of what cannot be: its probability becomes exactly 0.
_IMPOSSIBLE = 1e5
#: Less than any sum of scores, and finite, because the running sum of exponentials has no gradient at −∞.
_NO_START = -1e12


@dataclass
class Course:
    """What may become of an event.

    Attributes:
        scores: ``(B, E, T)`` for being on at each position, 0 where there is no image.
        never: ``(B, E)`` score of never being on; the scores of runs are sums of those of their images.
    """

    scores: Tensor
    never: Tensor


class IntervalHead(TaskHead):
    """Gives a probability to every interval and to "never". For the arguments see `TaskHead`.

    Its rows of ``events`` stand in place of those of the head that judges each position by itself.
    """

    texts = ("event_prompts",)
    items = "interval"
    outputs = ("on.2", "never")

    def __init__(self, sizes: Sizes, weight: float, early_weight: float | None = None) -> None:
        super().__init__(sizes, weight, early_weight)
        self.on = nn.Sequential(
            nn.Linear(sizes.dim + sizes.read, 2 * sizes.dim), nn.GELU(), nn.Linear(2 * sizes.dim, 1)
        )
        self.never = nn.Linear(sizes.dim, 1)

    def forward(self, encoded: Encoded) -> Course:
        """Scores of each position, and of "never"."""
        labels = encoded.texts["event_prompts"]
        read = encoded.look(labels)
        joined = torch.cat([labels.unsqueeze(2).expand(*read.shape[:3], -1), read], dim=-1)
        imaged = encoded.batch.image_mask
        scores = self.on(joined).squeeze(-1).float().masked_fill(~imaged.unsqueeze(1), 0.0)
        images = imaged.sum(dim=1, keepdim=True)
        # There are more runs in a longer sequence; before anything is seen, "never" is as likely as in a short one.
        runs = (images * (images + 1) / 2).clamp(min=1)
        return Course(scores, self.never(labels).squeeze(-1).float() + runs.log())

    def loss(self, said: Course, batch: TimelineBatch) -> Tensor:
        """Negative log-likelihood of all courses that agree with what is known of each position."""
        valid = valid_items(batch, self.items)
        imaged = batch.image_mask.unsqueeze(1).expand_as(said.scores)[valid]
        scores, never, targets = said.scores[valid], said.never[valid], batch.event_targets[valid]
        every = log_total(scores, never, imaged)
        return (every - log_total(scores, never, imaged, targets)).sum().float()

    def rows(self, said: Course, batch: TimelineBatch, fitted: Fitted) -> Rows:
        """``events``: the likelier of "never" and an interval, with its probability; of intervals the likeliest."""
        imaged = batch.image_mask.unsqueeze(1).expand_as(said.scores)
        absent = (said.never.double() - log_total(said.scores, said.never, imaged)).exp().tolist()
        mask, named = batch.image_mask.cpu(), batch.positions.cpu()
        found = []
        for b, labels in enumerate(batch.event_labels):
            scores = said.scores[b, :, batch.image_mask[b]].double()
            for e, label in enumerate(labels):
                happens = 1 - absent[b][e]
                first, last = best_run(scores[e]) if happens > 0.5 else (None, None)
                found.append(
                    {
                        "sequence_id": batch.sequence_ids[b],
                        "label": label,
                        "positions": named[b, mask[b]].tolist(),
                        "first": first,
                        "last": last,
                        "score": max(happens, 1 - happens) if mask[b].any() else None,
                    }
                )
        return {"events": found}


def log_total(scores: Tensor, never: Tensor, imaged: Tensor, targets: Tensor | None = None) -> Tensor:
    """Logarithm of the sum over all courses that agree with what is known, in float64.

    With running sums the work grows with the number of positions, not with its square.

    Args:
        scores: ``(..., T)`` for being on at each position.
        never: ``(...)`` score of "never".
        imaged: ``(..., T)`` bool; a run begins and ends at an image.
        targets: ``(..., T)`` 1 on, 0 off, −100 unknown; nothing is known by default.

    Returns:
        ``(...)``.
    """
    scores, never = scores.double(), never.double()
    if targets is not None:
        known = (targets != IGNORE) & imaged
        on, off = known & (targets == 1), known & (targets == 0)
        # To be off where it is on is as impossible as the reverse: the first is a bonus that every course needs.
        scores = scores + _IMPOSSIBLE * (on.double() - off.double())
        needed = _IMPOSSIBLE * on.sum(dim=-1)
    else:
        needed = torch.zeros_like(never)
    after = scores.cumsum(dim=-1)
    starts = torch.logcumsumexp((scores - after).masked_fill(~imaged, _NO_START), dim=-1)
    ends = (after + starts).masked_fill(~imaged, -torch.inf)
    return torch.cat([ends, never.unsqueeze(-1)], dim=-1).logsumexp(dim=-1) - needed


def best_run(scores: Tensor) -> tuple[int, int]:
    """First and last index of the run with the largest sum of scores ``(T,)`` (Kadane's algorithm)."""
    after = torch.cat([scores.new_zeros(1), scores.cumsum(dim=0)])
    lowest, start = after[:-1].cummin(dim=0)
    last = int((after[1:] - lowest).argmax())
    return int(start[last]), last
