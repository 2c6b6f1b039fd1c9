"""MedSG-Bench: mean IoU of the boxes, and the share of boxes with an IoU of at least 0.3, 0.5 and 0.7."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from temmed.evaluation.protocols._items import means, questions_of, records_of, shorten
from temmed.evaluation.protocols.registry import Outcome, Protocol, Request
from temmed.metrics.functional.boxes import box_iou
from temmed.predictions.tables import read_predictions

_THRESHOLDS = (0.3, 0.5, 0.7)
_NUMBER = r"-?\d+(?:\.\d+)?"
_BOX = re.compile(rf"[\[(]\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*[\])]")


def read_box(said: str, size: Sequence[float]) -> tuple[float, float, float, float] | None:
    """The one box that a text holds, cut off at the edges of the image.

    Args:
        said: a text with ``[x1, y1, x2, y2]`` in pixels.
        size: width and height of the image that the benchmark's boxes refer to, in pixels.

    Returns:
        The corners; ``None`` where the text has no box, several different ones, or one without an area in the image.

    Examples:
        >>> read_box("It is at [10, 20, 400, 50].", (336, 336))
        (10.0, 20.0, 336.0, 50.0)
        >>> read_box("[40, 20, 10, 50]", (336, 336)) is None
        True
    """
    found = set(_BOX.findall(said))
    if len(found) != 1:
        return None
    x1, y1, x2, y2 = (float(number) for number in found.pop())
    width, height = map(float, size)
    x1, x2 = (min(max(x, 0.0), width) for x in (x1, x2))
    y1, y2 = (min(max(y, 0.0), height) for y in (y1, y2))
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def score(request: Request) -> Outcome:
    """Score the boxes in the answers to MedSG-Bench; see docs/protocols.md.

    Raises:
        InputError: the dataset is another one, or the predictions do not fit it.
    """
    questions = questions_of(request, "medsg_")
    answers = read_predictions(request.predictions).check_against(
        questions, allow_missing=request.allow_missing, allow_surplus=request.allow_surplus
    )
    items = {record["question_id"]: record for record in records_of(request, "items")}
    overlaps, unread, tasks = [], {}, []
    for question, said in zip(questions["question_id"], answers["answer"], strict=True):
        item = items[question]
        box = read_box(said, item["size"]) if isinstance(said, str) else None
        if box is None:
            unread[question] = shorten(said) if isinstance(said, str) else "no answer"
        overlaps.append(0.0 if box is None else box_iou(box, item["answer"]).item())
        tasks.append(item["task"])
    iou = np.array(overlaps)
    values = {"mean_iou": iou} | {f"iou_at_{bound}": iou >= bound for bound in _THRESHOLDS}
    values["unparsable"] = questions["question_id"].isin(list(unread)).to_numpy()
    slices = pd.DataFrame({"task": tasks})
    return Outcome(means(request, "medsg_bench/grounding", questions["patient_id"].tolist(), values, slices), unread)


PROTOCOL = Protocol("medsg_bench", "MedSG-Bench", score)
