"""Patients that belong together, such as relatives or near-duplicates: none of a group on the other side."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path

import pandas as pd

from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.progress import Progress, silent
from temmed.timelines.recipe import DUPLICATES, Duplicates, Recipe, Together
from temmed.timelines.splits.files import recorded_basis

_COLUMNS = ("patient_id", "group")


def with_duplicates(timeline: Timeline, recipe: Recipe, progress: Progress = silent) -> Recipe:
    """The recipe with the groups that the word ``duplicates`` stands for; any other as it is.

    They are those that the written split was made from, as long as the data are the same: every image would have to
    be read to find them again.

    Args:
        timeline: the data.
        recipe: what to divide by.
        progress: told how far the search is.
    """
    if recipe.together != DUPLICATES:
        return recipe
    content = timeline.meta.fingerprint
    basis = recorded_basis(timeline.root, recipe.whole.file_name)
    if basis is not None and basis.groups is not None and basis.content == content:
        return replace(recipe, together=Duplicates(content, basis.groups))
    from temmed.timelines.duplicates import duplicate_groups

    groups = duplicate_groups(timeline, progress=progress)
    return replace(recipe, together=Duplicates(content, tuple(tuple(sorted(group)) for group in groups)))


def roots_of(together: Together | None, patients: Iterable[str]) -> pd.Series:
    """Who stands for each patient's group: its smallest id.

    Groups that share a patient are one group.

    Args:
        together: the groups; see :data:`temmed.timelines.recipe.Together`.
        patients: the ids of the folder's patients.

    Returns:
        patient → id; a patient without a group stands for themselves.

    Raises:
        InputError: the file is not such a table, or a group names a patient that the folder does not have.
    """
    parents = {patient: patient for patient in patients}

    def root(patient: str) -> str:
        while parents[patient] != patient:
            parents[patient] = parents[parents[patient]]
            patient = parents[patient]
        return patient

    where = str(together) if isinstance(together, str | PathLike) else "together"
    for group in _groups(together):
        unknown = sorted(patient for patient in group if patient not in parents)
        if unknown:
            more = f" and {len(unknown) - 1} more unknown" if len(unknown) > 1 else ""
            remedy = "Make the groups from this data, or remove the patient."
            raise InputError("patients of the timeline", f"{unknown[0]!r}{more}", where, remedy)
        first, *others = sorted(group)
        for other in others:
            low, high = sorted((root(first), root(other)))
            parents[high] = low
    return pd.Series({patient: root(patient) for patient in parents}, dtype="str")


def _groups(together: Together | None) -> list[Collection[str]]:
    """The groups as collections of patients, none of them empty."""
    if together is None:
        return []
    if isinstance(together, Duplicates):
        return list(together.groups)
    if isinstance(together, str | PathLike):
        together = _read(Path(together))
    if isinstance(together, Mapping):
        members: dict[str, list[str]] = {}
        for patient, name in together.items():
            members.setdefault(name, []).append(patient)
        return list(members.values())
    return [group for group in together if group]


def _read(path: Path) -> list[list[str]]:
    """The groups of a file. A patient may be in several rows; their groups are then one."""
    members: dict[str, list[str]] = {}
    remedy = "Write one row per patient: patient_id,group."
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            table = csv.DictReader(stream)
            missing = [column for column in _COLUMNS if column not in (table.fieldnames or ())]
            if missing:
                expected = f"columns {', '.join(_COLUMNS)}"
                raise InputError(expected, f"no {', '.join(missing)}", str(path), remedy)
            for number, row in enumerate(table, start=1):
                patient, group = (row[column] for column in _COLUMNS)
                if not patient or not group:
                    raise InputError("a patient and a group", "an empty cell", f"{path}, row {number}", remedy)
                members.setdefault(group, []).append(patient)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError("a readable CSV table", str(error), str(path), remedy) from error
    return list(members.values())
