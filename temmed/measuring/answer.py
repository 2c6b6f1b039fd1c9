"""From the measured sizes of a finding to the answer of a question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from temmed.evaluation.ceiling import VERDICTS, verdict_probabilities
from temmed.measuring.beats import ejection_fraction, find_beats
from temmed.measuring.prompts import (
    Clock,
    Earlier,
    asks_for_ejection,
    asks_for_end,
    asks_for_extreme,
    asks_for_ratio,
    compared,
    offered_moments,
    verdicts,
)
from temmed.measuring.segment import Sizes
from temmed.predictions.intervals import stay_between
from temmed.timelines.schema import PROGRESSION_BOUND


def answer(question: Any, sizes: Sizes, clock: Clock) -> dict[str, Any]:
    """Answer one question; its choices say of which kind it is.

    Args:
        question: ``question_id, prompt, choices, asked_at``; nothing else of it is looked at.
        sizes: of its finding; those after ``asked_at`` are not looked at.
        clock: of its sequence.

    Returns:
        A row of the prediction table. The answer to choices that cannot be read is left empty.
    """
    choices = None if question.choices is None or isinstance(question.choices, float) else list(question.choices)
    asked_at = int(question.asked_at)
    known = sizes.until(asked_at)
    row: dict[str, Any] = {"question_id": question.question_id, "answer": None, "probabilities": None, "value": None}
    row |= {"confidence": None, "evidence": []}
    if choices is None:
        return row | _measurement(question.prompt, known, clock, asked_at)
    if (meant := verdicts(choices)) is not None:
        return row | _progression(question.prompt, choices, meant, known, clock, asked_at)
    if (offered := offered_moments(choices, clock)) is not None:
        extreme = asks_for_extreme(question.prompt)
        if extreme is not None:
            return row | _extreme(extreme, choices, offered, known)
        return row | _event(question.prompt, choices, offered, known)
    return row


def interval(sizes: Sizes, clock: Clock) -> dict[str, float | None]:
    """Onset and offset of a finding's stay, both empty for never; the score is the share of images that agree."""
    agreed, stay = _stay(sizes.present)
    score = agreed / len(sizes.present) if len(sizes.present) else None
    if stay is None:
        return {"onset": None, "offset": None, "score": score}
    return {**stay_between(*stay, np.array(clock.times)[sizes.positions]), "score": score}


def _stay(present: NDArray[np.bool_]) -> tuple[int, tuple[int, int] | None]:
    """The one run of images that agrees best with what was seen; of equally good ones the longest.

    Returns:
        With how many images it agrees, and its first and last index; ``None`` for no run at all.
    """
    votes = np.concatenate([[0], np.cumsum(np.where(present, 1, -1))])
    gain = votes[None, :] - votes[:, None]  # of a run from row to column - 1
    length = np.subtract.outer(-np.arange(len(votes)), -np.arange(len(votes)))
    gain = np.where(length > 0, gain * (len(votes) + 1) + length, 0)
    absent = int((~present).sum())
    if gain.max() <= len(votes):
        return absent, None
    first, after = np.unravel_index(gain.argmax(), gain.shape)
    return absent + int(votes[after] - votes[first]), (int(first), int(after) - 1)


def _progression(
    prompt: str, choices: list[str], meant: list[str], sizes: Sizes, clock: Clock, asked_at: int
) -> dict[str, Any]:
    """The progression rule on the measured diameters; "stable" where one of the two cannot be had.

    The shape of a finding is taken not to change, so that its longest diameters have the ratio of its mean ones, which
    are the more precise. Probabilities are those of a Gaussian error in ln(ratio).
    """
    order = [VERDICTS.index(verdict) for verdict in meant]
    pair = _indices(compared(prompt, clock, asked_at), sizes)
    if pair is None:
        return {
            "answer": choices[meant.index("stable")],
            "probabilities": [1 / len(choices)] * len(choices),
            "confidence": 1 / len(choices),
        }
    earlier, later = pair
    change = float(np.log(sizes.diameter[later] / sizes.diameter[earlier]))
    error = float(np.hypot(sizes.log_diameter_sd[earlier], sizes.log_diameter_sd[later]))
    probabilities = verdict_probabilities([change], [error])[0][order].clip(0.0, 1.0)
    verdict = "stable" if abs(change) < PROGRESSION_BOUND else "progressed" if change > 0 else "regressed"
    best = meant.index(verdict)
    return {
        "answer": choices[best],
        "probabilities": probabilities.tolist(),
        "confidence": float(probabilities[best]),
        "evidence": sizes.positions[[earlier, later]].tolist(),
    }


