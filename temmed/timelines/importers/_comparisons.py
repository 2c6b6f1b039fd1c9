"""Questions and statements about how a finding changed between two visits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from temmed.timelines.importers._items import Box
from temmed.timelines.importers.plan import Plan, PlannedSequence, slug
from temmed.timelines.importers.rows import question_row
from temmed.timelines.importers.studies import Place

_HOURS = 24


def moment(earlier: Place, later: Place) -> str:
    """What to call an earlier visit at a later one.

    Examples:
        >>> from temmed.timelines.importers.plan import PlannedSequence
        >>> visits = PlannedSequence("s", "p", "cxr", "day", 2, [0.0, 30.0, 31.5], [], "")
        >>> moment(Place(visits, 1), Place(visits, 2))
        'the previous chest X-ray'
        >>> moment(Place(visits, 0), Place(visits, 2))
        'the chest X-ray 31.5 days earlier'
    """
    steps = later.position - earlier.position
    if steps == 1:
        return "the previous chest X-ray"
    times = later.sequence.times
    days = times[later.position] - times[earlier.position]
    if later.sequence.time_unit == "ordinal":
        return f"the chest X-ray {steps} visits earlier"
    told = f"{round(days, 1):g} days" if days >= 1 else f"{round(_HOURS * days, 1):g} hours"
    return f"the chest X-ray {told} earlier"


def comparison_row(
    question_id: str, earlier: Place, later: Place, *, task: str, template: str, prompt: str, **more: Any
) -> dict[str, Any]:
    """A row of the questions table that compares two visits, which are its evidence.

    Args:
        question_id: its id.
        earlier: the visit compared with.
        later: the visit at which it is asked.
        task: as in :func:`~temmed.timelines.importers.rows.question_row`.
        template: likewise.
        prompt: the question; ``{moment}`` stands for the earlier visit.
        **more: further columns.
    """
    return question_row(
        question_id,
        later.sequence,
        later.position,
        task=task,
        template=template,
        prompt=prompt.replace("{moment}", moment(earlier, later)),
        evidence=[earlier.position, later.position],
        names_position=later.position - earlier.position != 1,
        **more,
    )


def either(choices: Sequence[str]) -> str:
    """Choices in words.

    Examples:
        >>> either(["improving", "stable", "worsening"])
        'improving, stable or worsening'
    """
    return f"{', '.join(choices[:-1])} or {choices[-1]}"


class Findings:
    """The findings of a plan, each once, and their boxes.

    Args:
        result: the plan that their rows are added to.
    """

    def __init__(self, result: Plan) -> None:
        self._result = result
        self._ids: dict[tuple[str, str, str | None], str] = {}
        self._taken: set[str] = set()
        self._boxes: dict[tuple[str, int, str], list[Box]] = {}

    def add(self, sequence: PlannedSequence, label: str, location: str | None = None) -> str:
        """The id of a finding, made at its first mention."""
        key = (sequence.sequence_id, label, location)
        if key not in self._ids:
            name = "_".join([sequence.sequence_id, slug(label), *([slug(location)] if location else [])])
            self._ids[key] = self._row(name, sequence, label, location)
        return self._ids[key]

    def box(self, place: Place, channel: str, box: Box, label: str, location: str | None = None) -> None:
        """Add a box around a finding in one image.

        The first box of an image belongs to the finding itself; others of the same image become findings of their own
        with the same label, as which of them is which at another visit is not known. The same box is kept once.
        """
        finding = self.add(place.sequence, label, location)
        known = self._boxes.setdefault((finding, place.position, channel), [])
        if box in known:
            return
        known.append(box)
        if len(known) > 1:
            name = f"{finding}_at{place.position}_{slug(channel)}_{len(known)}"
            finding = self._row(name, place.sequence, label, location)
        row = dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))
        self._result.add("boxes", finding_id=finding, position=place.position, channel=channel, **row)

    def _row(self, name: str, sequence: PlannedSequence, label: str, location: str | None) -> str:
        identifier, count = name, 1
        while identifier in self._taken:
            count += 1
            identifier = f"{name}_{count}"
        self._taken.add(identifier)
        self._result.add(
            "findings", finding_id=identifier, sequence_id=sequence.sequence_id, label=label, location=location
        )
        return identifier
