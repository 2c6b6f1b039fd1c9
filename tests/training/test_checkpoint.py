"""Checkpoints: the same model again, and a clear refusal of anything else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import pytorch_lightning as pl
import timm
import torch
from torch.utils.data import DataLoader

from temmed.data.fitted import Fitted
from temmed.data.tokenizer import Tokenizer
from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split
from temmed.training.checkpoint import load_module, read_checkpoint, start_from
from temmed.training.module import TimelineModule
from temmed.training.predict import predict

from .conftest import QUIET


@pytest.fixture
def trainer() -> pl.Trainer:
    return pl.Trainer(**QUIET)


@pytest.fixture
def saved(make_module: Callable[..., TimelineModule], trainer: pl.Trainer, tmp_path: Path) -> Path:
    """A checkpoint as the trainer writes it."""
    trainer.strategy.connect(make_module(seed=1))
    path = tmp_path / "best.ckpt"
    trainer.save_checkpoint(path)
    return path


def test_loaded_model_says_the_same(
    saved: Path, make_module: Callable[..., TimelineModule], make_loader: Callable[..., DataLoader]
) -> None:
    batch = next(iter(make_loader(4)))
    loaded = load_module(saved)
    assert not loaded.training
    with torch.no_grad():
        expected, found = make_module(seed=1).eval()(batch), loaded(batch)
    assert torch.equal(expected["answer"], found["answer"])
    assert torch.equal(expected["event"], found["event"])


def test_a_pretrained_backbone_is_loaded_without_what_it_came_from(
    fitted: Fitted, model_config: Callable[..., dict[str, Any]], trainer: pl.Trainer, tmp_path: Path
) -> None:
    weights, path = tmp_path / "weights.pth", tmp_path / "best.ckpt"
    torch.save(timm.create_model("test_resnet").state_dict(), weights)
    model = model_config()
    model["backbone"] |= {"name": "test_resnet", "weights": str(weights), "train": "lora"}
    trainer.strategy.connect(TimelineModule(model, fitted.to_dict(), {}))
    trainer.save_checkpoint(path)
    weights.unlink()
    state = read_checkpoint(path)["state_dict"]
    assert all(torch.equal(value, state[name]) for name, value in load_module(path).state_dict().items())


def test_loaded_model_gives_the_same_tables(
    saved: Path,
    make_module: Callable[..., TimelineModule],
    make_loader: Callable[..., DataLoader],
    tiny_timeline: Timeline,
    split: Split,
    trainer: pl.Trainer,
) -> None:
    questions = split.questions(tiny_timeline, "test")
    tables = [
        predict(module, make_loader(size, first=99, subset="test"), tiny_timeline, questions, trainer)
        for module, size in ((make_module(seed=1), 4), (load_module(saved), 3))
    ]
    assert tables[0].keys() == tables[1].keys() == {"answers", "events"}
    for first, second in zip(*(table.values() for table in tables), strict=True):
        pd.testing.assert_frame_equal(first, second, atol=1e-5)
    answers, events = tables[0].values()
    assert set(answers["question_id"]) == set(questions["question_id"])
    assert not events.duplicated(["sequence_id", "label"]).any()
    offered = questions.set_index("question_id")["choices"]
    for row in answers.itertuples(index=False):
        choices = offered[row.question_id]
        if row.probabilities is None:
            assert row.value > 0
        else:
            assert len(row.probabilities) == len(choices)
            assert sum(row.probabilities) == pytest.approx(1.0, abs=1e-5)
            assert row.answer in list(choices)
            assert row.confidence == max(row.probabilities)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None], ids=["empty", "text", "truncated"])
def test_damaged_file_is_refused(saved: Path, content: bytes | None) -> None:
    saved.write_bytes(saved.read_bytes()[:2000] if content is None else content)
    with pytest.raises(InputError, match=r"best\.ckpt: expected a readable checkpoint"):
        read_checkpoint(saved)


def test_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.ckpt"):
        load_module(tmp_path / "none.ckpt")


@pytest.mark.parametrize("change", ["format", "foreign", "tensor"])
def test_other_formats_are_refused(saved: Path, change: str) -> None:
    content = torch.load(saved, weights_only=True)
    if change == "format":
        content["hyper_parameters"]["format"] = 99
    torch.save({"format": content, "foreign": {"state_dict": {}}, "tensor": torch.zeros(2)}[change], saved)
    with pytest.raises(InputError, match="TemMed checkpoint of format 2"):
        read_checkpoint(saved)


def test_parts_are_copied_and_the_rest_is_left(saved: Path, make_module: Callable[..., TimelineModule]) -> None:
    module, fresh = make_module(seed=2), make_module(seed=2).state_dict()
    start_from(module, saved, ["backbone", "place"])
    source = read_checkpoint(saved)["state_dict"]
    copied = 0
    for name, value in module.state_dict().items():
        taken = name.startswith("reasoner.backbone.") or name == "reasoner.place"
        assert torch.equal(value, source[name] if taken else fresh[name])
        copied += taken and not torch.equal(source[name], fresh[name])
    assert copied


def test_other_vocabularies_shapes_and_names_are_refused(
    saved: Path, make_module: Callable[..., TimelineModule], fitted: Fitted
) -> None:
    with pytest.raises(InputError, match="vocabulary"):
        start_from(make_module(vocabulary=replace(fitted, tokenizer=Tokenizer(("other",)))), saved, ["backbone"])
    with pytest.raises(InputError, match="'bakbone'"):
        start_from(make_module(), saved, ["bakbone"])
    with pytest.raises(InputError, match="same shapes in temporal"):
        start_from(make_module(temporal="transformer"), saved, ["temporal"])


def test_a_loaded_model_cannot_be_trained_by_mistake(saved: Path) -> None:
    with pytest.raises(RuntimeError, match="loaded to predict"):
        load_module(saved).configure_optimizers()
