"""Reading the CSV and TSV tables that a source brings, with messages that name file, column and row."""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from temmed.errors import InputError
from temmed.timelines.importers.plan import OLDEST, Plan
from temmed.wording import nearest

if TYPE_CHECKING:
    import pandas as pd

#: Cells that say that there is no value.
_MISSING = {"", "n/a", "na", "n-a", "nan", "null", "none", "."}
_TABS = (".tsv", ".tsv.gz", ".txt")
_REMEDY = "Correct the cell, or take the table from its source again."


def read_table(path: Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table as text.

    Args:
        path: a file in UTF-8, with tabs if it ends in ``.tsv`` or ``.txt`` and with commas otherwise; ``.gz`` is
            unpacked.
        columns: the columns it must have.

    Returns:
        All its columns, as stripped text. The index is the row's number, counted from 1 below the header; blank lines
        do not count.

    Raises:
        InputError: it is not there, cannot be read as such a table, or lacks a column.
    """
    import pandas as pd

    header, lines = _lines(path)
    _check_header(path, header, columns)
    for number, line in enumerate(lines, 1):
        if len(line) > len(header):
            raise InputError(f"{len(header)} cells", f"{len(line)}", f"{path}, row {number}", _REMEDY)
    full = [[cell.strip() for cell in line] + [""] * (len(header) - len(line)) for line in lines]
    return pd.DataFrame(full, columns=header, index=pd.RangeIndex(1, len(full) + 1), dtype="object")


@dataclass(frozen=True)
class Row:
    """One row of a source's table.

    Attributes:
        path: the table.
        number: counted from 1 below the header.
        cells: the text of each column.
    """

    path: Path
    number: int
    cells: dict[str, str]

    def text(self, column: str) -> str | None:
        """A cell's text; ``None`` where it is empty, says ``n/a``, or the table has no such column."""
        text = self.cells.get(column, "")
        return None if text.lower() in _MISSING else text

    def needed(self, column: str) -> str:
        """A cell's text.

        Raises:
            InputError: it is empty.
        """
        text = self.text(column)
        if text is None:
            raise self.wrong(column, "a value")
        return text

    def number_in(self, column: str) -> float | None:
        """A cell's number; ``None`` where there is none.

        Raises:
            InputError: it holds something else.
        """
        text = self.text(column)
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.wrong(column, "a number")
        return value

    def date_in(self, column: str, *formats: str) -> datetime | None:
        """A cell's date, with its time if it has one; ``None`` where there is none.

        Args:
            column: the column.
            formats: how dates may be written besides ISO 8601.

        Raises:
            InputError: it holds something else.
        """
        text = self.text(column)
        if text is None:
            return None
        for read in (datetime.fromisoformat, *(_reader(layout) for layout in formats)):
            try:
                # Time zones are left out: a patient's dates are written in one.
                return read(text).replace(tzinfo=None)
            except ValueError:
                continue
        raise self.wrong(column, "a date such as 2020-01-31")

    def age_in(self, column: str) -> float | None:
        """A cell's age in years, at most :data:`OLDEST`; ``90+`` is one."""
        text = self.text(column)
        if text is not None and text.endswith("+") and text[:-1].strip().isdecimal():
            return min(float(text[:-1]), OLDEST)
        years = self.number_in(column)
        return None if years is None else min(years, OLDEST)

    def wrong(self, column: str, expected: str) -> InputError:
        """The error for a cell that cannot be used."""
        found = repr(self.cells.get(column, "")) if self.cells.get(column) else "nothing"
        return InputError(expected, found, f"{self.path}, row {self.number}, {column}", _REMEDY)


def table_rows(path: Path, columns: Sequence[str] = ()) -> list[Row]:
    """The rows of a table; see :func:`read_table`."""
    frame = read_table(path, columns)
    cells = frame.to_dict("records")
    return [Row(path, number, dict(row)) for number, row in zip(frame.index.tolist(), cells, strict=True)]  # type: ignore[arg-type]


@dataclass
class LeftOut:
    """Rows of a source that are not used, counted by reason."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    first: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, row: Row, reason: str, table: str | None = None) -> None:
        """Leave a row out.

        Args:
            row: the row.
            reason: why.
            table: what to call the table, where its name says whose it is.
        """
        key = (table or row.path.name, reason)
        self.counts[key] += 1
        self.first.setdefault(key, row.number)

    def tell(self, result: Plan) -> None:
        """Note in the plan how many rows were left out, and why."""
        for key, count in self.counts.most_common():
            name, reason = key
            row = f"row {self.first[key]}"
            rows = f"{row} of {name} is" if count == 1 else f"{count:,} rows of {name} (the first: {row}) are"
            result.notes.append(f"{rows} left out: {reason}")


def find_table(files: Iterable[Path], pattern: str, source: Path) -> Path:
    """The one file whose name fits a pattern.

    Raises:
        InputError: there is none, or there are several.
    """
    found = find_tables(files, pattern)
    if len(found) != 1:
        told = ", ".join(file.name for file in found) or "none"
        remedy = "Leave the right one there." if found else "Check that SRC is the folder of the tables."
        raise InputError(f"one table {pattern}", told, str(source), remedy)
    return found[0]


def find_tables(files: Iterable[Path], *patterns: str) -> list[Path]:
    """The files whose name fits one of the patterns, capitals or not; ``.gz`` may follow."""
    names = [pattern.lower() + end for pattern in patterns for end in ("", ".gz")]
    return [file for file in files if any(fnmatch(file.name.lower(), name) for name in names)]


def header_of(path: Path) -> list[str]:
    """The columns of a table; none if it cannot be read as one."""
    try:
        return _lines(path, only_header=True)[0]
    except InputError:
        return []


def _lines(path: Path, only_header: bool = False) -> tuple[list[str], list[list[str]]]:
    name = path.name.lower()
    try:
        with (gzip.open if name.endswith(".gz") else open)(path, "rt", encoding="utf-8-sig", newline="") as stream:
            lines = (line for line in csv.reader(stream, delimiter="\t" if name.endswith(_TABS) else ",") if any(line))
            header = [cell.strip() for cell in next(lines, [])]
            return header, [] if only_header else list(lines)
    except OSError as error:
        found = error.strerror or str(error)
        raise InputError("a table", found, str(path), "Check the path, or copy the file again.") from error
    except (UnicodeDecodeError, csv.Error, EOFError, zlib.error) as error:
        raise InputError("a table in UTF-8", str(error), str(path), "Copy the file again from its source.") from error


def _check_header(path: Path, header: list[str], columns: Sequence[str]) -> None:
    if not header:
        raise InputError("a header and rows", "an empty file", str(path), "Copy the file again from its source.")
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise InputError("each column once", f"{twice[0]!r} twice", str(path), "Remove one of them.")
    for column in columns:
        if column not in header:
            near = nearest(column, header)
            remedy = f"Is {near!r} meant? Rename it." if near else "Check that it is the right table."
            told = ", ".join(header[:12]) + (", …" if len(header) > 12 else "")
            raise InputError(f"the column {column}", f"only {told}", str(path), remedy)


def _reader(layout: str) -> Callable[[str], datetime]:
    return lambda text: datetime.strptime(text, layout)


def attributes(
    rows: Sequence[Row],
    key: str,
    age: str | None = None,
    sex: str | None = None,
    columns: Sequence[str] | None = None,
    name: Callable[[str], str] = str,
) -> dict[str, dict[str, Any]]:
    """Columns of the patients table from a source's table of patients.

    Args:
        rows: its rows, of which a patient's first counts.
        key: the column of the patient's id.
        age: the column of the age in years.
        sex: the column of the sex.
        columns: further columns to keep; all by default.
        name: what to call a further column.

    Returns:
        Attributes by patient. A further column is of numbers if all its values are, but for ``site``.

    Raises:
        InputError: a row without an id, or an age that is none.
    """
    given = (rows[0].cells if rows else ()) if columns is None else columns
    # A column of that name would take the place of the pseudonym.
    kept = [column for column in given if column not in (key, age, sex) and name(column) != "patient_id"]
    numeric = {
        column
        for column in kept
        if name(column) != "site" and all(_is_number(text) for row in rows if (text := row.text(column)) is not None)
    }
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        further = {name(column): row.number_in(column) if column in numeric else row.text(column) for column in kept}
        known: dict[str, Any] = {"sex": row.text(sex)} if sex else {}
        if age:
            known["age"] = row.age_in(age)
        found.setdefault(row.needed(key), {**further, **known})
    return found


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
