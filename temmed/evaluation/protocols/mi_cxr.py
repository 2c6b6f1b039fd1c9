"""MI-CXR: accuracy over all items, and by group and kind of question."""

from __future__ import annotations

import pandas as pd

from temmed.evaluation.protocols._items import answered, means, questions_of, records_of
from temmed.evaluation.protocols.registry import Outcome, Protocol, Request


def score(request: Request) -> Outcome:
    """Score the answers to MI-CXR; see docs/protocols.md.

    Raises:
        InputError: the dataset is another one, or the predictions do not fit it.
    """
    judged, unread = answered(request, questions_of(request, "mi_cxr_"))
    kinds = pd.DataFrame(records_of(request, "items")).set_index("qid")[["group_type", "qtype"]]
    slices = kinds.loc[judged["question_id"]].reset_index(drop=True)
    values = {"accuracy": judged["right"], "unparsable": judged["given"].isna()}
    return Outcome(means(request, "mi_cxr/choice", judged["patient_id"].tolist(), values, slices), unread)


PROTOCOL = Protocol("mi_cxr", "MI-CXR", score)
