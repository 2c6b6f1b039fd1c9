"""Averaged weights, compiled parts, the search for a learning rate, and the guard against numbers that are none."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from temmed.data.batch import TimelineBatch
from temmed.data.datamodule import TimelineDataModule
from temmed.data.fitted import Fitted
from temmed.data.settings import DataSettings
from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split
from temmed.training.averaging import MovingAverage
from temmed.training.checkpoint import AtomicCheckpointIO, BestCheckpoint, load_module, read_checkpoint
from temmed.training.compiling import compile_parts
from temmed.training.find_lr import RANGE, RangeTest, draw, find_lr, steepest
from temmed.training.guard import NanGuard, load_batch
from temmed.training.module import TimelineModule

from .conftest import QUIET

Modules = Callable[..., TimelineModule]


@pytest.fixture
def data(tiny_timeline: Timeline, split: Split, fitted: Fitted) -> TimelineDataModule:
    return TimelineDataModule(tiny_timeline, split, DataSettings(size=32, batch_size=4), fitted, seed=7)


def _fit(module: TimelineModule, data: TimelineDataModule, *callbacks: pl.Callback, **settings: Any) -> pl.Trainer:
    trainer = pl.Trainer(
        **{**QUIET, "enable_checkpointing": any(isinstance(c, BestCheckpoint) for c in callbacks)},
        **settings,
        callbacks=list(callbacks),
        num_sanity_val_steps=0,
        plugins=[AtomicCheckpointIO()],
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=data)
    return trainer


class _Course(pl.Callback):
    """Averages the weights by hand, and keeps what was validated."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average: dict[str, torch.Tensor] = {}
        self.validated: dict[str, torch.Tensor] = {}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
        for name, weight in pl_module.named_parameters():
            now = weight.detach().double()
            before = self.average.get(name, now)
            self.average[name] = self.decay * before + (1 - self.decay) * now

    def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
        self.validated = {name: weight.detach().clone() for name, weight in pl_module.named_parameters()}


def test_the_average_is_validated_kept_and_loaded(
    make_module: Modules, data: TimelineDataModule, tmp_path: Path
) -> None:
    module, course = make_module(), _Course(0.8)
    module.reasoner.text.requires_grad_(False)
    frozen = {name: weight.clone() for name, weight in module.reasoner.text.named_parameters()}
    best = BestCheckpoint(tmp_path, "best", monitor="val/loss")
    _fit(module, data, course, MovingAverage(0.8), best, max_epochs=1)
    loaded = dict(load_module(best.best_model_path).named_parameters())
    trained = read_checkpoint(best.best_model_path)["current_model_state"]
    for name, expected in course.average.items():
        torch.testing.assert_close(loaded[name].double(), expected, atol=1e-6, rtol=1e-5)
        assert torch.equal(course.validated[name], loaded[name])
        assert torch.equal(dict(module.named_parameters())[name], loaded[name])
    assert any(not torch.equal(trained[name], weight) for name, weight in loaded.items())
    for name, weight in frozen.items():
        assert torch.equal(loaded[f"reasoner.text.{name}"], weight)


def test_compiled_parts_leave_checkpoints_alone_and_say_the_same(
    make_module: Modules, data: TimelineDataModule
) -> None:
    plain, compiled = make_module(), make_module()
    keys = list(compiled.state_dict())
    calls = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., Any]:
        calls.append(graph)
        return graph.forward

    compile_parts(compiled.reasoner, ["backbone", "temporal"], backend, None)  # type: ignore[arg-type]  # a function will do
    batch = next(iter(data.train_dataloader()))
    batch = batch.to("cpu")
    torch.testing.assert_close(compiled(batch)["value"], plain(batch)["value"])
    assert calls
    assert list(compiled.state_dict()) == keys
    plain.load_state_dict(compiled.state_dict())
    with pytest.raises(InputError, match=r"compile\.parts: expected parts among .*backbone.*found 'bone'"):
        compile_parts(compiled.reasoner, ["bone"], "eager", None)


@pytest.mark.slow
def test_a_run_with_the_real_compiler(make_module: Modules, data: TimelineDataModule) -> None:
    module, plain = make_module(), make_module()
    compile_parts(module.reasoner, ["backbone", "temporal"], "inductor", True)
    losses = [_fit(m, data, max_steps=2).callback_metrics["train/answer"] for m in (module, plain)]
    torch.testing.assert_close(losses[0], losses[1], atol=1e-3, rtol=1e-3)


