"""The module under a real trainer: epochs, validation, and what is logged."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import pytorch_lightning as pl
import torch

from temmed.data.batch import IGNORE, TimelineBatch
from temmed.data.datamodule import TimelineDataModule
from temmed.data.fitted import Fitted
from temmed.data.settings import DataSettings
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split
from temmed.training.module import TimelineModule

from .conftest import QUIET


class _Notes(pl.Callback):
    """Keeps the order in which sequences came."""

    def __init__(self) -> None:
        self.epochs: list[list[str]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epochs.append([])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: TimelineBatch, batch_idx: int
    ) -> None:
        self.epochs[-1].extend(batch.sequence_ids)


def _fit(module: TimelineModule, data: TimelineDataModule) -> tuple[pl.Trainer, _Notes]:
    notes = _Notes()
    trainer = pl.Trainer(
        **QUIET,
        max_epochs=2,
        accumulate_grad_batches=2,
        callbacks=[notes],
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=data)
    return trainer, notes


@pytest.fixture
def make_data(tiny_timeline: Timeline, split: Split, fitted: Fitted) -> Callable[[], TimelineDataModule]:
    settings = DataSettings(size=32, batch_size=4)
    return lambda: TimelineDataModule(tiny_timeline, split, settings, fitted, seed=7)


def test_each_epoch_has_its_own_order_and_a_seed_repeats_the_run(
    make_module: Callable[..., TimelineModule], make_data: Callable[[], TimelineDataModule], split: Split
) -> None:
    modules, runs = [make_module(), make_module()], []
    for module in modules:
        runs.append(_fit(module, make_data())[1].epochs)
    first, second = runs[0]
    assert sorted(first) == sorted(second) == sorted(split.sequences("train")["sequence_id"])
    assert first != second
    assert runs[0] == runs[1]
    for one, other in zip(*(module.state_dict().values() for module in modules), strict=True):
        assert torch.equal(one, other)


def test_validation_logs_means_over_the_whole_subset(
    make_module: Callable[..., TimelineModule], make_data: Callable[[], TimelineDataModule]
) -> None:
    module, data = make_module(weights={"statement": 1.0}), make_data()
    trainer, _ = _fit(module, data)
    module.eval()
    sums, counts = torch.zeros(5), torch.zeros(5)
    right: dict[str, list[bool]] = {"event": [], "progression": [], "statement": []}
    with torch.no_grad():
        for batch in data.val_dataloader():
            output = module(batch)
            sums, counts = sums + module.reasoner.losses(output, batch), counts + module.count(batch)
            for b, tasks in enumerate(batch.question_tasks):
                for q, task in enumerate(tasks):
                    if batch.answers[b, q] != IGNORE:
                        right[task].append(bool(output["answer"][b, q].argmax() == batch.answers[b, q]))
            for b, identities in enumerate(batch.statement_ids):
                for s in range(len(identities)):
                    if batch.image_mask[b, batch.statement_position[b, s]]:
                        verdict = bool(output["statement"][b, s] > 0)
                        right["statement"].append(verdict == bool(batch.statement_consistent[b, s]))
    mean = sums / counts.clamp(min=1)
    logged = trainer.callback_metrics
    assert float(logged["val/loss"]) == pytest.approx(float((module.weights * mean).sum()), rel=1e-4)
    for name, value in zip(module.tasks, mean, strict=True):
        assert float(logged[f"val/{name}"]) == pytest.approx(float(value), rel=1e-4)
    compared = 0
    for task, answers in right.items():
        if answers:
            assert float(logged[f"val/{task}/accuracy"]) == pytest.approx(sum(answers) / len(answers))
            compared += 1
    assert compared > 1
    assert "val/value/accuracy" not in logged


def test_without_items_there_is_no_accuracy(
    make_module: Callable[..., TimelineModule], make_data: Callable[[], TimelineDataModule]
) -> None:
    module, data = make_module(weights={"alignment": 1.0}), make_data()  # reports are no targets of this data
    trainer, _ = _fit(module, data)
    assert trainer.callback_metrics["val/alignment"] == 0
    assert "val/alignment/accuracy" not in trainer.callback_metrics


def test_sizes_weigh_less_until_a_quarter_of_the_steps_is_done(
    make_module: Callable[..., TimelineModule], make_data: Callable[[], TimelineDataModule]
) -> None:
    module, seen = make_module(), []
    index = module.tasks.index("value")

    class _Weights(pl.Callback):
        def on_train_batch_start(self, *arguments: object) -> None:
            seen.append((module.trainer.global_step, module._weights_now()[index].item()))

    trainer = pl.Trainer(**QUIET, max_epochs=2, callbacks=[_Weights()], use_distributed_sampler=False)
    trainer.fit(module, datamodule=make_data())
    early, late = (float(module.hparams["model"]["heads"]["value"][name]) for name in ("early_weight", "weight"))
    assert early < late
    steps = trainer.global_step
    assert seen == [(step, early if step < steps / 4 else late) for step in range(steps)]
    assert {weight for _, weight in seen} == {early, late}


@pytest.mark.parametrize(
    ("settings", "precision", "fused"),
    [({}, "32-true", True), ({}, "bf16-mixed", None), ({"fused": False}, "32-true", False)],
)
def test_the_optimizer_is_fused_unless_refused_or_mixed(
    make_module: Callable[..., TimelineModule],
    make_data: Callable[[], TimelineDataModule],
    settings: dict[str, bool],
    precision: str,
    fused: bool | None,
) -> None:
    module = make_module(optimizer=partial(torch.optim.AdamW, **settings))
    trainer = pl.Trainer(
        **QUIET, max_steps=1, precision=precision, gradient_clip_val=1.0, use_distributed_sampler=False
    )
    trainer.fit(module, datamodule=make_data())
    assert trainer.optimizers[0].defaults["fused"] is fused


def test_an_optimizer_that_cannot_be_fused_trains(
    make_module: Callable[..., TimelineModule], make_data: Callable[[], TimelineDataModule]
) -> None:
    module = make_module(optimizer=partial(torch.optim.RMSprop, lr=0.01))
    pl.Trainer(**QUIET, max_steps=1, use_distributed_sampler=False).fit(module, datamodule=make_data())
