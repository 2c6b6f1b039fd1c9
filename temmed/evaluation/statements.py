"""Predicted statements against those of a timeline: does a sentence agree with the images?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from temmed.evaluation.statistics import Estimate, PatientResampler, Replicates
from temmed.predictions.tables import Predictions
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split


def statement_truths(timeline: Timeline, split: Split, subset: str) -> pd.DataFrame:
    """The statements at the positions that a subset owns, in the sequences that it asks about.

    Returns:
        Columns ``patient_id, statement_id, consistent, flip``; the flip of a false statement of which it is not known
        is "unknown", that of a true one "none".
    """
    owned = split.sequences(subset)[["sequence_id", "patient_id", "first_asked", "last_asked"]]
    owned = owned[owned["sequence_id"].isin(split.questions(timeline, subset)["sequence_id"])]
    truths = timeline.table("statements").merge(owned, on="sequence_id")
    truths = truths[truths["position"].between(truths["first_asked"], truths["last_asked"])]
    consistent = truths["consistent"].astype(bool)
    flip = truths["flip"].astype(object).where(truths["flip"].notna(), "unknown").mask(consistent, "none")
    return truths[["patient_id", "statement_id"]].assign(consistent=consistent, flip=flip).reset_index(drop=True)


def judge_statements(truths: pd.DataFrame, predictions: Predictions, allow_missing: bool = False) -> pd.DataFrame:
    """Hold predicted probabilities against the truth; a statement is called true from a probability of one half.

    Args:
        truths: from `statement_truths`.
        predictions: with the table ``statements``; rows of other statements are ignored.
        allow_missing: accept statements without a row, which then count as wrong and have no Brier score.

    Returns:
        The truths with columns ``right`` (1 or 0) and ``brier``.

    Raises:
        InputError: a statement has no row.
    """
    probability = predictions.align_statements(truths["statement_id"], allow_missing).to_numpy(dtype=float)
    consistent = truths["consistent"].to_numpy(dtype=bool)
    right = np.where(np.isnan(probability), False, (probability >= 0.5) == consistent)
    return truths.assign(right=right.astype(float), brier=(probability - consistent) ** 2)


def statement_estimates(judged: pd.DataFrame, resamples: int, seed: int) -> Iterator[tuple[str, Estimate]]:
    """``statement_error``, whole and by kind of flip, and ``statement_brier``, with intervals over patients.

    The error is 1 − balanced accuracy: the mean of how often true statements and flipped ones are told, in which every
    kind of flip weighs the same. A constant verdict has an error of one half.

    Args:
        judged: from `judge_statements`.
        resamples: of the patient-clustered bootstrap.
        seed: of the bootstrap.
    """
    flips = sorted(set(judged["flip"]) - {"none"})
    if not flips or not judged["consistent"].any():
        return
    resampler = PatientResampler(judged["patient_id"], resamples, seed)
    columns = [judged["right"].where(judged["flip"] == kind) for kind in ("none", *flips)]
    told = resampler.means(np.stack(columns, axis=1))

    def errors(recalls: np.ndarray) -> np.ndarray:
        each = 1 - (recalls[..., :1] + recalls[..., 1:]) / 2
        return np.concatenate([each.mean(axis=-1, keepdims=True), each], axis=-1)

    n = np.concatenate([[told.n.sum()], told.n[0] + told.n[1:]])
    patients = np.full(len(n), judged["patient_id"].nunique())
    names = ["statement_error", *(f"statement_error/flip={kind}" for kind in flips)]
    yield from zip(names, Replicates(errors(told.value), errors(told.samples), n, patients).estimates(), strict=True)
    yield "statement_brier", resampler.means(judged["brier"]).estimates()[0]
