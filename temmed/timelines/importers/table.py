"""Any table with one row per image, and a small YAML file that says which column is what."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from temmed.errors import InputError
from temmed.timelines.importers._csv import check
from temmed.timelines.importers._items import check_images
from temmed.timelines.importers._map import DOCS, TableMap, read_map
from temmed.timelines.importers._splits import add_split
from temmed.timelines.importers.plan import (
    LENGTHS,
    OLDEST,
    Mapper,
    Options,
    Picture,
    Plan,
    PlannedSequence,
    numbered,
    pseudonym,
    slug,
)
from temmed.timelines.importers.registry import Importer
from temmed.timelines.importers.studies import Place, add_report
from temmed.timelines.problems import Problems
from temmed.timelines.tables import named_rows

if TYPE_CHECKING:
    import pandas as pd

_LABEL_DIGITS = 9
#: Beginning of the names of the columns that go into the patients table.
_ATTRIBUTE = "attribute "


def plan(source: Path, options: Options, run: Mapper) -> Plan:
    """Find the sequences of a table.

    Rows of one patient, modality and, if there is such a column, sequence are a sequence; rows of equal time are a
    time point. Rows without a path are visits without an image.

    Args:
        source: the map, a YAML file; see :class:`temmed.timelines.importers._map.TableMap`.
        options: what the user asked for.
        run: of no use here.

    Raises:
        InputError: the map or the table cannot be used; broken rows are told together.
    """
    if source.is_dir():
        raise InputError("a YAML file that maps a table's columns", "a folder", str(source), DOCS)
    mapping = read_map(source)
    file = source.parent / mapping.table
    table = _read(file, mapping)
    images = options.images or source.parent / mapping.images
    table = _conform(table, file, mapping, options)
    result = Plan()
    written = result.choose(table["patient"], options)
    table = table[table["patient"].isin(written)]
    _plan_patients(table, written, mapping, file, result)
    absent: list[Path] = []
    groups: dict[tuple[str, str, str], list[Any]] = defaultdict(list)
    for row in named_rows(table[[column for column in table if not str(column).startswith(_ATTRIBUTE)]]):
        groups[row.patient, row.modality, row.sequence].append(row)
    for (patient, modality, name), rows in groups.items():
        visits = _visits(rows)
        sequence = _sequence(visits, written[patient], modality, name, mapping, options)
        sequence.pictures = _pictures(visits, images, absent)
        result.sequences.append(sequence)
        _add_reports(visits, sequence, result)
    if absent:
        result.skip_absent(absent)
        check_images(result, images)
    _plan_split(table, mapping, file, result)
    return result


def _read(file: Path, mapping: TableMap) -> pd.DataFrame:
    """The columns that the map names, as text under the names of their roles; missing values are empty."""
    import pandas as pd

    wanted = {**mapping.columns, **{f"{_ATTRIBUTE}{name}": column for name, column in mapping.attributes.items()}}
    try:
        if file.suffix == ".parquet":
            import pyarrow.parquet

            names = pyarrow.parquet.read_schema(file).names
            table = pd.read_parquet(file, columns=[name for name in names if name in set(wanted.values())])
        else:
            separator = "\t" if ".tsv" in file.suffixes else ","
            table = pd.read_csv(file, sep=separator, dtype="str", keep_default_na=False, encoding="utf-8-sig")
            names = list(table.columns)
    except (OSError, ValueError, NotImplementedError) as error:
        # The last one comes of columns that are not of the type that the Parquet file says.
        raise InputError("a CSV, TSV or Parquet table", str(error).splitlines()[0], str(file), DOCS) from error
    if not isinstance(table.index, pd.RangeIndex):
        raise InputError("as many cells in each row as in the header", "more", str(file), DOCS)
    for role, column in wanted.items():
        if column not in names:
            raise InputError(f"the column {column!r} ({role})", f"columns {', '.join(names)}", str(file), DOCS)
    if table.empty:
        raise InputError("rows below the header", "none", str(file), "Add rows.")
    return pd.DataFrame({role: _text(table[column]) for role, column in wanted.items()})


def _text(column: pd.Series) -> pd.Series:
    """Stripped text; whole numbers of a Parquet file without a decimal point, dates as ISO writes them."""
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(column):
        column = column.map(lambda date: "" if pd.isna(date) else date.isoformat())
    elif pd.api.types.is_float_dtype(column):
        column = column.map(lambda number: "" if pd.isna(number) else f"{number:.15g}")
    return column.astype("str").where(column.notna(), "").str.strip()


def _conform(table: pd.DataFrame, file: Path, mapping: TableMap, options: Options) -> pd.DataFrame:
    """Check the columns; add ``moment``, the time as a number or a date, and defaults for those that are not there."""
    import pandas as pd

    problems = Problems()

    def refuse(role: str, rule: str, broken: pd.Series) -> None:
        values = table.loc[broken, role]
        problems.add_rows(file.name, mapping.columns[role], rule, values.index, values)

    refuse("patient", "must not be empty", table["patient"] == "")
    numbers = pd.to_numeric(table["time"], errors="coerce")
    dated = numbers.isna().any() and mapping.time_unit in LENGTHS
    if dated:
        form = mapping.date_format or "ISO8601"
        try:
            dates = pd.to_datetime(table["time"], format=form, errors="coerce", utc=True).dt.tz_localize(None)
        except ValueError as error:
            raise InputError("a date_format such as %d.%m.%Y", repr(form), str(file), DOCS) from error
        refuse("time", f"must be a date ({mapping.date_format or 'such as 2024-01-31'})", dates.isna())
    else:
        dates = None
        refuse("time", f"must be a number of {mapping.time_unit}s", numbers.isna() | numbers.abs().eq(float("inf")))
    if "frame" in table:
        refuse("frame", "must be a whole number from 0", ~table["frame"].str.fullmatch(r"\d{0,9}"))
    if "subset" in table:
        rule = f"must be empty or one of {', '.join(mapping.subsets)}"
        refuse("subset", rule, ~table["subset"].isin({*mapping.subsets, ""}))
    check(problems, [file])
    if "modality" not in table and not (options.modality or mapping.modality):
        raise InputError("a modality", "none", str(file), "Write modality: NAME into the map, or give --modality.")
    defaults = {"modality": mapping.modality, "channel": mapping.channel, "sequence": "", "path": "", "frame": ""}
    table = table.assign(**{role: value for role, value in defaults.items() if role not in table})
    table["channel"] = table["channel"].where(table["channel"] != "", mapping.channel)
    if options.modality:
        table["modality"] = options.modality
    if (table["modality"].fillna("") == "").any():
        raise InputError("a modality in every row", "rows without one", str(file), "Fill the column in.")
    return table.assign(moment=numbers.astype("float64") if dates is None else dates)


def _plan_patients(table: pd.DataFrame, written: dict[str, str], mapping: TableMap, file: Path, result: Plan) -> None:
    """Rows of the patients table: the first value of each attribute; others are noted."""
    import pandas as pd

    attributes = {name: f"{_ATTRIBUTE}{name}" for name in mapping.attributes}
    problems = Problems()
    if "age" in attributes:
        ages = table[attributes["age"]]
        broken = pd.to_numeric(ages, errors="coerce").isna() & (ages != "")
        problems.add_rows(file.name, mapping.attributes["age"], "must be a number", ages[broken].index, ages[broken])
    check(problems, [file])
    varied: Counter[str] = Counter()
    for patient, rows in table.groupby("patient", sort=False):
        row: dict[str, Any] = {"patient_id": written[str(patient)]}
        for name, column in attributes.items():
            values = [value for value in rows[column].unique() if value != ""]
            varied[name] += len(values) > 1
            value = values[0] if values else None
            row[name] = min(float(value), OLDEST) if name == "age" and value is not None else value
        result.patients.append(row)
    result.notes += [
        f"{count:,} patients have several values of {name}: the first is taken"
        for name, count in varied.items()
        if count
    ]


def _visits(rows: list[Any]) -> list[list[Any]]:
    """The rows of a sequence by their time."""
    by_moment: dict[Any, list[Any]] = defaultdict(list)
    for row in rows:
        by_moment[row.moment].append(row)
    return [by_moment[moment] for moment in sorted(by_moment)]


def _sequence(
    visits: list[list[Any]], patient: str, modality: str, name: str, mapping: TableMap, options: Options
) -> PlannedSequence:
    moments = [rows[0].moment for rows in visits]
    first = moments[0]
    dated = not isinstance(first, float)
    if mapping.time_unit == "ordinal":
        times = [float(rank) for rank in range(len(moments))]
    elif dated:
        times = [(moment - first) / LENGTHS[mapping.time_unit] for moment in moments]
    else:
        times = [moment - first for moment in moments]
    sequence_id = f"{patient}_{slug(modality)}"
    if name:
        label = name if options.keep_ids else pseudonym(name, options.key)[1:_LABEL_DIGITS]
        sequence_id += f"_{label}"
    scanners = [row.scanner for rows in visits for row in rows if getattr(row, "scanner", "")]
    return PlannedSequence(
        sequence_id=sequence_id,
        patient_id=patient,
        modality=modality,
        time_unit=mapping.time_unit,
        spatial_dims=mapping.spatial_dims,
        times=times,
        pictures=[],
        timing=f"the column {mapping.columns['time']}",
        scanner=scanners[0] if scanners else None,
        clock_offset=None if dated or mapping.time_unit == "ordinal" else first,
        start=first.to_pydatetime() if dated and mapping.time_unit in ("day", "week") else None,
    )


def _pictures(visits: list[list[Any]], images: Path, absent: list[Path]) -> list[Picture]:
    """The images of a sequence by position, with distinct channels at each; files that are not there are noted."""
    pictures = []
    for position, rows in enumerate(visits):
        found = []
        for row in rows:
            file = images / row.path
            if row.path and os.path.exists(file):
                found.append((file, row))
            elif row.path:
                absent.append(file)
        channels = numbered([slug(row.channel) for _, row in found])
        pictures += [
            Picture(position, channel, (file,), int(row.frame) if row.frame else None)
            for channel, (file, row) in zip(channels, found, strict=True)
        ]
    return pictures


def _add_reports(visits: list[list[Any]], sequence: PlannedSequence, result: Plan) -> None:
    for position, rows in enumerate(visits):
        texts = dict.fromkeys(row.report for row in rows if getattr(row, "report", ""))
        for number, text in enumerate(texts, 1):
            add_report(result, Place(sequence, position), text, number)


def _plan_split(table: pd.DataFrame, mapping: TableMap, file: Path, result: Plan) -> None:
    """The source's own split, which may put nobody into two subsets."""
    if "subset" not in table:
        return
    subsets = table[table["subset"] != ""].assign(subset=lambda rows: rows["subset"].map(mapping.subsets))
    shared = subsets.groupby("patient")["subset"].nunique()
    if (shared > 1).any():
        raise InputError(
            "every patient in one subset",
            f"{int((shared > 1).sum()):,} patients in several, such as {shared.index[shared > 1][0]!r}",
            str(file),
            "Correct the column, or leave subset out of the map and let TemMed divide the patients.",
        )
    subset = subsets.groupby("patient")["subset"].first().to_dict()
    owned = ((sequence, result.aliases[sequence.patient_id]) for sequence in result.sequences)
    add_split(result, ((sequence, subset[owner]) for sequence, owner in owned if owner in subset))


IMPORTER = Importer(
    name="table",
    summary="Any CSV, TSV or Parquet table with one row per image, through a map of its columns.",
    needs="a YAML file that names the table and its columns (docs/own-data.md)",
    plan=plan,
)
