"""The model: backbone + text encoder + temporal head + reader + task heads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from temmed.data.batch import TimelineBatch
from temmed.data.pixels import Finish
from temmed.errors import InputError
from temmed.models.adaptation import settle
from temmed.models.base import TimelineModel
from temmed.models.chunks import Deferred
from temmed.models.heads.base import Encoded
from temmed.models.previous_answers import PreviousAnswers
from temmed.models.readers.base import Reader, Reading
from temmed.models.temporal.base import FOREVER, State, TemporalHead, TemporalMemory


class Reasoner(TimelineModel):
    """Reads a sequence once, then answers any number of questions about any of its positions.

    The visual stream never sees the questions, and a question asked at position p reads nothing later than p. Task
    heads are put into ``heads`` by name.

    Args:
        finish: pixels as the files hold them → normalised images ``(N, C, *spatial)``.
        backbone: images → tokens ``(N, K, backbone.dim)``.
        text: token ids ``(..., L)`` → ``(..., dim)``.
        temporal: the swappable temporal head.
        reader: joins a question with tokens and memory.
        dim: size of tokens, memory and questions.
        places: K, the number of tokens per image.
        chunk: positions that are read at once, of longer sequences one chunk after the other; ``None`` reads all.
        carry: ``exact`` passes gradients from chunk to chunk, ``detach`` cuts them there.
        previous: lets questions hear the answers to earlier ones; ``None`` answers each by itself.
    """

    def __init__(
        self,
        finish: Finish,
        backbone: nn.Module,
        text: nn.Module,
        temporal: TemporalHead,
        reader: Reader,
        dim: int,
        places: int,
        chunk: int | None = None,
        carry: str = "exact",
        previous: PreviousAnswers | None = None,
    ) -> None:
        super().__init__()
        self.chunk, self.detach = chunk, carry == "detach"
        self.finish = finish
        self.backbone = backbone
        self.text = text
        self.temporal = temporal
        self.reader = reader
        features = int(backbone.dim)  # type: ignore[arg-type]  # torch types every attribute as Tensor or Module
        self.project = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, dim))
        self.place = nn.Parameter(torch.randn(places, dim) * 0.5)
        self.missing = nn.Parameter(torch.randn(dim) * 0.02)
        self.previous = previous

    def train(self, mode: bool = True) -> Reasoner:
        """As ever, but what does not learn stays in evaluation mode."""
        super().train(mode)
        if mode:
            settle(self)
        return self

    def learn_outputs(self) -> None:
        """Fix everything but the last layers of the task heads; the backbone has a rule of its own.

        Raises:
            InputError: a head does not say what its last layers are.
        """
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and name.startswith("backbone."))
        for name, head in self.tasks.items():
            if not head.outputs and list(head.parameters()):
                raise InputError(
                    "task heads with output layers to learn",
                    f"{name}, which has none",
                    "model.train",
                    f"Set model.heads.{name}.weight=0, or model.train=full.",
                )
            for layer in head.outputs:
                head.get_submodule(layer).requires_grad_(True)

    def encode_images(self, batch: TimelineBatch) -> Tensor:
        """Tokens ``(B, T, K, D)``, scattered from the packed images; missing ones are the learned embedding."""
        size, length = batch.mask.shape
        tokens = (self.missing + self.place).expand(size, length, -1, -1)
        if not len(batch.images):
            return tokens
        index = (batch.frame_index[:, 0], batch.frame_index[:, 1])
        features = batch.images
        if not batch.is_features:
            features = self.backbone(self.finish(batch.images, batch.channel_mask[index]))
        packed = self.project(features.to(self.place.dtype)) + self.place
        return tokens.to(packed.dtype).index_put(index, packed)

    def encode_texts(self, *ids: Tensor) -> list[Tensor]:
        """Texts ``(B, ..., L)`` of unlike lengths, encoded at once: each ``(B, ..., D)``."""
        longest = max(x.shape[-1] for x in ids)
        rows = [functional.pad(x.flatten(0, -2), (0, longest - x.shape[-1])) for x in ids]
        encoded = self.text(torch.cat(rows)).split([len(x) for x in rows])
        return [x.reshape(*of.shape[:-1], x.shape[-1]) for x, of in zip(encoded, ids, strict=True)]

    def remember(
        self, batch: TimelineBatch, tokens: Tensor, state: State | None = None
    ) -> tuple[TemporalMemory, State]:
        """The memory of the images, and what is carried on to the next ones."""
        return self.temporal(tokens, batch.times, batch.mask, batch.image_mask, state, batch.positions)

    def read(self, batch: TimelineBatch, state: State | None = None) -> tuple[Tensor, TemporalMemory, State]:
        """Read the images of sequences, or of their next positions.

        Returns:
            Tokens after the reader's norm, ``(B, T, K, D)``; the memory; and what is carried on.
        """
        tokens = self.encode_images(batch)
        return self.reader.norm(tokens), *self.remember(batch, tokens, state)

    def note(self, batch: TimelineBatch) -> TemporalMemory | None:
        """The reports as a memory of one place; ``None`` where none is input."""
        if not batch.report_mask.any():
            return None
        position = batch.report_from.clamp(max=batch.mask.shape[1] - 1)
        start = torch.where(batch.report_mask, batch.report_from, FOREVER)
        slots = (
            self.text(batch.reports),
            batch.times.gather(1, position),
            batch.positions.gather(1, position).to(batch.times.dtype),
            start,
            torch.full_like(start, FOREVER),
        )
        return TemporalMemory(*(slot.unsqueeze(2) for slot in slots))

    def encode(self, batch: TimelineBatch) -> Encoded:
        """What a batch became before any task."""
        encoded = self.encode_texts(*(getattr(batch, name) for name in self.wanted)) if self.wanted else []
        texts, reports = dict(zip(self.wanted, encoded, strict=True)), self.note(batch)
        if self.chunk is not None and self.chunk < batch.mask.shape[1]:
            deferred = Deferred(batch, reports, texts, self.reader, self.temporal.addressable)
            for head in self.tasks.values():
                head(deferred)
            deferred.answer(self.read, self.chunk, self.detach)
            return deferred
        images, memory, _ = self.read(batch)
        return Encoded(batch, images, memory, reports, texts, self.reader, self.temporal.addressable)

    def forward(self, batch: TimelineBatch) -> dict[str, Any]:
        """What each task head says of a batch, by its name."""
        encoded = self.encode(batch)
        said = {name: head(encoded) for name, head in self.tasks.items()}
        if self.previous is not None:
            features = self.previous(encoded, said["answer"], said["value"])
            encoded.reading = Reading(features, encoded.reading.pointers)
            said |= {name: head(encoded) for name, head in self.tasks.items() if name in ("answer", "value")}
        return said

    def explain(self, batch: TimelineBatch) -> Reading:
        """What the questions of a batch found, with maps and slots."""
        images, memory, _ = self.read(batch)
        (prompts,) = self.encode_texts(batch.prompts)
        texts = {"prompts": prompts}
        encoded = Encoded(batch, images, memory, self.note(batch), texts, self.reader, self.temporal.addressable)
        reading: Reading = self.reader(encoded.questions, encoded.shown, explain=True)
        return reading
