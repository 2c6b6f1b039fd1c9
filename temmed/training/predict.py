"""From a trained model to prediction tables."""

from __future__ import annotations

from typing import cast

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from torch.utils.data import DataLoader

from temmed.data.images import check_images
from temmed.predictions.intervals import stay_between
from temmed.timelines.folder import Timeline
from temmed.training.module import Rows, TimelineModule


def predict(
    module: TimelineModule, loader: DataLoader, timeline: Timeline, questions: pd.DataFrame, trainer: pl.Trainer
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predict every question and event of a loader.

    Args:
        module: the model.
        loader: batches in any order.
        timeline: the data, for the times of the positions.
        questions: the asked questions, for the words of their choices.
        trainer: says where to run.

    Returns:
        The tables ``answers``, one row per question, and ``events``, one row per sequence and label.

    Raises:
        InputError: the data is not what the model was trained on, and its images are of another kind.
    """
    if timeline.meta.fingerprint != module.hparams["provenance"]["dataset"]["fingerprint"]:
        check_images(timeline, module.fitted)
    found = cast("list[Rows]", trainer.predict(module, loader) or [])
    choices = dict(zip(questions["question_id"], questions["choices"], strict=True))
    answers = []
    for row in (row for part in found for row in part.answers):
        probabilities = row["probabilities"]
        best = None if probabilities is None else int(np.argmax(probabilities))
        answers.append(
            {
                **row,
                "answer": None if best is None else choices[row["question_id"]][best],
                "confidence": None if best is None else probabilities[best],
            }
        )
    clock = {key: group["time"].to_numpy(float) for key, group in timeline.table("timepoints").groupby("sequence_id")}
    events = [
        {
            "sequence_id": row["sequence_id"],
            "label": row["label"],
            **_interval(np.array(row["presence"]), clock[row["sequence_id"]][row["positions"]]),
        }
        for part in found
        for row in part.events
    ]
    columns = ["sequence_id", "label", "onset", "offset", "score"]
    order = ["question_id", "answer", "probabilities", "value", "confidence", "evidence"]
    return (
        pd.DataFrame(answers, columns=order).sort_values("question_id", ignore_index=True),
        pd.DataFrame(events, columns=columns).sort_values(["sequence_id", "label"], ignore_index=True),
    )


def _interval(presence: np.ndarray, times: np.ndarray) -> dict[str, float | None]:
    """From the probability that an event is on in each image to an interval.

    The event is taken to be on from the first to the last image in which it is likelier on than off.
    """
    if not len(presence):
        return {"onset": None, "offset": None, "score": None}
    on = np.flatnonzero(presence > 0.5)
    if not len(on):
        return {"onset": None, "offset": None, "score": float(1 - presence.max())}
    first, last = int(on[0]), int(on[-1])
    return {**stay_between(first, last, times), "score": float(presence[first : last + 1].mean())}
