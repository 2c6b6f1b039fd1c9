"""Timeline folders, the commands, the scan and the access log."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import Result

from temmed.timelines.audit import audit, has_errors
from temmed.timelines.folder import Timeline
from temmed.timelines.privacy.access import VARIABLE
from temmed.timelines.privacy.run import Request, deidentify
from temmed.timelines.splits import get_split, load_split
from temmed.timelines.synthetic.generate import generate

Running = Callable[..., Result]


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic folder whose patients got hospital numbers and names, and a split."""
    root = tmp_path_factory.mktemp("named") / "folder"
    timeline = generate(root, patients=4, size=32, workers=1, progress=False)
    numbers = {old: f"MRN-{700_100 + index}" for index, old in enumerate(timeline.table("patients")["patient_id"])}

    def rename(text: object) -> object:
        for old, new in numbers.items():
            text = text.replace(old, new) if isinstance(text, str) else text
        return text

    for path in root.glob("*.parquet"):
        frame = pd.read_parquet(path)
        for column in frame.columns:
            if frame[column].dtype != float and column != "path":
                frame[column] = frame[column].map(rename)
        if path.stem == "patients":
            frame["patient_name"] = [f"Doe{index} Jane" for index in range(len(frame))]
        if path.stem == "reports":
            frame["text"] = frame["text"] + " Dictated by Dr. Okafor on 2020-03-04."
        frame.to_parquet(path)
    meta = json.loads((root / "dataset.json").read_text())
    meta["licence"], meta["provenance"]["source"] = "CC BY 4.0", "C:\\okafor\\data"
    meta["provenance"]["parameters"] = {"images": "/srv/okafor/scans"}
    meta["provenance"]["consent"] = "broad consent, 2019"
    (root / "dataset.json").write_text(json.dumps(meta))
    timeline = Timeline.open(root)
    timeline.record_fingerprint()
    get_split(timeline)
    return root


