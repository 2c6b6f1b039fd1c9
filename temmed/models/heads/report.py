"""Writes the report of a position from its images, those before, and the report before."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from temmed.data.batch import IGNORE, TimelineBatch, valid_items
from temmed.data.fitted import Fitted
from temmed.models.encodings import MOMENT_SIZE, ElapsedTime, encode_position, encode_time
from temmed.models.heads.base import Encoded, Rows, Sizes, TaskHead
from temmed.models.report_decoder import ReportDecoder

_MOMENT, _IMAGE, _MEMORY, _PRIOR = range(4)


@dataclass
class Sources:
    """What the reports of a batch are written from, one row for each; one row that stands for none if there are none.

    Attributes:
        states: ``(N, M, width)``.
        mask: ``(N, M)`` bool.
    """

    states: Tensor
    mask: Tensor


@dataclass
class Dictation:
    """What the head says of the reports of a batch.

    Attributes:
        log_probability: ``(B, W, L)`` of each token that is to be written, given those before it; 0 elsewhere.
        likeliest: ``(B, W, L)`` bool, whether it is the likeliest one.
        sources: what they are written from.
    """

    log_probability: Tensor
    likeliest: Tensor
    sources: Sources


class ReportHead(TaskHead):
    """A language model that attends to four sources, each marked by a learned vector.

    The moment of the report; the tokens of its images; the slots of the memory that are readable there, with the time
    since; and the report before, as the language model itself reads it. As in BioViL-T (Bannur et al. 2023), images
    and report of an earlier visit are input; what differs: all earlier visits are, through the temporal head, and their
    real times. The report before is given only where reports are input (``data.reports``), and is one of an earlier
    position, so that what is to be written is never read.

    Args:
        sizes: what it is built for.
        weight: of its loss.
        name: see `ReportDecoder`.
        vocabulary_size: most tokens of the vocabulary that is fitted, if there is no ``name``.
        longest: most tokens of a report; what comes after them is cut off.
        width: see `ReportDecoder`.
        layers: see `ReportDecoder`.
        heads: see `ReportDecoder`.
        dropout: see `ReportDecoder`.
        beams: how many candidates are followed when a report is written.
        early_weight: see `TaskHead`.
    """

    texts = ()
    items = "report"

    def __init__(
        self,
        sizes: Sizes,
        weight: float,
        name: str | None = None,
        vocabulary_size: int = 2048,
        longest: int = 192,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
        beams: int = 1,
        early_weight: float | None = None,
    ) -> None:
        super().__init__(sizes, weight, early_weight)
        assert sizes.reports is not None, "fit_reports comes before"
        self.beams = beams
        self.decoder = ReportDecoder(sizes.reports, name, width, layers, heads, dropout)
        width = self.decoder.width
        self.kinds = nn.Embedding(4, width)
        self.moment = nn.Linear(MOMENT_SIZE, width)
        self.image = nn.Linear(sizes.dim, width)
        self.memory = nn.Linear(sizes.dim, width)
        self.elapsed = ElapsedTime(sizes.dim)
        self.norm = nn.LayerNorm(width)

    def forward(self, encoded: Encoded) -> Dictation:
        """Teach: the log-probability of every token, given the true ones before it."""
        batch = encoded.batch
        row, column = batch.report_wanted.nonzero(as_tuple=True)
        ids = _trimmed(batch.report_targets[row, column])
        at, prior = batch.report_at[row, column], batch.report_prior[row, column]
        before = _trimmed(batch.report_targets[row, prior.clamp(min=0)].masked_fill(prior.unsqueeze(1) < 0, IGNORE))
        if not len(row):  # Every parameter takes part even so, that no process waits for the gradient of another.
            row, at = batch.report_at.new_zeros(2, 1)
            ids = before = torch.full_like(row, IGNORE).unsqueeze(1)
        sources = self._sources(encoded, row, at, before)
        logits = self.decoder(sources.states, sources.mask, ids).float()
        there = ids != IGNORE
        chosen = logits.log_softmax(dim=-1).gather(-1, ids.clamp(min=0).unsqueeze(-1)).squeeze(-1) * there
        likeliest = (logits.argmax(dim=-1) == ids) & there
        shape = batch.report_targets.shape
        if not batch.report_wanted.any():
            return Dictation(chosen.sum().expand(shape), batch.report_wanted.new_zeros(shape), sources)
        told = chosen.new_zeros(shape).index_put((row, column), _widened(chosen, shape[-1]))
        hits = likeliest.new_zeros(shape).index_put((row, column), _widened(likeliest, shape[-1]))
        return Dictation(told, hits, sources)

    def _sources(self, encoded: Encoded, row: Tensor, at: Tensor, before: Tensor) -> Sources:
        """What reports are written from.

        Args:
            encoded: of B sequences.
            row: ``(N,)`` the sequence of each report.
            at: ``(N,)`` its position.
            before: ``(N, L)`` ids of the report before it, `IGNORE` = padding.
        """
        batch, memory = encoded.batch, encoded.memory
        time, position = batch.times[row, at], batch.positions[row, at]
        moment = self.moment(torch.cat([encode_time(time), encode_position(position)], dim=-1).to(encoded.images.dtype))
        since = time[:, None, None] - memory.times[row]  # (N, S, K or 1)
        slots = memory.values[row]
        slots = slots + self.elapsed(since.flatten(1)).reshape(*since.shape, slots.shape[-1])
        asked = at[:, None, None]
        readable = (memory.valid_from[row] <= asked) & (asked < memory.valid_to[row])
        seen = [moment.unsqueeze(1), self.image(encoded.images[row, at]), self.memory(slots.flatten(1, 2))]
        marked = [part + self.kinds.weight[kind] for kind, part in zip((_MOMENT, _IMAGE, _MEMORY), seen, strict=True)]
        states = [self.norm(torch.cat(marked, dim=1))]
        mask = [
            torch.ones(len(row), 1 + seen[1].shape[1], dtype=torch.bool, device=row.device),
            readable.expand(slots.shape[:3]).flatten(1),
            before != IGNORE,
        ]
        told = self.decoder.states(before) if mask[2].any() else states[0].new_zeros(*before.shape, self.decoder.width)
        states.append(told + self.kinds.weight[_PRIOR])
        return Sources(torch.cat(states, dim=1), torch.cat(mask, dim=1))

    def loss(self, said: Dictation, batch: TimelineBatch) -> Tensor:
        """Cross-entropy of the tokens."""
        return -said.log_probability.sum()

    def hits(self, said: Dictation, batch: TimelineBatch) -> Tensor:
        """How many tokens are the likeliest ones, given the true ones before them."""
        return (said.likeliest & valid_items(batch, self.items)).sum()

    def rows(self, said: Dictation, batch: TimelineBatch, fitted: Fitted) -> Rows:
        """``reports``: what is written at the positions that have a report."""
        wanted = batch.report_wanted.nonzero().tolist()
        if not wanted:
            return {"reports": []}
        assert fitted.reports is not None
        written = self.decoder.write(said.sources.states, said.sources.mask, self.beams)
        named = batch.positions.gather(1, batch.report_at).tolist()
        return {
            "reports": [
                {"sequence_id": batch.sequence_ids[b], "position": named[b][w], "text": fitted.reports.decode(ids)}
                for (b, w), ids in zip(wanted, written, strict=True)
            ]
        }


def _trimmed(ids: Tensor) -> Tensor:
    """``(N, L)`` without columns of padding alone, but for the first."""
    return ids[:, : max(1, int((ids != IGNORE).sum(dim=1).max())) if len(ids) else 1]


def _widened(x: Tensor, length: int) -> Tensor:
    return nn.functional.pad(x, (0, length - x.shape[1]))
