"""The LightningModule: one training step, one set of metrics for validation, one form of prediction."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import ModuleDict

from temmed.data.batch import COUNTED, TimelineBatch, count_items
from temmed.data.fitted import Fitted
from temmed.metrics.modules import TaskAccuracy
from temmed.models.build import build_reasoner
from temmed.training.losses import loss_sums
from temmed.training.randomness import reseed

#: Format of the hyperparameters in a checkpoint.
FORMAT = 2
#: Share of the steps in which values have their early weight.
_EARLY = 1 / 4


class Rows:
    """Rows of the prediction tables; no list, because Lightning would walk through every number of it.

    Args:
        answers: one for each question.
        events: one for each sequence and label.
    """

    def __init__(self, answers: list[dict[str, Any]], events: list[dict[str, Any]]) -> None:
        self.answers, self.events = answers, events


class TimelineModule(pl.LightningModule):
    """Trains a `Reasoner`.

    Args:
        model: the resolved ``model`` group, plain containers.
        fitted: `Fitted.to_dict`.
        provenance: plain containers kept in the checkpoint: dataset and split fingerprints, data settings, seed,
            and ``tasks``, those whose questions have choices.
        optimizer: parameters → optimizer; not needed to predict.
        scheduler: (optimizer, total_steps) → scheduler; not needed to predict.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        fitted: Mapping[str, Any],
        provenance: Mapping[str, Any],
        optimizer: Callable[..., torch.optim.Optimizer] | None = None,
        scheduler: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(
            {"format": FORMAT, "model": dict(model), "fitted": dict(fitted), "provenance": dict(provenance)}
        )
        self.fitted = Fitted.from_dict(dict(fitted))
        self.reasoner = build_reasoner(model, self.fitted)
        self._optimizer, self._scheduler = optimizer, scheduler
        self.weights: Tensor
        weights = torch.tensor([float(model["heads"][name]) for name in COUNTED])
        self.register_buffer("weights", weights, persistent=False)
        self._early_value = min(float(model["heads"]["early_value"]), float(model["heads"]["value"]))
        self._early_steps = 0.0
        self._seed = int(provenance.get("seed", 0))
        self.validation = ModuleDict({task: TaskAccuracy() for task in provenance.get("tasks", ())})
        self._validation_sums: list[Tensor] = []

    def forward(self, batch: TimelineBatch) -> Any:
        """See `Reasoner.forward`."""
        return self.reasoner(batch)

    def on_train_batch_start(self, batch: TimelineBatch, batch_idx: int) -> None:
        """Make what is random in this batch depend on its place alone, so that a resumed run draws it again."""
        reseed(self.device, self._seed, self.trainer.current_epoch, batch_idx, self.global_rank)

    def training_step(self, batch: TimelineBatch, batch_idx: int) -> Tensor:
        """Mean loss over all valid items of the optimizer step, whatever processes and micro-batches they came in.

        Lightning averages gradients over processes and divides by the number of accumulated batches, hence the
        factors.
        """
        sums = loss_sums(self.reasoner(batch), batch)
        counts = count_items(batch) if batch.window is None else batch.window
        counts = self._sum_over_processes(counts)
        factor = self.trainer.world_size * self.trainer.accumulate_grad_batches
        loss = (self._weights_now() * sums / counts.clamp(min=1)).sum() * factor
        self.log_dict(
            {f"train/{name}": s / n.clamp(min=1) for name, s, n in zip(COUNTED, sums, count_items(batch), strict=True)},
            batch_size=len(batch),
        )
        return loss

    def _weights_now(self) -> Tensor:
        """The weight of each task, with that of values as it is at this step."""
        if self.trainer.global_step >= self._early_steps:
            return self.weights
        weights = self.weights.clone()
        weights[COUNTED.index("value")] = self._early_value
        return weights

    def _sum_over_processes(self, counts: Tensor) -> Tensor:
        if self.trainer.world_size == 1:
            return counts
        counts = counts.clone()
        torch.distributed.all_reduce(counts)
        return counts

    def validation_step(self, batch: TimelineBatch, batch_idx: int) -> None:
        """Collect sums of losses and accuracies by task."""
        output = self.reasoner(batch)
        self._validation_sums.append(torch.stack([loss_sums(output, batch), count_items(batch).float()]))
        predicted = output.answer_logits.argmax(dim=-1)
        for task, metric in self._accuracies():
            of_task = torch.zeros_like(batch.question_mask)
            for b, row in enumerate(batch.question_tasks):
                of_task[b, : len(row)] = torch.tensor([name == task for name in row], device=of_task.device)
            metric.update(predicted, torch.where(of_task & batch.question_mask, batch.answers, -100))

    def _accuracies(self) -> list[tuple[str, TaskAccuracy]]:
        return [(task, metric) for task, metric in self.validation.items() if isinstance(metric, TaskAccuracy)]

    def on_validation_epoch_end(self) -> None:
        """Log ``val/loss``, the loss of each task, and ``val/TASK/accuracy``."""
        total = torch.stack(self._validation_sums).sum(dim=0)
        self._validation_sums.clear()
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(total)
        mean = total[0] / total[1].clamp(min=1)
        self.log("val/loss", (self.weights * mean).sum(), prog_bar=True)
        for name, value in zip(COUNTED, mean, strict=True):
            self.log(f"val/{name}", value)
        for task, metric in self._accuracies():
            self.log(f"val/{task}/accuracy", metric.compute(), prog_bar=task == "progression")
            metric.reset()

    def predict_step(self, batch: TimelineBatch, batch_idx: int) -> Rows:
        """Rows of the prediction tables; events are given per position (`temmed.training.predict` joins them)."""
        output = self.reasoner(batch)
        probabilities = output.answer_logits.float().softmax(dim=-1).cpu().numpy()
        values = self.fitted.values.inverse(output.values.double().cpu().numpy())
        pointers = None if output.pointers is None else output.pointers.argmax(dim=-1).cpu().numpy()
        presence = output.event_logits.float().sigmoid().cpu().numpy()
        choice_mask, imaged = batch.choice_mask.cpu().numpy(), batch.image_mask.cpu().numpy()
        asked_at, named = batch.asked_at.cpu().numpy(), batch.positions.cpu().numpy()
        answers: list[dict[str, Any]] = []
        events: list[dict[str, Any]] = []
        for b, identities in enumerate(batch.question_ids):
            for q, identity in enumerate(identities):
                offered = choice_mask[b, q]
                cited = asked_at[b, q : q + 1] if pointers is None else np.unique(pointers[b, q])
                answers.append(
                    {
                        "question_id": identity,
                        "probabilities": probabilities[b, q, : offered.sum()].tolist() if offered.any() else None,
                        "value": None if offered.any() else float(values[b, q]),
                        "evidence": named[b, cited].tolist(),
                    }
                )
            seen = np.flatnonzero(imaged[b])
            for e, label in enumerate(batch.event_labels[b]):
                events.append(
                    {
                        "sequence_id": batch.sequence_ids[b],
                        "label": label,
                        "positions": named[b, seen].tolist(),
                        "presence": presence[b, e, seen].tolist(),
                    }
                )
        return Rows(answers, events)

    def _fused(self, optimizer: Callable[..., torch.optim.Optimizer]) -> dict[str, bool]:
        """One kernel for all parameters where the optimizer has it, unless mixed precision would refuse to clip."""
        argument = inspect.signature(optimizer).parameters.get("fused")
        unset = argument is not None and argument.default is None
        return {"fused": True} if unset and self.trainer.precision == "32-true" else {}

    def configure_optimizers(self) -> Any:
        """The optimizer over all parameters that are not frozen, and its schedule by step."""
        if self._optimizer is None or self._scheduler is None:
            raise RuntimeError("This module was loaded to predict: it has no optimizer.")
        optimizer = self._optimizer([p for p in self.parameters() if p.requires_grad], **self._fused(self._optimizer))
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        self._early_steps = _EARLY * steps
        scheduler = self._scheduler(optimizer, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
