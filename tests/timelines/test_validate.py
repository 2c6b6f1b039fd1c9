from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from temmed.timelines.folder import Timeline
from temmed.timelines.problems import LISTED
from temmed.timelines.validate import ValidationError, validate

Tables = dict[str, pd.DataFrame]
Change = Callable[[Tables], object]


def put(table: str, row: int, column: str, value: object) -> Change:
    """Set one cell; the row counts from 0."""

    def change(tables: Tables) -> None:
        frame = tables[table].astype({column: "object"})
        frame.at[row, column] = value
        # Back to the column's own type where the value allows it.
        tables[table] = frame.infer_objects()

    return change


def drop(table: str, column: str) -> Change:
    return lambda tables: tables.__setitem__(table, tables[table].drop(columns=column))


def repeat(table: str, row: int) -> Change:
    return lambda tables: tables.__setitem__(
        table, pd.concat([tables[table], tables[table].iloc[[row]]], ignore_index=True)
    )


def remove(table: str, row: int) -> Change:
    return lambda tables: tables.__setitem__(table, tables[table].drop(index=row).reset_index(drop=True))


def without(table: str) -> Change:
    return lambda tables: tables.pop(table)


CASES: dict[str, tuple[Change, str]] = {
    "missing column": (drop("timepoints", "time"), r"timepoints\.parquet, time: the column must be there"),
    "missing table": (without("timepoints"), r"timepoints\.parquet: the table must be there"),
    "unknown column": (
        lambda tables: tables.update(findings=tables["findings"].assign(locaton="x")),
        r"findings\.parquet, locaton: must be one of .*did you mean location",
    ),
    "text for a number": (
        put("timepoints", 2, "time", "soon"),
        r"timepoints\.parquet, time: must hold one type|row \d+, time: must be a number",
    ),
    "fraction for a position": (
        put("timepoints", 2, "position", 1.5),
        r"timepoints\.parquet, row 3, position: must be an integer, found 1\.5",
    ),
    "missing id": (
        put("sequences", 1, "patient_id", None),
        r"sequences\.parquet, row 2, patient_id: must not be missing",
    ),
    "empty id": (put("patients", 1, "patient_id", ""), r"patients\.parquet, row 2, patient_id: must not be empty"),
    "duplicate patient": (repeat("patients", 0), r"patients\.parquet, row 5, patient_id: must be unique, found p0"),
    "duplicate position": (
        repeat("timepoints", 7),
        r"timepoints\.parquet, row 21, sequence_id, position: must be unique, found s1, 2",
    ),
    "unknown patient": (
        put("sequences", 0, "patient_id", "nobody"),
        r"sequences\.parquet, row 1, patient_id: must be in patient_id of patients, found nobody",
    ),
    "unknown sequence": (
        put("images", 4, "sequence_id", "s9"),
        r"images\.parquet, row 5, sequence_id, position: must be in .* of timepoints, found s9, 2",
    ),
    "sequence without time points": (
        lambda tables: tables.update(
            sequences=pd.concat([tables["sequences"], tables["sequences"].iloc[[0]].assign(sequence_id="s9")])
        ),
        r"sequences\.parquet, row 5, sequence_id: must have time points, found s9",
    ),
    "unknown unit": (
        put("sequences", 0, "time_unit", "fortnight"),
        r"sequences\.parquet, row 1, time_unit: must be one of day, .*, found fortnight",
    ),
    "four dimensions": (put("sequences", 0, "spatial_dims", 4), r"row 1, spatial_dims: must be 2 or 3, found 4"),
    "NaN time": (put("timepoints", 3, "time", np.nan), r"timepoints\.parquet, row 4, time: must not be missing"),
    "infinite time": (put("timepoints", 3, "time", np.inf), r"row 4, time: must be finite, found inf"),
    "negative time": (put("timepoints", 0, "time", -1.0), r"row 1, time: must not be negative, found -1\.0"),
    "reversed time": (
        put("timepoints", 3, "time", 10.0),
        r"timepoints\.parquet, row 4, time: must not go back as the position grows, found 10 after 60",
    ),
    "negative position": (put("timepoints", 0, "position", -1), r"row 1, position: must be at least 0, found -1"),
    "gap in the positions": (
        put("timepoints", 4, "position", 7),
        r"row 5, position: must run 0, 1, 2, … without gaps in each sequence, found 7",
    ),
    "time outside its bounds": (
        lambda tables: tables.update(timepoints=tables["timepoints"].assign(time_upper=100.0)),
        r"row 5, time: must lie within time_lower and time_upper, found 120\.0",
    ),
    "measurement beyond the sequence": (
        put("measurements", 1, "position", 8),
        r"measurements\.parquet, row 2, position: must be a position of the finding's sequence, found 8",
    ),
    "question asked beyond the sequence": (
        put("questions", 0, "asked_at", 9),
        r"questions\.parquet, row 1, sequence_id, asked_at: must be in .* of timepoints, found s0, 9",
    ),
    "evidence beyond the sequence": (
        put("questions", 1, "evidence", [0, 5]),
        r"questions\.parquet, row 2, evidence: must be positions of the sequence, found \[0, 5\]",
    ),
    "negative evidence": (
        put("questions", 1, "evidence", [-1]),
        r"row 2, evidence: must be positions of the sequence, found \[-1\]",
    ),
    "answer not offered": (
        put("questions", 2, "answer", "vanished"),
        r"questions\.parquet, row 3, answer: must be one of the choices, found vanished",
    ),
    "choice offered twice": (
        put("questions", 2, "choices", ["stable", "stable"]),
        r"questions\.parquet, row 3, choices: must be distinct",
    ),
    "neither answer nor value": (
        put("questions", 2, "answer", None),
        r"row 3, answer: an answer or a value must be there, found s0-q4",
    ),
    "finding of another sequence": (
        put("questions", 0, "finding_id", "s1-f"),
        r"row 1, finding_id, sequence_id: must be in finding_id, sequence_id of findings, found s1-f, s0",
    ),
    "report of another patient": (
        put("reports", 0, "patient_id", "p1"),
        r"reports\.parquet, row 1, sequence_id, patient_id: must be in .* of sequences, found s0, p1",
    ),
    "unknown kind of report": (put("reports", 0, "kind", "rumour"), r"row 1, kind: must be one of report, note"),
    "findings table gone": (without("findings"), r"measurements\.parquet, row 1, finding_id: must be in finding_id"),
    "event bounds in the wrong order": (
        put("events", 0, "onset_lower", 0.5),
        r"events\.parquet, row 1, .*: must be in order",
    ),
    "half an event bound": (
        put("events", 0, "offset_upper", np.nan),
        r"events\.parquet, row 1, .*: lower and upper bound must be given together",
    ),
    "absent image": (
        put("images", 0, "path", "images/lost.npy"),
        r"images\.parquet, row 1, path: must be an existing file, found images/lost\.npy",
    ),
    "no sequences at all": (
        lambda tables: tables.update(sequences=tables["sequences"].iloc[:0]),
        r"sequences\.parquet: must have rows, found an empty table",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_broken_rule_is_told_with_its_place(case: str, tables: Tables, pristine: Path) -> None:
    change, message = CASES[case]
    change(tables)
    with pytest.raises(ValidationError, match=message):
        validate(tables, pristine)


def test_the_whole_folder_is_fine(tables: Tables, pristine: Path) -> None:
    validate(tables, pristine)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_opening_refuses_reversed_times_unless_told_not_to_check(
    suffix: str, tables: Tables, build: Callable[..., Path], replace_table: Callable[..., None]
) -> None:
    root = build(tables, suffix)
    put("timepoints", 3, "time", 10.0)(tables)
    replace_table(root, "timepoints", tables["timepoints"])
    with pytest.raises(ValidationError, match=rf"timepoints\{suffix}, row 4, time: must not go back"):
        Timeline.open(root)
    assert Timeline.open(root, validate=False).problems.total == 1


def test_rows_in_any_order_are_brought_into_order(tables: Tables, build: Callable[..., Path]) -> None:
    tables["timepoints"] = tables["timepoints"].sample(frac=1, random_state=0)
    assert Timeline.open(build(tables)).table("timepoints")["position"].tolist() == [0, 1, 2, 3, 4] * 4


def test_the_first_problems_are_listed_and_all_are_counted(tables: Tables, pristine: Path) -> None:
    tables["reports"] = tables["reports"].assign(kind="rumour")
    tables["timepoints"] = tables["timepoints"].assign(time=-5.0)
    with pytest.raises(ValidationError) as caught:
        validate(tables, pristine)
    assert caught.value.total == 16 + 20
    assert len(caught.value.problems) == LISTED
    assert {problem.file for problem in caught.value.problems} == {"reports.parquet", "timepoints.parquet"}
    assert f"… and {36 - LISTED} more" in str(caught.value)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)


def test_a_wrong_value_is_told_once(pristine: Path, tables: Tables) -> None:
    tables["timepoints"] = tables["timepoints"].astype({"time": "str"})
    with pytest.raises(ValidationError) as caught:
        validate(tables, pristine)
    assert {problem.rule for problem in caught.value.problems} == {"must be a number"}


def test_csv_cells_that_are_not_what_the_column_holds(tables: Tables, build: Callable[..., Path]) -> None:
    root = build(tables, ".csv")
    path = root / "questions.csv"
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace('"[""progressed"", ""stable"", ""regressed""]"', "progressed|stable|regressed")
    lines[2] = lines[2].replace("[0, 2]", "[0, 2.5]")
    lines[3] = lines[3].replace("false", "perhaps")
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValidationError) as caught:
        Timeline.open(root)
    told = [str(problem) for problem in caught.value.problems]
    assert told == [
        "questions.csv, row 1, choices: must be a list of strings, found progressed|stable|regressed",
        "questions.csv, row 2, evidence: must be a list of integers, found [0, 2.5]",
        "questions.csv, row 3, names_position: must be a boolean, found perhaps",
    ]


def test_never_and_open_events_are_allowed(timeline: Timeline) -> None:
    events = timeline.table("events").set_index("event_id")
    assert events.loc["e0", "onset_lower"] == -np.inf
    assert events.loc["e1", ["onset_lower", "onset_upper", "offset_lower", "offset_upper"]].isna().all()
