"""Starting from a checkpoint of other data: `model.start_data=other`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from temmed.data.fitted import Fitted, ValueScale
from temmed.data.pretrained_tokenizer import PretrainedTokenizer
from temmed.data.tokenizer import Tokenizer
from temmed.errors import InputError
from temmed.training.checkpoint import load_module, read_checkpoint, read_fitted, start_from
from temmed.training.module import TimelineModule

from .conftest import QUIET

ALL = ["backbone", "project", "place", "missing", "text", "temporal", "reader", "heads"]


@pytest.fixture
def saved(make_module: Callable[..., TimelineModule], tmp_path: Path) -> Path:
    """A checkpoint of a run on other data."""
    trainer = pl.Trainer(**QUIET)
    trainer.strategy.connect(make_module(seed=1))
    path = tmp_path / "best.ckpt"
    trainer.save_checkpoint(path)
    return path


@pytest.fixture
def other(fitted: Fitted) -> Fitted:
    """What is fitted to data with two words more, of other brightness and sizes."""
    words = (*fitted.tokenizer.words[::2], "shadow", "unheard")  # type: ignore[attr-defined]
    return replace(
        fitted, tokenizer=Tokenizer(words), mean=(5.0, 6.0), deviation=(2.0, 3.0), values=ValueScale(False, 1.0, 2.0)
    )


def test_words_keep_their_ids_and_values_their_scale(fitted: Fitted, other: Fitted) -> None:
    found = other.after(fitted)
    assert found.tokenizer.words == (*fitted.tokenizer.words, "shadow", "unheard")  # type: ignore[attr-defined]
    text = "Was it progressed or stable"
    assert found.tokenizer.encode(text) == fitted.tokenizer.encode(text)
    assert found.values == fitted.values
    assert (found.mean, found.deviation) == (other.mean, other.deviation)


def test_everything_is_taken_over_but_words_it_never_saw(
    saved: Path, make_module: Callable[..., TimelineModule], other: Fitted
) -> None:
    known = other.after(read_fitted(saved))
    module, fresh = make_module(seed=2, vocabulary=known), make_module(seed=2, vocabulary=known).state_dict()
    start_from(module, saved, ALL, other_data=True)
    source = read_checkpoint(saved)["state_dict"]
    words = "reasoner.text.words.weight"
    for name, value in module.state_dict().items():
        if name != words:
            assert torch.equal(value, source[name]), name
    own = module.state_dict()[words]
    assert torch.equal(own[:-2], source[words])
    assert torch.equal(own[-2:], fresh[words][-2:])


def test_data_must_be_said_to_be_other(saved: Path, make_module: Callable[..., TimelineModule], other: Fitted) -> None:
    module = make_module(vocabulary=other.after(read_fitted(saved)))
    with pytest.raises(InputError, match=r"set model\.start_data=other"):
        start_from(module, saved, ALL)


def test_low_rank_additions_are_put_onto_the_weights_of_the_checkpoint(
    saved: Path, model_config: Callable[..., dict[str, Any]], fitted: Fitted, tmp_path: Path
) -> None:
    model = model_config() | {"train": "outputs"}
    model["backbone"]["train"] = "lora"
    module = TimelineModule(model, fitted.to_dict(), {})
    start_from(module, saved, ALL)
    images = torch.randn(2, 2, 32, 32)
    with torch.no_grad():
        expected = load_module(saved).reasoner.backbone(images)
        torch.testing.assert_close(module.eval().reasoner.backbone(images), expected, atol=1e-5, rtol=1e-5)
    trainer = pl.Trainer(**QUIET)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "adapted.ckpt")
    again = load_module(tmp_path / "adapted.ckpt").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in module.state_dict().items())


def test_texts_that_become_ids_in_another_way_are_refused(fitted: Fitted) -> None:
    pretrained = replace(fitted, tokenizer=PretrainedTokenizer("some/encoder", "{}", None, 10))
    with pytest.raises(InputError, match=r"model\.text: expected the text encoder of the checkpoint"):
        pretrained.after(fitted)
