"""The contract of every task head: what it reads of a batch, what it says, its loss, and its rows of predictions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from hydra.utils import instantiate
from torch import Tensor, nn

from temmed.data.batch import TimelineBatch
from temmed.data.fitted import Fitted
from temmed.data.report_vocabulary import ReportVocabulary
from temmed.errors import InputError
from temmed.models.encodings import encode_named
from temmed.models.readers.base import Asked, Reader, Reading, Shown
from temmed.models.temporal.base import TemporalMemory

#: Rows of the prediction tables, by table.
Rows = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Sizes:
    """Sizes that a head is built for.

    Attributes:
        dim: of tokens, encoded texts and the features of a question.
        read: of what the reader brings from one image.
        reports: the vocabulary of reports that are written, if any are.
    """

    dim: int
    read: int
    reports: ReportVocabulary | None = None


@dataclass
class Encoded:
    """What a batch became before any task; what two heads need is computed once.

    Attributes:
        batch: the batch.
        images: tokens of all positions after the reader's norm, ``(B, T, K, D)``.
        memory: of the images.
        reports: of the reports that are input, if any.
        texts: fields of the batch that the heads asked for, each ``(B, ..., L)`` encoded as ``(B, ..., D)``.
        reader: reads images and memory.
        addressable: whether slots of the memory stand for positions.
    """

    batch: TimelineBatch
    images: Tensor
    memory: TemporalMemory
    reports: TemporalMemory | None
    texts: Mapping[str, Tensor]
    reader: Reader
    addressable: bool

    def ask(self, prompts: Tensor, asked_at: Tensor, named: Tensor | None = None) -> Tensor:
        """Features of what the images and the memory up to a position say, ``(B, Q, D)``; reports are not read.

        Args:
            prompts: ``(B, Q, D)``.
            asked_at: ``(B, Q)`` long.
            named: the moments that each names, ``(B, Q, NAMED, MOMENT_SIZE)``.
        """
        return self._read(Asked(prompts, asked_at, self._called(asked_at), named=named)).features

    @property
    def questions(self) -> Asked:
        """The questions of the batch."""
        asked_at, named = self.batch.asked_at, encode_named(self.batch.named)
        return Asked(self.texts["prompts"], asked_at, self._called(asked_at), self.reports, named, self.addressable)

    @property
    def shown(self) -> Shown:
        """What there is to read."""
        return Shown(self.images, self.memory, self.batch.positions)

    @cached_property
    def reading(self) -> Reading:
        """What the questions of the batch found."""
        return self._read(self.questions)

    def _called(self, at: Tensor) -> Tensor:
        return self.batch.positions.gather(1, at)

    def _read(self, asked: Asked) -> Reading:
        return self.reader(asked, self.shown)

    def look(self, prompts: Tensor) -> Tensor:
        """Read every position by itself: ``(B, Q, D) → (B, Q, T, R)``."""
        return self.reader.look(prompts, self.images)


class TaskHead(nn.Module, ABC):
    """Says something of a batch, and knows how wrong that is.

    Args:
        sizes: what it is built for.
        weight: of its loss.
        early_weight: instead of ``weight``, if less, in the first quarter of the steps.
    """

    #: Fields of the batch whose encodings it reads.
    texts: ClassVar[tuple[str, ...]]
    #: What its loss is summed over: one of `temmed.data.batch.COUNTED`.
    items: ClassVar[str]
    #: Whether its loss compares the items of a batch with each other, so that it depends on the company.
    contrastive: ClassVar[bool] = False
    #: Its last layers, by name: what is left to learn of it in a linear probe.
    outputs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, sizes: Sizes, weight: float, early_weight: float | None = None) -> None:
        super().__init__()
        self.weight = weight
        self.early_weight = weight if early_weight is None else min(early_weight, weight)

    @abstractmethod
    def forward(self, encoded: Encoded) -> Any:
        """What it says of all items, valid or not."""

    @abstractmethod
    def loss(self, said: Any, batch: TimelineBatch) -> Tensor:
        """Sum of the losses of the valid items, a scalar in float32.

        Args:
            said: what `forward` returned.
            batch: for which.
        """

    def hits(self, said: Any, batch: TimelineBatch) -> Tensor | None:
        """How many valid items it gets right, for ``val/NAME/accuracy``; ``None`` if that is no question here."""
        return None

    def rows(self, said: Any, batch: TimelineBatch, fitted: Fitted) -> Rows:
        """What to write of it into the prediction tables.

        Rows are in the order of the batch: of ``answers`` by sequence and question, of ``events`` by sequence and
        label. Rows of the same table by several heads are joined one by one; the later head has the last word.

        Args:
            said: what `forward` returned.
            batch: for which.
            fitted: scales of the values.
        """
        return {}


def build_heads(config: Mapping[str, Mapping[str, Any]], sizes: Sizes) -> dict[str, TaskHead]:
    """The heads with a weight above 0, by name.

    Raises:
        InputError: there is none.
    """
    # Given to `instantiate` itself, a dataclass would reach the head as a configuration.
    heads = {
        name: instantiate(node, _partial_=True)(sizes=sizes) for name, node in config.items() if node["weight"] > 0
    }
    if not heads:
        raise InputError(
            "a task head with a weight above 0", "none", "model.heads", "Set a weight, or choose model/heads=default."
        )
    return heads
