"""CheXTemporal: five classes of progression, read without case or tense; and boxes by their overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from temmed.errors import InputError
from temmed.evaluation.protocols._items import answered, means, patients_of, point, questions_of
from temmed.evaluation.protocols.registry import Outcome, Protocol, Request
from temmed.metrics.functional.boxes import box_iou
from temmed.metrics.functional.classification import UNPARSABLE, confusion_matrix, macro_f1
from temmed.predictions.tables import read_predictions

_PREFIX = "chextemporal_"
#: Forms of one word: all tenses of each class.
_FORMS = {
    "stable": ("stable",),
    "worse": ("worse", "worsen", "worsens", "worsened", "worsening"),
    "improved": ("improve", "improves", "improved", "improving"),
    "new": ("new", "newly"),
    "resolved": ("resolve", "resolves", "resolved", "resolving"),
}
_CLASSES = tuple(_FORMS)
_KEY = ["finding_id", "position", "channel"]
_CORNERS = ["x1", "y1", "x2", "y2"]


def read_class(said: str, choices: Sequence[str]) -> str | None:
    """The class that an answer names, in any case and tense.

    Examples:
        >>> read_class("Improving.", []), read_class("not improved", [])
        ('improved', None)
    """
    word = said.strip(" .\t\n*\"'").casefold()
    return next((label for label, forms in _FORMS.items() if word in forms), None)


def score(request: Request) -> Outcome:
    """Score answers to, and boxes of, CheXTemporal; see docs/protocols.md.

    Raises:
        InputError: the dataset is another one, or the predictions do not fit it.
    """
    judged, unread = answered(request, questions_of(request, _PREFIX), read_class)
    slices = pd.DataFrame({"finding": judged["template"].str.removeprefix(_PREFIX), "class": judged["answer"]})
    values = {"accuracy": judged["right"], "unparsable": judged["given"].isna()}
    prefix = "chextemporal/progression"
    metrics = means(request, prefix, judged["patient_id"].tolist(), values, slices)
    code = {name: number for number, name in enumerate(_CLASSES)}
    truth = [code[name] for name in judged["answer"]]
    given = [code.get(name, UNPARSABLE) for name in judged["given"]]
    f1 = macro_f1(confusion_matrix(truth, given, len(_CLASSES))).item()
    metrics[f"{prefix}/macro_f1"] = point(f1, len(judged))
    boxes, notes = read_predictions(request.predictions).boxes, []
    if boxes is None:
        notes.append("No boxes are predicted: their overlap is not scored.")
    elif not request.timeline.has("boxes"):
        notes.append("The dataset has no boxes: those predicted are not scored.")
    else:
        true = request.timeline.table("boxes")
        found = _overlaps(request, true, boxes)
        owner = request.timeline.table("findings").set_index("finding_id")["sequence_id"]
        patients = patients_of(request, (owner[name] for name in true["finding_id"]))
        metrics |= means(request, "chextemporal/boxes", patients, {"mean_iou": found}, pd.DataFrame())
    return Outcome(metrics, unread, notes)


def _overlaps(request: Request, true: pd.DataFrame, boxes: pd.DataFrame) -> np.ndarray:
    """IoU of each true box with the one predicted for its finding and image; 0 where there is none."""
    known = pd.MultiIndex.from_frame(true[_KEY])
    surplus = ~pd.MultiIndex.from_frame(boxes[_KEY]).isin(known)
    if surplus.any() and not request.allow_surplus:
        raise InputError(
            "boxes of findings and images that have one",
            f"{int(surplus.sum())} of others",
            str(request.predictions),
            "Remove them, or see --allow-surplus.",
        )
    predicted = boxes.set_index(_KEY)[_CORNERS].reindex(known).to_numpy(dtype=float)
    return np.nan_to_num(box_iou(true[_CORNERS].to_numpy(dtype=float), predicted), nan=0.0)


PROTOCOL = Protocol("chextemporal", "CheXTemporal", score)
