"""Tables between disk and memory: Parquet or CSV on one side, pandas frames with the schema's types on the other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from temmed.errors import InputError
from temmed.timelines.problems import Problems
from temmed.timelines.schema import SCHEMA, Column, Kind
from temmed.wording import nearest

#: Tables are looked for in this order; both at once is an error.
SUFFIXES = (".parquet", ".csv")

_ARROW: dict[Kind, pa.DataType] = {
    Kind.STRING: pa.large_string(),
    Kind.INTEGER: pa.int64(),
    Kind.FLOAT: pa.float64(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.STRINGS: pa.large_list(pa.large_string()),
    Kind.INTEGERS: pa.large_list(pa.int64()),
}
_WHOLE_PATTERN = r"^[+-]?\d+(\.0*)?$"
_NUMBER_PATTERN = r"^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$"


@dataclass(frozen=True)
class _Parsed:
    """A column in the schema's type, and which of its values could not be brought to it."""

    values: pd.Series
    bad: np.ndarray


def find_table(root: Path, name: str) -> Path | None:
    """The file of a table, or ``None`` when the folder has none.

    Raises:
        InputError: the table is there both as Parquet and as CSV.
    """
    found = [path for suffix in SUFFIXES if (path := root / f"{name}{suffix}").is_file()]
    if len(found) > 1:
        raise InputError(
            "one file per table", " and ".join(path.name for path in found), str(root), "Keep the one that is right."
        )
    return found[0] if found else None


