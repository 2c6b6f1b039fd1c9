"""The YAML file that says which column of a table is what."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from temmed.errors import InputError
from temmed.timelines.schema import TIME_UNITS
from temmed.timelines.splits import SUBSETS
from temmed.wording import did_you_mean

DOCS = "See docs/own-data.md for the layout."
REQUIRED = ("patient", "time")
ROLES = (*REQUIRED, "path", "sequence", "channel", "frame", "modality", "scanner", "report", "subset")


@dataclass
class TableMap:
    """What a map file may say.

    Attributes:
        table: the table, relative to the map: CSV, TSV or Parquet, one row per image.
        columns: the column of each role, of :data:`ROLES`.
        images: the folder that paths are relative to, relative to the map.
        modality: of rows without a column for it.
        channel: of rows without a column for it.
        time_unit: of numbers in the time column; dates and times are converted to it.
        date_format: of dates that are not written as 2024-01-31, as in ``%d.%m.%Y``.
        spatial_dims: 2 or 3.
        attributes: columns of the patients table (sex, age, site, any other) by the table's columns.
        subsets: train, val or test by the words of the subset column; by default these three words.
    """

    table: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    images: str = "."
    modality: str | None = None
    channel: str = "image"
    time_unit: str = "day"
    date_format: str | None = None
    spatial_dims: int = 2
    attributes: dict[str, str] = field(default_factory=dict)
    subsets: dict[str, str] = field(default_factory=dict)


def read_map(path: Path) -> TableMap:
    """Read a map file.

    Raises:
        InputError: it cannot be read, or says something that a map cannot say.
    """
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError("a YAML file", str(error).splitlines()[0], str(path), DOCS) from error
    if not isinstance(given, dict):
        raise InputError("a mapping such as table: visits.csv", type(given).__name__, str(path), DOCS)
    _check_words(path, given, [entry.name for entry in fields(TableMap)], "")
    try:
        loaded: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(TableMap), given))
    except OmegaConfBaseException as error:
        key = str(error.full_key or "")
        raise InputError("a value of the right type", str(error.msg).splitlines()[0], f"{path}, {key}", DOCS) from error
    _check_words(path, loaded.columns, ROLES, "columns.")
    loaded.subsets = loaded.subsets or {name: name for name in SUBSETS}
    for name, good, expected in (
        ("table", bool(loaded.table), "the name of a table"),
        ("columns", set(REQUIRED) <= set(loaded.columns), f"columns for {' and '.join(REQUIRED)}"),
        ("time_unit", loaded.time_unit in TIME_UNITS, f"one of {', '.join(TIME_UNITS)}"),
        ("spatial_dims", loaded.spatial_dims in (2, 3), "2 or 3"),
        ("subsets", set(loaded.subsets.values()) <= set(SUBSETS), f"values of {', '.join(SUBSETS)}"),
    ):
        if not good:
            raise InputError(expected, repr(getattr(loaded, name)), f"{path}, {name}", DOCS)
    assert isinstance(loaded, TableMap)
    return loaded


def _check_words(path: Path, given: Collection[Any], known: Collection[str], prefix: str) -> None:
    for word in given:
        if word not in known:
            remedy = did_you_mean(str(word), known, DOCS, prefix)
            raise InputError(f"only {', '.join(known)}", f"{prefix}{word}", str(path), remedy)
