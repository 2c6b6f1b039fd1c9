"""Writes a report with a causal language model of Hugging Face whose layers also attend to images.

The way of writing is that of the transformer decoder for captions and radiology reports (Vaswani et al. 2017; for
reports, Chen et al. 2020, R2Gen). What differs: what it attends to is made of a sequence of images in time and the
report before (`temmed.models.heads.report`), and a report before is read by the same language model, without images.
"""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    DynamicCache,
    EncoderDecoderCache,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
)

from temmed.data.batch import IGNORE
from temmed.data.report_vocabulary import ReportVocabulary
from temmed.errors import InputError
from temmed.models.weights import fetching_transformers


class ReportDecoder(nn.Module):
    """A language model, and how it is taught and asked.

    Args:
        vocabulary: the tokens.
        name: a causal language model of the Hugging Face hub, or a folder of one, with or without cross-attention,
            which starts at random where there is none; ``None`` makes a small one of the GPT-2 kind.
        width: of the small one.
        layers: of the small one.
        heads: attention heads of the small one.
        dropout: in the small one.

    Raises:
        InputError: there is no such model, or it cannot attend to anything but its own text.
    """

    def __init__(
        self,
        vocabulary: ReportVocabulary,
        name: str | None = None,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.begin, self.end, self.longest = vocabulary.begin, vocabulary.end, vocabulary.longest
        self.model: PreTrainedModel
        if name is None:
            config = GPT2Config(
                vocab_size=len(vocabulary),
                n_positions=vocabulary.longest,
                n_embd=width,
                n_layer=layers,
                n_head=heads,
                resid_pdrop=dropout,
                embd_pdrop=dropout,
                attn_pdrop=dropout,
                bos_token_id=self.begin,
                eos_token_id=self.end,
                add_cross_attention=True,
            )
            self.model = GPT2LMHeadModel(config)
        else:
            self.model = _pretrained(name, vocabulary.longest)
        self.width = int(self.model.config.hidden_size)

    def states(self, ids: Tensor) -> Tensor:
        """The last hidden states ``(N, L, width)`` of texts ``(N, L)``, `IGNORE` = padding, read without images."""
        return self.model.base_model(ids.masked_fill(ids == IGNORE, self.end)).last_hidden_state

    def forward(self, context: Tensor, context_mask: Tensor, ids: Tensor) -> Tensor:
        """Logits of each token, given those before it (teacher forcing).

        Args:
            context: what is attended to, ``(N, M, width)``.
            context_mask: ``(N, M)`` bool.
            ids: the tokens to write, ``(N, L)``, `IGNORE` = padding, which comes last.

        Returns:
            ``(N, L, V)``.
        """
        before = torch.cat([torch.full_like(ids[:, :1], self.begin), ids[:, :-1]], dim=1)
        return self.model(
            before.masked_fill(before == IGNORE, self.end),
            encoder_hidden_states=context,
            encoder_attention_mask=context_mask.to(context.dtype),
            use_cache=False,
        ).logits

    def write(self, context: Tensor, context_mask: Tensor, beams: int = 1) -> list[list[int]]:
        """Write until the end, or the most tokens that a report may have.

        Args:
            context: as of `forward`.
            context_mask: as of `forward`.
            beams: candidates that are followed; with 1 the likeliest token is always taken. The best report is the one
                whose tokens have the greatest sum of log-probabilities.

        Returns:
            The ids of each, the end included if it came.
        """
        settings = GenerationConfig(
            max_new_tokens=self.longest,
            num_beams=beams,
            do_sample=False,
            **({"length_penalty": 0.0} if beams > 1 else {}),
            bos_token_id=self.begin,
            eos_token_id=self.end,
            pad_token_id=self.end,
        )
        start = torch.full((len(context), 1), self.begin, dtype=torch.long, device=context.device)
        written = self.model.generate(  # type: ignore[operator]  # of a mixin that torch's types do not see
            start,
            generation_config=settings,
            attention_mask=torch.ones_like(start),
            encoder_hidden_states=context,
            encoder_attention_mask=context_mask.to(context.dtype),
            # Of its own accord `generate` makes a cache without a part for cross-attention.
            past_key_values=EncoderDecoderCache(DynamicCache(), DynamicCache()),
        )
        return [_up_to(row, self.end) for row in written[:, 1:].tolist()]


def _up_to(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end) + 1] if end in ids else ids


def _pretrained(name: str, longest: int) -> PreTrainedModel:
    """A pretrained model with cross-attention, checked for what it must do."""
    where = "model.heads.report.name"
    with fetching_transformers(name, where):
        config = AutoConfig.from_pretrained(name)
        config.is_decoder = config.add_cross_attention = True
        found = AutoModelForCausalLM.from_pretrained(name, config=config)
    if "encoder_hidden_states" not in inspect.signature(found.forward).parameters:
        raise InputError(
            "a language model with cross-attention, so that it can attend to images",
            f"{type(found).__name__}, which has none",
            where,
            "Choose a model such as GPT-2, BERT, RoBERTa or BART.",
        )
    room = int(getattr(found.config, "max_position_embeddings", longest))
    if room < longest:
        raise InputError(
            f"room for {longest} tokens", f"{room}", where, f"Set model.heads.report.longest={room} or less."
        )
    return found