def _indices(moments: tuple[int | Earlier, int] | None, sizes: Sizes) -> tuple[int, int] | None:
    """Indices into the images of two moments; ``None`` unless both show the finding."""
    if moments is None:
        return None
    earlier, last = moments
    if isinstance(earlier, int):
        first = _index(earlier, sizes)
    elif earlier == "previous":
        before = np.flatnonzero(sizes.positions < last)
        first = int(before[-1]) if len(before) else None
    elif earlier == "baseline":
        first = 0 if len(sizes.positions) else None
    else:
        _, stay = _stay(sizes.present)
        first = None if stay is None else stay[0]
    later = _index(last, sizes)
    if first is None or later is None or first >= later or not sizes.present[[first, later]].all():
        return None
    return first, later


def _index(position: int, sizes: Sizes) -> int | None:
    found = np.flatnonzero(sizes.positions == position)
    return int(found[0]) if len(found) else None


def _measurement(prompt: str, sizes: Sizes, clock: Clock, asked_at: int) -> dict[str, Any]:
    """A longest diameter in mm or a ratio of two; from the nearest image that shows the finding, if one does."""
    seen = np.flatnonzero(sizes.present)
    if asks_for_ejection(prompt):
        return _ejection(sizes)
    if asks_for_ratio(prompt):
        pair = _indices(compared(prompt, clock, asked_at), sizes)
        if pair is None:
            return {"value": 1.0}
        earlier, later = pair
        return {
            "value": float(sizes.diameter[later] / sizes.diameter[earlier]),
            "evidence": sizes.positions[[earlier, later]].tolist(),
        }
    named = clock.moments(prompt)
    position = named[0] if named else asked_at
    if not len(seen):
        return {"value": None}
    nearest = seen[np.abs(sizes.positions[seen] - position).argmin()]
    # A shape that does not change is best known from all images so far.
    value = sizes.diameter[nearest] * np.median(sizes.elongation[seen])
    return {"value": float(value), "evidence": [int(sizes.positions[nearest])]}


def _ejection(sizes: Sizes) -> dict[str, Any]:
    """Of the first beat shown; without one, from the largest and the smallest of all diameters."""
    if not len(sizes.positions):
        return {"value": None}
    beats = find_beats(sizes.diameter)
    full, empty = beats[0] if beats else (int(sizes.diameter.argmax()), int(sizes.diameter.argmin()))
    return {
        "value": ejection_fraction(float(sizes.diameter[full]), float(sizes.diameter[empty])),
        "evidence": sorted(sizes.positions[[full, empty]].tolist()),
    }


def _extreme(which: str, choices: list[str], offered: Sequence[int | None], sizes: Sizes) -> dict[str, Any]:
    """The choice whose image shows the smallest or the largest size; of no use is one without such an image."""
    shown = [(n, _index(position, sizes)) for n, position in enumerate(offered) if position is not None]
    measured = [(float(sizes.diameter[k]), n, k) for n, k in shown if k is not None and sizes.present[k]]
    if not measured:
        return {}
    _, best, index = min(measured) if which == "smallest" else max(measured)
    return {"answer": choices[best], "evidence": [int(sizes.positions[index])]}


def _event(prompt: str, choices: list[str], offered: Sequence[int | None], sizes: Sizes) -> dict[str, Any]:
    """The first image with the finding, or the first one after its stay; the nearest choice where that is not one."""
    _, stay = _stay(sizes.present)
    index: int | None = None
    if stay is not None:
        index = stay[0] if not asks_for_end(prompt) else stay[1] + 1
    if index is None or index >= len(sizes.positions):
        return {"answer": choices[offered.index(None)] if None in offered else None}
    position = int(sizes.positions[index])
    moments = [(abs(moment - position), n) for n, moment in enumerate(offered) if moment is not None]
    if not moments:
        return {"answer": choices[offered.index(None)]}
    evidence = sizes.positions[max(index - 1, 0) : index + 1].tolist()
    return {"answer": choices[min(moments)[1]], "evidence": evidence}
