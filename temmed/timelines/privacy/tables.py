"""Tables and JSON files without identifiers: CSV, TSV, Parquet, JSON, JSON lines."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temmed.errors import InputError
from temmed.timelines.privacy import dates
from temmed.timelines.privacy.columns import Kind, kind_of
from temmed.timelines.privacy.dates import Order
from temmed.timelines.privacy.dicom_profile import action_of
from temmed.timelines.privacy.paths import Names
from temmed.timelines.privacy.stand_ins import moved
from temmed.timelines.privacy.text import Scrubber

Counts = Counter[tuple[str, str]]
#: Cells that say that there is nothing.
MISSING = frozenset(("", "n/a", "na", "nan", "none", "null", "x"))
_PLAIN = re.compile(r"[-+]?\d{0,6}(?:\.\d+)?(?:[eE][-+]?\d+)?")
#: Terms of use, hashes, and what an earlier de-identification said of itself are carried over as they are.
_CARRIED = ("licence", "license", "consent", "deidentification", "digests", "fingerprint", "source_fingerprint")
_OLDEST = 90
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass
class CellCleaner:
    """Cleans cells and counts what it did.

    Attributes:
        scrubber: cleans text.
        names: cleans paths.
        owners: the patient of every id of a sequence, study or report that a table gives.
        counts: (column, action); never a value.
    """

    scrubber: Scrubber
    names: Names
    owners: Mapping[str, str]
    counts: Counts = field(default_factory=Counter)

    def clean(self, column: str, value: str, owner: str | None, order: Order | None = None) -> str:
        """Clean one cell.

        Args:
            column: its column's name.
            value: its text.
            owner: the patient of its row.
            order: of day and month in this column.
        """
        if value.strip().lower() in MISSING:
            return value
        kind = kind_of(column)
        cleaned, action = self._by_kind(kind, value, owner, order)
        if cleaned != value:
            self.counts[column, action] += 1
        return cleaned

    def _by_kind(self, kind: Kind, value: str, owner: str | None, order: Order | None) -> tuple[str, str]:
        stand_ins = self.scrubber.stand_ins
        if kind == "patient":
            return patient_stand_in(value, stand_ins.patient), "pseudonym"
        if kind in ("remove", "birth"):
            return "", "removed"
        if kind == "record":
            return self._record(value), "stand-in"
        if kind == "key":
            return self.names.path(value, owner), "stand-in"
        if kind == "path":
            return self.names.path(value, owner), "renamed"
        if kind == "age":
            return _capped(value), "capped"
        if _PLAIN.fullmatch(value.strip()):
            # A number, unless it is a patient's in a column that does not say so.
            whole = (span for span in self.scrubber.known.find(value, owner) if span.end - span.start == len(value))
            return next((span.replacement for span in whole), value), "stand-in"
        found = dates.parse(value, order)
        if found is not None:
            return self._date(value, found, owner)
        scrubbed = self.scrubber.scrub(value, owner, strange=" " in value.strip())
        return scrubbed.text, "shifted" if set(scrubbed.counts) == {"shifted date"} else "cleaned"

    def _record(self, value: str) -> str:
        known = list(self.scrubber.known.find(value))
        if any(span.end - span.start == len(value) and span.replacement[0] != "[" for span in known):
            return next(span.replacement for span in known if span.end - span.start == len(value))
        text = self.scrubber.scrub(value, None, strange=False).text
        return text if text.startswith("2.25.") else self.scrubber.stand_ins.other(value)

    def _date(self, value: str, found: dates.Found, owner: str | None) -> tuple[str, str]:
        if found.day is None or owner is None or found.day in self.scrubber.known.births.get(owner, ()):
            return "", "removed"
        day = moved(found.day, self.scrubber.stand_ins.days(owner))
        if day is None:
            return "", "removed"
        return found.written(day) + value.strip()[found.end :], "shifted"

    def owner_of(self, row: Mapping[str, str]) -> str | None:
        """The patient of a row: by its own column, else by another id that a table links to a patient."""
        for name, value in row.items():
            if kind_of(name) == "patient" and value and value.strip().lower() not in MISSING:
                return patient_id(value)
        return next((self.owners[value] for value in row.values() if value in self.owners), None)


def patient_id(value: str) -> str:
    """A patient's id without the prefix that BIDS gives it."""
    return value.strip().removeprefix("sub-")