def test_a_learning_rate_is_found_and_nothing_is_changed(
    make_module: Modules, data: TimelineDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = make_module(optimizer=partial(torch.optim.AdamW, lr=1e-3))
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    test = find_lr(module, data, 16, partial(pl.Trainer, accelerator="cpu", enable_progress_bar=False))
    assert 13 <= len(test.rates) == len(test.losses) <= 16
    low, high = RANGE
    expected = [low * (high / low) ** ((n + 1) / 16) for n in range(len(test.rates))]
    assert test.rates == pytest.approx([low, *expected[1:]])
    assert 10 <= test.best < len(test.rates) - 1
    for name, weight in module.state_dict().items():
        assert torch.equal(weight, before[name])
    assert list(tmp_path.iterdir()) == []


def test_the_steepest_fall_is_by_the_factor_of_the_rate() -> None:
    rates = np.logspace(-6, 0, 100).tolist()
    # Falls between 1e-3 and 1e-2 most, after a small dent at tiny rates, and diverges.
    x = np.log10(rates)
    losses = 2 - 1 / (1 + np.exp(-6 * (x + 2.5))) - 1e-3 * (x > -5.2) + np.where(x > -0.5, 5.0, 0.0)
    losses[3] = np.nan
    best = steepest(rates, losses.tolist())
    assert rates[best] == pytest.approx(10**-2.5, rel=0.1)
    root = ElementTree.fromstring(draw(RangeTest(rates, losses.tolist(), best)))
    (line,) = root.iter("{http://www.w3.org/2000/svg}polyline")
    points = np.array([point.split(",") for point in line.attrib["points"].split()], float)
    assert len(points) == 99
    assert (np.diff(points[:, 0]) > 0).all()
    assert points.min() >= 0
    assert points[:, 0].max() <= 620
    assert points[:, 1].max() <= 360
    (dot,) = root.iter("{http://www.w3.org/2000/svg}circle")
    shown = [n for n in range(100) if n != 3]
    assert points[shown.index(best)].tolist() == pytest.approx([float(dot.attrib["cx"]), float(dot.attrib["cy"])])


def test_too_few_losses_suggest_nothing() -> None:
    with pytest.raises(InputError, match="find_lr: expected a loss that can be followed over 13 steps, found 14 steps"):
        steepest([0.1] * 14, [1.0] * 10 + [float("nan")] * 4)


class _Spoil(pl.Callback):
    """Puts a value that is no number into an image of the second batch, or makes its gradients infinite."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.weights: dict[str, torch.Tensor] = {}

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: TimelineBatch, batch_idx: int
    ) -> None:
        if batch_idx == 1:
            self.weights = {name: weight.clone() for name, weight in pl_module.state_dict().items()}
            if self.what == "image":
                batch.images = batch.images.float()
                batch.images[0, 0, 5, 7] = torch.nan

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.what == "gradient" and trainer.global_step == 1:
            assert isinstance(pl_module, TimelineModule)
            gradient = pl_module.get_parameter("reasoner.heads.value.out.2.bias").grad
            assert gradient is not None
            gradient.fill_(torch.inf)


@pytest.mark.parametrize("what", ["image", "gradient"])
def test_what_is_no_number_stops_the_run_and_is_kept(
    make_module: Modules, data: TimelineDataModule, tmp_path: Path, what: str
) -> None:
    spoil = _Spoil(what)
    with pytest.raises(InputError) as stop:
        _fit(make_module(), data, spoil, NanGuard(tmp_path), max_epochs=1)
    batch, model = load_batch(tmp_path / "nan_batch.pt"), load_module(tmp_path / "nan.ckpt")
    message = str(stop.value)
    assert f"epoch 1, step 2, batch 2, sequences {', '.join(batch.sequence_ids)}" in message
    assert str(tmp_path / "nan_batch.pt") in message
    for name, weight in spoil.weights.items():  # as they were before the step
        assert torch.equal(model.state_dict()[name], weight)
    again = model.reasoner.losses(model(batch), batch)
    if what == "gradient":
        assert "the gradient of reasoner.heads.value.out.2.bias" in message
        assert again.isfinite().all()
        return
    bad = [name for name, loss in zip(model.tasks, again, strict=True) if not loss.isfinite()]
    assert bad
    assert [name for name in model.tasks if f"train/{name}=nan" in message] == bad


def test_numbers_that_are_numbers_pass(make_module: Modules, data: TimelineDataModule, tmp_path: Path) -> None:
    guarded, free = make_module(), make_module()
    _fit(guarded, data, NanGuard(tmp_path), max_epochs=1, accumulate_grad_batches=2, gradient_clip_val=1.0)
    _fit(free, data, max_epochs=1, accumulate_grad_batches=2, gradient_clip_val=1.0)
    for one, other in zip(guarded.parameters(), free.parameters(), strict=True):
        assert torch.equal(one, other)
    assert list(tmp_path.iterdir()) == []
