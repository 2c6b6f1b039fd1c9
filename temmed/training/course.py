"""What a resumed run takes over of the run before: what batches hold, its place, and the rows of ``metrics.csv``."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger

from temmed.data.datamodule import TimelineDataModule
from temmed.data.settings import DataSettings
from temmed.errors import InputError

#: Settings that say where data is, or how it is kept and read. The data itself, its split and the order of batches,
#: with their sizes, are compared by what they are.
_FREE = {
    *("root", "modality", "name", "patients", "spatial_dims", "seed", "overwrite", "split"),
    *("version", "fingerprint"),
    *("batch_size", "frames_per_batch", "pairs_per_batch"),
    *("num_workers", "cache_features", "cache_images", "stream_cache"),
}


def check_settings(content: Mapping[str, Any], settings: DataSettings, path: str) -> None:
    """Refuse to go on with batches that hold something else than those of the run before.

    Args:
        content: of its checkpoint.
        settings: the ``data`` group of this run.
        path: of the checkpoint, for the message.

    Raises:
        InputError: a setting differs that changes what is in a batch.
    """
    former = DataSettings(**content["hyper_parameters"]["provenance"]["data"])
    for name in (field.name for field in fields(settings) if field.name not in _FREE):
        before, now = getattr(former, name), getattr(settings, name)
        if before != now:
            raise InputError(
                f"data.{name}={_written(before)}, so that the batches are those of the checkpoint",
                _written(now),
                path,
                f"Give the data.{name} of the former run.",
            )


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


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
