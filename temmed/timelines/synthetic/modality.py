"""What the generator needs to know of a modality, and the registry of those there are.

A modality is one module of :mod:`temmed.timelines.synthetic.modalities` that holds a :class:`Modality` under the name
``MODALITY``, and one YAML of the group ``data``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temmed.timelines.synthetic import modalities

#: A folder with all modalities in equal parts.
MIXED = "mixed"
Rows = dict[str, list[dict[str, Any]]]


class Picture(NamedTuple):
    """One row of the images table, but for the sequence: path relative to the folder, frame or ``None``."""

    position: int
    channel: str
    path: str
    frame: int | None


@dataclass(frozen=True)
class Target:
    """Where and how the images of one sequence are written.

    Attributes:
        root: the folder that paths are relative to; ``images`` is there.
        sequence: the sequence's id.
        files: one of the modality's ``files``.
    """

    root: Path
    sequence: str
    files: str


@dataclass(frozen=True)
class Modality:
    """How sequences of one modality are drawn, rendered, written and asked about.

    Attributes:
        name: as in the sequences table.
        about: what the set imitates, in a few words.
        time_unit: of its sequences.
        draw: (seed, number of the patient, spatial dimensions) to the truth of one patient, without pixels.
        render: (seed, truth, shape of an image, target) writes the images; returns their rows, and the least standard
            error of ln(size) of shape ``(findings, T)``, NaN where there is none or where it is not known.
        describe: (truth, errors, seed, rows) adds what is known to the rows of findings, measurements, events, reports,
            statements and treatments.
        ask: (truths, seed) to the questions, with ``course`` and ``finding`` (numbers) in place of ids.
        sizes: default pixels along each side, by spatial dimensions; those there are not cannot be made.
        files: kinds of files it can be written as, the default first.
    """

    name: str
    about: str
    time_unit: str
    draw: Callable[[int, int, int], Any]
    render: Callable[[int, Any, tuple[int, ...], Target], tuple[list[Picture], NDArray[np.float64]]]
    describe: Callable[[Any, NDArray[np.float64], int, Rows], None]
    ask: Callable[[list[Any], int], pd.DataFrame]
    sizes: dict[int, int]
    files: tuple[str, ...]


def modality_names() -> list[str]:
    """The modalities there are."""
    return sorted(module.name for module in pkgutil.iter_modules(modalities.__path__))


def find_modality(name: str) -> Modality:
    """A modality by its name, one of `modality_names`."""
    found: Modality = importlib.import_module(f"{modalities.__name__}.{name}").MODALITY
    return found
