"""The user's questions and events: what they become, and what is said about rows that cannot be used."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path

import pytest

from temmed.errors import InputError
from temmed.timelines.importers.plan import Picture, Plan, PlannedSequence
from temmed.timelines.importers.questions import Asked, read_asked

SOURCE = Path("/source")
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def sequence(name: str, patient: str, unit: str, times: list[float], file: str, **more: object) -> PlannedSequence:
    pictures = [Picture(position, "image", (SOURCE / file,), position) for position in range(len(times))]
    return PlannedSequence(name, patient, str(more.pop("modality", "mri")), unit, 2, times, pictures, "", **more)  # type: ignore[arg-type]


@pytest.fixture
def plan() -> Plan:
    return Plan(
        sequences=[
            sequence("visits", "Pa", "day", [0, 30, 90, 90.5], "a/v.dcm", start=datetime(2020, 1, 1, 9)),
            sequence("loop", "Pb", "millisecond", [0, 33.3, 66.6, 99.9], "b/loop.dcm", modality="ultrasound"),
            sequence("other", "Pb", "millisecond", [0, 10], "b/other.dcm"),
        ],
        aliases={"Pa": "anna", "Pb": "berta"},
    )


def ask(tmp_path: Path, plan: Plan, questions: str = "", events: str = "") -> Asked:
    paths: list[Path | None] = []
    for name, text in (("questions.csv", questions), ("events.csv", events)):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        paths.append(path if text else None)
    return read_asked(paths[0], paths[1], plan, SOURCE)


def test_a_question_with_choices(tmp_path: Path, plan: Plan) -> None:
    text = (
        "file,position,prompt,choices,answer,evidence,finding\n"
        'b/loop.dcm,3,"Is it larger, now?",progressed|stable|regressed,stable,3|1,Left Ventricle\n'
    )
    asked = ask(tmp_path, plan, text)
    [question] = asked.questions
    assert question == {
        "question_id": "loop_q1",
        "sequence_id": "loop",
        "finding_id": "loop_left_ventricle",
        "task": "progression",
        "template": "user_progression",
        "prompt": "Is it larger, now?",
        "asked_at": 3,
        "choices": ["progressed", "stable", "regressed"],
        "answer": "stable",
        "value": None,
        "evidence": [1, 3],
        "evidence_kind": "positions",
        "evidence_report_id": None,
        "evidence_sentence": None,
        "names_position": False,
        "horizon_steps": 2,
        "horizon_time": pytest.approx(66.6),
    }
    assert asked.findings == {
        "loop_left_ventricle": {
            "finding_id": "loop_left_ventricle",
            "sequence_id": "loop",
            "label": "Left Ventricle",
        }
    }


def test_tasks_and_defaults(tmp_path: Path, plan: Plan) -> None:
    text = (
        "sequence,position,prompt,choices,answer,value,evidence,task,template,names_position,question\n"
        "loop,0,Is the valve open?,yes|no,yes,,0,,,,\n"
        "loop,0,How wide in mm?,,,12.5,0,,,,\n"
        "loop,1,Is frame 1 darker?,yes|no,no,,absence,,,,\n"
        "loop,1,Is frame 1 darker?,yes|no,no,,,progression,mine,no,q-7\n"
    )
    first, second, third, fourth = ask(tmp_path, plan, text).questions
    assert (first["task"], first["template"], first["names_position"]) == ("choice", "user_choice", False)
    assert (second["task"], second["value"], second["choices"]) == ("measurement", 12.5, None)
    assert (third["names_position"], third["evidence"], third["evidence_kind"]) == (True, [], "absence")
    assert third["horizon_steps"] is None
    assert (fourth["task"], fourth["template"], fourth["names_position"]) == ("progression", "mine", False)
    assert (fourth["question_id"], fourth["evidence"], fourth["evidence_kind"]) == ("q-7", None, None)


@pytest.mark.parametrize(
    ("naming", "expected"),
    [
        ("visits,,,", "visits"),
        (",a/v.dcm,,", "visits"),
        (",v.dcm,,", "visits"),
        (",/source/a/v.dcm,,", "visits"),
        (",,anna,", "visits"),
        (",,Pa,", "visits"),
        (",,berta,ultrasound", "loop"),
    ],
)
def test_ways_to_name_a_sequence(tmp_path: Path, plan: Plan, naming: str, expected: str) -> None:
    text = f"sequence,file,patient,modality,position,prompt,value\n{naming},1,How wide?,3\n"
    assert ask(tmp_path, plan, text).questions[0]["sequence_id"] == expected


@pytest.mark.parametrize(
    ("name", "time", "position"),
    [
        ("loop", "0", 0),
        ("loop", "33", 1),
        ("loop", "100", 3),
        ("loop", "66.6", 2),
        ("visits", "31", 1),
        ("visits", "2020-01-31", 1),
        ("visits", "90", 2),
    ],
)
def test_ways_to_name_a_time(tmp_path: Path, plan: Plan, name: str, time: str, position: int) -> None:
    text = f"sequence,time,prompt,value\n{name},{time},How wide?,3\n"
    assert ask(tmp_path, plan, text).questions[0]["asked_at"] == position


def test_events_lie_between_what_was_seen(tmp_path: Path, plan: Plan) -> None:
    text = (
        "sequence,label,onset,offset,onset_position,offset_position,finding\n"
        "loop,open,33.3,66.6,,,valve\n"
        "loop,open,0,,,,\n"
        "loop,open,,,1,3,\n"
        "loop,open,never,,,,\n"
        "visits,lesion,2020-01-31,,,,\n"
    )
    asked = ask(tmp_path, plan, events=text)
    bounds = [
        [event[name] for name in ("onset_lower", "onset_upper", "offset_lower", "offset_upper")]
        for event in asked.events
    ]
    assert bounds == [
        [0, 33.3, 66.6, 99.9],
        [-math.inf, 0, 99.9, math.inf],
        [0, 33.3, 99.9, math.inf],
        [None, None, None, None],
        [0, 30, 90.5, math.inf],
    ]
    assert [event["event_id"] for event in asked.events] == [f"loop_e{number}" for number in range(1, 5)] + [
        "visits_e5"
    ]
    assert asked.events[0]["finding_id"] == "loop_valve"


HEADER = "sequence,file,patient,modality,position,time,prompt,choices,answer,value,evidence,names_position,question\n"
GOOD = "loop,,,,0,,P,yes|no,yes,,0,,"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (",,,,0,,P,yes|no,yes,,0,,", "sequence, file, patient: one of them must name a sequence, found nothing"),
        ("lop,,,,0,,P,yes|no,yes,,0,,", "sequence: must be one that is imported; did you mean loop?, found 'lop'"),
        (",x.dcm,,,0,,P,yes|no,yes,,0,,", "file: must be one that is imported"),
        (",,berta,,0,,P,yes|no,yes,,0,,", "patient: must name one sequence; use the column sequence with one of loop"),
        (",,berta,ct,0,,P,yes|no,yes,,0,,", "modality: must be one of mri, ultrasound, found 'ct'"),
        ("loop,,,,,,P,yes|no,yes,,0,,", "position, time: exactly one of them must be there, found neither"),
        ("loop,,,,1,33,P,yes|no,yes,,0,,", "position, time: exactly one of them must be there, found both"),
        ("loop,,,,4,,P,yes|no,yes,,0,,", "position: must be a whole number from 0 to 3, found '4'"),
        ("loop,,,,-1,,P,yes|no,yes,,0,,", "position: must be a whole number from 0 to 3, found '-1'"),
        ("loop,,,,1.5,,P,yes|no,yes,,0,,", "position: must be a whole number from 0 to 3, found '1.5'"),
        ("loop,,,,,200,P,yes|no,yes,,0,,", "time: must be a time from 0 to 99.9 (millisecond), found '200'"),
        ("loop,,,,,soon,P,yes|no,yes,,0,,", "time: must be a number, found 'soon'"),
        ("loop,,,,,nan,P,yes|no,yes,,0,,", "time: must be a number, found 'nan'"),
        ("loop,,,,,2020-01-31,P,yes|no,yes,,0,,", "time: must be a time in the unit millisecond: no dates are known"),
        ("visits,,,,,2020-02-02,P,yes|no,yes,,0,,", "time: must be the date of one time point, found '2020-02-02'"),
        ("visits,,,,,2020-03-31,P,yes|no,yes,,0,,", "time: must be the date of one time point; it is that of several"),
        ("loop,,,,0,,,yes|no,yes,,0,,", "prompt: must not be empty, found nothing"),
        ("loop,,,,0,,P,yes,yes,,0,,", "choices: must be two or more different texts with | between them, found 'yes'"),
        ("loop,,,,0,,P,yes|yes,yes,,0,,", "choices: must be two or more different texts"),
        ("loop,,,,0,,P,yes|,yes,,0,,", "choices: must be two or more different texts"),
        ("loop,,,,0,,P,yes|no,Yes,,0,,", "answer: must be one of yes, no; did you mean yes?, found 'Yes'"),
        ("loop,,,,0,,P,yes|no,,,0,,", "answer: must be one of yes, no, found nothing"),
        ("loop,,,,0,,P,,yes,,0,,", "answer: needs choices to be one of; a number goes into the column value"),
        ("loop,,,,0,,P,,,,0,,", "choices, value: choices with an answer, or a value, must be there, found neither"),
        ("loop,,,,0,,P,,,wide,0,,", "value: must be a number, found 'wide'"),
        ("loop,,,,1,,P,yes|no,yes,,0|2,,", "evidence: must be positions from 0 to 1, where the question is asked"),
        ("loop,,,,1,,P,yes|no,yes,,a,,", "evidence: must be positions from 0 to 1"),
        ("loop,,,,0,,P,yes|no,yes,,0,maybe,", "names_position: must be true or false, found 'maybe'"),
    ],
)
def test_rows_that_cannot_be_used(tmp_path: Path, plan: Plan, row: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        ask(tmp_path, plan, HEADER + GOOD + "\n" + row + "\n")
    assert f"questions.csv, row 2, {message}" in str(caught.value)
    assert "found 1 problem:" in str(caught.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("loop,,0,,,", "label: must not be empty"),
        ("loop,open,,,,", "onset_position, onset: exactly one of them must be there, found neither"),
        ("loop,open,never,66.6,,", "offset: must be empty for an event that never happens, found '66.6'"),
        ("loop,open,66.6,33.3,,", "offset: must not lie before the onset, found '33.3'"),
        ("loop,open,0,,,9", "offset_position: must be a whole number from 0 to 3, found '9'"),
    ],
)
def test_events_that_cannot_be_used(tmp_path: Path, plan: Plan, row: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        ask(tmp_path, plan, events=f"sequence,label,onset,offset,onset_position,offset_position\n{row}\n")
    assert f"events.csv, row 1, {message}" in str(caught.value)


def test_all_rows_are_told_at_once(tmp_path: Path, plan: Plan) -> None:
    rows = [GOOD.replace("yes|no,yes", "yes|no,perhaps") for _ in range(30)]
    with pytest.raises(InputError) as caught:
        ask(tmp_path, plan, HEADER + "\n".join([GOOD, *rows]), "sequence,label,onset\nnone,open,0\n")
    message = str(caught.value)
    assert "found 31 problems:" in message
    assert "row 2, answer" in message
    assert "and 11 more" in message
    assert "docs/own-data.md" in message


def test_ids_are_unique(tmp_path: Path, plan: Plan) -> None:
    text = "sequence,position,prompt,value,question\nloop,0,P,1,q\nloop,0,P,1,q\n"
    with pytest.raises(InputError, match="row 2, question: must be unique, found 'q'"):
        ask(tmp_path, plan, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\n", "an empty file"),
        ("sequence,prompt\n", "rows below the header, found none"),
        ("sequence;prompt;answer\na;b;c\n", "semicolons"),
        ("sequence,promt\na,b\n", "Did you mean prompt?"),
        ("sequence,position\nloop,1\n", "the column prompt, found only sequence, position"),
        ("sequence,prompt,prompt\na,b,c\n", "'prompt' twice"),
        ("sequence,prompt\nloop,Is it, say, larger?\n", "found 4 in row 1"),
        ('sequence,prompt\nloop,"open\n', "a CSV file in UTF-8"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, plan: Plan, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        ask(tmp_path, plan, text)
    assert message in str(caught.value)
    assert str(tmp_path / "questions.csv") in str(caught.value)


def test_other_encodings_and_absent_files(tmp_path: Path, plan: Plan) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes("sequence,prompt\nloop,größer?\n".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        read_asked(path, None, plan, SOURCE)
    with pytest.raises(InputError, match=r"absent\.csv: expected a CSV file, found No such file"):
        read_asked(tmp_path / "absent.csv", None, plan, SOURCE)


def test_excel_writes_a_byte_order_mark(tmp_path: Path, plan: Plan) -> None:
    path = tmp_path / "excel.csv"
    path.write_bytes("\ufeffsequence,position,prompt,value\r\nloop,0,How wide?,3\r\n".encode())
    assert len(read_asked(path, None, plan, SOURCE).questions) == 1
