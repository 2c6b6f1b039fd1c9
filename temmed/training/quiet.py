"""Warnings of Lightning that say nothing to the user of this package."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

#: Beginnings of messages, as regular expressions, and why each is beside the point.
_NOISE = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # between Lightning and torch
    r"You are using a custom batch sampler",  # ours leaves no item out, which is what Lightning wants
    r"Experiment logs directory .* exists and is not empty",  # the run folder holds the run's configuration
    r"The '\w+_dataloader' does not have many workers",  # data.num_workers is the user's choice
    r"Found \d+ module\(s\) in eval mode at the start of training",  # a frozen backbone
    r"You're resuming from a checkpoint that ended before the epoch ended",  # the data module keeps the place
    r"The number of training batches \(\d+\) is smaller than the logging interval",  # a small data set
)
_LOGGERS = ("pytorch_lightning.utilities.rank_zero", "lightning.pytorch.utilities.rank_zero")


@contextmanager
def without_noise() -> Iterator[None]:
    """Leave out, inside the block, Lightning's tips, device lists and warnings that do not apply here."""
    levels = [(logging.getLogger(name), logging.getLogger(name).level) for name in _LOGGERS]
    with warnings.catch_warnings():
        for pattern in _NOISE:
            warnings.filterwarnings("ignore", message=pattern)
        try:
            for logger, _ in levels:
                logger.setLevel(logging.WARNING)
            yield
        finally:
            for logger, level in levels:
                logger.setLevel(level)
