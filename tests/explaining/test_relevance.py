"""What counted for an answer: sums that must hold, places that must be zero, and a spot that must be found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from temmed.data.batch import TimelineBatch
from temmed.data.collate import Collator
from temmed.data.dataset import TimelineItem
from temmed.data.fitted import Fitted
from temmed.data.pixels import PixelStack
from temmed.data.records import Question, Record
from temmed.errors import InputError
from temmed.explaining import relevance as explaining
from temmed.explaining.relevance import METHODS, Method, check_method, check_model, relevance, score_of
from temmed.models.base import TimelineModel
from temmed.models.previous_answers import PreviousAnswers
from temmed.models.reasoner import Reasoner

from ..training.conftest import SCHEDULED
from ..training.sequences import make_batch, make_model

Config = Callable[..., dict[str, Any]]


def answering(config: dict[str, Any], fitted: Fitted) -> Reasoner:
    """With the heads that have a part in answers."""
    model = make_model(config, fitted).eval()
    for name in set(model.heads) - {"answer", "value", "evidence"}:
        del model.heads[name]
    return model


@pytest.fixture
def model(model_config: Config, fitted: Fitted) -> Reasoner:
    return answering(model_config("transformer"), fitted)


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def first_question(batch: TimelineBatch, least: int, most: int) -> tuple[int, int]:
    """A question of the first sequence that is asked between two positions, at one with an image."""
    asked = batch.asked_at[0].tolist()
    return 0, next(q for q, at in enumerate(asked) if least <= at <= most and batch.image_mask[0, at])


def finished(model: Reasoner, batch: TimelineBatch) -> Tensor:
    return model.finish(batch.images, batch.channel_mask[batch.frame_index[:, 0], batch.frame_index[:, 1]])


@pytest.mark.parametrize("method", METHODS)
def test_what_a_question_cannot_read_counts_for_nothing(model: Reasoner, method: Method) -> None:
    batch = make_batch()
    place = first_question(batch, 1, 6)
    asked_at = int(batch.asked_at[place])
    found = relevance(model, batch, place, method, steps=4)
    assert found.maps.shape == (len(batch.images), *batch.images.shape[2:])
    read = (batch.frame_index[:, 0] == 0) & (batch.frame_index[:, 1] <= asked_at)
    assert 1 < read.sum() < len(read) - 3, "there are images before, after, and of other sequences"
    assert (found.maps[~read] == 0).all()
    asked = (batch.frame_index == torch.tensor([0, asked_at])).all(dim=1)
    assert (found.maps[asked] != 0).any()
    if method == "integrated_gradients":
        assert (found.maps[read & ~asked] != 0).flatten(1).any(dim=1).all(), "the memory is read, too"
    if not found.signed:
        assert (found.maps >= 0).all()


@pytest.mark.parametrize("head", ["transformer", "gru"])
@pytest.mark.usefixtures("float64")
def test_pixels_add_up_to_what_the_images_gave(head: str, model_config: Config, fitted: Fitted) -> None:
    model = answering(model_config(head), fitted)
    batch = make_batch()
    batch = replace(batch, times=batch.times.double(), named=batch.named.double())
    place = first_question(batch, 1, 8)
    with torch.no_grad():
        said, images = model(batch), finished(model, batch)
        chosen = int(said["answer"][place].argmax())
        nothing = replace(batch, channel_mask=torch.zeros_like(batch.channel_mask))  # each channel at its mean
        assert (finished(model, nothing) == 0).all()
        gained = score_of(said, place, chosen) - score_of(model(nothing), place, chosen)
    assert images.dtype == torch.float64
    found = relevance(model, batch, place, "integrated_gradients", steps=32)
    assert found.gained == pytest.approx(float(gained), abs=1e-9)
    total = float(found.maps.double().sum())
    assert found.error == pytest.approx(total - found.gained, abs=1e-5)
    rough = relevance(model, batch, place, "integrated_gradients", steps=2)
    assert abs(found.error) < abs(rough.error), "more steps, less error"


def test_grad_cam_is_that_of_a_plain_loop(model: Reasoner) -> None:
    batch = make_batch()
    place = first_question(batch, 3, 8)
    kept: list[Tensor] = []
    hook = model.backbone.pool.register_forward_pre_hook(lambda _, given: kept.append(given[0]))
    said = model(batch)
    hook.remove()
    (features,) = kept
    logits = said["answer"][place]
    chosen = int(logits.argmax())
    offered = [k for k in range(len(logits)) if batch.choice_mask[place][k]]
    score = logits[chosen] - sum(logits[k] for k in offered if k != chosen) / (len(offered) - 1)
    (gradient,) = torch.autograd.grad(score, features)
    features = features.detach()
    expected = []
    for n in range(len(features)):
        cam = torch.zeros(features.shape[2:])
        for channel in range(features.shape[1]):
            cam += gradient[n, channel].mean() * features[n, channel]
        grown = functional.interpolate(cam.clamp(min=0)[None, None], batch.images.shape[2:], mode="bilinear")
        expected.append(grown[0, 0])
    found = relevance(model, batch, place, "grad_cam")
    assert found.maps.any()
    torch.testing.assert_close(found.maps, torch.stack(expected), atol=1e-6, rtol=1e-4)
    assert found.score == pytest.approx(float(score.detach()), abs=1e-5)


def test_attention_lies_on_the_grid_of_the_asked_image(model: Reasoner) -> None:
    batch = make_batch()
    place = first_question(batch, 3, 8)
    found = relevance(model, batch, place, "attention")
    shares = model.explain(batch).maps[place].detach().reshape(2, 2)
    (asked,) = (batch.frame_index == torch.tensor([0, int(batch.asked_at[place])])).all(dim=1).nonzero().flatten()
    corners = found.maps[asked][[0, 0, -1, -1], [0, -1, 0, -1]]
    torch.testing.assert_close(corners, shares.flatten(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_chunks_and_a_frozen_backbone_change_nothing(
    method: Method, model_config: Config, fitted: Fitted, model: Reasoner
) -> None:
    batch = make_batch()
    place = first_question(batch, 3, 8)
    expected = relevance(model, batch, place, method, steps=4).maps
    model.chunk, model.detach = 2, True
    model.backbone.requires_grad_(False)
    finish = model.finish
    found = relevance(model, batch, place, method, steps=4).maps
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)
    assert model.finish is finish
    assert (model.chunk, model.detach) == (2, True)


def test_answers_to_earlier_questions_are_heard_as_they_were(
    model_config: Config, fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = answering({**model_config("transformer"), "previous_answers": SCHEDULED}, fitted)
    batch = make_batch()
    place = first_question(batch, 5, 8)
    with torch.no_grad():
        before = model(batch)["answer"]
    heard: list[Tensor] = []
    given = PreviousAnswers.given

    def noted(*args: Any) -> Tensor:
        heard.append(given(*args))
        return heard[-1]

    monkeypatch.setattr(PreviousAnswers, "given", noted)
    found = relevance(model, batch, place, "integrated_gradients", steps=3)
    expected = score_of({"answer": before}, place, int(before[place].argmax()))
    assert found.score == pytest.approx(float(expected), abs=1e-5)
    assert len(heard) == 1
    with torch.no_grad():
        torch.testing.assert_close(model(batch)["answer"], before)
    assert len(heard) == 2, "after that, answers are given anew"


def test_a_value_is_explained_on_the_scale_of_the_model(model: Reasoner) -> None:
    batch = make_batch()
    place = first_question(batch, 3, 8)
    batch = replace(batch, choice_mask=torch.zeros_like(batch.choice_mask))
    found = relevance(model, batch, place, "integrated_gradients", steps=8)
    assert found.score == pytest.approx(float(model(batch)["value"][place].detach()), abs=1e-5)


SPOT = slice(8, 12), slice(4, 8)


def spotted(fitted: Fitted) -> TimelineBatch:
    """Two sequences of two images of faint noise around the mean; one image, the last, has a bright spot."""
    rng = np.random.default_rng(0)
    mean, deviation = (np.array(x)[:, None, None] for x in (fitted.mean, fitted.deviation))
    items = []
    for n in range(2):
        images = rng.normal(0, 0.1, (2, 2, 16, 16))
        images[1, 0, SPOT[0], SPOT[1]] += 4 * n
        question = Question("q", "event", "", [2, 4], [[3], [5]], 1, n, None, np.nan, [1])
        record = Record(str(n), 2, np.array([0.0, 7.0]), np.ones(2, bool), [question])
        pixels = (mean + deviation * images).astype(np.float32)
        items.append(TimelineItem(record, PixelStack(pixels, np.arange(2), (0, 1), np.ones((2, 2), bool)), [0, 1], 2))
    return Collator()(items)


def test_all_relevance_lies_on_a_planted_spot(model: Reasoner, fitted: Fitted, monkeypatch: pytest.MonkeyPatch) -> None:
    scales = torch.linspace(-1, 1, int(model.backbone.dim))[:, None, None]

    def bright(images: Tensor) -> Tensor:
        return 1 + scales**2 + scales * (images[:, :1] - 2).clamp(min=0)

    monkeypatch.setattr(model.backbone, "maps", bright)
    found = relevance(model, spotted(fitted), (1, 0), "integrated_gradients", steps=64)
    last = found.maps[3]
    assert (last[SPOT] != 0).all()
    assert float(last.sum()) == pytest.approx(float(last[SPOT].sum()), rel=1e-6)
    last[SPOT] = 0
    assert (found.maps == 0).all()


def test_features_in_place_of_pixels_are_refused(model: Reasoner) -> None:
    batch = make_batch()
    with pytest.raises(InputError, match=r"expected pixels.*found stored features"):
        relevance(model, replace(batch, is_features=True), (0, 0), "attention")


def test_a_model_that_is_given_no_images_is_refused(model: Reasoner) -> None:
    batch = make_batch()
    empty = replace(batch, images=batch.images[:0], frame_index=batch.frame_index[:0])
    with pytest.raises(InputError, match="images to explain"):
        relevance(model, empty, (0, 0), "grad_cam")


def test_a_model_without_the_head_is_refused(model: Reasoner) -> None:
    del model.heads["answer"]
    with pytest.raises(InputError, match="head 'answer', for questions with choices"):
        relevance(model, make_batch(), (0, 0), "grad_cam")


def test_an_unknown_method_and_a_missing_captum_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="one of attention, grad_cam, integrated_gradients, found 'gradcam'"):
        check_method("gradcam")
    monkeypatch.setattr(explaining, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"temmed\[explain\]"):
        check_method("grad_cam")
    assert check_method("attention") == "attention"


def test_a_model_that_writes_its_answers_is_refused() -> None:
    with pytest.raises(InputError, match=r"run/best\.ckpt: expected a model that scores its answers"):
        check_model(TimelineModel(), "run/best.ckpt")
