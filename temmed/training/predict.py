"""From a trained model to prediction tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from torch.utils.data import DataLoader

from temmed.data.images import check_images
from temmed.predictions.intervals import stay_between
from temmed.predictions.schema import SCHEMAS
from temmed.timelines.folder import Timeline
from temmed.training.module import Predicted, TimelineModule


def predict(
    module: TimelineModule, loader: DataLoader, timeline: Timeline, questions: pd.DataFrame, trainer: pl.Trainer
) -> dict[str, pd.DataFrame]:
    """Predict all that a model's heads tell of the batches of a loader.

    Args:
        module: the model.
        loader: batches in any order.
        timeline: the data, for the times of the positions.
        questions: the asked questions, for the words of their choices.
        trainer: says where to run.

    Returns:
        The prediction tables: ``answers``, one row per question, and those that the heads write.

    Raises:
        InputError: the data is not what the model was trained on, and its images are of another kind.
    """
    if timeline.meta.fingerprint != module.hparams["provenance"]["dataset"]["fingerprint"]:
        check_images(timeline, module.fitted)
    found = cast("list[Predicted]", trainer.predict(module, loader) or [])
    rows: dict[str, list[dict[str, Any]]] = {"answers": []}
    for part in found:
        for table, told in part.rows.items():
            rows.setdefault(table, []).extend(told)
    choices = dict(zip(questions["question_id"], questions["choices"], strict=True))
    rows["answers"] = [_in_words(row, choices[row["question_id"]]) for row in rows["answers"]]
    if "events" in rows:
        clock = {
            key: group["time"].to_numpy(float) for key, group in timeline.table("timepoints").groupby("sequence_id")
        }
        rows["events"] = [_in_time(row, clock[row["sequence_id"]]) for row in rows["events"]]
    return {table: _frame(table, told) for table, told in rows.items()}


def _frame(table: str, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """A table with all its columns, sorted by those that are never empty."""
    schema = SCHEMAS[table]
    identity = [field.name for field in schema if not field.nullable]
    filled = [[row.get(name) for name in schema.names] for row in rows]
    return pd.DataFrame(filled, columns=schema.names).sort_values(identity, ignore_index=True)


def that_exist(tables: Mapping[str, pd.DataFrame], timeline: Timeline) -> dict[str, pd.DataFrame]:
    """The answers and maps, and of the other tables those whose truth the data has a table for."""
    return {name: table for name, table in tables.items() if name in ("answers", "maps") or timeline.has(name)}


def _in_words(row: dict[str, Any], choices: list[str]) -> dict[str, Any]:
    """An answer in the words of its choices; none without probabilities."""
    probabilities = row.get("probabilities")
    if probabilities is None:
        return row
    best = int(np.argmax(probabilities))
    return {**row, "answer": choices[best], "confidence": probabilities[best]}


def _in_time(row: dict[str, Any], times: np.ndarray) -> dict[str, Any]:
    """An event as the interval that its first and last image stand for."""
    told = {name: row[name] for name in ("sequence_id", "label", "score")}
    if row["first"] is None:
        return told
    return {**told, **stay_between(row["first"], row["last"], times[row["positions"]])}
