"""CLIP-VL: a vision encoder whose projected tokens, with the moments of the visits, prompt a causal language model.

Image tokens go through a two-layer perceptron into the space of a language model's words, as in LLaVA-1.5 (Liu et al.
2023), and stand among the words where they belong, as in Flamingo's interleaved text (Alayrac et al. 2022). What
differs: a token before each visit tells its real time and position, a visit without an image has that token alone, and
a question asked at a position is preceded by the visits up to it and by none after. Training maximises the likelihood
of the answer's tokens; an answer is chosen by the likelihood of each choice's text.
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor, nn

from temmed.data.batch import TimelineBatch
from temmed.data.fitted import Fitted
from temmed.data.pixels import Finish
from temmed.errors import InputError
from temmed.models.base import TimelineModel
from temmed.models.clip_vl.conversation import Conversation, Wording
from temmed.models.clip_vl.language import LanguageModel
from temmed.models.encodings import MOMENT_SIZE, encode_position, encode_time
from temmed.models.heads.base import Rows

_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE)


class ClipVL(TimelineModel):
    """Images of a timeline and a question prompt a language model. Task heads are put into ``heads`` by name.

    Args:
        fitted: normalisation, tokenizer and scale of values.
        backbone: images → tokens ``(N, K, backbone.dim)``.
        text: the language model.
        hidden: width of the projector's layer between.
        dropout: behind that layer.
        questions_at_once: when nothing is learned, so many questions are read at once.
        longest: most tokens of an answer that is written.
    """

    def __init__(
        self,
        fitted: Fitted,
        backbone: nn.Module,
        text: LanguageModel,
        hidden: int,
        dropout: float = 0.0,
        questions_at_once: int = 16,
        longest: int = 32,
    ) -> None:
        super().__init__()
        self.finish = Finish(fitted)
        self.backbone, self.text = backbone, text
        features = int(backbone.dim)  # type: ignore[arg-type]  # torch types every attribute as Tensor or Module
        self.project = nn.Sequential(
            nn.LayerNorm(features),
            nn.Linear(features, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, text.width),
        )
        self.moment = nn.Linear(MOMENT_SIZE, text.width)
        self.missing = nn.Parameter(torch.randn(text.width) * 0.02)
        self.wording = Wording(fitted, text.end)
        self.at_once, self.longest = questions_at_once, longest

    def listen(self, batch: TimelineBatch) -> Conversation:
        """The visits of a batch as what the language model reads."""
        index = (batch.frame_index[:, 0], batch.frame_index[:, 1])
        features = batch.images
        if len(features) and not batch.is_features:
            features = self.backbone(self.finish(batch.images, batch.channel_mask[index]))
        like = self.text.embed(batch.prompts.new_zeros(1))
        images = self.project(features.to(self.missing.dtype)).to(like) if len(features) else []
        moments = torch.cat([encode_time(batch.times), encode_position(batch.positions)], dim=-1)
        absent = ~batch.image_mask.unsqueeze(-1) * self.missing
        visits = (self.moment(moments.to(self.missing.dtype)) + absent).to(like)
        image_of = torch.full(batch.mask.shape, -1, device=batch.mask.device)
        image_of[index] = torch.arange(len(features), device=batch.mask.device)
        streams, ends = [], []
        for b, (row, length) in enumerate(zip(image_of.tolist(), batch.mask.sum(dim=1).tolist(), strict=True)):
            told = self._reports(batch, b)
            parts, read, until = [], 0, []
            for t in range(max(1, length)):
                found = [visits[b, t : t + 1], *([images[row[t]]] if row[t] >= 0 else []), *told.get(t, [])]
                parts += found
                read += sum(map(len, found))
                until.append(read)
            streams.append(torch.cat(parts))
            ends.append(until)
        return Conversation(batch, streams, ends, self.text, self.wording, self.at_once, learns=self.training)

    def _reports(self, batch: TimelineBatch, b: int) -> dict[int, list[Tensor]]:
        """Reports of a sequence by the first position at which they may be read, where they are input."""
        found: dict[int, list[Tensor]] = {}
        for r in batch.report_mask[b].nonzero().flatten().tolist():
            ids = [*self.wording.report, *self.wording.text(batch.reports[b, r])]
            told = self.text.embed(torch.tensor(ids, device=batch.reports.device))
            found.setdefault(int(batch.report_from[b, r]), []).append(told)
        return found

    def forward(self, batch: TimelineBatch) -> dict[str, Any]:
        """What each task head says of a batch, by its name."""
        conversation = self.listen(batch)
        return {name: head(conversation) for name, head in self.tasks.items()}

    def rows(self, output: dict[str, Any], batch: TimelineBatch, fitted: Fitted) -> Rows:
        """See `TimelineModel.rows`. What the model writes freely is the ``rationale``; a value is the number in it."""
        rows = super().rows(output, batch, fitted)
        written = [text for row in self.listen(batch).written(self.longest) for text in row]
        valued = (~batch.choice_mask.any(dim=-1)).tolist()
        asks_value = [valued[b][q] for b, row in enumerate(batch.question_ids) for q in range(len(row))]
        for row, text, is_value in zip(rows["answers"], written, asks_value, strict=True):
            row["rationale"] = text
            if is_value and (number := _NUMBER.search(text)) and math.isfinite(float(number[0])):
                row["value"] = float(number[0])
        return rows

    def explain(self, batch: TimelineBatch) -> Any:
        """This model makes no maps.

        Raises:
            InputError: always.
        """
        raise InputError("a model that tells where it looked", "clip_vl, which does not", "maps", "Leave maps out.")
