"""MS-CXR-T: macro accuracy of each finding, and the mean over findings (Bannur et al., 2023, BioViL-T)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from temmed.evaluation.protocols._items import answered, means, point, questions_of
from temmed.evaluation.protocols.registry import Outcome, Protocol, Request

_PREFIX = "ms_cxr_t_"


def score(request: Request) -> Outcome:
    """Score the answers to MS-CXR-T; see docs/protocols.md.

    Raises:
        InputError: the dataset is another one, or the predictions do not fit it.
    """
    judged, unread = answered(request, questions_of(request, _PREFIX))
    findings = judged["template"].str.removeprefix(_PREFIX)
    values = {"accuracy": judged["right"], "unparsable": judged["given"].isna()}
    prefix, patients = "ms_cxr_t/progression", judged["patient_id"].tolist()
    metrics = means(request, prefix, patients, values, pd.DataFrame({"finding": findings}))
    # The mean of the recalls of the classes that occur among a finding's labels.
    recalls = judged["right"].groupby([findings, judged["answer"]]).mean()
    macro = recalls.groupby(level=0).mean()
    metrics[f"{prefix}/macro_accuracy"] = point(float(np.mean(macro)), len(judged))
    for finding, value in macro.items():
        metrics[f"{prefix}/macro_accuracy/finding={finding}"] = point(value, int((findings == finding).sum()))
    return Outcome(metrics, unread)


PROTOCOL = Protocol("ms_cxr_t", "MS-CXR-T; Bannur et al., 2023 (BioViL-T)", score)
