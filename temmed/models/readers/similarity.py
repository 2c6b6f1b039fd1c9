"""Local alignment: the similarity of a sentence with every patch, as in GLoRIA (Huang et al. 2021).

What differs: the sentence is one vector, as in BioViL (Boecking et al. 2022), where GLoRIA has one for each word;
patches of earlier images are weighed by their moment, too; and the alignment is trained by what is answered from it,
without a contrastive loss of its own.
"""

from __future__ import annotations

from temmed.models.readers.attention import Cosine
from temmed.models.readers.cross_attention import CrossAttention


class Similarity(CrossAttention):
    """Reads the patches that are like the sentence: cosine similarity over a learned temperature, then a softmax.

    All heads look at the same places; they differ in which moments they mean. The map of a question is its softmax
    over the patches of the asked image.

    Args:
        dim: size of tokens and questions.
        places: K, tokens per image; any number is read.
        heads: number of read heads, at least 3.
        head_dim: size of each.
        hidden: size of the network behind them.
        dropout: in that network.
        shared: size of the space in which sentences and patches are compared.
        temperature: to start from.
    """

    def __init__(
        self,
        dim: int,
        places: int,
        heads: int = 6,
        head_dim: int = 32,
        hidden: int = 256,
        dropout: float = 0.0,
        shared: int = 128,
        temperature: float = 0.1,
    ) -> None:
        super().__init__(dim, places, heads, head_dim, hidden, dropout, Cosine(dim, shared, temperature))
