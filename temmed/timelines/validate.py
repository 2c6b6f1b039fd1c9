"""The rules that the tables of a timeline folder must keep to be opened.

Here are the rules of form: types, keys, references, and an order of time that can be trusted. Rules of meaning, which
need judgement (ties, evidence after the question, balance), are in :mod:`temmed.timelines.audit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from temmed.timelines.problems import Problem, Problems, ValidationError
from temmed.timelines.schema import REQUIRED_TABLES, SCHEMA, Kind
from temmed.timelines.tables import conform, duplicated, find_table, in_order

__all__ = ["Problem", "Problems", "ValidationError", "image_path", "referenced_paths", "validate"]

#: References that may be missing, so that the schema does not list them: (table, columns) into (table, columns).
_OPTIONAL_REFERENCES: tuple[tuple[str, tuple[str, ...], str, tuple[str, ...]], ...] = (
    ("reports", ("sequence_id",), "sequences", ("sequence_id",)),
    ("reports", ("sequence_id", "position"), "timepoints", ("sequence_id", "position")),
    ("reports", ("sequence_id", "patient_id"), "sequences", ("sequence_id", "patient_id")),
    ("questions", ("finding_id", "sequence_id"), "findings", ("finding_id", "sequence_id")),
    ("questions", ("evidence_report_id",), "reports", ("report_id",)),
    ("events", ("finding_id", "sequence_id"), "findings", ("finding_id", "sequence_id")),
    ("events", ("report_id",), "reports", ("report_id",)),
    ("statements", ("finding_id", "sequence_id"), "findings", ("finding_id", "sequence_id")),
    ("statements", ("report_id",), "reports", ("report_id",)),
)
#: The only columns where an infinite value has a meaning: an event whose start or end was not seen.
_UNBOUNDED = {("events", column) for column in ("onset_lower", "onset_upper", "offset_lower", "offset_upper")}
#: Columns that hold a duration or a time since the first time point.
_NOT_NEGATIVE = {("timepoints", "time"), ("timepoints", "time_lower")}


def validate(tables: Mapping[str, pd.DataFrame], root: Path) -> None:
    """Check every rule of form.

    Args:
        tables: frames by table name.
        root: the folder that relative image paths start from.

    Raises:
        ValidationError: with file, row, rule and value of the first broken rows, and the count of all.
    """
    problems = Problems()
    conformed = {name: conform(frame, name, table_file(root, name), problems) for name, frame in tables.items()}
    check_tables(conformed, root, problems)
    problems.check(str(root))


def check_tables(tables: Mapping[str, pd.DataFrame], root: Path, problems: Problems, files: bool = True) -> None:
    """Add to ``problems`` every broken rule of tables that already have the schema's types.

    Args:
        tables: frames by table name.
        root: the folder that relative image paths start from.
        problems: collects what is wrong.
        files: look whether the image and mask files are there.
    """
    checker = _Checker(tables, root, problems)
    for name in REQUIRED_TABLES:
        if name not in tables:
            problems.add(f"{name}.parquet", "", "the table must be there", "no such file")
        elif tables[name].empty and name != "images":
            problems.add(table_file(root, name), "", "must have rows", "an empty table")
    for name in tables:
        checker.columns(name)
    for name in tables:
        checker.references(name)
    checker.timepoints()
    checker.positions_of_findings()
    checker.questions()
    checker.events()
    if files:
        checker.paths()


def table_file(root: Path, name: str) -> str:
    """The file name of a table: the one that is there, or the one it will have."""
    path = find_table(root, name)
    return path.name if path else f"{name}.parquet"


def referenced_paths(tables: Mapping[str, pd.DataFrame]) -> pd.Series:
    """The distinct paths in the images and masks tables."""
    columns = [tables[name]["path"] for name in ("images", "masks") if name in tables]
    paths = pd.concat(columns) if columns else pd.Series(dtype="str")
    return paths.dropna().drop_duplicates()


def image_path(root: Path, path: str) -> Path:
    """Where a path of the images or masks table lies: relative to the folder, or anywhere when absolute."""
    return root / path


@dataclass
class _Checker:
    tables: Mapping[str, pd.DataFrame]
    root: Path
    problems: Problems

    def add(
        self, name: str, column: str, rule: str, broken: pd.Series | np.ndarray, found: pd.Series | list[str]
    ) -> None:
        """Note the rows where ``broken`` holds, with their value in a series or the values of several columns."""
        rows = np.flatnonzero(np.asarray(broken, dtype=bool))
        if not rows.size:
            return
        if isinstance(found, list):
            chosen = self.tables[name].loc[rows, found].itertuples(index=False)
            told = [", ".join(str(value) for value in row) for row in chosen]
        else:
            told = found.iloc[rows].tolist()
        self.problems.add_rows(table_file(self.root, name), column, rule, rows, told)

    def columns(self, name: str) -> None:
        """Missing values, values outside the choices or below the minimum, infinities, duplicate keys."""
        frame, schema = self.tables[name], SCHEMA[name]
        for column, spec in schema.columns.items():
            values = frame[column]
            if not spec.nullable and spec.required:
                missing = values.isna().to_numpy(copy=True)
                missing[list(self.problems.unreadable.get((table_file(self.root, name), column), ()))] = False
                self.add(name, column, "must not be missing", missing, values.astype("object").fillna("nothing"))
            if spec.choices:
                allowed = values.isna() | values.isin(spec.choices)
                self.add(name, column, f"must be one of {', '.join(spec.choices)}", ~allowed, values)
            if spec.minimum is not None:
                low = (values < spec.minimum).fillna(False)
                self.add(name, column, f"must be at least {spec.minimum:g}", low, values)
            if spec.kind is Kind.FLOAT and (name, column) not in _UNBOUNDED:
                self.add(name, column, "must be finite", np.isinf(values), values)
            if (name, column) in _NOT_NEGATIVE:
                self.add(name, column, "must not be negative", values < 0, values)
            if column.endswith("_id") and spec.kind is Kind.STRING:
                self.add(name, column, "must not be empty", values == "", values)
        key = list(schema.key)
        complete = frame[key].notna().all(axis=1)
        self.add(name, ", ".join(key), "must be unique", duplicated(frame, key) & complete, key)
        if name == "sequences":
            large = (frame["spatial_dims"] > 3).fillna(False)
            self.add(name, "spatial_dims", "must be 2 or 3", large, frame["spatial_dims"])

    def references(self, name: str) -> None:
        """Ids that point at no row."""
        for columns, target in SCHEMA[name].foreign.items():
            self._reference(name, columns, target, SCHEMA[target].key)
        for table, columns, target, target_columns in _OPTIONAL_REFERENCES:
            if table == name:
                self._reference(name, columns, target, target_columns)

    def _reference(self, name: str, columns: tuple[str, ...], target: str, target_columns: tuple[str, ...]) -> None:
        frame = self.tables[name]
        given = frame[list(columns)].notna().all(axis=1)
        if not given.any():
            return
        pointing = frame[list(columns)]
        there = self.tables[target][list(target_columns)] if target in self.tables else pointing.iloc[:0]
        dangling = given & ~_rows_in(pointing, there)
        rule = f"must be in {', '.join(target_columns)} of {target}"
        self.add(name, ", ".join(columns), rule, dangling, list(columns))

    def timepoints(self) -> None:
        """Positions 0 … T-1 in every sequence, and time that never goes back."""
        frame = self.tables.get("timepoints")
        if frame is None:
            return
        if "sequences" in self.tables:
            sequences = self.tables["sequences"]
            bare = sequences["sequence_id"].notna() & ~_rows_in(sequences[["sequence_id"]], frame[["sequence_id"]])
            self.add("sequences", "sequence_id", "must have time points", bare, sequences["sequence_id"])
        ordered = frame.dropna(subset=["sequence_id", "position"])
        ordered = in_order(ordered, ["sequence_id", "position"])
        groups = ordered.groupby("sequence_id", sort=False)
        position = ordered["position"].astype("int64")
        before = groups["position"].shift(1, fill_value=-1).astype("int64")
        gap = position - before > 1
        self._add_at("timepoints", "position", "must run 0, 1, 2, … without gaps in each sequence", gap, position)
        earlier = groups["time"].shift(1)
        back = ordered["time"] < earlier
        pairs = zip(ordered.loc[back, "time"], earlier[back], strict=True)
        told = pd.Series([f"{now:g} after {last:g}" for now, last in pairs], index=ordered.index[back], dtype="str")
        self._add_at("timepoints", "time", "must not go back as the position grows", back, told)
        outside = (frame["time_lower"] > frame["time"]) | (frame["time_upper"] < frame["time"])
        self.add("timepoints", "time", "must lie within time_lower and time_upper", outside, frame["time"])

    def _add_at(self, name: str, column: str, rule: str, broken: pd.Series, found: pd.Series) -> None:
        """Like ``add``, for series in another order than the file's rows; their index holds the rows."""
        broken = broken[broken].sort_index()
        self.problems.add_rows(
            table_file(self.root, name), column, rule, broken.index, found.loc[broken.index].tolist()
        )

    def positions_of_findings(self) -> None:
        """Measurements, boxes and masks lie at a time point of their finding's sequence."""
        if "findings" not in self.tables or "timepoints" not in self.tables:
            return
        findings = self.tables["findings"].drop_duplicates("finding_id").set_index("finding_id")["sequence_id"]
        there = self.tables["timepoints"][["sequence_id", "position"]]
        for name in ("measurements", "boxes", "masks"):
            if name not in self.tables:
                continue
            frame = self.tables[name]
            owner = frame["finding_id"].map(findings).astype("str")
            placed = pd.DataFrame({"sequence_id": owner, "position": frame["position"]})
            broken = placed.notna().all(axis=1) & ~_rows_in(placed, there)
            self.add(name, "position", "must be a position of the finding's sequence", broken, frame["position"])

    def questions(self) -> None:
        """Choices are distinct, the answer is one of them, evidence lies in the sequence."""
        frame = self.tables.get("questions")
        if frame is None or "timepoints" not in self.tables:
            return
        choices = frame["choices"].explode()
        pairs = pd.DataFrame({"row": choices.index, "choice": choices.to_numpy()}).dropna()
        again = frame.index.isin(pairs.loc[pairs.duplicated(), "row"])
        self.add("questions", "choices", "must be distinct", again, frame["choices"])
        offered = choices.notna().groupby(level=0).any() & frame["answer"].notna()
        matches = (choices == frame["answer"].reindex(choices.index)).groupby(level=0).any()
        self.add("questions", "answer", "must be one of the choices", offered & ~matches, frame["answer"])
        empty = frame["answer"].isna() & frame["value"].isna()
        self.add("questions", "answer", "an answer or a value must be there", empty, frame["question_id"])
        length = self.tables["timepoints"].groupby("sequence_id")["position"].nunique()
        evidence = frame["evidence"].explode().dropna()
        last = frame["sequence_id"].map(length).astype("float64").reindex(evidence.index)
        numbers = evidence.astype("int64")
        outside = ((numbers < 0) | (numbers >= last)).groupby(level=0).any()
        outside = outside.reindex(frame.index, fill_value=False)
        self.add("questions", "evidence", "must be positions of the sequence", outside, frame["evidence"])

    def events(self) -> None:
        """Bounds come in pairs, in order; four missing bounds mean that the event never happens."""
        frame = self.tables.get("events")
        if frame is None:
            return
        bounds = ["onset_lower", "onset_upper", "offset_lower", "offset_upper"]
        missing = frame[bounds].isna()
        odd = (missing["onset_lower"] != missing["onset_upper"]) | (missing["offset_lower"] != missing["offset_upper"])
        odd |= missing["onset_lower"] & ~missing["offset_lower"]
        self.add("events", ", ".join(bounds), "lower and upper bound must be given together", odd, bounds)
        wrong = (frame["onset_lower"] > frame["onset_upper"]) | (frame["offset_lower"] > frame["offset_upper"])
        wrong |= frame["onset_lower"] > frame["offset_upper"]
        self.add("events", ", ".join(bounds), "must be in order", wrong, bounds)

    def paths(self) -> None:
        """Every image and mask file is there."""
        paths = referenced_paths(self.tables)
        absent = paths[[not image_path(self.root, path).exists() for path in paths]]
        for name in ("images", "masks"):
            if name in self.tables:
                column = self.tables[name]["path"]
                # A file of many frames is told once, not once a frame.
                broken = column.isin(absent) & ~column.duplicated()
                self.add(name, "path", "must be an existing file", broken, column)


def _rows_in(frame: pd.DataFrame, target: pd.DataFrame) -> np.ndarray:
    """Which rows are rows of the target, column by column in their order."""
    codes = np.zeros(len(frame) + len(target), np.int64)
    for column, target_column in zip(frame, target, strict=True):
        both = pd.concat([frame[column], target[target_column]], ignore_index=True)
        values, distinct = pd.factorize(both, use_na_sentinel=False)
        # Numbered anew after each column, so that no product of many columns can overflow.
        codes = pd.factorize(codes * len(distinct) + values)[0]
    known = np.zeros(codes.max(initial=-1) + 1, bool)
    known[codes[len(frame) :]] = True
    return np.asarray(known[codes[: len(frame)]])
