"""Questions that hear earlier answers: which they may hear, whose answers those are, and when truth is among them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from temmed.data.batch import TimelineBatch
from temmed.data.datamodule import TimelineDataModule
from temmed.data.fitted import Fitted
from temmed.data.settings import DataSettings
from temmed.errors import InputError
from temmed.models.previous_answers import PreviousAnswers, exponential, inverse_sigmoid, linear, may_hear
from temmed.models.reasoner import Reasoner
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split
from temmed.training.module import TimelineModule
from temmed.training.schedules import constant

from .conftest import QUIET, SCHEDULED, TASKS
from .sequences import assert_close, make_batch, make_model, outcome


def _asked(pairs: list[tuple[int, int] | None], findings: list[int]) -> TimelineBatch:
    """The batch with other evidence and findings; all sequences but the first are too short to have any."""
    batch = make_batch()
    evidence = torch.zeros_like(batch.evidence)
    for q, pair in enumerate(pairs):
        if pair is not None:
            evidence[0, q, list(pair)] = True
    asked_at = batch.asked_at.clone()
    asked_at[0] = torch.tensor([2, 3, 3, 6, 8])
    numbers = batch.findings.clone()
    numbers[0] = torch.tensor(findings)
    return replace(batch, asked_at=asked_at, evidence=evidence, findings=numbers)


BATCHES = [
    ([(0, 2), (0, 2), (1, 2), (0, 2), (0, 2)], [0, 0, 0, 1, 0]),
    ([(0, 2), (2, 3), (1, 2), None, (2, 3)], [0, 1, -1, 0, 1]),
    ([None, None, (0, 1), (0, 1), (2, 5)], [0, 1, 1, 0, -1]),
]


def _allowed(batch: TimelineBatch, b: int, hears: int, says: int) -> bool:
    """The rule, one pair of questions at a time."""
    if not (batch.question_mask[b, hears] and batch.question_mask[b, says]):
        return False
    if batch.asked_at[b, says] >= batch.asked_at[b, hears]:
        return False
    one, other = (int(batch.findings[b, q]) for q in (hears, says))
    first, second = (batch.evidence[b, q].nonzero().flatten().tolist() for q in (hears, says))
    same_finding = one == other or -1 in (one, other)
    same_pair = not first or not second or (first[0], first[-1]) == (second[0], second[-1])
    return not (same_finding and same_pair)


@pytest.fixture
def reasoner(model_config: Callable[..., dict[str, Any]], fitted: Fitted) -> Reasoner:
    return make_model(model_config() | {"previous_answers": SCHEDULED}, fitted)


@pytest.mark.parametrize(("pairs", "findings"), BATCHES)
def test_who_may_hear_whom(pairs: list[tuple[int, int] | None], findings: list[int]) -> None:
    batch = _asked(pairs, findings)
    heard = may_hear(batch)
    size, most = batch.question_mask.shape
    expected = [[[_allowed(batch, b, q, p) for p in range(most)] for q in range(most)] for b in range(size)]
    assert heard.tolist() == expected
    assert heard.any()


@pytest.mark.parametrize(("pairs", "findings"), BATCHES)
def test_an_answer_changes_what_may_hear_it_and_nothing_else(
    reasoner: Reasoner, pairs: list[tuple[int, int] | None], findings: list[int]
) -> None:
    batch, previous = _asked(pairs, findings), reasoner.previous
    assert previous is not None
    previous.truth.fill_(1.0)
    reasoner.train()
    with torch.no_grad():
        before = reasoner(batch)
        for said in range(batch.answers.shape[1]):
            answers = batch.answers.clone()
            answers[0, said] = 1 - answers[0, said]
            after = reasoner(replace(batch, answers=answers))
            for hears in range(batch.answers.shape[1]):
                same = torch.equal(before["answer"][0, hears], after["answer"][0, hears])
                same &= torch.equal(before["value"][0, hears], after["value"][0, hears])
                assert same != _allowed(batch, 0, hears, said), (hears, said)


def test_values_are_heard_as_well(reasoner: Reasoner) -> None:
    batch = _asked(*BATCHES[1])
    batch = replace(batch, choice_mask=torch.zeros_like(batch.choice_mask))
    assert reasoner.previous is not None
    reasoner.previous.truth.fill_(1.0)
    with torch.no_grad():
        before = reasoner(batch)["value"]
        after = reasoner(replace(batch, values=batch.values + 2.0))["value"]
    heard = may_hear(batch).any(dim=2)
    assert torch.equal(before != after, heard)


def test_outside_training_truth_is_never_heard(reasoner: Reasoner) -> None:
    batch, previous = _asked(*BATCHES[0]), reasoner.previous
    assert previous is not None
    previous.truth.fill_(1.0)
    other = replace(batch, answers=1 - batch.answers, values=batch.values + 3.0)
    reasoner.eval()
    with torch.no_grad():
        assert torch.equal(reasoner(batch)["answer"], reasoner(other)["answer"])
        own = reasoner(batch)["answer"]
        previous.truth.fill_(0.0)
        # Nor in training once the schedule is at its end, and the answers heard then are those heard in use.
        assert torch.equal(reasoner.train()(other)["answer"], own)


def test_own_answers_are_heard(reasoner: Reasoner) -> None:
    batch = _asked(*BATCHES[0])
    reasoner.eval()
    with torch.no_grad():
        second = reasoner(batch)["answer"]
        reasoner.previous = None
        first = reasoner(batch)["answer"]
    changed = (first != second).any(dim=2)
    assert torch.equal(changed, may_hear(batch).any(dim=2))


def test_chunks_and_gradients(reasoner: Reasoner) -> None:
    batch = _asked(*BATCHES[0])
    said, gradients = outcome(reasoner, batch)
    reasoner.chunk = 4
    again, others = outcome(reasoner, batch)
    assert_close(said, again, 1e-5)
    assert_close(gradients, others, 1e-5)
    assert reasoner.previous is not None
    batch = replace(batch, choice_mask=batch.choice_mask & (torch.arange(5) > 0)[None, :, None])
    _, gradients = outcome(reasoner, batch)
    idle = [n for n, _ in reasoner.previous.named_parameters() if not gradients[f"previous.{n}"].any()]
    assert idle == []


@pytest.mark.parametrize("k", [3.0, 10.0])
def test_schedules_are_those_of_the_paper(k: float) -> None:
    for i in range(0, 101, 5):
        assert linear(i / 100, offset=0.9, slope=1.5, least=0.1) == pytest.approx(max(0.1, 0.9 - 0.015 * i))
        assert exponential(i / 100, k=1 - 1 / k) == pytest.approx((1 - 1 / k) ** i)
        assert inverse_sigmoid(i / 100, k=k) == pytest.approx(k / (k + math.exp(i / k)))
    assert (linear(0.0), linear(1.0)) == (1.0, 0.0)


def test_schedules_outside_their_bounds_are_refused_when_the_model_is_built() -> None:
    for schedule, k in ((exponential, 1.0), (inverse_sigmoid, 0.5)):
        with pytest.raises(InputError, match=r"model\.previous_answers\.epsilon\.k"):
            PreviousAnswers(16, 2, partial(schedule, k=k))


class _Witness(pl.Callback):
    """Keeps the share of truth in each training batch, and whether validation hears any."""

    def __init__(self) -> None:
        self.epsilons: list[float] = []
        self.logged: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
        assert isinstance(pl_module, TimelineModule)
        assert pl_module.reasoner.previous is not None
        self.epsilons.append(float(pl_module.reasoner.previous.truth))
        self.logged.append(float(trainer.callback_metrics["train/epsilon"]))

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: TimelineBatch, *_: object
    ) -> None:
        output = pl_module(batch)
        told = replace(batch, answers=batch.answers.clamp(min=0), values=batch.values.nan_to_num() + 1)
        assert torch.equal(output["answer"], pl_module(told)["answer"])
        assert torch.equal(output["value"], pl_module(told)["value"])


def test_truth_gives_way_over_the_run_and_is_logged(
    model_config: Callable[..., dict[str, Any]], fitted: Fitted, tiny_timeline: Timeline, split: Split
) -> None:
    torch.manual_seed(0)
    model = model_config("none") | {"previous_answers": SCHEDULED}
    sgd = partial(torch.optim.SGD, lr=0.1)
    module = TimelineModule(model, fitted.to_dict(), {"tasks": TASKS}, sgd, constant)
    data = TimelineDataModule(tiny_timeline, split, DataSettings(size=32, batch_size=6), fitted, seed=7)
    witness = _Witness()
    trainer = pl.Trainer(**QUIET, max_epochs=2, callbacks=[witness], use_distributed_sampler=False)
    trainer.fit(module, datamodule=data)
    steps = trainer.global_step
    assert witness.epsilons == pytest.approx([1 - step / steps for step in range(steps)])
    assert witness.logged == pytest.approx(witness.epsilons)