def read_table(path: Path, name: str, problems: Problems) -> pd.DataFrame:
    """Read one table and bring its columns to the schema's types.

    Args:
        path: a ``.parquet`` or ``.csv`` file. In a CSV an empty cell is a missing value and lists are JSON.
        name: the table's name in the schema.
        problems: collects missing and unknown columns and values of the wrong type, which become missing values.

    Returns:
        All columns of the schema, then the extra ones that an open-ended table may have.

    Raises:
        InputError: the file cannot be read as a table at all.
    """
    text = path.suffix == ".csv"
    try:
        table = _read_csv(path) if text else pq.read_table(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(
            "a readable CSV table" if text else "a readable Parquet table",
            str(error).splitlines()[0],
            str(path),
            "Write the file again from its source.",
        ) from error
    return _conform(table, name, path.name, problems, text)


def conform(frame: pd.DataFrame, name: str, file: str, problems: Problems) -> pd.DataFrame:
    """Bring a frame made in memory to the schema's columns and types, like :func:`read_table` does for a file."""
    columns = {}
    for column in frame.columns:
        try:
            columns[str(column)] = pa.array(frame[column], from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            problems.add(file, str(column), "must hold one type", str(error).splitlines()[0])
            problems.unreadable[file, str(column)] = range(len(frame))
            columns[str(column)] = pa.nulls(len(frame))
    return _conform(pa.table(columns), name, file, problems, text=False)


def empty_table(name: str) -> pd.DataFrame:
    """A table with the schema's columns and no rows."""
    return _conform(pa.table({}), name, name, Problems(), text=False)


def write_table(frame: pd.DataFrame, path: Path, name: str) -> None:
    """Write one table, as Parquet or CSV by the path's suffix."""
    table = to_arrow(frame, name)
    if path.suffix == ".csv":
        arrow_csv.write_csv(_lists_as_json(table), path)
    else:
        pq.write_table(table, path)


def to_arrow(frame: pd.DataFrame, name: str) -> pa.Table:
    """A conformed frame as an Arrow table with the schema's types."""
    columns = {}
    for column in frame.columns:
        spec = SCHEMA[name].columns.get(str(column))
        columns[str(column)] = pa.array(frame[column], type=_ARROW[spec.kind] if spec else None, from_pandas=True)
    return pa.table(columns)


def in_order(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The rows sorted by these columns, rows of equal ones as they came; quick for rows that are sorted already."""
    if _ties(frame, columns) is not None:
        return frame
    return frame.sort_values(list(columns), kind="stable")


def duplicated(frame: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Which rows have the values of an earlier one in these columns; quick for rows that are sorted by them."""
    ties = _ties(frame, columns)
    return frame.duplicated(list(columns)).to_numpy() if ties is None else ties


def _ties(frame: pd.DataFrame, columns: Sequence[str]) -> np.ndarray | None:
    """Which rows have the values of the one before them, or nothing where the rows are not sorted by these columns."""
    tied = np.ones(max(len(frame) - 1, 0), bool)
    for column in columns:
        values = frame[column].array
        last, now = values[:-1], values[1:]
        # What is missing compares as false, as if it were not sorted.
        if not _true(last <= now)[tied].all():
            return None
        tied &= _true(last == now)
    return np.concatenate([np.zeros(len(frame.index[:1]), bool), tied])


def _true(values: Any) -> np.ndarray:
    return pd.Series(values).eq(True).fillna(False).to_numpy(bool)


def digest(frame: pd.DataFrame, name: str, leave_out: tuple[str, ...] = ()) -> bytes:
    """Hash a table's content, whatever the order of its rows and columns.

    Args:
        frame: a conformed table.
        name: its name in the schema.
        leave_out: columns that take no part.

    Returns:
        A 32-byte BLAKE2b digest; of the empty string for a table without rows.
    """
    result = hashlib.blake2b(digest_size=32)
    if frame.empty:
        return result.digest()
    table = to_arrow(in_order(frame, SCHEMA[name].key).drop(columns=list(leave_out)), name)
    for column in sorted(table.column_names):
        result.update(f"{column}\0".encode())
        _digest_array(table[column].combine_chunks(), result)
    return result.digest()


def _digest_array(array: pa.Array, result: hashlib.blake2b) -> None:
    kind = array.type
    result.update(len(array).to_bytes(8, "little"))
    result.update(np.packbits(_booleans(array.is_null())).tobytes())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = pc.fill_null(pc.list_value_length(array), 0).cast(pa.int64())
        result.update(lengths.to_numpy(zero_copy_only=False).tobytes())
        _digest_array(pc.list_flatten(array), result)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        filled = pc.fill_null(array, "").cast(pa.large_binary())
        result.update(pc.binary_length(filled).to_numpy(zero_copy_only=False).tobytes())
        _, offsets, characters = filled.buffers()
        bounds = np.frombuffer(offsets, np.int64)[filled.offset : filled.offset + len(filled) + 1]
        if characters is not None and len(filled):
            result.update(memoryview(characters)[bounds[0] : bounds[-1]])
    elif pa.types.is_boolean(kind):
        result.update(np.packbits(_booleans(pc.fill_null(array, False))).tobytes())
    elif pa.types.is_null(kind):
        pass
    else:
        # Adding zero turns -0.0 into 0.0.
        numbers = pc.fill_null(array.cast(pa.float64()), 0.0).to_numpy(zero_copy_only=False) + 0.0
        result.update(numbers.tobytes())


def _booleans(array: pa.Array) -> np.ndarray:
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=bool)


def _read_csv(path: Path) -> pa.Table:
    with path.open(encoding="utf-8-sig") as stream:
        header = stream.readline()
    if not header.strip():
        raise pa.ArrowInvalid("an empty file")
    read = arrow_csv.ReadOptions(encoding="utf8")
    parse = arrow_csv.ParseOptions(newlines_in_values=True)
    names = arrow_csv.open_csv(path, read_options=read, parse_options=parse).schema.names
    return arrow_csv.read_csv(
        path,
        read_options=read,
        parse_options=parse,
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _lists_as_json(table: pa.Table) -> pa.Table:
    for index, column in enumerate(table.schema):
        if pa.types.is_large_list(column.type) or pa.types.is_list(column.type):
            values = table[column.name].to_pylist()
            cells = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
            table = table.set_column(index, column.name, pa.array(cells, pa.string()))
    return table


def _conform(table: pa.Table, name: str, file: str, problems: Problems, text: bool) -> pd.DataFrame:
    schema = SCHEMA[name]
    columns: dict[str, pd.Series] = {}
    for column, spec in schema.columns.items():
        if column not in table.column_names:
            if spec.required and table.num_columns:
                problems.add(file, column, "the column must be there", f"columns {', '.join(table.column_names)}")
                problems.unreadable[file, column] = range(table.num_rows)
            columns[column] = _parse(pa.nulls(table.num_rows), spec, text).values
            continue
        array = table[column].combine_chunks()
        parsed = _parse(array, spec, text)
        rows = np.flatnonzero(parsed.bad)
        problems.add_rows(file, column, f"must be {_name(spec.kind)}", rows, array.take(pa.array(rows)).to_pylist())
        problems.unreadable.setdefault((file, column), rows.tolist())
        columns[column] = parsed.values
    for column in table.column_names:
        if column in columns:
            continue
        if schema.open_ended:
            columns[column] = _attribute(table[column].combine_chunks(), text)
        else:
            near = nearest(column, schema.columns)
            rule = f"must be one of the columns {', '.join(schema.columns)}"
            problems.add(file, column, rule, f"an unknown column{f' (did you mean {near}?)' if near else ''}")
    return pd.DataFrame(columns, index=pd.RangeIndex(table.num_rows))


def _name(kind: Kind) -> str:
    return f"{'an' if kind.value[0] in 'aeiou' else 'a'} {'number' if kind is Kind.FLOAT else kind.value}"


def _parse(array: pa.Array, spec: Column, text: bool) -> _Parsed:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    parsed = (_TEXT_PARSERS if text and not pa.types.is_null(array.type) else _PARSERS)[spec.kind](array)
    if not spec.nullable and spec.kind in (Kind.INTEGER, Kind.BOOLEAN) and not parsed.values.isna().any():
        plain = np.dtype(np.int64 if spec.kind is Kind.INTEGER else np.bool_)
        return _Parsed(parsed.values.astype(plain), parsed.bad)
    return parsed


def _nothing(array: pa.Array, dtype: str) -> _Parsed:
    """All values missing; those that were not are bad."""
    values = pd.Series([None] * len(array), dtype=dtype)
    return _Parsed(values, ~_booleans(array.is_null()))


def _good(values: pd.Series) -> _Parsed:
    return _Parsed(values, np.zeros(len(values), bool))


def _strings(array: pa.Array) -> _Parsed:
    kind = array.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        return _nothing(array, "str")
    return _good(pd.Series(array.to_pandas(), dtype="str"))


def _integers(array: pa.Array) -> _Parsed:
    if pa.types.is_integer(array.type):
        return _good(pd.Series(array.cast(pa.int64(), safe=False).to_pandas(types_mapper=_nullable)))
    if not pa.types.is_floating(array.type):
        return _nothing(array, "Int64")
    numbers = array.to_numpy(zero_copy_only=False).astype(np.float64)
    missing = np.isnan(numbers)
    with np.errstate(invalid="ignore"):
        whole = (np.abs(numbers) < 2.0**53) & (numbers == np.floor(numbers))
    values = pd.Series(np.where(whole, numbers, 0.0)).astype("Int64").mask(~whole)
    return _Parsed(values, ~whole & ~missing)


def _nullable(kind: pa.DataType) -> pd.api.extensions.ExtensionDtype | None:
    return {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}.get(kind)


def _floats(array: pa.Array) -> _Parsed:
    kind = array.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        return _nothing(array, "float64")
    return _good(pd.Series(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)))


def _booleans_or_bad(array: pa.Array) -> _Parsed:
    if not pa.types.is_boolean(array.type):
        return _nothing(array, "boolean")
    return _good(pd.Series(array.to_pandas(types_mapper=_nullable)))


def _lists(item: Callable[[pa.DataType], bool]) -> Callable[[pa.Array], _Parsed]:
    def parse(array: pa.Array) -> _Parsed:
        kind = array.type
        listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        if not listed or not (item(kind.value_type) or pa.types.is_null(kind.value_type)):
            return _nothing(array, "object")
        items = pc.list_flatten(array)
        ends = np.cumsum(pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False), dtype=np.int64)
        starts = np.concatenate([[0], ends])[:-1]
        holes = np.concatenate([[0], np.cumsum(_booleans(items.is_null()))])
        bad = holes[ends] > holes[starts]
        # By way of numpy, which is quicker, but for what would make whole numbers floats.
        values = items.to_pylist() if items.null_count else items.to_numpy(zero_copy_only=False).tolist()
        absent = _booleans(array.is_null()) | bad
        bounds = zip(starts.tolist(), ends.tolist(), absent.tolist(), strict=True)
        return _Parsed(_objects([None if no else values[start:end] for start, end, no in bounds]), bad)

    return parse


def _objects(values: list[object]) -> pd.Series:
    # Through `fromiter`, as numpy would make lists of equal length a matrix.
    return pd.Series(np.fromiter(values, dtype=object, count=len(values)), dtype="object")


def _text_integers(array: pa.Array) -> _Parsed:
    cells = pc.utf8_trim_whitespace(array)
    whole = pc.and_(pc.match_substring_regex(cells, _WHOLE_PATTERN), pc.less(pc.utf8_length(cells), 19))
    # `3.0` is how a whole number looks after a spreadsheet or a column with missing values.
    digits = pc.replace_substring_regex(pc.if_else(whole, cells, None), r"^\+|\.0*$", "")
    values = pd.Series(digits.cast(pa.int64()).to_pandas(types_mapper=_nullable))
    return _Parsed(values, _booleans(pc.and_(pc.invert(pc.fill_null(whole, True)), array.is_valid())))


def _text_floats(array: pa.Array) -> _Parsed:
    cells = _strings(array).values.str.strip()
    values = pd.to_numeric(cells, errors="coerce").astype("float64")
    return _Parsed(values, (values.isna() & cells.notna() & (cells.str.lower() != "nan")).to_numpy(bool))


def _text_booleans(array: pa.Array) -> _Parsed:
    cells = _strings(array).values.str.strip().str.lower()
    values = cells.map({"true": True, "false": False, "1": True, "0": False}).astype("boolean")
    return _Parsed(values, (values.isna() & cells.notna()).to_numpy(bool))


def _text_lists(item: type) -> Callable[[pa.Array], _Parsed]:
    def parse_cell(cell: str | None) -> list[object] | None:
        if cell is None:
            return None
        try:
            value = json.loads(cell)
        except ValueError:
            return None
        # `type(...) is`, for True is an int to isinstance.
        return value if isinstance(value, list) and all(type(entry) is item for entry in value) else None

    def parse(array: pa.Array) -> _Parsed:
        values = _objects([parse_cell(cell) for cell in array.to_pylist()])
        return _Parsed(values, values.isna().to_numpy() & ~_booleans(array.is_null()))

    return parse


def _attribute(array: pa.Array, text: bool) -> pd.Series:
    """A column the schema does not know, in a type that survives both Parquet and CSV."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if text:
        cells = _strings(array).values
        given = cells.dropna()
        if len(given) and given.str.fullmatch(_NUMBER_PATTERN).all():
            return pd.to_numeric(cells).astype("float64")
        if len(given) and given.isin(["true", "false"]).all():
            return cells.map({"true": True, "false": False}).astype("boolean")
        return cells
    if pa.types.is_boolean(kind):
        return _booleans_or_bad(array).values
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _floats(array).values
    return _strings(array.cast(pa.string())).values


_PARSERS: dict[Kind, Callable[[pa.Array], _Parsed]] = {
    Kind.STRING: _strings,
    Kind.INTEGER: _integers,
    Kind.FLOAT: _floats,
    Kind.BOOLEAN: _booleans_or_bad,
    Kind.STRINGS: _lists(lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind)),
    Kind.INTEGERS: _lists(pa.types.is_integer),
}
_TEXT_PARSERS: dict[Kind, Callable[[pa.Array], _Parsed]] = {
    Kind.STRING: _strings,
    Kind.INTEGER: _text_integers,
    Kind.FLOAT: _text_floats,
    Kind.BOOLEAN: _text_booleans,
    Kind.STRINGS: _text_lists(str),
    Kind.INTEGERS: _text_lists(int),
}


def named_rows(table: pd.DataFrame) -> Iterator[Any]:
    """The rows as named tuples. What type a field has is known to the schema, not to a type checker."""
    # Text in columns of Arrow is slow to take out one by one.
    yield from table.astype(object).itertuples(index=False)
