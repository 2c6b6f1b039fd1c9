"""Reading small CSV files that people write by hand, with messages that say what to correct."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from temmed.errors import InputError
from temmed.timelines.problems import LISTED, Problems, ProblemsError
from temmed.wording import did_you_mean

_LAYOUT = "See docs/own-data.md for the layout."
Row = Mapping[str, str]
T = TypeVar("T")


class RowError(ValueError):
    """One cell that cannot be used.

    Args:
        column: the column at fault.
        rule: what must hold.
        found: what was there instead.
    """

    def __init__(self, column: str, rule: str, found: str) -> None:
        self.column = column
        self.rule = rule
        self.found = found
        super().__init__(f"{column}: {rule}, found {found}")


class RowsError(ProblemsError):
    """Rows of a user's file that cannot be used."""

    needs = "rows that can be used"
    advice = f"Correct them. {_LAYOUT}"


def read_rows(path: Path, columns: Sequence[str], required: Sequence[str]) -> list[dict[str, str]]:
    """Read a user's CSV file as rows of stripped text.

    Args:
        path: the file, UTF-8 with commas.
        columns: the columns it may have.
        required: the columns it must have.

    Returns:
        One mapping per row that is not blank. A cell that a short row lacks is an empty text.

    Raises:
        InputError: it cannot be read as such a file, or has other columns.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = list(csv.reader(stream, strict=True))
    except OSError as error:
        raise InputError("a CSV file", error.strerror or "nothing", str(path), "Check the path.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError("a CSV file in UTF-8", str(error), str(path), "Save it as CSV, UTF-8, again.") from error
    lines = [line for line in lines if any(cell.strip() for cell in line)]
    if not lines:
        raise InputError("a header and rows", "an empty file", str(path), _LAYOUT)
    header = [cell.strip() for cell in lines[0]]
    _check_header(path, header, columns, required)
    if len(lines) == 1:
        raise InputError("rows below the header", "none", str(path), "Add rows, or leave the file out.")
    for number, line in enumerate(lines[1:], 1):
        if len(line) > len(header):
            raise InputError(
                f"{len(header)} cells in each row",
                f"{len(line)} in row {number}",
                str(path),
                'Put text that holds a comma between quotation marks: "a, b".',
            )
    empty = dict.fromkeys(header, "")
    return [empty | dict(zip(header, (cell.strip() for cell in line), strict=False)) for line in lines[1:]]


def convert(path: Path, rows: Sequence[Row], build: Callable[[Row, int], T], problems: Problems) -> list[T]:
    """Build something from every row; rows that cannot be used are added to ``problems``.

    Args:
        path: the file the rows are from.
        rows: the rows.
        build: makes a thing from a row and its number, which counts from 1; raises :class:`RowError`.
        problems: collects what is wrong.
    """
    built = []
    for number, row in enumerate(rows, 1):
        try:
            built.append(build(row, number))
        except RowError as error:
            problems.add(path.name, error.column, error.rule, error.found, number)
    return built


def check(problems: Problems, files: Sequence[Path]) -> None:
    """Raise when there is any problem.

    Raises:
        RowsError: with the first problems listed and all of them counted.
    """
    if problems.total:
        raise RowsError(" and ".join(map(str, files)), problems.listed[:LISTED], problems.total)


def _check_header(path: Path, header: list[str], columns: Sequence[str], required: Sequence[str]) -> None:
    if len(header) == 1 and ";" in header[0]:
        raise InputError("columns separated by commas", "semicolons", str(path), "Save it with commas.")
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise InputError("each column once", f"{twice[0]!r} twice", str(path), "Remove one of them.")
    for name in header:
        if name not in columns:
            remedy = did_you_mean(name, columns, f"Remove it. {_LAYOUT}")
            raise InputError(f"only the columns {', '.join(columns)}", repr(name), str(path), remedy)
    missing = [name for name in required if name not in header]
    if missing:
        raise InputError(f"the column {missing[0]}", f"only {', '.join(header)}", str(path), _LAYOUT)
