from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from temmed.errors import InputError
from temmed.predictions.schema import ANSWERS, EVENTS
from temmed.predictions.tables import Predictions, read_predictions, write_predictions


@pytest.fixture
def questions() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "question_id": ["a", "b", "c"],
            "sequence_id": ["s0", "s0", "s1"],
            "asked_at": [3, 4, 2],
            "choices": [["yes", "no"], ["yes", "no"], None],
        }
    )


@pytest.fixture
def answers() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "question_id": ["c", "a", "b"],
            "answer": [None, "yes", "no"],
            "probabilities": [None, [0.75, 0.25], [0.5, 0.5]],
            "value": [12.5, np.nan, np.nan],
            "evidence": [[0, 2], [3], None],
        }
    )


@pytest.fixture
def events() -> pd.DataFrame:
    return pd.DataFrame(
        {"sequence_id": ["s0", "s1"], "label": ["x", "x"], "onset": [1.0, np.nan], "offset": [np.nan, np.nan]}
    )


def test_round_trip(tmp_path: Path, answers: pd.DataFrame, events: pd.DataFrame) -> None:
    write_predictions(tmp_path / "p", answers, events)
    read = read_predictions(tmp_path / "p")
    assert list(read.answers.columns) == ANSWERS.names
    assert read.answers["question_id"].tolist() == ["c", "a", "b"]
    assert read.answers["probabilities"][1].tolist() == [0.75, 0.25]
    assert read.answers["evidence"][0].tolist() == [0, 2]
    assert read.answers["answer"].isna().tolist() == [True, False, False]
    assert read.events is not None
    assert list(read.events.columns) == EVENTS.names
    np.testing.assert_array_equal(read.events["onset"], [1.0, np.nan])


def test_writing_again_replaces_every_table(tmp_path: Path, answers: pd.DataFrame, events: pd.DataFrame) -> None:
    write_predictions(tmp_path / "p", answers, events)
    write_predictions(tmp_path / "p", answers.iloc[:1])
    read = read_predictions(tmp_path / "p")
    assert len(read.answers) == 1
    assert read.events is None
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_a_refused_table_leaves_nothing_behind(tmp_path: Path, answers: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="one row per question_id"):
        write_predictions(tmp_path / "p", pd.concat([answers, answers.iloc[:1]]))
    assert list(tmp_path.iterdir()) == []


def test_json_lines_equal_parquet(tmp_path: Path, answers: pd.DataFrame) -> None:
    write_predictions(tmp_path / "parquet", answers)
    rows = [
        {"question_id": "c", "value": 12.5, "evidence": [0, 2]},
        {"question_id": "a", "answer": "yes", "probabilities": [0.75, 0.25], "evidence": [3]},
        {"question_id": "b", "answer": "no", "probabilities": [0.5, 0.5]},
    ]
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "answers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    ours, theirs = (read_predictions(tmp_path / name).answers for name in ("lines", "parquet"))
    pd.testing.assert_frame_equal(ours, theirs)


