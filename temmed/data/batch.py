"""What a model is given: a batch of sequences with their questions, packed images and masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

#: Answer index of a question that has none.
IGNORE = -100
#: Moments named in a question that a model is told of: a comparison names two.
NAMED = 2


@dataclass(repr=False)
class TimelineBatch:
    """A batch. B sequences, T positions, C channels of files, Q questions, K choices, E events, R reports, L tokens.

    Attributes:
        images: ``(N, C, *spatial)`` in the number type of the files, only images that exist,
            ``N = image_mask.sum()``; the model windows and normalises them (`temmed.data.pixels.Finish`). Or
            features ``(N, K, D)`` of a frozen backbone when ``is_features``.
        frame_index: ``(N, 2)`` long: (sequence, position) of each image.
        mask: ``(B, T)`` bool, the position exists.
        image_mask: ``(B, T)`` bool, the position has an image.
        channel_mask: ``(B, T, C)`` bool.
        times: ``(B, T)`` float, since the first time point, in days, seconds or steps.
        positions: ``(B, T)`` long, what each is called in its sequence, in words and in predictions; all other fields
            that speak of positions are indices along T. Padding is counted on.
        prompts: ``(B, Q, L)`` long token ids; ``prompt_mask`` likewise, bool.
        named: ``(B, Q, NAMED, 2)`` float, the first moments that a prompt names, each (time, position) of which one is
            NaN, in the units of ``times`` and ``positions``; both are NaN where no more is named.
        choices: ``(B, Q, K, L)`` long token ids; ``choice_mask``: ``(B, Q, K)`` bool.
        question_mask: ``(B, Q)`` bool.
        asked_at: ``(B, Q)`` long, a position.
        answers: ``(B, Q)`` long index into the choices, −100 for none.
        values: ``(B, Q)`` float, NaN for none.
        evidence: ``(B, Q, T)`` bool.
        findings: ``(B, Q)`` long: questions with one number are about one finding; −1 for none or an unknown one.
        event_prompts: ``(B, E, L)`` long token ids of the event labels; ``event_mask``: ``(B, E)`` bool.
        event_targets: ``(B, E, T)`` long: 1 present, 0 absent, −100 unknown, without image or censored.
        event_intervals: ``(B, E, 4)`` float: onset and offset bounds in canonical time, NaN for never.
        statements: ``(B, S, L)`` long token ids; ``statement_mask``: ``(B, S)``; ``statement_position``: ``(B, S)``;
            ``statement_named``: ``(B, S, NAMED, 2)``, as ``named``; ``statement_consistent``: ``(B, S)`` bool.
        patients: ``(B,)`` long, a number for each patient, the same in all batches and processes.
        written: ``(B, W, L)`` long token ids of reports to be matched with images, never input; ``written_mask``:
            ``(B, W)``; ``written_at``: ``(B, W)`` long, their positions.
        reports: ``(B, R, L)`` long token ids of reports given as input; ``report_mask``: ``(B, R)``;
            ``report_from``: ``(B, R)`` long, the first position at which the report may be read.
        report_targets: ``(B, W, L)`` long ids of the vocabulary of written reports, −100 = padding: those to be written
            and those before them; ``report_wanted``: ``(B, W)`` bool, it is to be written of its images; ``report_at``:
            ``(B, W)`` long, its position; ``report_prior``: ``(B, W)`` long, the index along W of the latest earlier
            report if that is input, else −1.
        boxes: ``(B, G, 4)`` float: centre and size of findings along columns and rows, in shares of the image, NaN for
            none; ``box_prompts``: ``(B, G, L)`` long token ids of what lies there; ``box_at``: ``(B, G)`` long, its
            position; ``box_sizes``: ``(B, G, 2)`` long, columns and rows of the image as its file has them;
            ``box_names[b][g]``: id of the finding, and the channel.
        question_ids: ``question_ids[b][q]``; ``question_tasks``: likewise.
        sequence_ids: ``sequence_ids[b]``.
        statement_ids: ``statement_ids[b][s]``.
        event_labels: ``event_labels[b][e]``.
        is_features: whether ``images`` are features.
        window: ``(len(COUNTED),)`` long: what `count_items` gives for all batches of the accumulation window this
            one belongs to; ``None`` if the batch is a window of its own.
    """

    images: Tensor
    frame_index: Tensor
    mask: Tensor
    image_mask: Tensor
    channel_mask: Tensor
    times: Tensor
    positions: Tensor
    prompts: Tensor
    prompt_mask: Tensor
    named: Tensor
    choices: Tensor
    choice_mask: Tensor
    question_mask: Tensor
    asked_at: Tensor
    answers: Tensor
    values: Tensor
    evidence: Tensor
    findings: Tensor
    event_prompts: Tensor
    event_mask: Tensor
    event_targets: Tensor
    event_intervals: Tensor
    statements: Tensor
    statement_mask: Tensor
    statement_position: Tensor
    statement_named: Tensor
    statement_consistent: Tensor
    patients: Tensor
    written: Tensor
    written_mask: Tensor
    written_at: Tensor
    reports: Tensor
    report_mask: Tensor
    report_from: Tensor
    report_targets: Tensor
    report_wanted: Tensor
    report_at: Tensor
    report_prior: Tensor
    box_prompts: Tensor
    box_at: Tensor
    boxes: Tensor
    box_sizes: Tensor
    box_names: list[list[tuple[str, str]]]
    question_ids: list[list[str]]
    question_tasks: list[list[str]]
    sequence_ids: list[str]
    statement_ids: list[list[str]]
    event_labels: list[list[str]]
    is_features: bool = False
    window: Tensor | None = None

    def _map(self, function: Any) -> TimelineBatch:
        changed = {
            field.name: function(value)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **changed)

    def to(self, *args: Any, **kwargs: Any) -> TimelineBatch:
        """A copy with every tensor moved to a device; arguments as for `torch.Tensor.to`, which see."""
        return self._map(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self) -> TimelineBatch:
        """A copy in page-locked memory."""
        return self._map(torch.Tensor.pin_memory)

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.sequence_ids)

    def __repr__(self) -> str:
        """What it holds, not the numbers: it would be printed by whatever refuses a batch."""
        held = [
            f"{len(self)} sequences",
            f"{int(self.mask.sum())} positions",
            f"{int(self.question_mask.sum())} questions",
        ]
        kind = str(self.images.dtype).removeprefix("torch.")
        return f"TimelineBatch({', '.join(held)}, images {tuple(self.images.shape)} {kind})"


def _told_of_images(batch: TimelineBatch) -> Tensor:
    """``(B, S)``: statements with an image at their position."""
    return batch.statement_mask & batch.image_mask.gather(1, batch.statement_position)


def earlier_images(batch: TimelineBatch) -> Tensor:
    """``(B, T)`` long: the last position with an image before each position, −1 for none."""
    positions = torch.arange(batch.mask.shape[1], device=batch.mask.device)
    latest = torch.where(batch.image_mask, positions, -1).cummax(dim=1).values
    return functional.pad(latest[:, :-1], (1, 0), value=-1)


#: What a loss may be averaged over, and which items of it count: boolean masks.
_VALID: dict[str, Callable[[TimelineBatch], Tensor]] = {
    "answer": lambda batch: batch.question_mask & (batch.answers != IGNORE),
    "value": lambda batch: batch.question_mask & batch.values.isfinite(),
    "event": lambda batch: batch.event_targets != IGNORE,
    "evidence": lambda batch: batch.question_mask & batch.evidence.any(dim=-1),
    "statement": lambda batch: _told_of_images(batch),
    "interval": lambda batch: (batch.event_targets != IGNORE).any(dim=-1),
    "alignment": lambda batch: batch.written_mask & batch.image_mask.gather(1, batch.written_at),
    "report": lambda batch: batch.report_wanted.unsqueeze(-1) & (batch.report_targets != IGNORE),
    "box": lambda batch: batch.boxes.isfinite().all(dim=-1) & batch.image_mask.gather(1, batch.box_at),
    "selection": lambda batch: (
        _told_of_images(batch)
        & batch.statement_consistent
        & (earlier_images(batch).gather(1, batch.statement_position) >= 0)
    ),
}
COUNTED = tuple(_VALID)


def valid_items(batch: TimelineBatch, items: str) -> Tensor:
    """Which items count for a loss: a boolean mask.

    Args:
        batch: the batch.
        items: one of `COUNTED`.
    """
    return _VALID[items](batch)


def count_items(batch: TimelineBatch) -> Tensor:
    """How many items of each kind count, ``(len(COUNTED),)`` long."""
    return torch.stack([valid_items(batch, items).sum() for items in COUNTED])
