"""The report decoder: causal, the same numbers step by step, in any company, and with beams."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import BertConfig, BertLMHeadModel, LlamaConfig, LlamaForCausalLM

from temmed.data.batch import IGNORE
from temmed.data.report_vocabulary import LEAST_SIZE, ReportVocabulary
from temmed.errors import InputError
from temmed.models.report_decoder import ReportDecoder

VOCABULARY = ReportVocabulary.fit(["a"], size=LEAST_SIZE, longest=12)
WIDTH = 16


@pytest.fixture
def decoder() -> ReportDecoder:
    torch.manual_seed(0)
    made = ReportDecoder(VOCABULARY, width=WIDTH, layers=2, heads=2).eval()
    for parameter in made.parameters():
        parameter.data.mul_(4)  # far from uniform, so that each choice is clear
    return made


@pytest.fixture
def context() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2, [True] * 4 + [False]])
    return torch.randn(3, 5, WIDTH), mask


def _log_probability(decoder: ReportDecoder, context: Tensor, mask: Tensor, written: list[int]) -> float:
    ids = torch.tensor([written])
    chosen = decoder(context, mask, ids).log_softmax(-1).gather(-1, ids.unsqueeze(-1))
    return float(chosen.double().sum())


@torch.no_grad()
def test_a_token_does_not_see_later_ones(decoder: ReportDecoder, context: tuple[Tensor, Tensor]) -> None:
    ids = torch.randint(2, 250, (3, 8))
    changed = ids.clone()
    changed[:, 5] = 251 - changed[:, 5]
    before, after = decoder(*context, ids), decoder(*context, changed)
    assert torch.equal(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6:], after[:, 6:])


@torch.no_grad()
def test_what_is_masked_is_not_seen(decoder: ReportDecoder, context: tuple[Tensor, Tensor]) -> None:
    states, mask = context
    ids = torch.randint(2, 250, (3, 8))
    seen = decoder(states, mask, ids)
    torch.testing.assert_close(decoder(states.masked_fill(~mask.unsqueeze(-1), 9.0), mask, ids), seen)
    assert not torch.allclose(decoder(states.masked_fill(mask.unsqueeze(-1), 9.0), mask, ids), seen)


@torch.no_grad()
def test_taught_logits_are_those_of_writing_step_by_step(
    decoder: ReportDecoder, context: tuple[Tensor, Tensor]
) -> None:
    states, mask = context
    ids = torch.randint(2, 250, (3, 8))
    whole = decoder(states, mask, ids)
    token, cache, steps = torch.full((3, 1), decoder.begin), None, []
    for position in range(8):
        said = decoder.model(
            token,
            encoder_hidden_states=states,
            encoder_attention_mask=mask.float(),
            past_key_values=cache,
            use_cache=True,
        )
        cache, token = said.past_key_values, ids[:, position : position + 1]
        steps.append(said.logits)
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_one_beam_takes_the_likeliest_token(decoder: ReportDecoder, context: tuple[Tensor, Tensor]) -> None:
    written = decoder.write(*context)
    for row, (states, mask) in enumerate(zip(*context, strict=True)):
        ids: list[int] = []
        while len(ids) < VOCABULARY.longest and decoder.end not in ids:
            logits = decoder(states[None], mask[None], torch.tensor([[*ids, IGNORE]]))
            ids.append(int(logits[0, -1].argmax()))
        assert written[row] == ids


@torch.no_grad()
@pytest.mark.parametrize("beams", [1, 3])
def test_company_and_padding_change_nothing(decoder: ReportDecoder, context: tuple[Tensor, Tensor], beams: int) -> None:
    states, mask = context
    together = decoder.write(states, mask, beams)
    alone = [decoder.write(states[n : n + 1, mask[n]], mask[n : n + 1, mask[n]], beams)[0] for n in range(3)]
    assert together == alone
    turned = decoder.write(functional.pad(states.flip(0), (0, 0, 0, 4)), functional.pad(mask.flip(0), (0, 4)), beams)
    assert turned == together[::-1]


@torch.no_grad()
def test_beams_find_likelier_reports(decoder: ReportDecoder) -> None:
    torch.manual_seed(2)
    states, mask = torch.randn(12, 5, WIDTH), torch.ones(12, 5, dtype=torch.bool)
    reports = {beams: decoder.write(states, mask, beams) for beams in (1, 4)}
    found = {
        beams: [_log_probability(decoder, states[n : n + 1], mask[n : n + 1], ids) for n, ids in enumerate(written)]
        for beams, written in reports.items()
    }
    gained = torch.tensor(found[4]) - torch.tensor(found[1])
    assert (gained > -1e-4).all()
    assert (gained > 0.1).any()


def test_gradients_reach_every_parameter(decoder: ReportDecoder, context: tuple[Tensor, Tensor]) -> None:
    decoder(*context, torch.randint(2, 250, (3, 12))).square().mean().backward()
    assert [name for name, p in decoder.named_parameters() if p.grad is None or not p.grad.any()] == []


@torch.no_grad()
def test_a_pretrained_model_is_loaded_with_its_weights(tmp_path: Path, context: tuple[Tensor, Tensor]) -> None:
    config = BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=20, is_decoder=True, add_cross_attention=True,
    )  # fmt: skip
    torch.manual_seed(3)
    saved = BertLMHeadModel(config).eval()
    saved.save_pretrained(tmp_path)
    loaded = ReportDecoder(VOCABULARY, name=str(tmp_path)).eval()
    states, mask = context
    ids = torch.randint(2, 250, (3, 6))
    before = torch.cat([torch.full((3, 1), VOCABULARY.begin), ids[:, :-1]], dim=1)
    expected = saved(before, encoder_hidden_states=states, encoder_attention_mask=mask.long()).logits
    torch.testing.assert_close(loaded(states, mask, ids), expected)
    assert loaded.states(ids).shape == (3, 6, WIDTH)
    assert len(loaded.write(states, mask, beams=2)) == 3


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.heads\.report\.name"):
        ReportDecoder(VOCABULARY, name=str(tmp_path / "nothing"))
    LlamaForCausalLM(
        LlamaConfig(vocab_size=258, hidden_size=16, num_attention_heads=2, num_hidden_layers=1, intermediate_size=16)
    ).save_pretrained(tmp_path / "llama")
    with pytest.raises(InputError, match="attend to images"):
        ReportDecoder(VOCABULARY, name=str(tmp_path / "llama"))
    short = BertConfig(
        vocab_size=258, hidden_size=16, num_attention_heads=2, num_hidden_layers=1, intermediate_size=16,
        max_position_embeddings=8, is_decoder=True, add_cross_attention=True,
    )  # fmt: skip
    BertLMHeadModel(short).save_pretrained(tmp_path / "short")
    with pytest.raises(InputError, match=r"longest=8"):
        ReportDecoder(VOCABULARY, name=str(tmp_path / "short"))
