"""A rule on privacy: nothing in tables, texts and headers tells who a patient is."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from temmed.errors import InputError
from temmed.timelines.audit import EXAMPLES, Audit, Finding, rule
from temmed.timelines.folder import META_FILE, Timeline
from temmed.timelines.privacy.inventory import MANIFEST
from temmed.timelines.privacy.scan import Left, scan
from temmed.timelines.readers.dicom import sniff
from temmed.timelines.schema import SCHEMA
from temmed.timelines.tables import write_table
from temmed.timelines.validate import image_path, table_file

#: What is looked at, spread over the folder: what an import left is in all of them, and a whole scan takes long.
_PATIENTS, _ROWS, _FILES = 40, 200, 20
#: What the scan says of dates, which order the visits, and of headers without the mark of a de-identification.
_EXPECTED = ("shifted", "missing", "added")
#: These name files, programs and machines. Ids of patients have a column of their own.
_NOT_OF_PERSONS = re.compile(r"\w+UID|ImplementationVersionName|StationName|sequence_id|path")


@rule
def identifiers(audit: Audit) -> Iterator[Finding]:
    """A sample of the folder holds nothing that de-identification would take out."""
    audit.progress("Looking for identifiers", 0, 1)
    timeline = audit.timeline
    tables = _sample(timeline)
    with tempfile.TemporaryDirectory() as scratch:
        left = _left_in_tables(timeline, tables, Path(scratch))
        if not audit.tables_only:
            left += _left_in_headers(timeline, tables["images"]["path"], Path(scratch))
    left = [
        entry
        for entry in left
        if entry.path != META_FILE and entry.action not in _EXPECTED and not _NOT_OF_PERSONS.fullmatch(entry.place)
    ]
    audit.progress("Looking for identifiers", 1, 1)
    if left:
        shown, whole = len(tables["patients"]), len(timeline.table("patients"))
        message = (
            f"there may be identifiers, found in the data of {shown:,} of {whole:,} patients: `temmed data scan` "
            "looks through everything, `temmed data deidentify` takes them out"
        )
        yield Finding("identifiers", "warning", sum(entry.count for entry in left), message, _examples(left))


def _sample(timeline: Timeline) -> dict[str, pd.DataFrame]:
    """Rows of a few patients from every table that has some."""
    patients = _spread(timeline.table("patients"), _PATIENTS)
    sequences = timeline.table("sequences")
    sequences = _spread(sequences[sequences["patient_id"].isin(patients["patient_id"])], _ROWS)
    findings = timeline.table("findings")
    findings = findings[findings["sequence_id"].isin(sequences["sequence_id"])]
    keys = {"patient_id": patients, "sequence_id": sequences, "finding_id": findings}
    tables = {"patients": patients, "sequences": sequences}
    for name in SCHEMA:
        if name not in tables:
            table = timeline.table(name)
            key = next(key for key in keys if key in table)
            tables[name] = _spread(table[table[key].isin(keys[key][key])], _ROWS)
    return tables


def _spread(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))]


def _left_in_tables(timeline: Timeline, tables: dict[str, pd.DataFrame], scratch: Path) -> list[Left]:
    folder = _folder(timeline, scratch / "tables")
    shutil.copyfile(timeline.root / META_FILE, folder / META_FILE)
    for name, rows in tables.items():
        if len(rows):
            write_table(rows, folder / table_file(timeline.root, name), name)
    return scan(folder, _in_turn, look=False).left


def _left_in_headers(timeline: Timeline, paths: pd.Series, scratch: Path) -> list[Left]:
    files = paths.dropna().drop_duplicates().to_frame()
    left = []
    for number, path in enumerate(_spread(files, _FILES)["path"]):
        file = image_path(timeline.root, path)
        if file.is_dir():
            file = min((entry for entry in file.iterdir() if entry.is_file()), default=file)
        if not file.is_file() or not sniff(file):
            continue
        folder = _folder(timeline, scratch / str(number))
        (folder / file.name).symlink_to(file.absolute())
        try:
            found = scan(folder, _in_turn, look=False).left
        except InputError:
            # A file that cannot be read has a rule of its own.
            continue
        left += [Left(path, entry.place, entry.action, entry.count) for entry in found]
    return left


def _folder(timeline: Timeline, path: Path) -> Path:
    """An empty folder that is known to be de-identified if the timeline's is: its dates were moved then."""
    path.mkdir()
    manifest = timeline.root / MANIFEST
    if manifest.is_file():
        shutil.copyfile(manifest, path / MANIFEST)
    return path


def _in_turn(label: str, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """Call a function on every item, in this process."""
    return [function(item) for item in items]


def _examples(left: list[Left]) -> tuple[str, ...]:
    """By place, most frequent first; never a value."""
    places: dict[tuple[str, str], list[Left]] = defaultdict(list)
    for entry in left:
        places[entry.place, entry.action].append(entry)
    ordered = sorted(places.values(), key=lambda entries: -sum(entry.count for entry in entries))
    return tuple(_told(entries) for entries in ordered[:EXAMPLES])


def _told(entries: list[Left]) -> str:
    files = sorted({entry.path for entry in entries})
    more = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
    count = sum(entry.count for entry in entries)
    return f"{files[0]}{more}, {entries[0].place}: {entries[0].action}, {count:,}"
