"""The offline text encoder: the tokens of `temmed.data.tokenizer` and their pairs, pooled by attention.

Pairs of neighbouring words have vectors of their own, found by hashing as in fastText (Joulin et al. 2017): what two
words mean together ("left frontal") is there from the start and need not be composed first.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from temmed.data.quantities import KINDS, NUMBER, POSITION, WORD
from temmed.models import start
from temmed.models.encodings import POSITION_SIZE, TIME_SIZE, encode_position, encode_time, read_ids
from temmed.models.text.distinct import distinct

#: Vectors for pairs of words; pairs that fall on the same one are told apart by their words.
_PAIRS = 4096


class BuiltinTextEncoder(nn.Module):
    """Embeds each distinct text of a batch once and pools it to one vector.

    Time points and elapsed times in the text go through the same continuous encodings as the positions and times of
    images, so that a reader can match the two.

    Args:
        vocabulary: number of word ids.
        dim: size of the output.
        layers: transformer layers between the tokens and the pooling.
        heads: attention heads of the pooling and of the layers.
        max_length: longest text in tokens; a longer one is cut.
        dropout: in the layers.
    """

    def __init__(
        self, vocabulary: int, dim: int, layers: int = 0, heads: int = 4, max_length: int = 48, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.max_length = max_length
        self.words = nn.Embedding(vocabulary, dim, padding_idx=0)
        self.pairs = nn.Embedding(_PAIRS, dim)
        self.kinds = nn.Embedding(NUMBER + 1, dim)
        self.units = nn.Parameter(torch.zeros(KINDS - NUMBER - 1, dim))
        self.position = nn.Linear(POSITION_SIZE, dim, bias=False)
        self.time = nn.Linear(TIME_SIZE, dim, bias=False)
        self.order = nn.Embedding(max_length, dim)
        stack = [
            nn.TransformerEncoderLayer(
                dim, heads, 2 * dim, dropout=dropout, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        ]
        self.layers = nn.ModuleList(stack)
        self.pool_queries = nn.Parameter(torch.randn(heads, dim) * 6 * dim**-0.5)
        self.pool = nn.Linear(heads * dim, dim)
        self.mix = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.norm = nn.LayerNorm(dim)
        # What texts share (kind and order of their tokens) starts small beside what tells them apart (words), and the
        # pooling starts sharp: else all texts of one template are nearly the same vector, and reading starts slowly.
        nn.init.normal_(self.words.weight, std=1.0)
        nn.init.normal_(self.pairs.weight, std=1.0)
        nn.init.normal_(self.kinds.weight, std=0.02)
        nn.init.normal_(self.order.weight, std=0.05)
        # For the same reason the layers and the mixing start by passing on what they get.
        start.at_zero(self.mix[-1], *(layer for part in stack for layer in (part.self_attn.out_proj, part.linear2)))

    def embed(self, ids: Tensor) -> Tensor:
        """Token embeddings: ``(..., L) → (..., L, dim)``."""
        kind, amount = read_ids(ids)
        is_position, is_value, has_unit = kind == POSITION, kind > POSITION, kind > NUMBER
        ordinary = ids.masked_fill(kind != WORD, 0)
        before = functional.pad(ordinary[..., :-1], (1, 0))
        both = (ordinary > 0) & (before > 0)
        pairs = self.pairs((before * 7919 + ordinary) % _PAIRS) * both.unsqueeze(-1)
        position = self.position(encode_position(amount * is_position))
        value = self.time(encode_time(amount * is_value))
        return (
            self.words(ordinary)
            + pairs
            + self.kinds(kind.clamp(max=NUMBER))
            + self.units[(kind - NUMBER - 1).clamp(min=0)] * has_unit.unsqueeze(-1)
            + position * is_position.unsqueeze(-1)
            + value * is_value.unsqueeze(-1)
        )

    def forward(self, ids: Tensor) -> Tensor:
        """Encode texts.

        Args:
            ids: ``(..., L)`` long, 0 = padding.

        Returns:
            ``(..., dim)``; a text of padding alone gives zeros.
        """
        shape = ids.shape[:-1]
        flat = ids.reshape(-1, ids.shape[-1])[:, : self.max_length]
        if not flat.numel():
            return ids.new_zeros((*shape, self.norm.normalized_shape[0]), dtype=torch.float32)
        first, inverse = distinct(flat)
        texts = flat[first]
        mask = texts != 0
        empty = ~mask.any(dim=1)
        mask[empty, 0] = True
        hidden = self.embed(texts) + self.order.weight[: texts.shape[1]]
        for layer in self.layers:
            hidden = layer(hidden, src_key_padding_mask=~mask)
        scores = torch.einsum("nld,hd->nhl", hidden, self.pool_queries).masked_fill(~mask.unsqueeze(1), -torch.inf)
        pooled = torch.einsum("nhl,nld->nhd", scores.softmax(dim=-1), hidden)
        # The words themselves, too: random weights are soon overwritten by noise, and with them what tells texts apart.
        words = hidden.masked_fill(~mask.unsqueeze(-1), 0.0).sum(dim=1) * mask.sum(dim=1, keepdim=True) ** -0.5
        encoded = words + self.pool(pooled.flatten(1))
        encoded = self.norm(encoded + self.mix(encoded))
        encoded = encoded.masked_fill(empty.unsqueeze(1), 0.0)
        return encoded[inverse].reshape(*shape, -1)
