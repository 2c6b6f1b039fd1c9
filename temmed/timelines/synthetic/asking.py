"""Rows of questions, the same for every kind."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from temmed.timelines.synthetic.courses import Course

COLUMNS = [
    "course", "finding", "task", "template", "prompt", "asked_at", "choices", "answer", "value", "evidence",
    "evidence_kind", "names_position", "horizon_steps", "horizon_time",
]  # fmt: skip

#: Units of sizes, as prompts name them.
UNIT_WORDS = {"mm": "millimetres", "pixel": "pixels"}


def question_row(
    index: int, times: NDArray[np.float64], finding: int | None, *, asked_at: int, evidence: list[int], **fields: Any
) -> dict[str, Any]:
    """A question with its horizon.

    Args:
        index: number of the patient.
        times: of the positions.
        finding: number of the finding, if it is about one.
        asked_at: position.
        evidence: positions in order; none means that the proof is absence.
        **fields: other columns.
    """
    row = {"course": index, "finding": finding, "asked_at": asked_at, "evidence": evidence, **fields}
    if not evidence:
        return {**row, "evidence_kind": "absence"}
    first = min(evidence)
    return {
        **row,
        "evidence_kind": "positions",
        "horizon_steps": asked_at - first,
        "horizon_time": float(times[asked_at] - times[first]),
    }


def size_kind(course: Course, label: str) -> str:
    """What a label says of sizes: itself where labels differ in their bounds, nothing where they do not."""
    bounds = {kind.sizes for kind in course.plan.kinds.values()}
    return label if len(bounds) > 1 else ""
