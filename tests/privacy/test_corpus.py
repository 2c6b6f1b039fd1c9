"""What de-identification must reach: no planted identifier left, clinical words and intervals kept."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path

import pydicom
import pytest

from benchmarks.privacy_corpus import Corpus, lost_tokens, survivors
from temmed.timelines.privacy.stand_ins import StandIns
from tests.privacy.conftest import KEY, Done, everything


def gaps(days: list[date]) -> list[int]:
    return [(after - before).days for before, after in pairwise(sorted(days))]


def test_the_corpus_is_as_hard_as_it_says(done: Done) -> None:
    planted = done.corpus.planted
    assert len(planted) >= 500
    assert sum(entry.invented for entry in planted) >= len(planted) / 2
    assert {entry.place for entry in planted} >= {"header", "private", "nested", "text", "name", "nifti", "json"}
    assert survivors(planted, everything(done.corpus.root)) == planted, "what was planted cannot be found at all"


def test_no_planted_identifier_is_left_in_any_byte_or_name(done: Done) -> None:
    assert done.outcome.left == []
    left = survivors(done.corpus.planted, everything(done.root))
    assert [(entry.kind, entry.place, entry.value) for entry in left] == []


def test_clinical_words_survive(done: Done) -> None:
    with (done.root / "reports.csv").open(encoding="utf-8") as stream:
        rows = [row["report"] for row in csv.DictReader(stream)]
    with (done.corpus.root / "reports.csv").open(encoding="utf-8") as stream:
        before = [row["report"] for row in csv.DictReader(stream)]
    clinical = [text for name, text in done.corpus.clinical.items() if name.startswith("row")]
    assert len(rows) == len(before) == len(clinical)
    counts = [lost_tokens(text, row) for text, row in zip(clinical, rows, strict=True)]
    files = "\n".join(path.read_text() for path in sorted((done.root / "reports").iterdir()))
    counts.append(
        lost_tokens("\n".join(text for name, text in done.corpus.clinical.items() if name.startswith("file")), files)
    )
    lost, total = (sum(numbers) for numbers in zip(*counts, strict=True))
    assert total > 5000
    assert lost / total <= 0.01


def test_every_interval_between_visits_is_unchanged_in_headers_tables_and_names(done: Done) -> None:
    stand_ins = StandIns(KEY)
    headers: dict[str, list[date]] = defaultdict(list)
    for path in done.root.rglob("*.dcm"):
        header = pydicom.dcmread(path)
        headers[header.PatientID].append(datetime.strptime(header.StudyDate, "%Y%m%d").date())
    table: dict[str, list[date]] = defaultdict(list)
    with (done.root / "reports.csv").open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            table[row["patient_id"]].append(date.fromisoformat(row["study_date"]))
    for patient, days in done.corpus.visits.items():
        stand_in = stand_ins.patient(patient)
        assert gaps(headers[stand_in]) == gaps(days)
        assert sorted(table[stand_in]) == sorted(headers[stand_in]), "a table and headers were moved apart"
        assert not set(headers[stand_in]) & set(days)


def test_the_date_in_a_report_moves_with_the_date_of_its_images(done: Done) -> None:
    days = {path.name.split("-", 1)[1][:10]: path.read_text() for path in (done.root / "reports").iterdir()}
    headers = {pydicom.dcmread(path).StudyDate for path in done.root.rglob("*.dcm")}
    for text in days.values():
        written = text.split("Date of examination: ")[1][:11]
        assert datetime.strptime(written, "%d-%b-%Y").strftime("%Y%m%d") in headers


def test_pixels_and_what_the_study_needs_stay(done: Done) -> None:
    before = {pydicom.dcmread(path).PixelData for path in done.corpus.root.rglob("*.dcm")}
    after = [pydicom.dcmread(path) for path in done.root.rglob("*.dcm")]
    assert {header.PixelData for header in after} == before
    for header in after:
        assert (header.Modality, header.SeriesDescription, header.PatientSex) == ("CT", "Chest axial 1.0 mm", "F")
        assert header.Manufacturer == "Acme Imaging"
        assert header.StudyTime == "101500"


def test_files_of_one_study_keep_one_unique_id_and_two_studies_two(done: Done) -> None:
    def groups(root: Path) -> list[int]:
        found: dict[str, int] = defaultdict(int)
        for path in root.rglob("*.dcm"):
            found[pydicom.dcmread(path).StudyInstanceUID] += 1
        return sorted(found.values())

    assert groups(done.root) == groups(done.corpus.root)


def test_the_log_names_elements_and_holds_no_value(done: Done) -> None:
    text = (done.root / "deidentification.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert {"file", "place", "action", "count"} <= set.intersection(*(set(line) for line in lines))
    assert ("PatientName", "emptied") in {(line["place"], line["action"]) for line in lines}
    assert survivors(done.corpus.planted, [text]) == []
    manifest = json.loads((done.root / "deidentification.json").read_text())
    assert manifest["key"] == "given"
    assert KEY not in json.dumps(manifest)


@pytest.mark.slow
def test_other_seeds_leave_nothing_either(tmp_path: Path) -> None:
    """The rules were not made for one set of names."""
    from benchmarks.privacy_corpus import plant
    from temmed.timelines.privacy.run import Request, deidentify

    corpora: list[Corpus] = [plant(tmp_path / f"source{seed}", patients=6, seed=seed) for seed in (11, 12)]
    for number, corpus in enumerate(corpora):
        outcome = deidentify(Request(corpus.root, tmp_path / f"clean{number}", key=KEY, look=False))
        assert outcome.left == []
        left = survivors(corpus.planted, everything(tmp_path / f"clean{number}"))
        assert len(left) <= 0.01 * len(corpus.planted), [(entry.kind, entry.value) for entry in left]
