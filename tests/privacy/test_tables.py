"""Tables and JSON files: cells, headers and keys, types, separators, paths."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from temmed.errors import InputError
from temmed.timelines.privacy.run import Outcome, Request, deidentify
from temmed.timelines.privacy.stand_ins import StandIns

STAND_INS = StandIns("k")


def moved(day: date, patient: str) -> date:
    return day + timedelta(days=STAND_INS.days(patient))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


def run(source: Path) -> tuple[Path, Outcome]:
    outcome = deidentify(Request(source, source.parent / "out", key="k"))
    assert outcome.left == []
    return source.parent / "out", outcome


def test_a_column_called_name_is_a_persons_beside_what_describes_one(source: Path) -> None:
    (source / "people.csv").write_text("patient_id,name,sex\n1001,GRACE STONE,F\n")
    (source / "treatments.csv").write_text("patient_id,name,start\n1001,temozolomide,3\n")
    out, _ = run(source)
    assert (out / "people.csv").read_text().splitlines()[1] == f"{STAND_INS.patient('1001')},,F"
    assert "temozolomide,3" in (out / "treatments.csv").read_text()


def test_other_separators_are_kept(source: Path) -> None:
    (source / "a.csv").write_text("patient_id;physician;size\n1001;Okafor;4,5\n")
    out, _ = run(source)
    assert (out / "a.csv").read_text() == f"patient_id;physician;size\n{STAND_INS.patient('1001')};;4,5\n"


def test_identifiers_in_headers_go_and_the_log_does_not_tell_them(source: Path) -> None:
    (source / "wide.csv").write_text("site,Dr. Okafor,2020-01-05\nnorth,A. Miller saw it,4\n")
    (source / "keys.json").write_text(json.dumps({"JD-17": {"patient_id": "JD-17", "jd-17 size": 4}}))
    out, _ = run(source)
    for path in out.iterdir():
        for value in ("Okafor", "2020-01-05", "JD-17", "jd-17", "Miller"):
            assert value not in path.read_text(), path.name


def test_json_keys_and_lists_of_patients(source: Path) -> None:
    value = {
        "JD-10017": {"2020-01-05": "stable", "ImageComments": "x", "SeriesDescription": "T1 mprage Okafor"},
        "patients": ["JD-10017"], "counts": {"patients": 6}, "images": "/srv/okafor/ADNI",
        "ManufacturersModelName": "Signa HDxt", "PatientAge": "094Y",
    }  # fmt: skip
    (source / "a.json").write_text(json.dumps(value))
    (source / "a.csv").write_text("patient_id\nJD-10017\n")
    out, _ = run(source)
    told = json.loads((out / "a.json").read_text())
    own = told[STAND_INS.patient("JD-10017")]
    assert own == {moved(date(2020, 1, 5), "JD-10017").isoformat(): "stable", "ImageComments": "",
                   "SeriesDescription": "T1 mprage"}  # fmt: skip
    assert told["patients"] == [STAND_INS.patient("JD-10017")]
    assert told["counts"] == {"patients": 6}
    assert told["ManufacturersModelName"] == "Signa HDxt"
    assert told["PatientAge"] == "90"
    assert "okafor" not in told["images"]


def test_dicom_written_as_json_is_cleaned_as_dicom(source: Path) -> None:
    value = {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]}, "00100020": {"vr": "LO", "Value": ["JD-17"]},
        "00080020": {"vr": "DA", "Value": ["20200105"]}, "00091001": {"vr": "LO", "Value": ["Doe"]},
        "0008103E": {"vr": "LO", "Value": ["T1 axial"]}, "00100040": {"vr": "CS", "Value": ["F"]},
    }  # fmt: skip
    (source / "a.json").write_text(json.dumps([value]))
    (source / "a.txt").write_text("Jane came.")
    out, _ = run(source)
    (told,) = json.loads((out / "a.json").read_text())
    assert told["00080020"]["Value"] == [f"{moved(date(2020, 1, 5), 'JD-17'):%Y%m%d}"]
    assert told["00100020"]["Value"] == [STAND_INS.patient("JD-17")]
    assert (told["0008103E"]["Value"], told["00100040"]["Value"]) == (["T1 axial"], ["F"])
    assert "Value" not in told["00100010"]
    assert "00091001" not in told
    assert (out / "a.txt").read_text() == "[NAME] came."


def test_parquet_keeps_types_and_moves_dates_of_every_type(source: Path) -> None:
    days = [date(2180, 5, 6), date(2180, 6, 6)]
    frame = pd.DataFrame(
        {
            "subject_id": [10000032, 10000764], "StudyDate": [21800506, 21800606], "StudyTime": [213014.5, 1.25],
            "exam_date": pd.Series(days).astype("datetime64[us]"), "age": [52.0, 97.0], "size": [1.5, None],
            "site": ["a", "b"],
            "label": pd.Categorical(["stable", "worse"]), "evidence": [[0, 1], [2]],
        }
    )  # fmt: skip
    table = pa.Table.from_pandas(frame).append_column("day", pa.array(days, pa.date32()))
    pq.write_table(table.replace_schema_metadata({"made by": "Jane Doe"}), source / "a.parquet")
    out, _ = run(source)
    assert b"Jane Doe" not in (out / "a.parquet").read_bytes()
    after = pq.read_table(out / "a.parquet")
    rows = after.to_pylist()
    for row, day, patient in zip(rows, days, ("10000032", "10000764"), strict=True):
        assert row["subject_id"] == STAND_INS.patient(patient)
        assert row["StudyDate"] == int(f"{moved(day, patient):%Y%m%d}")
        assert row["exam_date"].date() == row["day"] == moved(day, patient)
    assert [row["age"] for row in rows] == [52.0, 90.0]
    assert [row["StudyTime"] for row in rows] == [213014.5, 1.25]
    assert [row["evidence"] for row in rows] == [[0, 1], [2]]
    assert [row["label"] for row in rows] == ["stable", "worse"]
    for name in ("StudyDate", "exam_date", "day", "age", "size", "evidence"):
        assert after.schema.field(name).type == table.schema.field(name).type, name


def test_columns_of_bytes_are_refused(source: Path) -> None:
    pq.write_table(pa.table({"image": [b"JFIF Jane Doe"]}), source / "a.parquet")
    with pytest.raises(InputError, match="image"):
        run(source)
    assert not (source.parent / "out").exists()


def test_a_row_belongs_to_nobody_because_of_a_number_in_it(source: Path) -> None:
    (source / "links.csv").write_text("patient_id,visit_id\n1001,1\n1002,2\n")
    (source / "other.csv").write_text("score,exam_date\n1,2020-01-05\n")
    (source / "linked.csv").write_text("visit_id,exam_date\n1,2020-01-05\n")
    out, _ = run(source)
    assert (out / "other.csv").read_text() == "score,exam_date\n1,\n"
    assert f",{moved(date(2020, 1, 5), '1001')}" in (out / "linked.csv").read_text()


def test_days_of_a_spreadsheet_are_dates(source: Path) -> None:
    (source / "a.csv").write_text("patient_id,exam_date,days\n1001,43835,43835\n1001,12,12\n")
    out, _ = run(source)
    assert [line.split(",", 1)[1] for line in (out / "a.csv").read_text().splitlines()[1:]] == [",43835", "12,12"]