def patient_stand_in(value: str, pseudonym: Callable[[str], str]) -> str:
    """The pseudonym of an id, with the prefix that BIDS gives it where it had one."""
    prefix = "sub-" if value.strip().startswith("sub-") else ""
    return prefix + pseudonym(patient_id(value))


def read_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a CSV or TSV file, packed or not.

    Raises:
        InputError: it is no such file.
    """
    delimiter = _DELIMITERS[path.name.lower().removesuffix(".gz")[-4:]]
    text = read_text(path)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise InputError("a readable table", str(error), str(path), "Correct it, or leave it out.") from error
    header = rows[0] if rows else []
    broken = next((number for number, row in enumerate(rows[1:], 1) if len(row) > len(header)), None)
    if broken is not None:
        raise InputError(
            f"{len(header)} cells in each row",
            f"{len(rows[broken])} in row {broken}",
            str(path),
            "Put cells that hold a separator between quotation marks.",
        )
    return header, rows[1:]


def clean_rows(source: Path, target: Path, cleaner: CellCleaner, order: Order | None, whose: str | None = None) -> None:
    """Clean a CSV or TSV file; rows that name no patient are those of ``whose``."""
    header, rows = read_rows(source)
    orders = [order or column_order(row[index] for row in rows if index < len(row)) for index in range(len(header))]
    out = io.StringIO(newline="")
    delimiter = _DELIMITERS[source.name.lower().removesuffix(".gz")[-4:]]
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    writer.writerow([cleaner.scrubber.scrub(name, None, strange=False).text for name in header])
    for row in rows:
        owner = cleaner.owner_of(dict(zip(header, row, strict=False))) or whose
        writer.writerow(
            cleaner.clean(name, cell, owner, own) for name, cell, own in zip(header, row, orders, strict=False)
        )
    write_text(target, out.getvalue())


def column_order(cells: Iterator[str] | Sequence[str]) -> Order | None:
    """Whether a column writes the day or the month first, if its dates tell."""
    told = {found.order for cell in cells if (found := dates.parse(cell)) is not None and found.order is not None}
    ambiguous = {"dmy", "mdy"} <= told
    return None if ambiguous or not told else told.pop()


def clean_parquet(source: Path, target: Path, cleaner: CellCleaner, order: Order | None) -> None:
    """Clean a Parquet file; columns of numbers stay as they are but for ids and ages.

    Raises:
        InputError: the file cannot be read.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = read_parquet(source)
    owners = [cleaner.owner_of(row) for row in parquet_rows(table)]
    columns: dict[str, pa.Array] = {}
    for name in table.column_names:
        values = table[name].to_pylist()
        kind = table.schema.field(name).type
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if number and kind_of(name) not in ("patient", "record", "birth", "remove", "age"):
            columns[name] = table[name]
            continue
        own = order or column_order([value for value in values if isinstance(value, str)])
        cleaned = [_clean_value(cleaner, name, value, owner, own) for value, owner in zip(values, owners, strict=True)]
        if number and kind_of(name) == "age":
            columns[name] = pa.array([None if value is None else float(value) for value in cleaned], pa.float64())
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            columns[name] = pa.array(cleaned, kind)
        elif pa.types.is_boolean(kind):
            columns[name] = table[name]
        else:
            columns[name] = pa.array([None if pd.isna(value) else str(value) for value in cleaned], pa.large_string())
    # The schema's metadata may hold anything, and pandas repeats the columns there.
    pq.write_table(pa.table(columns), target)