@pytest.fixture(scope="module")
def cleaned(named: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder without identifiers."""
    out = tmp_path_factory.mktemp("cleaned") / "out"
    assert deidentify(Request(named, out, key="k")).left == []
    return out


def test_a_timeline_folder_stays_one_with_the_same_times_and_images(named: Path, cleaned: Path) -> None:
    out = cleaned
    before, after = Timeline.open(named), Timeline.open(out)
    assert after.recorded_fingerprint == after.meta.fingerprint
    assert not has_errors(audit(Timeline.open(out, validate=False)))
    for table in ("timepoints", "measurements", "questions", "events", "images"):
        assert len(before.table(table)) == len(after.table(table))
    assert sorted(before.table("timepoints")["time"]) == sorted(after.table("timepoints")["time"])
    sequence = before.table("sequences").iloc[0]
    twin = after.table("sequences").iloc[
        after.table("sequences")["patient_id"].tolist().index(_stand_in(sequence["patient_id"]))
    ]
    pairs = zip(before.read_images(sequence["sequence_id"]), after.read_images(twin["sequence_id"]), strict=True)
    assert all((one[2] == two[2]).all() for one, two in pairs)
    text = "".join(path.read_text(errors="ignore") for path in out.rglob("*") if path.is_file())
    for left in ("MRN-7", "Okafor", "okafor", "Doe0", "2020-03-04"):
        assert left not in text
    assert after.meta.licence == "CC BY 4.0"
    assert after.meta.provenance["consent"] == "broad consent, 2019"
    assert after.meta.provenance["source"] == "data"
    assert "Annex E" in after.meta.provenance["deidentification"]["profile"]


def _stand_in(patient: str) -> str:
    from temmed.timelines.privacy.stand_ins import StandIns

    return StandIns("k").patient(patient)


def test_a_split_keeps_everybody_where_they_were(named: Path, cleaned: Path) -> None:
    out = cleaned
    name = next((named / "splits").glob("*.csv")).stem
    before = load_split(named, name, Timeline.open(named)).frame
    after = load_split(out, name, Timeline.open(out)).frame
    assert dict(zip(before["patient_id"].map(_stand_in), before["subset"], strict=True)) == dict(
        zip(after["patient_id"], after["subset"], strict=True)
    )


def test_the_same_key_gives_the_same_bytes_and_another_key_others(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    pd.DataFrame({"patient_id": ["1001"], "exam_date": ["2020-01-05"]}).to_parquet(source / "a.parquet")
    for name, key in (("a", "k"), ("b", "k"), ("c", "l")):
        deidentify(Request(source, tmp_path / name, key=key))
    tables = [(tmp_path / name / "a.parquet").read_bytes() for name in "abc"]
    assert tables[0] == tables[1] != tables[2]


def test_a_synthetic_folder_passes_the_scan(running: Running, tmp_path: Path) -> None:
    """Ids that were counted up are no identifiers, and a scan that cries wolf is not read."""
    generate(tmp_path / "folder", patients=2, size=32, workers=1, progress=False)
    scanned = running("scan", tmp_path / "folder")
    assert scanned.exit_code == 0, scanned.output


def test_a_raw_folder_fails_the_scan_and_its_clean_copy_passes(running: Running, tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    (source / "reports.csv").write_text("patient_id,date,report\nJD-10017,2020-03-04,Dr. Okafor saw a 4 mm nodule.\n")
    assert running("scan", source).exit_code == 1
    done = running("deidentify", source, out, "--pseudonym-key", "k")
    assert done.exit_code == 0, done.output
    assert "Okafor" not in done.output
    scanned = running("scan", out)
    assert scanned.exit_code == 0, scanned.output
    (out / "extra.txt").write_text("Patient: Jane Okafor, MRN 00481516")
    again = running("scan", out)
    assert again.exit_code == 1
    assert "extra.txt" in again.output
    assert "Okafor" not in again.output, "a scan must not print what it found"


def test_a_dry_run_writes_nothing(running: Running, named: Path, tmp_path: Path) -> None:
    result = running("deidentify", named, tmp_path / "out", "--dry-run")
    assert result.exit_code == 0
    assert "nothing was written" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere", "out"], "nothing"),
        (["source", "source/out"], "outside of the source"),
        (["source", "full"], "a folder with content"),
        (["source", "out", "--date-order", "ymd"], "dmy or mdy"),
    ],
)
def test_wrong_arguments_are_told_at_once(
    arguments: list[str], told: str, running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("source", "full"):
        Path(name).mkdir()
        Path(name, "a.txt").write_text("Stable.")
    result = running("deidentify", *arguments)
    assert result.exit_code == 2
    assert told in result.output
    assert sorted(os.listdir()) == ["full", "source"]


def test_images_outside_of_a_timeline_folder_are_refused(named: Path, tmp_path: Path) -> None:
    from temmed.errors import InputError

    copy = tmp_path / "copy"
    shutil.copytree(named, copy)
    images = pd.read_parquet(copy / "images.parquet")
    images["path"] = [str(named / path) for path in images["path"]]
    images.to_parquet(copy / "images.parquet")
    with pytest.raises(InputError, match="--reference"):
        deidentify(Request(copy, tmp_path / "out", key="k"))


def test_openings_are_recorded_only_where_asked(named: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "access.jsonl"
    monkeypatch.delenv(VARIABLE, raising=False)
    Timeline.open(named)
    assert not log.exists()
    monkeypatch.setenv(VARIABLE, str(log))
    Timeline.open(named)
    fingerprint = Timeline.open(named).meta.fingerprint
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == 2
    assert {line["folder"] for line in lines} == {str(named)}
    assert lines[0]["fingerprint"] == fingerprint
    assert {"time", "user", "host", "process", "command"} <= set(lines[0])


def test_a_folder_stays_closed_when_its_opening_cannot_be_recorded(
    named: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from temmed.errors import InputError

    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match=VARIABLE):
        Timeline.open(named)
