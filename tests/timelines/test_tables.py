from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from temmed.errors import InputError
from temmed.timelines.problems import Problems
from temmed.timelines.schema import SCHEMA
from temmed.timelines.tables import (
    conform,
    digest,
    duplicated,
    empty_table,
    find_table,
    in_order,
    read_table,
    write_table,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
ID = st.text("abc-_ ,\"'éß7", min_size=1, max_size=6)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)


def maybe(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.one_of(st.none(), strategy)


QUESTIONS = st.lists(
    st.fixed_dictionaries(
        {
            "question_id": ID,
            "sequence_id": ID,
            "task": TEXT,
            "template": TEXT,
            "prompt": TEXT,
            "asked_at": st.integers(0, 2**40),
            "choices": maybe(st.lists(TEXT, max_size=3)),
            "answer": maybe(TEXT),
            "value": maybe(NUMBER),
            "evidence": maybe(st.lists(st.integers(0, 99), max_size=3)),
            "names_position": maybe(st.booleans()),
            "horizon_steps": maybe(st.integers(0, 99)),
        }
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda row: row["question_id"],
)
PATIENTS = st.lists(
    st.fixed_dictionaries(
        {"patient_id": ID, "sex": maybe(TEXT), "age": maybe(NUMBER), "code": maybe(TEXT), "score": NUMBER}
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda row: row["patient_id"],
)
BOUND = maybe(st.floats(allow_nan=False))
EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "event_id": ID,
            "sequence_id": ID,
            "label": TEXT,
            "onset_lower": BOUND,
            "offset_upper": BOUND,
            "sentence": TEXT,
        }
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda row: row["event_id"],
)


def roundtrip(rows: list[dict], name: str, suffix: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    problems = Problems()
    frame = conform(pd.DataFrame(rows), name, name, problems)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}{suffix}"
        write_table(frame, path, name)
        again = read_table(path, name, problems)
    assert problems.total == 0, problems.listed
    return frame, again


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@given(rows=QUESTIONS)
@settings(max_examples=20, deadline=None)
def test_questions_come_back_as_they_were(suffix: str, rows: list[dict]) -> None:
    frame, again = roundtrip(rows, "questions", suffix)
    pd.testing.assert_frame_equal(frame, again)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@given(rows=EVENTS)
@settings(max_examples=20, deadline=None)
def test_events_with_open_bounds_come_back_as_they_were(suffix: str, rows: list[dict]) -> None:
    frame, again = roundtrip(rows, "events", suffix)
    pd.testing.assert_frame_equal(frame, again)


@given(rows=PATIENTS)
@settings(max_examples=20, deadline=None)
def test_free_attributes_of_patients_come_back_from_parquet(rows: list[dict]) -> None:
    frame, again = roundtrip(rows, "patients", ".parquet")
    pd.testing.assert_frame_equal(frame, again)


@given(rows=QUESTIONS, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_the_digest_ignores_the_order_of_rows_and_columns_and_the_file_format(rows: list[dict], seed: int) -> None:
    frame, from_csv = roundtrip(rows, "questions", ".csv")
    mixed = frame.sample(frac=1, random_state=seed).sample(frac=1, axis=1, random_state=seed)
    assert digest(mixed, "questions") == digest(frame, "questions") == digest(from_csv, "questions")


@given(rows=QUESTIONS, data=st.data())
@settings(max_examples=20, deadline=None)
def test_the_digest_sees_every_cell(rows: list[dict], data: st.DataObject) -> None:
    frame = conform(pd.DataFrame(rows), "questions", "", Problems())
    row = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.sampled_from(["prompt", "asked_at", "choices", "evidence", "value", "names_position"]))
    new = {
        "prompt": "something else entirely",
        "asked_at": 2**41,
        "choices": ["only", "these"],
        "evidence": [100],
        "value": None if rows[row]["value"] is not None else 0.0,
        "names_position": None if rows[row]["names_position"] is not None else False,
    }
    changed = [dict(entry) for entry in rows]
    changed[row][column] = new[column]
    other = conform(pd.DataFrame(changed), "questions", "", Problems())
    assert digest(frame, "questions") != digest(other, "questions")


def test_the_digest_tells_where_one_text_ends_and_the_next_begins() -> None:
    def one(first: str, second: str) -> bytes:
        rows = pd.DataFrame({"patient_id": ["a", "b"], "sex": [first, second]})
        return digest(conform(rows, "patients", "", Problems()), "patients")

    assert len({one("xy", "z"), one("x", "yz"), one("xyz", ""), one("", "xyz")}) == 4


def test_missing_and_empty_are_different_things_in_csv(tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    path.write_text('patient_id,sex,site\na,,""\n')
    frame = read_table(path, "patients", Problems())
    assert frame["sex"].isna().all()
    assert frame["site"].tolist() == [""]


def test_codes_with_leading_zeros_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    path.write_text("patient_id,ward,weight,smoker\n007,012,70,true\n008,013,71.5,\n")
    frame = read_table(path, "patients", Problems())
    assert frame["patient_id"].tolist() == ["007", "008"]
    assert frame["ward"].tolist() == ["012", "013"]
    assert frame["weight"].tolist() == [70.0, 71.5]
    assert frame["smoker"].tolist() == [True, pd.NA]


def test_a_spreadsheets_csv_is_read(tmp_path: Path) -> None:
    path = tmp_path / "timepoints.csv"
    path.write_bytes("\ufeffsequence_id,position,time\r\ns,0,0\r\ns,1.0, 30 \r\n".encode())
    problems = Problems()
    frame = read_table(path, "timepoints", problems)
    assert problems.total == 0
    assert frame["position"].tolist() == [0, 1]
    assert frame["time"].tolist() == [0.0, 30.0]


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".csv", b""),
        (".csv", b"sequence_id,position,time\ns,0\n"),
        (".csv", "sequence_id,position,time\nsé,0,0\n".encode("latin-1")),
        (".csv", "sequence_id,position,tïme\n".encode("latin-1")),
        (".parquet", b""),
        (".parquet", b"PAR1 half a file"),
    ],
)
def test_a_file_that_is_no_table_is_named(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"timepoints{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match="expected a readable") as caught:
        read_table(path, "timepoints", Problems())
    assert caught.value.where == str(path)


def test_a_table_in_two_formats_is_refused(tmp_path: Path) -> None:
    for suffix in (".csv", ".parquet"):
        (tmp_path / f"patients{suffix}").touch()
    with pytest.raises(InputError, match=r"patients\.parquet and patients\.csv"):
        find_table(tmp_path, "patients")


@pytest.mark.parametrize("name", SCHEMA)
def test_an_absent_table_has_the_columns_and_types_of_a_present_one(name: str) -> None:
    empty = empty_table(name)
    assert empty.empty
    assert list(empty.columns) == list(SCHEMA[name].columns)
    filled = conform(pd.DataFrame({column: [None] for column in SCHEMA[name].columns}), name, "", Problems())
    nullable = [column for column, spec in SCHEMA[name].columns.items() if spec.nullable]
    assert empty[nullable].dtypes.to_dict() == filled[nullable].dtypes.to_dict()


def test_whole_numbers_beyond_what_a_float_holds_are_not_rounded() -> None:
    problems = Problems()
    frame = pd.DataFrame({"sequence_id": ["s"], "position": np.array([2.0**60]), "time": [0.0]})
    conform(frame, "timepoints", "timepoints.csv", problems)
    assert [problem.column for problem in problems.listed] == ["position"]


@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from([0, 1, None])), max_size=8), st.booleans())
def test_order_and_repetition_are_those_of_pandas(rows: list[tuple[str | None, int | None]], ordered: bool) -> None:
    frame = pd.DataFrame(rows, columns=["name", "place"]).astype({"name": "str", "place": "Int64"})
    columns = ["name", "place"]
    if ordered:
        frame = frame.sort_values(columns, kind="stable", ignore_index=True)
    pd.testing.assert_frame_equal(in_order(frame, columns), frame.sort_values(columns, kind="stable"))
    assert duplicated(frame, columns).tolist() == frame.duplicated(columns).tolist()


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.large_list(pa.string()), pa.list_(pa.string(), 2)])
def test_lists_with_holes_are_told_and_others_kept(tmp_path: Path, kind: pa.DataType) -> None:
    cells = [["a", "b"], None, ["a", None], ["c", "d"]]
    pq.write_table(pa.table({"choices": pa.array(cells, kind)}).slice(1), tmp_path / "questions.parquet")
    problems = Problems()
    table = read_table(tmp_path / "questions.parquet", "questions", problems)
    assert table["choices"].tolist() == [None, None, ["c", "d"]]
    assert problems.unreadable["questions.parquet", "choices"] == [1]
