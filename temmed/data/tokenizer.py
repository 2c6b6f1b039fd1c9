"""From text to ids: a vocabulary fitted to training text, with quantities and moments kept whole.

What is kept whole is said by `temmed.data.quantities`. ``time point 3``, ``184 days`` and ``12.5 mm`` each become one
token whose id carries the value, so that a text encoder can embed a moment named in a prompt exactly as it embeds the
time of an image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

from temmed.data.quantities import POSITION, Quantity, read, units

PAD, UNKNOWN = 0, 1
_FIRST_WORD = 2
#: Ids of kind k are from k · 2^40 on; zero lies in the middle of them.
SHIFT = 40
ZERO = 1 << (SHIFT - 1)
#: Positions are whole numbers, all other amounts are kept in thousandths.
PER_UNIT = 1000


def to_id(quantity: Quantity) -> int:
    """The id of a quantity; amounts beyond ±5 · 10⁸ are kept as that."""
    steps = round(quantity.amount * (1 if quantity.kind == POSITION else PER_UNIT))
    return (quantity.kind << SHIFT) + ZERO + max(-ZERO, min(steps, ZERO - 1))


@lru_cache(maxsize=1 << 16)
def _pieces(text: str) -> tuple[str | int, ...]:
    """Words as they are; quantities as their ids."""
    return tuple(piece if isinstance(piece, str) else to_id(piece) for piece in read(text))


class TextTokenizer(Protocol):
    """What turns texts into ids. Id 0 is padding, and no text is without an id."""

    def __len__(self) -> int:
        """Number of ids of words, padding included."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""

    def knows(self, word: str) -> bool:
        """Whether a word has an id of its own, or several that spell it."""

    def to_state(self) -> Any:
        """Plain containers, for a checkpoint."""


@dataclass(frozen=True)
class Tokenizer:
    """Turns text into ids.

    Attributes:
        words: the vocabulary, in id order.

    Examples:
        >>> tokenizer = Tokenizer.fit(["did it grow"])
        >>> tokenizer.encode("Did it shrink by 5 mm?")
        [2, 4, 1, 1, 4947802329992]
    """

    words: tuple[str, ...]
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    @classmethod
    def fit(cls, texts: Iterable[str], least: int = 1) -> Tokenizer:
        """Take the words that occur at least ``least`` times; fit it on the train subset alone."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(piece for piece in _pieces(text) if isinstance(piece, str))
            counts.update(units(text))
        return cls(tuple(sorted(word for word, count in counts.items() if count >= least)))

    def extended(self, words: Iterable[str]) -> Tokenizer:
        """With further words, whose ids come after those there are.

        >>> Tokenizer(("grow", "it")).extended(("fall", "it")).words
        ('grow', 'it', 'fall')
        """
        return Tokenizer(tuple(dict.fromkeys((*self.words, *words))))

    def __post_init__(self) -> None:
        """Number the words."""
        object.__setattr__(self, "_ids", {word: n + _FIRST_WORD for n, word in enumerate(self.words)})

    def __len__(self) -> int:
        """Number of word ids, padding and unknown included."""
        return len(self.words) + _FIRST_WORD

    def encode(self, text: str) -> list[int]:
        """Ids of a text; never empty: a text without any token becomes one unknown token."""
        ids = self._ids
        tokens = [ids.get(piece, UNKNOWN) if isinstance(piece, str) else piece for piece in _pieces(text)]
        return tokens or [UNKNOWN]

    def knows(self, word: str) -> bool:
        """Whether no part of a word is unknown."""
        return UNKNOWN not in self.encode(word)

    def to_state(self) -> list[str]:
        """The vocabulary."""
        return list(self.words)
