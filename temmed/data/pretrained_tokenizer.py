"""The tokenizer of a pretrained text encoder, kept whole with what is fitted, so that a checkpoint needs no hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import tokenizers

#: Ids move up by one, since some vocabularies give 0 to a word and here 0 is padding.
SHIFTED = 1


@dataclass(frozen=True)
class PretrainedTokenizer:
    """Turns text into ids with a tokenizer of the tokenizers library.

    Attributes:
        name: of the model it comes with.
        content: the tokenizer as its library writes it: vocabulary, rules and special tokens, JSON.
        unknown: what stands for text it cannot spell, ``None`` if it can spell all.
        max_length: longest text in tokens, special ones included; a longer one is cut.
    """

    name: str
    content: str
    unknown: str | None
    max_length: int

    @classmethod
    def of(cls, name: str, tokenizer: Any, max_length: int) -> PretrainedTokenizer:
        """From a tokenizer of transformers, which must be one of its fast ones."""
        return cls(name, tokenizer.backend_tokenizer.to_str(), tokenizer.unk_token, max_length)

    @cached_property
    def _backend(self) -> tokenizers.Tokenizer:
        backend = tokenizers.Tokenizer.from_str(self.content)
        backend.no_padding()  # batches are padded by the collator
        backend.enable_truncation(self.max_length)
        return backend

    @cached_property
    def _unknown_id(self) -> int | None:
        return None if self.unknown is None else self._backend.token_to_id(self.unknown)

    def __len__(self) -> int:
        """Number of ids, padding included."""
        return self._backend.get_vocab_size() + SHIFTED

    def encode(self, text: str) -> list[int]:
        """Ids of a text with the special tokens of the model."""
        return [number + SHIFTED for number in self._backend.encode(text).ids]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without special tokens."""
        return str(self._backend.decode([number - SHIFTED for number in ids]))

    def knows(self, word: str) -> bool:
        """Whether a word can be spelled."""
        return self._unknown_id not in self._backend.encode(word, add_special_tokens=False).ids

    def to_state(self) -> dict[str, Any]:
        """Its attributes."""
        return {"name": self.name, "content": self.content, "unknown": self.unknown, "max_length": self.max_length}