def test_ids_that_look_like_numbers_stay_text(tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").write_text('{"question_id": "007", "answer": "1"}\n')
    read = read_predictions(tmp_path).answers
    assert read["question_id"].tolist() == ["007"]
    assert read["answer"].tolist() == ["1"]


def test_answers_come_back_in_the_order_of_the_questions(questions: pd.DataFrame, answers: pd.DataFrame) -> None:
    aligned = Predictions(complete(answers)).check_against(questions)
    assert aligned["question_id"].tolist() == ["a", "b", "c"]
    assert aligned["answer"].tolist()[:2] == ["yes", "no"]
    assert aligned["value"].tolist()[2] == 12.5


@given(st.permutations(range(3)))
@settings(max_examples=6)
def test_the_order_of_rows_changes_nothing(order: list[int]) -> None:
    asked = pd.DataFrame({"question_id": list("abc"), "sequence_id": "s", "asked_at": 5, "choices": [["x", "y"]] * 3})
    given_answers = complete(pd.DataFrame({"question_id": list("abc"), "answer": ["x", "y", None]}))
    shuffled = Predictions(given_answers.iloc[order]).check_against(asked)
    pd.testing.assert_frame_equal(shuffled, Predictions(given_answers).check_against(asked))


def test_missing_answers(questions: pd.DataFrame, answers: pd.DataFrame) -> None:
    predictions = Predictions(complete(answers.iloc[:2]))
    with pytest.raises(InputError, match=r"1 without one: b"):
        predictions.check_against(questions)
    assert predictions.check_against(questions, allow_missing=True)["answer"].isna().tolist() == [False, True, True]


def test_surplus_answers(questions: pd.DataFrame, answers: pd.DataFrame) -> None:
    predictions = Predictions(complete(answers))
    with pytest.raises(InputError, match=r"1 to others: c"):
        predictions.check_against(questions.iloc[:2])
    assert len(predictions.check_against(questions.iloc[:2], allow_surplus=True)) == 2


def test_events_of_other_sequences(questions: pd.DataFrame, answers: pd.DataFrame, events: pd.DataFrame) -> None:
    predictions = Predictions(complete(answers), events.assign(sequence_id=["s0", "s9"]))
    with pytest.raises(InputError, match="s9"):
        predictions.check_against(questions)
    assert len(predictions.check_against(questions, sequences=["s0", "s9"])) == 3


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("answer", "Yes", r"a \('Yes', choices \['yes', 'no'\]\)"),
        ("probabilities", [0.2, 0.3, 0.5], "one probability per choice"),
        ("probabilities", [0.2, 0.3], "the sum 1"),
        ("probabilities", [1.5, -0.5], "between 0 and 1"),
        ("probabilities", [np.nan, 1.0], "between 0 and 1"),
        ("evidence", [4], "evidence at positions"),
        ("evidence", [-1], "evidence at positions"),
    ],
)
def test_answers_that_do_not_fit(questions: pd.DataFrame, column: str, value: object, message: str) -> None:
    row = complete(pd.DataFrame({"question_id": ["a"], column: pd.Series([value], dtype=object)}))
    with pytest.raises(InputError, match=message):
        Predictions(row).check_against(questions.iloc[:1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"anwser": ["x"]}, "anwser"),
        ({"value": ["twelve"]}, "column value"),
        ({"value": [np.inf]}, "finite"),
        ({"confidence": [1.2]}, "between 0 and 1"),
        ({"evidence": ["0, 2"]}, "column evidence"),
        ({"question_id": [None]}, "column question_id"),
    ],
)
def test_tables_that_break_the_schema(tmp_path: Path, change: dict[str, list], message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_predictions(tmp_path / "p", pd.DataFrame({"question_id": ["a"]} | change))


@pytest.mark.parametrize(
    ("onset", "offset", "message"), [(5.0, 4.0, "onset ≤ offset"), (np.nan, 4.0, "an onset for every offset")]
)
def test_impossible_intervals(tmp_path: Path, onset: float, offset: float, message: str) -> None:
    events = pd.DataFrame({"sequence_id": ["s0"], "label": ["x"], "onset": [onset], "offset": [offset]})
    with pytest.raises(InputError, match=message):
        write_predictions(tmp_path / "p", pd.DataFrame({"question_id": ["a"]}), events)


def test_a_missing_folder_and_a_damaged_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_predictions(tmp_path / "nowhere")
    with pytest.raises(InputError, match="neither"):
        read_predictions(tmp_path)
    (tmp_path / "answers.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(InputError, match=r"a readable \.parquet table"):
        read_predictions(tmp_path)
    (tmp_path / "answers.jsonl").write_text("{}")
    with pytest.raises(InputError, match="one answers table"):
        read_predictions(tmp_path)
    (tmp_path / "answers.parquet").unlink()
    (tmp_path / "answers.jsonl").write_text('{"question_id": "a"')
    with pytest.raises(InputError, match=r"a readable \.jsonl table"):
        read_predictions(tmp_path)


def complete(answers: pd.DataFrame) -> pd.DataFrame:
    """All columns of the schema, missing ones empty, as reading gives them."""
    frame = answers.copy()
    for name in ANSWERS.names:
        if name not in frame:
            frame[name] = np.nan if name in ("value", "confidence") else None
    return frame[ANSWERS.names]


def test_reports_and_boxes_come_back(answers: pd.DataFrame, tmp_path: Path) -> None:
    reports = pd.DataFrame({"sequence_id": ["s0", "s0"], "position": [1, 2], "text": ["Stable.", ""]})
    boxes = pd.DataFrame(
        {"finding_id": ["f"], "position": [1], "channel": ["t1"], "x1": [0.0], "y1": [1.5], "x2": [4.0], "y2": [9.0]}
    )
    write_predictions(tmp_path / "p", answers, reports=reports, boxes=boxes)
    found = read_predictions(tmp_path / "p")
    assert found.reports is not None
    assert found.boxes is not None
    pd.testing.assert_frame_equal(found.reports, reports, check_dtype=False)
    pd.testing.assert_frame_equal(found.boxes, boxes, check_dtype=False)
    with pytest.raises(InputError, match="one row per sequence_id and position"):
        write_predictions(tmp_path / "p", answers, reports=reports.assign(position=1))
    with pytest.raises(InputError, match="x1 ≤ x2"):
        write_predictions(tmp_path / "p", answers, boxes=boxes.assign(x2=-1.0))
