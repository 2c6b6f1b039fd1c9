"""Tables without identifiers: CSV, TSV and Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from temmed.errors import InputError
from temmed.timelines.privacy import dates
from temmed.timelines.privacy.cells import CellCleaner
from temmed.timelines.privacy.columns import Kind, kinds_of
from temmed.timelines.privacy.dates import Order
from temmed.timelines.privacy.text_files import read_text, write_text

if TYPE_CHECKING:
    import pyarrow as pa

#: Kinds of numbers that are not left as they are.
_NUMBERS: tuple[Kind, ...] = ("patient", "record", "birth", "remove", "age", "date", "key")
_ODD_COLUMN = "Write what it holds to files or to columns of text, or leave the table out with --exclude."
_OWNING: tuple[Kind, ...] = ("patient", "record", "key")


def read_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a CSV or TSV file, packed or not.

    Raises:
        InputError: it is no such file.
    """
    text = read_text(path)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(path, text), strict=True))
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
    kinds = kinds_of(tuple(header))
    orders = [order or column_order(row[index] for row in rows if index < len(row)) for index in range(len(header))]
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=_delimiter(source, read_text(source)), lineterminator="\n")
    writer.writerow([cleaner.clean_key(name, whose) for name in header])
    for row in rows:
        owner = cleaner.owner_of(dict(zip(header, row, strict=False))) or whose
        writer.writerow(
            cleaner.clean(name, cell, owner, own, kind)
            for name, cell, own, kind in zip(header, row, orders, kinds, strict=False)
        )
    write_text(target, out.getvalue())


def _delimiter(path: Path, text: str) -> str:
    """What parts the cells: a tab in a TSV, else what the first line has most of."""
    if ".tsv" in path.name.lower():
        return "\t"
    return max(",;\t|", key=text.partition("\n")[0].count)


def column_order(cells: Iterable[str]) -> Order | None:
    """Whether a column writes the day or the month first, if its dates tell."""
    told = {found.order for cell in cells if (found := dates.parse(cell)) is not None and found.order is not None}
    return told.pop() if len(told) == 1 else None


def clean_parquet(source: Path, target: Path, cleaner: CellCleaner, order: Order | None) -> None:
    """Clean a Parquet file; measured numbers keep their type.

    Raises:
        InputError: the file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = read_parquet(source)
    kinds = kinds_of(tuple(table.column_names))
    owners = list(_owners(table, kinds, cleaner))
    columns: dict[str, pa.Array] = {}
    for name, kind in zip(table.column_names, kinds, strict=True):
        held = table.schema.field(name).type
        inner = held.value_type if pa.types.is_list(held) or pa.types.is_large_list(held) else held
        if pa.types.is_nested(inner) or pa.types.is_binary(inner) or pa.types.is_large_binary(inner):
            raise InputError("columns of numbers, text and lists of these", str(held), f"{source}, {name}", _ODD_COLUMN)
        number = pa.types.is_integer(held) or pa.types.is_floating(held)
        if pa.types.is_boolean(held) or (number and kind not in _NUMBERS):
            columns[cleaner.clean_key(name, None)] = table[name]
            continue
        values = table[name].to_pylist()
        own = order or column_order(value for value in values if isinstance(value, str))
        cleaned = [
            _clean_value(cleaner, name, value, owner, own, kind) for value, owner in zip(values, owners, strict=True)
        ]
        columns[cleaner.clean_key(name, None)] = _column(cleaned, values, held)
    # The schema's metadata may hold anything, and pandas repeats the columns there.
    pq.write_table(pa.table(columns), target)


def read_parquet(path: Path) -> pa.Table:
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


def _owners(table: pa.Table, kinds: tuple[Kind, ...], cleaner: CellCleaner) -> Iterator[str | None]:
    """The patient of each row."""
    names = [name for name, kind in zip(table.column_names, kinds, strict=True) if kind in _OWNING]
    for row in zip(*(table[name].to_pylist() for name in names), strict=True) if names else [()] * table.num_rows:
        yield cleaner.owner_of({name: _text(value) for name, value in zip(names, row, strict=True)})


def _clean_value(
    cleaner: CellCleaner, name: str, value: Any, owner: str | None, order: Order | None, kind: Kind
) -> Any:
    if isinstance(value, list):
        return [_clean_value(cleaner, name, part, owner, order, kind) for part in value]
    if value is None or isinstance(value, bool) or (isinstance(value, (int, float)) and kind not in _NUMBERS):
        return value
    text = _text(value)
    cleaned = cleaner.clean(name, text, owner, order, kind)
    return value if cleaned == text else cleaned


def _text(value: Any) -> str:
    """A value as a table of text has it: ids that pandas made into floats without their point."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value)


def _column(cleaned: list[Any], before: list[Any], held: pa.DataType) -> pa.Array:
    """Cleaned values in the type that they had, or as text where that does not hold them."""
    import pyarrow as pa

    if cleaned == before or pa.types.is_nested(held):
        return pa.array(cleaned, held)
    texts = pa.array([None if value is None else _text(value) for value in cleaned], pa.large_string())
    if pa.types.is_string(held) or pa.types.is_large_string(held):
        return texts
    try:
        return pa.array([text or None for text in texts.to_pylist()], pa.large_string()).cast(held)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return texts
