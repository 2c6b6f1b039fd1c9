"""Reading the JSON, JSON-lines and Parquet files of a source as items, with messages that name file, item and field."""

from __future__ import annotations

import csv
import json
import math
import os
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from temmed.errors import InputError
from temmed.timelines.importers._tables import Row, read_table
from temmed.timelines.importers.plan import Plan

Box = tuple[float, float, float, float]
_AGAIN = "Copy the file again from its source."
#: Fewer digits than these fit into 64 bits.
_DIGITS = 19


class _Short(reprlib.Repr):
    """Tells what a field holds without writing out a whole image."""

    def repr_bytes(self, value: bytes, level: int) -> str:
        return f"{len(value)} bytes"


_SHORT = _Short()


@dataclass(frozen=True)
class Item(Row):
    """One item of a file: like a row of a table, but its fields may hold more than text.

    Attributes:
        fields: the item as it was read.
    """

    fields: Mapping[str, Any]

    def text(self, column: str) -> str | None:
        """A field's text or number; ``None`` where there is none.

        Raises:
            InputError: it holds a list or an object.
        """
        if isinstance(self.fields.get(column), list | dict):
            raise self.wrong(column, "a text")
        return super().text(column)

    def texts(self, field: str) -> list[str]:
        """A field that holds a list of texts.

        Raises:
            InputError: it holds something else, or nothing.
        """
        found = self.fields.get(field)
        if isinstance(found, str) or not isinstance(found, Sequence) or not found:
            raise self.wrong(field, "a list of texts")
        if not all(isinstance(entry, str) for entry in found):
            raise self.wrong(field, "a list of texts")
        return list(found)

    def index(self, field: str, length: int) -> int:
        """A field that counts entries of something with ``length`` of them, from 0.

        Raises:
            InputError: it is no such number.
        """
        number = self.number_in(field)
        if number is None or number != int(number) or not 0 <= number < length:
            raise self.wrong(field, f"a whole number from 0 to {length - 1}")
        return int(number)


def read_items(path: Path, fields: Sequence[str] = ()) -> list[Item]:
    """Read a file of items.

    Args:
        path: ``.json`` (a list of objects), ``.jsonl``, ``.parquet``, or a table as in
            :func:`~temmed.timelines.importers._tables.read_table`.
        fields: the fields that every item must have; they may be empty.

    Raises:
        InputError: it is not there, is no such file, or an item lacks a field.
    """
    suffix = path.suffix.lower()
    readers = {".json": _read_list, ".jsonl": _read_lines, ".parquet": _read_parquet}
    found = readers[suffix](path) if suffix in readers else read_table(path, fields).to_dict("records")
    items = []
    for number, entry in enumerate(found, 1):
        if not isinstance(entry, Mapping):
            raise InputError("an object with fields", f"{entry!r:.40}", f"{path}, row {number}", _AGAIN)
        missing = [field for field in fields if field not in entry]
        if missing:
            told = ", ".join(map(str, entry))
            raise InputError(f"the field {missing[0]}", f"only {told}", f"{path}, row {number}", _AGAIN)
        cells = {str(key): _as_text(value) for key, value in entry.items()}
        items.append(Item(path, number, cells, {str(key): value for key, value in entry.items()}))
    return items


