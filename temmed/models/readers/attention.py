"""Attention of questions to tokens: those of the asked image, and those of the memory, which also have moments."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from temmed.models.readers.base import Asked, Shown
from temmed.models.readers.moments import MomentQuery, address, hide
from temmed.models.temperature import Temperature
from temmed.models.temporal.base import TemporalMemory

#: Least temperature, as in CLIP (Radford et al. 2021): scores of more than 100 help nobody.
_LEAST_TEMPERATURE = 0.01


class DotProduct(nn.Module):
    """Scores of scaled dot products, one for each head (Vaswani et al. 2017)."""

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.query = nn.Linear(dim, heads * head_dim)
        self.key = nn.Linear(dim, heads * head_dim, bias=False)

    def forward(self, prompts: Tensor, tokens: Tensor) -> Tensor:
        """``(N, Q, D), (N, M, D) → (N, Q, heads, M)``."""
        query = self.query(prompts).unflatten(-1, (self.heads, -1)) * self.head_dim**-0.5
        # The key layer is applied to the queries, which are fewer than the tokens.
        query = torch.einsum("nqhd,hde->nqhe", query, self.key.weight.unflatten(0, (self.heads, -1)))
        return torch.matmul(query.flatten(1, 2), tokens.transpose(1, 2)).unflatten(1, query.shape[1:3])


class Cosine(nn.Module):
    """Scores of cosine similarity over a learned temperature, the same for all heads."""

    def __init__(self, dim: int, size: int, temperature: float) -> None:
        super().__init__()
        self.sentence = nn.Linear(dim, size)
        self.patch = nn.Linear(dim, size)
        self.temperature = Temperature(temperature, _LEAST_TEMPERATURE)

    def forward(self, prompts: Tensor, tokens: Tensor) -> Tensor:
        """``(N, Q, D), (N, M, D) → (N, Q, 1, M)``."""
        sentences, patches = (functional.normalize(x, dim=-1) for x in (self.sentence(prompts), self.patch(tokens)))
        return torch.matmul(self.temperature(sentences), patches.transpose(1, 2)).unsqueeze(2)


def values(layer: nn.Linear, seen: Tensor, total: Tensor) -> Tensor:
    """A value layer after the weighted sum of tokens, which is less work than before it.

    Args:
        layer: ``D → heads · head_dim``.
        seen: weighted sums of tokens, ``(..., heads, D)``.
        total: the sums of their weights, ``(..., heads)``.

    Returns:
        ``(..., heads · head_dim)``.
    """
    weight, bias = (x.unflatten(0, (total.shape[-1], -1)) for x in (layer.weight, layer.bias))
    return (torch.einsum("...he,hde->...hd", seen, weight) + total.unsqueeze(-1) * bias).flatten(-2)


def read_values(layer: nn.Linear, weights: Tensor, tokens: Tensor) -> Tensor:
    """`values` of tokens ``(N, M, D)`` with weights ``(N, Q, heads, M)``: ``(N, Q, heads · head_dim)``."""
    seen = torch.matmul(weights.flatten(1, 2), tokens).unflatten(1, weights.shape[1:3])
    return values(layer, seen, weights.sum(dim=-1))


def each_image(prompts: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Every image with all questions: ``(B, Q, D), (B, T, K, D) → (B · T, Q, D), (B · T, K, D)``."""
    return prompts.repeat_interleave(images.shape[1], dim=0), images.flatten(0, 1)


class Attend(nn.Module):
    """Reads images and memories by attention.

    Over one image the weights are a softmax over its places. Over a memory they are one softmax over all places of all
    slots, of the same scores plus those of the moments: a softmax over the places of each slot, and one over the slots
    that weighs a slot by its moment and by all that is found in it.

    Args:
        dim: size of tokens and questions.
        heads: number of read heads.
        head_dim: size of each.
        score: what a question thinks of a token by its content.
    """

    def __init__(self, dim: int, heads: int, head_dim: int, score: nn.Module) -> None:
        super().__init__()
        self.heads = heads
        self.score = score
        self.value = nn.Linear(dim, heads * head_dim)
        self.moments = MomentQuery(dim, heads)

    def image(self, prompts: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Read one image for several questions.

        Args:
            prompts: ``(N, Q, D)``.
            tokens: ``(N, K, D)``.

        Returns:
            What is read, ``(N, Q, heads · head_dim)``, and the weights of the places, ``(N, Q, heads, K)``.
        """
        weights = self.score(prompts, tokens).softmax(dim=-1).expand(-1, -1, self.heads, -1)
        return read_values(self.value, weights, tokens), weights

    def asked(self, asked: Asked, shown: Shown) -> tuple[Tensor, Tensor]:
        """Read the image at which each question is asked.

        Returns:
            As `image`, with B for N.
        """
        tokens = shown.images_of(asked)
        found = self.image(asked.prompts.flatten(0, 1).unsqueeze(1), tokens.flatten(0, 1))
        read, weights = (x.squeeze(1).unflatten(0, tokens.shape[:2]) for x in found)
        return read, weights

    def memory(self, asked: Asked, memory: TemporalMemory, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Read a memory.

        Args:
            asked: what is asked.
            memory: the moments and spans of the slots.
            tokens: its values as they are to be read, ``(B, S, K, D)``.

        Returns:
            What is read, ``(B, Q, heads · head_dim)``, zeros where nothing is readable; and the weights,
            ``(B, Q, heads, S, K)``.
        """
        content = self.score(asked.prompts, tokens.flatten(1, 2)).unflatten(3, tokens.shape[1:3])
        readable = memory.readable(asked.asked_at)
        scores = content + (address(self.moments(asked), memory) + hide(readable))
        weights = scores.flatten(3).softmax(dim=-1) * readable.flatten(2).any(dim=-1)[:, :, None, None]
        return read_values(self.value, weights, tokens.flatten(1, 2)), weights.unflatten(3, tokens.shape[1:3])
