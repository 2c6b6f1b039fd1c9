"""Splits as files: ``splits/NAME.csv`` says who is where, and ``splits/NAME.json`` how that came about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from temmed.errors import InputError
from temmed.files import atomic_write
from temmed.timelines.folder import Timeline
from temmed.timelines.recipe import DEFAULT_FRACTIONS, SUBSETS
from temmed.timelines.splits.division import COLUMNS, Basis, Split

FOLDER = "splits"
#: What sources call the subsets, in lower case.
_NAMES = {
    **{name: name for name in SUBSETS},
    **dict.fromkeys(("training",), "train"),
    **dict.fromkeys(("valid", "validate", "validation"), "val"),
    **dict.fromkeys(("testing",), "test"),
}


class EditedSplitError(InputError):
    """A split, or the sequences of its patients, changed after it was written."""


def split_file(root: Path, name: str) -> Path:
    """Where the rows of a split are."""
    return Path(root) / FOLDER / f"{name}.csv"


def save_split(split: Split, root: Path) -> Path:
    """Write a split into a timeline folder, as ``splits/NAME.csv`` with ``splits/NAME.json``.

    Returns:
        The CSV file. It is written last, so that a split whose CSV is there is whole.
    """
    path = split_file(root, split.name)
    save_about(split, root)
    atomic_write(path, split.frame.to_csv(index=False, lineterminator="\n"))
    return path


def save_about(split: Split, root: Path) -> None:
    """Write the JSON file alone."""
    about = {**split.record, **({} if split.basis is None else {"basis": split.basis.record})}
    path = split_file(root, split.name).with_suffix(".json")
    atomic_write(path, json.dumps(about, indent=2, ensure_ascii=False) + "\n")


def load_split(root: Path, name: str, timeline: Timeline) -> Split:
    """Read a written split.

    A file without its JSON (an official division, say) needs only ``subset`` and one of ``sequence_id`` and
    ``patient_id``; the subset then owns all questions of the sequence, or of all sequences of the patient.

    Raises:
        InputError: there is no such split, it was edited after it was written, it overlaps, or it names a patient or a
            sequence that the timeline does not have.
    """
    path = split_file(root, name)
    if not path.is_file():
        others = ", ".join(sorted(other.stem for other in path.parent.glob("*.csv"))) or "none"
        raise InputError(f"a split {name!r}", f"splits: {others}", str(path), "Make it with `temmed data split`.")
    frame = complete(read_split_frame(path), timeline)
    _check_known(frame, timeline, path)
    length = frame["sequence_id"].map(timeline.table("timepoints").groupby("sequence_id").size())
    frame["first_asked"] = frame["first_asked"].fillna(0).astype("int64")
    frame["last_asked"] = frame["last_asked"].fillna(length - 1).astype("int64")
    outside = (
        (frame["first_asked"] < 0) | (frame["last_asked"] >= length) | (frame["first_asked"] > frame["last_asked"])
    )
    if outside.any():
        row = frame[outside].iloc[0]
        raise InputError(
            "0 ≤ first_asked ≤ last_asked < number of time points",
            f"{row['first_asked']} … {row['last_asked']} for {row['sequence_id']}",
            f"{path}, row {int(frame.index[outside][0]) + 1}",
            "Correct the row.",
        )
    about = path.with_suffix(".json")
    recorded = read_about(about) if about.is_file() else {}
    split = _of_record(name, frame, recorded, about)
    if recorded.get("fingerprint", split.fingerprint) != split.fingerprint:
        raise EditedSplitError(
            f"the split with fingerprint {recorded['fingerprint']}",
            f"another division ({split.fingerprint})",
            str(path),
            f"The file, or the sequences of its patients, changed after it was written: remove {about.name} if that "
            "was meant. What was trained on the old one cannot be tested on the new one.",
        )
    return split


def read_split_frame(path: Path) -> pd.DataFrame:
    """A split's CSV as it stands: ids that the file leaves out are missing, and nothing is compared with the data.

    Raises:
        InputError: the file is not a table with the columns of a split, or a subset is none of the three.
    """
    try:
        frame = pd.read_csv(path, dtype="str", keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise InputError("a readable CSV table", str(error), str(path), "Write the file again.") from error
    needed = ["subset", *(["sequence_id"] if "patient_id" not in frame else [])]
    missing = [column for column in needed if column not in frame.columns]
    if missing:
        raise InputError(f"columns {', '.join(COLUMNS)}", f"no {', '.join(missing)}", str(path), "Add the columns.")
    for column in COLUMNS[:3]:
        if column not in frame:
            frame[column] = pd.Series(np.nan, index=frame.index, dtype="str")
        elif frame[column].isna().any():
            row = int(np.flatnonzero(frame[column].isna())[0]) + 1
            raise InputError(f"a {column} in each row", "an empty cell", f"{path}, row {row}", "Correct the row.")
    subsets = frame["subset"].str.strip().str.lower().map(_NAMES)
    if subsets.isna().any():
        row = int(np.flatnonzero(subsets.isna())[0])
        found = repr(frame["subset"].iloc[row])
        raise InputError(f"one of {', '.join(SUBSETS)}", found, f"{path}, row {row + 1}, subset", "Correct the row.")
    frame["subset"] = subsets.astype("str")
    for column in COLUMNS[3:]:
        given = frame[column] if column in frame else pd.Series(np.nan, index=frame.index, dtype="str")
        frame[column] = pd.to_numeric(given, errors="coerce")
        if (frame[column].isna() & given.notna()).any():
            raise InputError("whole numbers", "other text", f"{path}, {column}", "Correct the column.")
    return frame[COLUMNS]


def complete(frame: pd.DataFrame, timeline: Timeline) -> pd.DataFrame:
    """The rows of a file that names patients alone, or sequences alone, with both; the index is that of the file."""
    sequences = timeline.table("sequences")[["sequence_id", "patient_id"]]
    if len(frame) and frame["sequence_id"].isna().all():
        rows = frame.drop(columns="sequence_id").reset_index(names="row")
        joined = rows.merge(sequences, on="patient_id", how="left").set_index("row")
        imageless = joined["sequence_id"].isna() & joined["patient_id"].isin(timeline.table("patients")["patient_id"])
        frame = joined.loc[~imageless, COLUMNS]
    elif frame["patient_id"].isna().all():
        owner = sequences.drop_duplicates("sequence_id").set_index("sequence_id")["patient_id"]
        frame = frame.assign(patient_id=frame["sequence_id"].map(owner))
    return frame


def _check_known(frame: pd.DataFrame, timeline: Timeline, path: Path) -> None:
    sequences = timeline.table("sequences")
    for column, known in (("patient_id", timeline.table("patients")), ("sequence_id", sequences)):
        # What is missing is so because the other id is unknown.
        unknown = frame[~frame[column].isin(known[column]) & frame[column].notna()]
        if len(unknown):
            more = unknown[column].nunique() - 1
            raise InputError(
                f"a {column} of the timeline",
                f"{unknown[column].iloc[0]!r}" + (f" and {more} more unknown" if more else ""),
                f"{path}, row {unknown.index[0] + 1}",
                "Use the split that belongs to this data, or remove the rows.",
            )
    owner = frame["sequence_id"].map(sequences.set_index("sequence_id")["patient_id"])
    wrong = frame[frame["patient_id"] != owner]
    if len(wrong):
        raise InputError(
            f"patient {owner[frame['patient_id'] != owner].iloc[0]!r} for sequence {wrong['sequence_id'].iloc[0]!r}",
            repr(wrong["patient_id"].iloc[0]),
            f"{path}, row {wrong.index[0] + 1}",
            "Correct the row.",
        )


def read_about(path: Path) -> dict[str, Any]:
    """What a split's JSON file says.

    Raises:
        InputError: it is no JSON object.
    """
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError("a JSON object", str(error), str(path), "Remove the file or write it again.") from error
    if not isinstance(about, dict):
        raise InputError("a JSON object", type(about).__name__, str(path), "Remove the file or write it again.")
    return about


def _of_record(name: str, frame: pd.DataFrame, about: Mapping[str, Any], path: Path) -> Split:
    try:
        return Split(
            name,
            rule=str(about.get("rule", "file")),
            seed=int(about.get("seed", 0)),
            frame=frame,
            fractions=tuple(map(float, about.get("fractions", DEFAULT_FRACTIONS))),
            parameters=dict(about.get("parameters", {})),
            basis=_basis_of(about),
        )
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        expected = "rule, seed, fractions, parameters and basis of a split"
        raise InputError(expected, str(error), str(path), "Remove the file or write it again.") from error


def _basis_of(about: Mapping[str, Any]) -> Basis | None:
    return Basis(**about["basis"]) if "basis" in about else None


def recorded_basis(root: Path, name: str) -> Basis | None:
    """What a written split was made from; ``None`` where there is no such split, or no record of that.

    Raises:
        InputError: the record cannot be read.
    """
    path = split_file(root, name).with_suffix(".json")
    if not path.is_file():
        return None
    about = read_about(path)
    try:
        return _basis_of(about)
    except TypeError as error:
        raise InputError("the basis of a split", str(error), str(path), "Remove the file or write it again.") from error
