from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import multiprocessing
from torchmetrics import MetricCollection

from temmed.metrics.modules.answers import PADDING, TaskAccuracy, TaskMacroF1

N_CLASSES = 3


def draw(rows: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    answers = rng.integers(0, N_CLASSES, (rows, 3))
    predicted = np.where(rng.random(answers.shape) < 0.5, answers, rng.integers(-1, N_CLASSES, answers.shape))
    answers[rng.random(answers.shape) < 0.3] = PADDING
    return torch.from_numpy(predicted), torch.from_numpy(answers)


def expected() -> dict[str, float]:
    predicted, answers = (tensor.numpy().ravel() for tensor in draw())
    asked = answers != PADDING
    return {
        "TaskAccuracy": accuracy_score(answers[asked], predicted[asked]),
        "TaskMacroF1": f1_score(answers[asked], predicted[asked], labels=range(N_CLASSES), average="macro"),
    }


def metrics() -> MetricCollection:
    return MetricCollection([TaskAccuracy(), TaskMacroF1(N_CLASSES)])


def test_batches_add_up_and_padding_counts_for_nothing() -> None:
    found = metrics()
    for predicted, answers in zip(*(tensor.split(7) for tensor in draw()), strict=True):
        found.update(predicted, answers)
    assert {name: float(value) for name, value in found.compute().items()} == pytest.approx(expected())


def test_nothing_asked_is_nan() -> None:
    found = metrics()
    found.update(torch.zeros(4), torch.full((4,), PADDING))
    assert all(torch.isnan(value) for value in found.compute().values())


def run_process(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", world_size=2, rank=rank)
    found = metrics()
    # Unequal shares: the first process has one row, the other the rest.
    part = slice(0, 1) if rank == 0 else slice(1, None)
    predicted, answers = draw()
    found.update(predicted[part], answers[part])
    torch.save({name: float(value) for name, value in found.compute().items()}, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_number_of_one(tmp_path: Path) -> None:
    multiprocessing.spawn(run_process, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == pytest.approx(expected())
