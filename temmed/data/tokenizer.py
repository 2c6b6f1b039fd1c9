"""A small tokenizer that keeps time points, elapsed times and numbers whole.

Words come from a vocabulary fitted on training text. ``time point 3``, ``184 days`` and ``12.5`` each become one token
whose id carries the value, so that a text encoder can embed a moment named in a prompt exactly as it embeds the time
of an image.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from temmed.timelines.schema import TIME_UNITS

PAD, UNKNOWN = 0, 1
_FIRST_WORD = 2
#: Ids from here on are time points: id − POSITION_BASE is the position.
POSITION_BASE = 1 << 20
#: Ids from here on are elapsed times in thousandths of the canonical unit (day or second).
TIME_BASE = 1 << 24
#: Ids from here on are plain numbers in thousandths.
NUMBER_BASE = 1 << 34
_LIMIT = (1 << 33) - 1

_CALENDAR = {"month": 30.4375, "year": 365.25}
_PATTERN = re.compile(
    r"time\s*point\s+(?P<position>\d+)"
    r"|(?P<time>\d+(?:\.\d+)?)\s*(?P<unit>days?|weeks?|months?|years?|seconds?|milliseconds?|ms|s)\b"
    r"|(?P<number>\d+(?:\.\d+)?)"
    r"|(?P<word>[^\W\d_]+)"
)
_SHORT_UNITS = {"ms": "millisecond", "s": "second"}


@lru_cache(maxsize=1 << 16)
def _pieces(text: str) -> tuple[str | int, ...]:
    """Words as they are; time points, elapsed times and numbers as their ids."""
    return tuple(_read(text))


def _read(text: str) -> Iterator[str | int]:
    for match in _PATTERN.finditer(text.lower()):
        if match["position"]:
            yield POSITION_BASE + min(int(match["position"]), TIME_BASE - POSITION_BASE - 1)
        elif match["time"]:
            unit = _SHORT_UNITS.get(match["unit"], match["unit"].rstrip("s"))
            factor = _CALENDAR[unit] if unit in _CALENDAR else TIME_UNITS[unit][1]
            yield TIME_BASE + min(round(float(match["time"]) * factor * 1000), _LIMIT)
        elif match["number"]:
            yield NUMBER_BASE + min(round(float(match["number"]) * 1000), _LIMIT)
        else:
            yield match["word"]


@dataclass(frozen=True)
class Tokenizer:
    """Turns text into ids.

    Attributes:
        words: the vocabulary, in id order.

    Examples:
        >>> tokenizer = Tokenizer.fit(["did it grow"])
        >>> tokenizer.encode("Did it shrink by time point 3?")
        [2, 4, 1, 1, 1048579]
    """

    words: tuple[str, ...]
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    @classmethod
    def fit(cls, texts: Iterable[str], least: int = 1) -> Tokenizer:
        """Take the words that occur at least ``least`` times; fit it on the train subset alone."""
        counts = Counter(piece for text in texts for piece in _pieces(text) if isinstance(piece, str))
        return cls(tuple(sorted(word for word, count in counts.items() if count >= least)))

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
