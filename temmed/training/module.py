"""The LightningModule: one training step, one set of metrics for validation, one form of prediction."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.nn import ModuleDict

from temmed.data.batch import COUNTED, TimelineBatch, count_items
from temmed.data.fitted import Fitted
from temmed.metrics.modules.answers import TaskAccuracy
from temmed.models.build import build_model
from temmed.models.heads.base import Rows
from temmed.training.maps import map_rows
from temmed.training.randomness import reseed
from temmed.training.sharding import hold, shard

#: Format of the hyperparameters in a checkpoint.
FORMAT = 2
#: Share of the steps in which values have their early weight.
_EARLY = 1 / 4


class Predicted:
    """Rows of the prediction tables; no dictionary, because Lightning would walk through every number of it.

    Args:
        rows: by table.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows


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
        self.fitted = Fitted.from_dict(dict(fitted))
        #: Whether predictions tell where the model looked, which takes as long again.
        self.explain = False
        self.reasoner: Any = build_model(model, self.fitted)
        # The checkpoint holds all weights: nothing is to be fetched for the backbone again.
        model = {**model, "backbone": {**model["backbone"], **getattr(self.reasoner.backbone, "rebuild", {})}}
        self.save_hyperparameters(
            {"format": FORMAT, "model": model, "fitted": dict(fitted), "provenance": dict(provenance)}
        )
        self._optimizer, self._scheduler = optimizer, scheduler
        heads = self.reasoner.tasks
        self.tasks = tuple(heads)
        self.weights: Tensor
        self.register_buffer("weights", torch.tensor([float(h.weight) for h in heads.values()]), persistent=False)
        self._early_weights: Tensor
        early = torch.tensor([float(head.early_weight) for head in heads.values()])
        self.register_buffer("_early_weights", early, persistent=False)
        self._items = [COUNTED.index(head.items) for head in heads.values()]
        self._steps = 0
        self._seed = int(provenance.get("seed", 0))
        self.validation = ModuleDict({task: TaskAccuracy() for task in provenance.get("tasks", ())})
        self._validation_sums: list[Tensor] = []

    def configure_model(self) -> None:
        """Divide the weights among processes, if the strategy is one that does."""
        if isinstance(self.trainer.strategy, ModelParallelStrategy) and not isinstance(self.reasoner, FSDPModule):
            assert self.device_mesh is not None
            shard(self.reasoner, self.device_mesh["data_parallel"], self.trainer.precision)

    def on_validation_start(self) -> None:
        """See `hold`."""
        hold(self.reasoner, whole=True)

    def on_validation_end(self) -> None:
        """See `hold`."""
        hold(self.reasoner, whole=False)

    def forward(self, batch: TimelineBatch) -> Any:
        """See `Reasoner.forward`."""
        return self.reasoner(batch)

    def on_train_batch_start(self, batch: TimelineBatch, batch_idx: int) -> None:
        """Make what is random in this batch depend on its place alone, so that a resumed run draws it again."""
        reseed(self.device, self._seed, self.trainer.current_epoch, batch_idx, self.global_rank)
        if self.reasoner.previous is not None:
            self.log("train/epsilon", self.reasoner.previous.advance(self.trainer.global_step / self._steps))

    def training_step(self, batch: TimelineBatch, batch_idx: int) -> Tensor:
        """Mean loss over all valid items of the optimizer step, whatever processes and micro-batches they came in.

        Lightning averages gradients over processes and divides by the number of accumulated batches, hence the
        factors.
        """
        sums = self.reasoner.losses(self.reasoner(batch), batch)
        own = self.count(batch)
        counts = self._sum_over_processes(own if batch.window is None else batch.window[self._items])
        factor = self.trainer.world_size * self.trainer.accumulate_grad_batches
        loss = (self._weights_now() * sums / counts.clamp(min=1)).sum() * factor
        means = sums / own.clamp(min=1)
        self.log_dict(
            {f"train/{name}": mean for name, mean in zip(self.tasks, means, strict=True)}, batch_size=len(batch)
        )
        return loss

    def count(self, batch: TimelineBatch) -> Tensor:
        """How many items of a batch each task's loss is summed over, ``(len(tasks),)`` long."""
        return count_items(batch)[self._items]

    def _weights_now(self) -> Tensor:
        """The weight of each task at this step."""
        return self._early_weights if self.trainer.global_step < _EARLY * self._steps else self.weights

    def _sum_over_processes(self, counts: Tensor) -> Tensor:
        if self.trainer.world_size == 1:
            return counts
        counts = counts.clone()
        torch.distributed.all_reduce(counts)
        return counts

    def validation_step(self, batch: TimelineBatch, batch_idx: int) -> None:
        """Collect sums of losses and accuracies by task."""
        output = self.reasoner(batch)
        hits = [head.hits(output[name], batch) for name, head in self.reasoner.tasks.items()]
        right = torch.tensor([torch.nan if found is None else float(found) for found in hits], device=self.device)
        sums = self.reasoner.losses(output, batch)
        self._validation_sums.append(torch.stack([sums, self.count(batch).float(), right]))
        if "answer" not in output:
            return
        predicted = output["answer"].argmax(dim=-1)
        for task, metric in self._accuracies():
            of_task = torch.zeros_like(batch.question_mask)
            for b, row in enumerate(batch.question_tasks):
                of_task[b, : len(row)] = torch.tensor([name == task for name in row], device=of_task.device)
            metric.update(predicted, torch.where(of_task & batch.question_mask, batch.answers, -100))

    def _accuracies(self) -> list[tuple[str, TaskAccuracy]]:
        return [(task, metric) for task, metric in self.validation.items() if isinstance(metric, TaskAccuracy)]

    def on_validation_epoch_end(self) -> None:
        """Log ``val/loss``, the loss of each task, ``val/TASK/accuracy``, and that of heads that are right or wrong."""
        total = torch.stack(self._validation_sums).sum(dim=0)
        self._validation_sums.clear()
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(total)
        mean, accuracy = total[0] / total[1].clamp(min=1), total[2] / total[1]
        self.log("val/loss", (self.weights * mean).sum(), prog_bar=True)
        for name, value, share in zip(self.tasks, mean, accuracy, strict=True):
            self.log(f"val/{name}", value)
            if not share.isnan():
                self.log(f"val/{name}/accuracy", share)
        if "answer" not in self.tasks:
            return
        for task, metric in self._accuracies():
            self.log(f"val/{task}/accuracy", metric.compute(), prog_bar=task == "progression")
            metric.reset()

    def predict_step(self, batch: TimelineBatch, batch_idx: int) -> Predicted:
        """Rows of the prediction tables; `temmed.training.predict` puts them into words and times."""
        output = self.reasoner(batch)
        rows = self.reasoner.rows(output, batch, self.fitted)
        if self.explain:
            rows["maps"] = map_rows(self.reasoner.explain(batch), batch)
        return Predicted(rows)

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
        self._steps = steps
        scheduler = self._scheduler(optimizer, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
