"""From items to a batch: packed images, padded text, masks."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor

from temmed.data.batch import IGNORE, NAMED, TimelineBatch
from temmed.data.dataset import TimelineItem
from temmed.data.pixels import PixelStack, pack
from temmed.data.quantities import POSITION, moments
from temmed.data.report_targets import reports_before


def _padded(nested: Sequence[Any], shape: tuple[int, ...], fill: float, dtype: torch.dtype) -> Tensor:
    """Ragged nested lists as a tensor of ``shape``, padded with ``fill``."""
    array = np.full(shape, fill, dtype={torch.long: np.int64, torch.float: np.float32, torch.bool: bool}[dtype])

    def put(target: np.ndarray, values: Any) -> None:
        if target.ndim == 1:
            target[: len(values)] = values
        else:
            for row, value in zip(target, values, strict=False):
                put(row, value)

    if array.size:
        put(array, nested)
    return torch.from_numpy(array)


def _longest(lists: Sequence[Sized], least: int = 0) -> int:
    return max([least, *map(len, lists)])


def _tokens(texts: list[list[list[int]]]) -> Tensor:
    """``texts[b][n]`` is a list of token ids; returns ``(B, N, L)``."""
    length = max([1, *(len(text) for row in texts for text in row)])
    return _padded(texts, (len(texts), _longest(texts), length), 0, torch.long)


def _mask(lists: Sequence[Sized]) -> Tensor:
    lengths = np.array([len(row) for row in lists])
    return torch.from_numpy(lengths[:, None] > np.arange(lengths.max(initial=0)))


def _counted_on(positions: Sequence[np.ndarray], length: int) -> Tensor:
    """``(B, length)``: positions, and behind the last one its successors."""
    beyond = [np.arange(length - len(known)) + (known[-1] + 1 if len(known) else 0) for known in positions]
    return torch.from_numpy(np.stack([np.concatenate(both) for both in zip(positions, beyond, strict=True)]))


def _number(identity: str) -> int:
    """A number below 2⁶³ for a name, the same in every process."""
    return int.from_bytes(blake2b(identity.encode(), digest_size=8).digest()) >> 1


def _moments(texts: list[list[str]]) -> Tensor:
    """The first moments that texts name, ``(B, N, NAMED, 2)``: time and position, NaN where there is none."""
    named = [
        [
            [(np.nan, amount) if kind == POSITION else (amount, np.nan) for kind, amount in moments(text)[:NAMED]]
            for text in row
        ]
        for row in texts
    ]
    return _padded(named, (len(texts), _longest(texts), NAMED, 2), np.nan, torch.float)


def _images(items: list[TimelineItem]) -> tuple[Tensor, Tensor]:
    features = [item.pixels for item in items if isinstance(item.pixels, Tensor)]
    if features:
        images = torch.cat(features)
        return images, torch.ones(len(images), items[0].sources, dtype=torch.bool)
    return pack([item.pixels for item in items if isinstance(item.pixels, PixelStack)], items[0].sources)


def _frame_index(items: list[TimelineItem]) -> Tensor:
    """``(N, 2)``: (sequence, position) of each image."""
    sequence = np.repeat(np.arange(len(items)), [len(item.positions) for item in items])
    position = np.concatenate([np.asarray(item.positions, np.int64) for item in items])
    return torch.from_numpy(np.stack([sequence, position], axis=1))


class Collator:
    """Joins items into a `TimelineBatch`.

    Args:
        reports: ``past`` if a report may be read only after its own position, else at it.
    """

    def __init__(self, reports: str = "none") -> None:
        self.reads_reports = reports != "none"
        self.report_delay = 1 if reports == "past" else 0

    def __call__(self, items: list[TimelineItem]) -> TimelineBatch:
        """Join items."""
        records = [item.record for item in items]
        questions = [record.questions for record in records]
        events = [record.events for record in records]
        statements = [record.statements for record in records]
        reports = [record.reports for record in records]
        written = [record.written for record in records]
        targets = [record.report_targets for record in records]
        boxes = [record.boxes for record in records]
        batch, length = len(items), _longest([r.times for r in records], 1)
        asked, kinds = _longest(questions), _longest(events)
        images, present = _images(items)
        frame_index = _frame_index(items)
        image_mask = torch.zeros(batch, length, dtype=torch.bool)
        image_mask[frame_index[:, 0], frame_index[:, 1]] = True
        channel_mask = torch.zeros(batch, length, items[0].sources, dtype=torch.bool)
        channel_mask[frame_index[:, 0], frame_index[:, 1]] = present
        choices = [[q.choices for q in row] for row in questions]
        most = max([1, *(len(c) for row in choices for c in row)])
        longest = max([1, *(len(text) for row in choices for c in row for text in c)])
        choice_tokens = _padded(choices, (batch, asked, most, longest), 0, torch.long)
        prompts = _tokens([[q.prompt for q in row] for row in questions])
        evidence = torch.zeros(batch, asked, length, dtype=torch.bool)
        for b, row in enumerate(questions):
            for q, question in enumerate(row):
                evidence[b, q, question.evidence] = True
        statement_tokens = _tokens([[s.tokens for s in row] for row in statements])
        written_tokens = _tokens([[text for text, _ in row] for row in written])
        report_tokens = _tokens([[text for text, _ in row] for row in reports])
        most_written = (batch, _longest(targets))
        longest_written = max([1, *(len(report.tokens) for row in targets for report in row)])
        box_prompts = _tokens([[box.tokens for box in row] for row in boxes])
        return TimelineBatch(
            images=images,
            frame_index=frame_index,
            mask=_mask([r.times for r in records]) if length else image_mask,
            image_mask=image_mask,
            channel_mask=channel_mask,
            times=_padded([r.times for r in records], (batch, length), 0.0, torch.float),
            positions=_counted_on([r.positions for r in records], length),
            prompts=prompts,
            prompt_mask=prompts != 0,
            named=_moments([[q.text for q in row] for row in questions]),
            choices=choice_tokens,
            choice_mask=(choice_tokens != 0).any(dim=-1),
            question_mask=_mask(questions),
            asked_at=_padded([[q.asked_at for q in row] for row in questions], (batch, asked), 0, torch.long),
            answers=_padded([[q.answer for q in row] for row in questions], (batch, asked), IGNORE, torch.long),
            values=_padded([[q.value for q in row] for row in questions], (batch, asked), np.nan, torch.float),
            evidence=evidence,
            findings=_padded([[q.finding for q in row] for row in questions], (batch, asked), -1, torch.long),
            event_prompts=_tokens([[e.tokens for e in row] for row in events]),
            event_mask=_mask(events),
            event_targets=_padded(
                [[e.targets for e in row] for row in events], (batch, kinds, length), IGNORE, torch.long
            ),
            event_intervals=_padded(
                [[e.interval for e in row] for row in events], (batch, kinds, 4), np.nan, torch.float
            ),
            statements=statement_tokens,
            statement_mask=_mask(statements),
            statement_position=_padded(
                [[s.position for s in row] for row in statements], statement_tokens.shape[:2], 0, torch.long
            ),
            statement_named=_moments([[s.text for s in row] for row in statements]),
            statement_consistent=_padded(
                [[s.consistent for s in row] for row in statements], statement_tokens.shape[:2], False, torch.bool
            ),
            patients=torch.tensor([_number(r.patient_id) for r in records]),
            written=written_tokens,
            written_mask=_mask(written),
            written_at=_padded([[p for _, p in row] for row in written], written_tokens.shape[:2], 0, torch.long),
            reports=report_tokens,
            report_mask=_mask(reports),
            report_from=_padded(
                [[p + self.report_delay for _, p in row] for row in reports], report_tokens.shape[:2], 0, torch.long
            ),
            report_targets=_padded(
                [[report.tokens for report in row] for row in targets],
                (*most_written, longest_written),
                IGNORE,
                torch.long,
            ),
            report_wanted=_padded(
                [[report.wanted and r.imaged[report.position] for report in r.report_targets] for r in records],
                most_written,
                False,
                torch.bool,
            ),
            report_at=_padded([[report.position for report in row] for row in targets], most_written, 0, torch.long),
            report_prior=_padded(
                [reports_before(row) if self.reads_reports else [] for row in targets], most_written, -1, torch.long
            ),
            box_prompts=box_prompts,
            box_at=_padded([[box.position for box in row] for row in boxes], box_prompts.shape[:2], 0, torch.long),
            boxes=_padded(
                [[box.place for box in row] for row in boxes], (*box_prompts.shape[:2], 4), np.nan, torch.float
            ),
            box_sizes=_padded([[box.size for box in row] for row in boxes], (*box_prompts.shape[:2], 2), 1, torch.long),
            box_names=[[(box.finding_id, box.channel) for box in row] for row in boxes],
            question_ids=[[q.identity for q in row] for row in questions],
            question_tasks=[[q.task for q in row] for row in questions],
            sequence_ids=[r.sequence_id for r in records],
            statement_ids=[[s.identity for s in row] for row in statements],
            event_labels=[[e.label for e in row] for row in events],
            is_features=isinstance(items[0].pixels, Tensor),
        )
