"""A language model that reads visits and writes answers: tiny ones made on the spot, and a real one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from temmed.config.paths import conf_dir
from temmed.data.batch import IGNORE, TimelineBatch, count_items
from temmed.data.collate import Collator
from temmed.data.dataset import Reports, SequenceDataset
from temmed.data.fitted import Fitted
from temmed.data.fitting import fit
from temmed.data.images import DecodedPixels, ImageSource
from temmed.data.pretrained_tokenizer import PretrainedTokenizer
from temmed.data.records import build_records
from temmed.errors import InputError
from temmed.models.build import build_model, open_text
from temmed.models.clip_vl.language import LanguageModel
from temmed.models.clip_vl.model import ClipVL
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split

_SMALL = {"hidden_size": 32, "intermediate_size": 64}


@pytest.fixture(scope="module")
def options() -> dict[str, Any]:
    """The ``model`` group of ``model=clip_vl model/text=tiny_llama model/backbone=timm``, small."""
    folder = Path(conf_dir()) / "model"
    read = {"heads": "heads/written", "backbone": "backbone/timm", "whole": "clip_vl"}
    parts = {name: OmegaConf.load(folder / f"{path}.yaml") for name, path in read.items()}
    texts = [OmegaConf.load(folder / "text" / f"{name}.yaml") for name in ("language_model", "tiny_llama")]
    config = OmegaConf.to_container(OmegaConf.create({**parts, "text": OmegaConf.merge(*texts)}), resolve=True)
    assert isinstance(config, dict)
    del config["text"]["defaults"]
    config["generative"] = {**config.pop("whole")["generative"], "hidden": 32, "dropout": 0.0, "longest": 12}
    config["backbone"] |= {"stage": 1, "grid": 2}
    config["text"]["architecture"] |= _SMALL
    return config


@pytest.fixture(scope="module")
def words(tiny_timeline: Timeline, split: Split, options: dict[str, Any]) -> Fitted:
    return fit(tiny_timeline, split, 32, tokenizer=open_text(options["text"])[1])


@pytest.fixture(scope="module")
def make_batch(tiny_timeline: Timeline, split: Split) -> Callable[..., TimelineBatch]:
    """``make_batch(fitted, first, questions)``: sequences, their last questions on progression; ``valued``: on all."""

    def make(
        fitted: Fitted, first: int = 3, questions: int = 3, reports: Reports = "none", valued: bool = False
    ) -> TimelineBatch:
        records = build_records(tiny_timeline, split, "train", fitted)
        asked = [[q for q in record.questions if q.task == "progression" or valued][-questions:] for record in records]
        records = [replace(record, questions=row) for record, row in zip(records, asked, strict=True) if row][:first]
        pixels = DecodedPixels(ImageSource(tiny_timeline), fitted)
        dataset = SequenceDataset(records, pixels, len(fitted.sources), reports=reports)
        return Collator(reports)([dataset[n] for n in range(first)])

    return make


def _build(options: dict[str, Any], words: Fitted, seed: int = 0, **text: Any) -> ClipVL:
    torch.manual_seed(seed)
    brought, _ = open_text({**options["text"], **text})
    model = build_model({**options, "text": brought}, words)
    assert isinstance(model, ClipVL)
    return model.eval()


@pytest.fixture(scope="module")
def model(options: dict[str, Any], words: Fitted) -> ClipVL:
    return _build(options, words)


@torch.no_grad()
def _choices(model: ClipVL, batch: TimelineBatch) -> Tensor:
    said: Tensor = model(batch)["answer"]
    return said


def _close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-5)


def test_nothing_later_than_the_question_is_read(
    model: ClipVL, words: Fitted, make_batch: Callable[..., TimelineBatch]
) -> None:
    batch = make_batch(words, questions=6)
    before = _choices(model, batch)
    position = int(batch.asked_at[batch.question_mask].min())
    seen = (batch.asked_at <= position) & batch.question_mask
    assert seen.any()
    assert not seen[batch.question_mask].all()
    later = batch.frame_index[:, 1] > position
    images = batch.images.float()
    images[later] = images[later].flip(-1)
    times = torch.where(torch.arange(batch.times.shape[1]) > position, batch.times + 7, batch.times)
    changed = _choices(model, replace(batch, images=images, times=times))
    assert torch.equal(changed[seen], before[seen])
    assert not torch.equal(changed[~seen & batch.question_mask], before[~seen & batch.question_mask])


def test_time_images_and_what_is_missing_count(
    model: ClipVL, words: Fitted, make_batch: Callable[..., TimelineBatch]
) -> None:
    batch = make_batch(words, first=1, questions=1)
    before = _choices(model, batch)
    shown = batch.frame_index[:, 1] > 0
    mask = batch.image_mask & (torch.arange(batch.mask.shape[1]) > 0)
    for changed in (
        replace(batch, times=batch.times * 2),
        replace(batch, images=batch.images.float().flip(-1)),
        replace(batch, images=batch.images.float()[shown], frame_index=batch.frame_index[shown], image_mask=mask),
    ):
        assert not torch.equal(_choices(model, changed), before)


def test_company_and_parts_change_nothing(
    model: ClipVL, words: Fitted, options: dict[str, Any], make_batch: Callable[..., TimelineBatch]
) -> None:
    batch, alone = make_batch(words), make_batch(words, first=1)
    wanted = _choices(model, batch)
    one = _build({**options, "generative": {**options["generative"], "questions_at_once": 1}}, words)
    _close(_choices(one, batch), wanted)
    asked, offered = alone.choice_mask.shape[1:]
    _close(_choices(model, alone), wanted[:1, :asked, :offered])


def test_the_loss_of_training_is_the_likelihood_that_choices_are_judged_by(
    model: ClipVL, words: Fitted, options: dict[str, Any], make_batch: Callable[..., TimelineBatch]
) -> None:
    """Read at once without a cache in training, with a cache and choice by choice otherwise."""
    batch = make_batch(words, questions=6, valued=True)
    answered, valued = count_items(batch)[:2].tolist()
    assert answered
    assert valued
    with torch.no_grad():
        judged = model.losses(model(batch), batch)
        learner = _build(options, words).train()
        learner.backbone.eval()
        _close(learner.losses(learner(batch), batch), judged)


def test_a_batch_without_answers_costs_nothing_and_reaches_all_that_learns(
    options: dict[str, Any], words: Fitted, make_batch: Callable[..., TimelineBatch]
) -> None:
    model, batch = _build(options, words).train(), make_batch(words)
    none = replace(batch, answers=torch.full_like(batch.answers, IGNORE), values=batch.values * torch.nan)
    loss = model.losses(model(none), none).sum()
    loss.backward()
    assert loss == 0
    assert not [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]


def test_reports_are_read_where_they_belong(
    model: ClipVL, words: Fitted, make_batch: Callable[..., TimelineBatch]
) -> None:
    batch = make_batch(words, questions=6, reports="all")
    before = _choices(model, batch)
    position = int(batch.asked_at[batch.question_mask].min())
    later = batch.report_from > position
    changed = _choices(model, replace(batch, report_mask=batch.report_mask & ~later))
    seen = (batch.asked_at <= position) & batch.question_mask
    _close(changed[seen], before[seen])  # less is padded
    assert not torch.equal(_choices(model, replace(batch, report_mask=torch.zeros_like(later))), before)


@pytest.mark.parametrize("train", ["full", "lora"])
def test_a_small_set_is_learned_and_written(
    train: str, options: dict[str, Any], words: Fitted, make_batch: Callable[..., TimelineBatch]
) -> None:
    """The loss falls, the likeliest choice is the answer, and what is written freely is its text."""
    batch = make_batch(words, first=4, questions=1)
    model = _build(options, words, train=train, lora={"r": 8, "lora_alpha": 16}).train()
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-2)
    losses: list[float] = []
    while len(losses) < (200 if train == "full" else 20) and min(losses, default=1.0) > 0.02:
        optimizer.zero_grad()
        loss = model.losses(model(batch), batch).sum() / len(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    if train == "lora":  # little can be taught to a model whose own weights are random
        assert losses[-1] < losses[0] * 0.99
        assert {n.split(".")[-3] for n, w in model.text.named_parameters() if w.requires_grad} == {"lora_A", "lora_B"}
        return
    assert losses[0] > 10 > 0.02 > losses[-1]
    model.eval()
    with torch.no_grad():
        rows = model.rows(model(batch), batch, words)["answers"]
    answers = batch.answers[:, 0].tolist()
    assert isinstance(words.tokenizer, PretrainedTokenizer)
    for b, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        choice = batch.choices[b, 0, answer]
        assert row["rationale"] == words.tokenizer.decode(choice[choice != 0].tolist())
        assert max(row["probabilities"]) == row["probabilities"][answer] > 0.9


def test_more_than_the_language_model_has_room_for_is_refused(
    options: dict[str, Any], words: Fitted, make_batch: Callable[..., TimelineBatch]
) -> None:
    short = {**options["text"]["architecture"], "max_position_embeddings": 64}
    with pytest.raises(InputError, match="at most 64 tokens"):
        _build(options, words, architecture=short)(make_batch(words))


@pytest.mark.parametrize("part", ["text", "heads", "generative", "chunk"])
def test_parts_of_other_models_are_refused(
    part: str, options: dict[str, Any], words: Fitted, model_config: Callable[..., dict[str, Any]]
) -> None:
    other = {**model_config(), "generative": None, "chunk": 4}
    brought, _ = open_text(options["text"])
    with pytest.raises(InputError, match=rf"model[./]{'text' if part == 'generative' else part}"):
        build_model({**options, "text": brought, part: other[part]}, words)


def test_bits_need_their_package_and_adapters(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    brought, tokenizer = LanguageModel.bring(options["text"])
    del brought["_target_"]
    named = {**brought, "name": "any", "bits": 4}
    with pytest.raises(InputError, match="train=lora or none"):
        LanguageModel(len(tokenizer), **{**named, "train": "full"})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install bitsandbytes"):
        LanguageModel(len(tokenizer), **{**named, "train": "lora"})
    with pytest.raises(InputError, match="4, 8 or null"):
        LanguageModel(len(tokenizer), **{**named, "train": "lora", "bits": 5})


def test_a_model_that_is_nowhere_is_refused(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="model/text=tiny_llama"):
        LanguageModel.bring({**options["text"], "name": str(tmp_path)})


@pytest.mark.slow
def test_a_real_language_model_learns_and_writes(
    options: dict[str, Any], tiny_timeline: Timeline, split: Split, make_batch: Callable[..., TimelineBatch]
) -> None:
    found = list((Path(sys.prefix) / "weights").rglob("*.gguf"))
    if not found:
        pytest.skip("no weights: see requirements-weights.txt")
    (file,) = found
    text = {**options["text"], "name": str(file.parent), "file": file.name, "architecture": None}
    text |= {"train": "lora", "lora": {"r": 8, "lora_alpha": 16}}
    brought, tokenizer = open_text(text)
    words = fit(tiny_timeline, split, 32, tokenizer=tokenizer)
    assert tokenizer is not None
    assert tokenizer.encode("progressed") != tokenizer.encode("stable")
    model = _build(options, words, **{name: brought[name] for name in text})
    batch = make_batch(words, first=1, questions=1)
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=2e-3)
    losses = []
    for _ in range(8):
        model.train()
        optimizer.zero_grad()
        loss = model.losses(model(batch), batch).sum()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2
    model.eval()
    with torch.no_grad():
        rows = model.rows(model(batch), batch, words)["answers"]
    assert [int(torch.tensor(row["probabilities"]).argmax()) for row in rows] == batch.answers[:, 0].tolist()