def read_parquet(path: Path) -> Any:
    """A Parquet file as a table of Arrow.

    Raises:
        InputError: the file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError("a readable Parquet table", str(error), str(path), "Write it again.") from error


def parquet_rows(table: Any) -> Iterator[dict[str, str]]:
    """The rows of a table of Arrow, with their ids as text."""
    names = [name for name in table.column_names if kind_of(name) in ("patient", "record", "key")]
    for row in zip(*(table[name].to_pylist() for name in names), strict=True) if names else [()] * table.num_rows:
        yield {name: "" if value is None else str(value) for name, value in zip(names, row, strict=True)}


def _clean_value(cleaner: CellCleaner, name: str, value: Any, owner: str | None, order: Order | None) -> Any:
    if isinstance(value, list):
        return [_clean_value(cleaner, name, part, owner, order) for part in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and kind_of(name) == "text":
        return value
    return cleaner.clean(name, str(value), owner, order)


def clean_json(value: Any, cleaner: CellCleaner, owner: str | None, key: str = "") -> Any:
    """Clean what a JSON file holds; a key that is an attribute of DICOM is treated as the profile says."""
    if key.lower() in _CARRIED:
        return value
    if isinstance(value, dict):
        own = (
            cleaner.owner_of({name: str(cell) for name, cell in value.items() if isinstance(cell, (str, int))}) or owner
        )
        return {
            cleaner.names.path(name, own) if name in cleaner.owners else name: clean_json(cell, cleaner, own, name)
            for name, cell in value.items()
        }
    if isinstance(value, list):
        return [clean_json(part, cleaner, owner, key) for part in value]
    if (
        isinstance(value, bool)
        or value is None
        or (isinstance(value, (int, float)) and kind_of(key) not in ("patient", "record", "birth", "age"))
    ):
        return value
    if kind_of(key) == "text" and _profile_removes(key):
        cleaner.counts[key, "removed"] += 1
        return ""
    cleaned = cleaner.clean(key, str(value), owner)
    return type(value)(float(cleaned)) if isinstance(value, (int, float)) and kind_of(key) == "age" else cleaned


def _profile_removes(key: str) -> bool:
    """Whether a key is a DICOM attribute that the profile takes out and that is no date, description or unique id."""
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    tag = tag_for_keyword(key)
    if tag is None or action_of(tag) is None or dictionary_VR(tag) in ("DA", "DT", "TM", "UI", "AS"):
        return False
    return not key.endswith(("Description", "ProtocolName", "Sex", "Size", "Weight"))


def read_text(path: Path) -> str:
    """A text file in UTF-8, else in the encoding of older Windows programs; packed or not.

    Raises:
        InputError: it holds zero bytes, or its packing is damaged.
    """
    try:
        content = path.read_bytes()
        if path.name.lower().endswith(".gz"):
            content = gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise InputError("a readable file", str(error), str(path), "Copy it again, or leave it out.") from error
    if b"\0" in content:
        raise InputError("text", "bytes that are no text", str(path), "Save it as UTF-8, or leave it out.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def write_text(target: Path, text: str) -> None:
    """Write a text file, packed if its name says so; the packed form names nothing."""
    content = text.encode()
    target.write_bytes(gzip.compress(content, mtime=0) if target.name.lower().endswith(".gz") else content)


def _capped(value: str) -> str:
    try:
        age = float(value.strip().rstrip("Yy+"))
    except ValueError:
        return value
    return str(_OLDEST) if age > _OLDEST else value


def load_json(path: Path) -> Any:
    """What a JSON file holds, or the list of what the lines of a ``.jsonl`` file hold.

    Raises:
        InputError: it is no JSON.
    """
    text = read_text(path)
    try:
        if ".jsonl" in path.name.lower():
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError("a JSON file", str(error), str(path), "Correct it, or leave it out.") from error
