"""Accuracy and F1 of answers, over batches and processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from temmed.metrics.functional.classification import confusion_matrix, macro_f1

#: Answer index of padding, as in a batch.
PADDING = -100


class TaskAccuracy(Metric):
    """Share of right answers among the questions that are not padding; NaN before there is one."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    correct: Tensor
    total: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("correct", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, answers: Tensor) -> None:
        """Count a batch.

        Args:
            predicted: index of the chosen answer, of any shape.
            answers: index of the right one, of the same shape; `PADDING` where there is no question.
        """
        asked = answers != PADDING
        self.correct += ((predicted == answers) & asked).sum()
        self.total += asked.sum()

    def compute(self) -> Tensor:
        """The accuracy so far."""
        return self.correct / self.total


class TaskMacroF1(Metric):
    """Macro F1 over classes that mean the same in every question, from one confusion matrix.

    Args:
        n_classes: number of classes K.
        **kwargs: of `torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    confusion: Tensor

    def __init__(self, n_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n_classes = n_classes
        zeros = torch.zeros(n_classes, n_classes + 1, dtype=torch.long)
        self.add_state("confusion", zeros, dist_reduce_fx="sum")

    def update(self, predicted: Tensor, answers: Tensor) -> None:
        """Count a batch.

        Args:
            predicted: class of the chosen answer, of any shape;
                `temmed.metrics.functional.classification.UNPARSABLE` for none.
            answers: class of the right one, of the same shape; `PADDING` where there is no question.
        """
        asked = answers != PADDING
        truth, given = answers[asked].cpu().numpy(), predicted[asked].cpu().numpy()
        counts = confusion_matrix(truth, given, self.n_classes)
        self.confusion += torch.from_numpy(counts).to(self.confusion.device)

    def compute(self) -> Tensor:
        """The macro F1 so far; NaN before there is a question."""
        return torch.tensor(macro_f1(self.confusion.cpu().numpy()), dtype=torch.float32, device=self.confusion.device)
