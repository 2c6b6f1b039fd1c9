"""What a question asks about, read from its wording: two moments, one, or an event."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from temmed.prompts.questions import NEVER

#: Words that may stand for the three verdicts of the progression rule among the choices of a question.
VERDICT_WORDS = {
    "progressed": {"progressed", "progression", "larger", "grown", "increased"},
    "stable": {"stable", "unchanged", "the same"},
    "regressed": {"regressed", "regression", "smaller", "shrunk", "decreased"},
}

_POSITION = re.compile(r"\b(?:time point|frame)s? (\d+)", re.IGNORECASE)
_FIRST_SEEN = re.compile(
    r"\bfirst (?:seen|shown?|showed|appear\w*|detected|visible)|\b(?:seen|shown|detected|appeared) first", re.IGNORECASE
)
_PREVIOUS = re.compile(r"\b(?:previous|prior|preceding)\b", re.IGNORECASE)
_BASELINE = re.compile(r"\bbaseline\b|\bfirst (?:visit|examination|scan|study|image)", re.IGNORECASE)
_GONE = re.compile(r"\bdisappear|\bno longer\b|\bgone\b|\bvanish|\bresolve|\bwash\w* out|\bwithout\b", re.IGNORECASE)
_RATIO = re.compile(r"\bratio\b", re.IGNORECASE)
_EJECTION = re.compile(r"\bejection fraction\b|\bempt(?:y|ies)\b", re.IGNORECASE)
_SMALLEST = re.compile(r"\bsmallest\b|\bend-systole\b", re.IGNORECASE)
_LARGEST = re.compile(r"\blargest\b|\bend-diastole\b", re.IGNORECASE)

#: What else than a position the earlier moment can be.
Earlier = Literal["previous", "first_seen", "baseline"]


@dataclass(frozen=True)
class Clock:
    """The positions of a sequence: their times and the unit of these."""

    times: Sequence[float]
    unit: str

    def moments(self, text: str) -> list[int] | None:
        """Positions that a text names as ``time point 3``, ``frame 3`` or ``184 days``, in its order.

        Returns:
            ``None`` if it names a moment that the sequence does not have.
        """
        named = [int(number) for number in _POSITION.findall(text)]
        if any(position >= len(self.times) for position in named):
            return None
        pattern = rf"(?<![\w.])(\d+(?:\.\d+)?(?:e[+-]?\d+)?) {re.escape(self.unit)}s?\b"
        for number in re.findall(pattern, text, re.IGNORECASE):
            # A prompt gives six digits.
            here = [k for k, time in enumerate(self.times) if math.isclose(time, float(number), rel_tol=1e-5)]
            if not here:
                return None
            named.append(here[0])
        return named


def compared(prompt: str, clock: Clock, asked_at: int) -> tuple[int | Earlier, int] | None:
    """The two moments that a question about change compares, the earlier one first.

    Args:
        prompt: the question.
        clock: of the sequence.
        asked_at: the position it is asked at, which is the later moment unless the prompt names two.

    Returns:
        ``None`` if the prompt names a moment that the sequence does not have, or only the one it is asked at. A prompt
        that names none is taken to mean the previous image.

    Examples:
        >>> clock = Clock([0.0, 90.0, 184.0], "day")
        >>> compared("Between time point 0 and time point 2, has the cyst progressed?", clock, 2)
        (0, 2)
        >>> compared("Has it grown since 90 days after the first examination?", clock, 2)
        (1, 2)
        >>> compared("Since it was first seen, has the cyst progressed?", clock, 2)
        ('first_seen', 2)
    """
    named = clock.moments(prompt)
    if named is None:
        return None
    if named:
        moments = {*named, asked_at} if len(set(named)) == 1 else set(named)
        return (min(moments), max(moments)) if len(moments) > 1 else None
    if _FIRST_SEEN.search(prompt):
        return "first_seen", asked_at
    if _BASELINE.search(prompt) and not _PREVIOUS.search(prompt):
        return "baseline", asked_at
    return "previous", asked_at


def asks_for_ratio(prompt: str) -> bool:
    """Whether a measurement question wants a ratio and not a size."""
    return _RATIO.search(prompt) is not None


def asks_for_ejection(prompt: str) -> bool:
    """Whether a measurement question wants the ejection fraction."""
    return _EJECTION.search(prompt) is not None


def asks_for_extreme(prompt: str) -> Literal["smallest", "largest"] | None:
    """Which of the sizes in some images an event question is about, if it is about sizes."""
    if _SMALLEST.search(prompt):
        return "smallest"
    return "largest" if _LARGEST.search(prompt) else None


def asks_for_end(prompt: str) -> bool:
    """Whether an event question is about the end of the event and not its beginning."""
    return _GONE.search(prompt) is not None


def verdicts(choices: Sequence[str]) -> list[str] | None:
    """The verdict that each choice stands for; ``None`` unless the choices are the three verdicts."""
    found = [next((verdict for verdict, words in VERDICT_WORDS.items() if choice.casefold() in words), "")
             for choice in choices]  # fmt: skip
    return found if sorted(found) == sorted(VERDICT_WORDS) else None


def offered_moments(choices: Sequence[str], clock: Clock) -> list[int | None] | None:
    """The position that each choice names, ``None`` for "never".

    Returns:
        ``None`` if a choice is neither.
    """
    offered: list[int | None] = []
    for choice in choices:
        named = clock.moments(choice)
        if choice.casefold() == NEVER:
            offered.append(None)
        elif named is not None and len(named) == 1:
            offered.append(named[0])
        else:
            return None
    return offered