def box_of(item: Row, field: str, value: Any) -> Box | None:
    """A box from a list of four numbers, the text of one, or a mapping with ``x1, y1, x2, y2``.

    Args:
        item: where it is from, for the message.
        field: the field it is from.
        value: what the field holds, or one entry of it.

    Returns:
        The box; ``None`` if it has no width or no height.

    Raises:
        InputError: it is not four finite numbers.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if isinstance(value, Mapping):
        value = [value.get(name) for name in ("x1", "y1", "x2", "y2")]
    numbers = value if isinstance(value, Sequence) and len(value) == 4 else ()
    if not numbers or not all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers):
        raise item.wrong(field, "a box of four numbers x1, y1, x2, y2")
    x1, y1, x2, y2 = map(float, numbers)
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def note_flat_boxes(result: Plan, rows: Sequence[Row]) -> None:
    """Note in the plan in which rows a box had no area, so that it was left out."""
    if rows:
        result.notes.append(
            f"{len(rows):,} boxes have no area and are left out; the first is in row {rows[0].number} of "
            f"{rows[0].path.name}"
        )


def find_image(path: str, *roots: Path) -> Path:
    """Where an image lies that a source names by a path of its own machine.

    Args:
        path: as the source writes it; folders at its front that are not below a root are left out.
        roots: the folders of images to look in, in their order.

    Returns:
        The longest end of the path that is a file below a root; if there is none, the whole path below the first.
    """
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    # Unlike the method of a path, this takes names that no disk could hold for absent.
    ends = (root.joinpath(*parts[start:]) for root in roots for start in range(len(parts)))
    return next((file for file in ends if os.path.isfile(file)), roots[0].joinpath(*parts))


def scan_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a large CSV table one after the other, with these columns alone.

    Raises:
        InputError: it cannot be read, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = [column for column in columns if column not in (reader.fieldnames or [])]
            if missing:
                told = ", ".join(reader.fieldnames or []) or "an empty file"
                raise InputError(f"the column {missing[0]}", f"only {told}", str(path), _AGAIN)
            for number, row in enumerate(reader, 1):
                yield Row(path, number, {column: (row[column] or "").strip() for column in columns})
    except OSError as error:
        raise InputError("a table", error.strerror or str(error), str(path), "Check the path.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError("a table in UTF-8", str(error), str(path), _AGAIN) from error


def file_in(source: Path, *names: str) -> Path | None:
    """The first of these files that is there: ``source`` itself, or one in it."""
    if source.is_file():
        return source if source.name in names else None
    return next((source / name for name in names if (source / name).is_file()), None)


def needed_file(source: Path, *names: str) -> Path:
    """The first of these files that is there.

    Raises:
        InputError: there is none.
    """
    found = file_in(source, *names)
    if found is None:
        raise InputError(f"the file {' or '.join(names)}", "none", str(source), "Check that SRC is the right folder.")
    return found


def check_images(result: Plan, root: Path) -> None:
    """Refuse a plan none of whose images is there: the folder of images is most likely a wrong one.

    Raises:
        InputError: there are sequences, and none has an image.
    """
    if result.sequences and not any(sequence.pictures for sequence in result.sequences):
        raise InputError(
            "the image files that the tables name",
            "none of them",
            str(root),
            "Give the folder that holds them with --images.",
        )


def check_used(result: Plan, path: Path, what: str) -> None:
    """Refuse a plan without sequences, saying why nothing could be used.

    Raises:
        InputError: there is no sequence.
    """
    if not result.sequences:
        told = "; ".join(result.notes[:3]) or "no rows"
        raise InputError(f"at least one {what} that can be used", f"none ({told})", str(path), "Check the files.")


def _as_text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return value.strip() if isinstance(value, str) else _SHORT.repr(value)


def _open(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError("a file of items", error.strerror or str(error), str(path), "Check the path.") from error
    except UnicodeDecodeError as error:
        raise InputError("a file in UTF-8", str(error), str(path), _AGAIN) from error


def read_json(path: Path) -> Any:
    """What a JSON file holds. Whole numbers that need more than 64 bits become floats.

    Raises:
        InputError: it cannot be read, or holds text that is none.
    """
    return _parsed(_open(path), "a JSON file", str(path))


def _parsed(text: str, expected: str, where: str) -> Any:
    try:
        found = json.loads(text, parse_int=_whole)
        # Half of a character pair passes as text until it is to be written.
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise InputError(expected, str(error), where, _AGAIN) from error
    return found


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) < _DIGITS else float(digits)


def _read_list(path: Path) -> list[Any]:
    found = read_json(path)
    if not isinstance(found, list):
        raise InputError("a list of items", type(found).__name__, str(path), "Check that it is the right file.")
    return found


def _read_lines(path: Path) -> list[Any]:
    return [
        _parsed(line, "one JSON object a line", f"{path}, line {number}")
        for number, line in enumerate(_open(path).split("\n"), 1)
        if line.strip()
    ]


def _read_parquet(path: Path) -> list[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        found = str(error).split("\n")[0]
        raise InputError("a Parquet file", found, str(path), _AGAIN) from error
