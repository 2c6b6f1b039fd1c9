"""Questions and events from a state that a source gives at some visits, such as a diagnosis or a rating."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from temmed.timelines.importers.plan import Plan, PlannedSequence, slug
from temmed.timelines.importers.rows import question_row
from temmed.timelines.importers.studies import Place

CHANGES = ("worse", "unchanged", "better")


@dataclass(frozen=True)
class Scale:
    """A state with an order.

    Attributes:
        name: what templates of its questions begin with.
        levels: its values, the best first.
        state: asks for the value at a visit.
        change: asks how it compares with the value before.
        event: the label of the event that lasts while the state is bad enough.
        threshold: the first of ``levels`` that is.
    """

    name: str
    levels: tuple[str, ...]
    state: str
    change: str
    event: str
    threshold: str


def add_states(scale: Scale, seen: Sequence[tuple[Place, str]], result: Plan) -> None:
    """Ask for the state at each visit of a sequence and for its change since the one before; mark when it was bad.

    Evidence is the visits compared, where all of them have an image; otherwise the source does not say what shows it.

    Args:
        scale: the state.
        seen: visits of one sequence with the level there.
        result: the plan to add questions and events to.
    """
    ordered = sorted((place.position, scale.levels.index(level)) for place, level in seen)
    if not ordered:
        return
    sequence = seen[0][0].sequence
    imaged = {picture.position for picture in sequence.pictures}

    def ask(template: str, prompt: str, choices: tuple[str, ...], answer: str, positions: list[int]) -> None:
        result.add(
            "questions",
            **question_row(
                f"{sequence.sequence_id}_{template}_{positions[-1]}",
                sequence,
                positions[-1],
                task="choice",
                template=template,
                prompt=prompt,
                choices=choices,
                answer=answer,
                evidence=positions if imaged.issuperset(positions) else None,
            ),
        )

    for position, level in ordered:
        ask(scale.name, scale.state, scale.levels, scale.levels[level], [position])
    for (before, old), (position, new) in pairwise(ordered):
        answer = CHANGES[0] if new > old else CHANGES[2] if new < old else CHANGES[1]
        ask(f"{scale.name}_change", scale.change, CHANGES, answer, [before, position])
    threshold = scale.levels.index(scale.threshold)
    add_spells(sequence, scale.event, [(position, level >= threshold) for position, level in ordered], result)


def add_spells(sequence: PlannedSequence, label: str, seen: Sequence[tuple[int, bool]], result: Plan) -> None:
    """Mark every spell in which something was on; an event that never happens if there is none.

    A spell began after the last visit at which it was seen to be off, whatever visits without a word lie between.

    Args:
        sequence: where it happens.
        label: what it is.
        seen: positions in their order, and whether it was on there.
        result: the plan to add events to.
    """
    times = [-math.inf, *(sequence.times[position] for position, _ in seen), math.inf]
    on = [False, *(state for _, state in seen), False]
    starts = [index for index in range(1, len(on)) if on[index] and not on[index - 1]]
    ends = [index for index in range(1, len(on)) if on[index - 1] and not on[index]]
    spells: list[tuple[float | None, ...]] = [
        (times[start - 1], times[start], times[end - 1], times[end]) for start, end in zip(starts, ends, strict=True)
    ]
    for number, bounds in enumerate(spells or [(None,) * 4], 1):
        result.add(
            "events",
            event_id=f"{sequence.sequence_id}_{slug(label)}" + (f"_{number}" if number > 1 else ""),
            sequence_id=sequence.sequence_id,
            label=label,
            **dict(zip(("onset_lower", "onset_upper", "offset_lower", "offset_upper"), bounds, strict=True)),
        )
