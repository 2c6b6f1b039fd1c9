"""Answers given before a question, for the question to hear: scheduled sampling (Bengio et al. 2015).

A report of a visit rests on what was said at the visits before. In training those are the true answers, in use the
model's own; scheduled sampling goes from the first to the second over the run. Bengio et al. decode token by token; as
in Mihaylova & Martins (2019) there are two passes, each over all questions at once: the first answers every question by
itself, the second hears what was answered before. What differs from both: what is heard is masked, so that nothing is
said twice (see `may_hear`), and it joins after images are read, so that these are read once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from temmed.data.batch import IGNORE, TimelineBatch
from temmed.errors import InputError
from temmed.models import start
from temmed.models.encodings import TIME_SIZE, encode_time
from temmed.models.heads.base import Encoded

#: Steps in the schedules of Bengio et al. are counted in hundredths of the run, so that a longer one needs no others.
_HUNDREDTHS = 100


def linear(share: float, offset: float = 1.0, slope: float = 1.0, least: float = 0.0) -> float:
    """Probability of a true answer after a share of the run: max(least, offset − slope · share)."""
    return max(least, offset - slope * share)


def exponential(share: float, k: float = 0.95) -> float:
    """The same as k^i, i in hundredths of the run, 0 < k < 1."""
    if not 0 < k < 1:
        raise _refused("a number between 0 and 1", k, "0.95")
    return k ** (_HUNDREDTHS * share)


def inverse_sigmoid(share: float, k: float = 10.0) -> float:
    """The same as k / (k + exp(i / k)), i in hundredths of the run, k ≥ 1."""
    if k < 1:
        raise _refused("at least 1", k, "10")
    return k / (k + math.exp(_HUNDREDTHS * share / k))


def _refused(expected: str, k: float, usual: str) -> InputError:
    where = "model.previous_answers.epsilon.k"
    return InputError(expected, f"{k:g}", where, f"The usual value is {usual}.")


def may_hear(batch: TimelineBatch) -> Tensor:
    """Which answers each question may hear: ``(B, Q, Q)`` bool, (who hears, whose answer).

    Those given at an earlier position, unless both are about one finding and one pair of positions, the earliest and
    latest evidence: that would be the answer itself. Who says nothing of its finding or pair is taken to be about any.
    """
    there = batch.question_mask
    earlier = batch.asked_at.unsqueeze(1) < batch.asked_at.unsqueeze(2)
    counted = torch.arange(1, batch.evidence.shape[2] + 1, device=there.device) * batch.evidence
    latest = counted.amax(dim=2)
    earliest = counted.masked_fill(~batch.evidence, batch.evidence.shape[2] + 1).amin(dim=2)
    known, proven = batch.findings >= 0, batch.evidence.any(dim=2)

    def alike(x: Tensor, given: Tensor) -> Tensor:
        return (x.unsqueeze(1) == x.unsqueeze(2)) | ~given.unsqueeze(1) | ~given.unsqueeze(2)

    same = alike(batch.findings, known) & alike(earliest, proven) & alike(latest, proven)
    return there.unsqueeze(1) & there.unsqueeze(2) & earlier & ~same


class PreviousAnswers(nn.Module):
    """What a question takes from the answers given before it.

    Args:
        dim: size of features and texts.
        heads: attention heads.
        epsilon: share of the run that is done → probability that an answer heard in training is the true one; ``None``
            for the model's own throughout. Outside training they are always its own.
    """

    truth: Tensor

    def __init__(self, dim: int, heads: int = 4, epsilon: Callable[[float], float] | None = None) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.value = nn.Linear(1, dim)
        self.join = nn.Linear(2 * dim, dim)
        self.time = nn.Linear(TIME_SIZE, dim, bias=False)
        self.norm = nn.LayerNorm(dim)
        self.query = nn.LayerNorm(dim)
        # A slot of zeros can be attended to as well: where nothing may be heard, nothing is added.
        self.attend = nn.MultiheadAttention(dim, heads, bias=False, add_zero_attn=True, batch_first=True)
        start.at_zero(self.attend.out_proj)
        self.register_buffer("truth", torch.zeros(()), persistent=False)
        self.advance(0.0)

    def advance(self, share: float) -> float:
        """Set the probability of true answers for a share 0…1 of the run, and return it."""
        epsilon = 0.0 if self.epsilon is None else self.epsilon(share)
        self.truth.fill_(epsilon)
        return epsilon

    def given(self, encoded: Encoded, answer_logits: Tensor, values: Tensor) -> Tensor:
        """The answers that are heard, ``(B, Q, D)``: of choices the text, of values an encoding; see `forward`."""
        batch, choices = encoded.batch, encoded.texts["choices"]
        answers, values = answer_logits.argmax(dim=-1), values.detach()
        if self.training and self.epsilon is not None:
            true = torch.rand(answers.shape, device=answers.device) < self.truth
            answers = torch.where(true & (batch.answers != IGNORE), batch.answers, answers)
            values = torch.where(true & batch.values.isfinite(), batch.values.to(values.dtype), values)
        index = answers[:, :, None, None].expand(-1, -1, 1, choices.shape[-1])
        has_choices = batch.choice_mask.any(dim=-1, keepdim=True)
        return torch.where(has_choices, choices.gather(2, index).squeeze(2), self.value(values.unsqueeze(-1)))

    def forward(self, encoded: Encoded, answer_logits: Tensor, values: Tensor) -> Tensor:
        """Features of the questions for the second pass, ``(B, Q, D)``.

        Args:
            encoded: the batch.
            answer_logits: of the first pass, ``(B, Q, K)``.
            values: likewise, ``(B, Q)``.
        """
        batch, features = encoded.batch, encoded.reading.features
        asked = self.time(encode_time(batch.times.gather(1, batch.asked_at)).to(features.dtype))
        given = self.given(encoded, answer_logits, values)
        heard = self.norm(self.join(torch.cat([encoded.texts["prompts"], given], dim=-1)) + asked)
        hidden = ~may_hear(batch).repeat_interleave(self.attend.num_heads, dim=0)
        query = self.query(features) + asked
        return features + self.attend(query, heard, heard, attn_mask=hidden, need_weights=False)[0]
