"""What a resumed run takes over of the course of the run before: its place, and the rows of ``metrics.csv``."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger

from temmed.data.datamodule import TimelineDataModule


def describe_place(content: Mapping[str, Any]) -> str:
    """The epoch of a checkpoint, and the batch if it is within an epoch; both are counted from 1.

    Args:
        content: of a checkpoint.
    """
    epochs = content["loops"]["fit_loop"]["epoch_progress"]["current"]
    if epochs["processed"] == epochs["started"]:
        return f"epoch {epochs['processed']}"
    place = content[TimelineDataModule.__qualname__]
    return f"batch {place['batches']} of epoch {place['epoch'] + 1}"


def read_course(run: Path, steps: int) -> list[dict[str, str]]:
    """Rows of a run's ``metrics.csv`` that were logged before a checkpoint.

    Args:
        run: its folder; without the file there are no rows.
        steps: optimizer steps done when the checkpoint was written.
    """
    file = run / "metrics.csv"
    if not file.is_file():
        return []
    # A process that was killed may leave half a line, always the last one.
    lines = [line for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [row for row in csv.DictReader(lines) if int(row["step"]) < steps]


def go_on_with(rows: Sequence[Mapping[str, str]], loggers: Sequence[Logger]) -> None:
    """Put rows at the beginning of this run's ``metrics.csv``."""
    for logger in loggers:
        if isinstance(logger, CSVLogger):
            logger.experiment.metrics.extend(rows)
            logger.save()
