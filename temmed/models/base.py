"""What all models that learn have in common: tasks, their losses, and rows of the prediction tables."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from temmed.data.batch import TimelineBatch
from temmed.data.fitted import Fitted
from temmed.models.heads.base import Rows, TaskHead


class TimelineModel(nn.Module):
    """A model whose ``forward`` says of a batch what each task head says, by name.

    Attributes:
        heads: task heads by name, put there by whoever builds the model.
        previous: what lets questions hear earlier answers, if anything does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleDict()
        self.previous: Any = None

    @property
    def tasks(self) -> dict[str, TaskHead]:
        """The task heads by name."""
        return {name: head for name, head in self.heads.items() if isinstance(head, TaskHead)}

    @property
    def wanted(self) -> list[str]:
        """Fields of the batch whose texts the task heads read."""
        return list(dict.fromkeys(name for head in self.tasks.values() for name in head.texts))

    def losses(self, output: dict[str, Any], batch: TimelineBatch) -> Tensor:
        """The sum of each task's losses over its valid items, ``(len(heads),)``.

        Args:
            output: what ``forward`` returned.
            batch: for which.
        """
        return torch.stack([head.loss(output[name], batch) for name, head in self.tasks.items()])

    def rows(self, output: dict[str, Any], batch: TimelineBatch, fitted: Fitted) -> Rows:
        """Rows of the prediction tables, by table; ``answers`` has one for each question in the order of the batch.

        Args:
            output: what ``forward`` returned.
            batch: for which.
            fitted: scales of the values.
        """
        rows: Rows = {"answers": [{"question_id": identity} for row in batch.question_ids for identity in row]}
        for name, head in self.tasks.items():
            for table, told in head.rows(output[name], batch, fitted).items():
                before = rows.get(table, [{} for _ in told])
                rows[table] = [{**old, **new} for old, new in zip(before, told, strict=True)]
        return rows
