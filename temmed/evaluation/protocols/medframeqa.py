"""MedFrameQA: accuracy over all items, and by system, organ and number of frames."""

from __future__ import annotations

import pandas as pd

from temmed.evaluation.protocols._items import answered, means, questions_of, records_of
from temmed.evaluation.protocols.registry import Outcome, Protocol, Request


def score(request: Request) -> Outcome:
    """Score the answers to MedFrameQA; see docs/protocols.md.

    Raises:
        InputError: the dataset is another one, or the predictions do not fit it.
    """
    judged, unread = answered(request, questions_of(request, "medframeqa_"))
    kinds = pd.DataFrame(records_of(request, "items")).set_index("question_id")[["system", "organ"]]
    slices = kinds.loc[judged["question_id"]].reset_index(drop=True)
    # Questions are asked at the last frame.
    slices["frames"] = judged["asked_at"].to_numpy() + 1
    values = {"accuracy": judged["right"], "unparsable": judged["given"].isna()}
    return Outcome(means(request, "medframeqa/choice", judged["patient_id"].tolist(), values, slices), unread)


PROTOCOL = Protocol("medframeqa", "MedFrameQA", score)
