"""DICOM imports: whose images, when and under which name; a real echo cine, and studies made up for every rule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydicom.data import get_testdata_file
from pydicom.pixels import pixel_array

from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.importers.build import Outcome, Request, run_import
from temmed.timelines.importers.plan import Options, Plan, pseudonym
from temmed.timelines.importers.registry import importer
from temmed.timelines.tables import named_rows

DicomWriter = Callable[..., Path]
Importing = Callable[..., tuple[Timeline, Outcome]]
Planning = Callable[..., Plan]
Item = Callable[..., pydicom.Dataset]

AXIAL = [1, 0, 0, 0, 1, 0]


def plain(value: int, size: int = 4, dtype: type = np.uint8) -> np.ndarray:
    return np.full((size, size), value, dtype)


def reasons(outcome: Outcome) -> dict[str, str]:
    return {entry.path.name: entry.reason for entry in outcome.plan.skipped}


def test_echo_order_times_and_colour(importing: Importing, echo: Path) -> None:
    timeline, outcome = importing("dicom", echo)
    (sequence,) = named_rows(timeline.table("sequences"))
    assert (sequence.modality, sequence.time_unit, sequence.spatial_dims) == ("ultrasound", "millisecond", 2)
    step = float(pydicom.dcmread(echo, stop_before_pixels=True).FrameTime)
    assert step == 33.333
    assert_allclose(timeline.table("timepoints")["time"], step * np.arange(30), rtol=1e-12)
    images = timeline.read_images(sequence.sequence_id)
    assert [(position, channel) for position, channel, _ in images] == [(k, "rgb") for k in range(30)]
    for (position, _, pixels), frame in zip(images, pixel_array(echo), strict=True):
        assert_array_equal(pixels, frame, err_msg=f"frame {position}")
    # A grey conversion or a lost YBR conversion would pass the comparison of shapes alone.
    assert np.ptp(images[0][2].astype(int), axis=-1).max() > 50
    assert timeline.meta.provenance["timing"] == {sequence.sequence_id: "FrameTime"}
    assert {finding.rule for finding in outcome.findings} == {"identifiers"}  # private elements, ids of the procedure


def test_a_copy_names_nobody_and_keeps_its_pixels(importing: Importing, tmp_path: Path, dicom: DicomWriter) -> None:
    source = dicom(
        tmp_path / "source" / "doe.dcm",
        plain(3),
        PatientBirthDate="19600301",
        ReferringPhysicianName="Who^Doctor",
        AccessionNumber="A77",
        RequestAttributesSequence=[pydicom.Dataset()],
    )
    timeline, _ = importing("dicom", source)
    for file in timeline.root.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        for secret in (b"Doe", b"Jane", b"Who", b"A77", b"19600301"):
            assert secret not in content, file
    copied = pydicom.dcmread(timeline.root / timeline.table("images")["path"][0])
    assert copied.PatientID == copied.PatientName == pseudonym("one", "")
    assert copied.PixelData == pydicom.dcmread(source).PixelData
    log = (timeline.root / "deidentification.jsonl").read_text()
    assert "PatientBirthDate" in log
    assert "1960" not in log


def test_names_inside_of_sequences_are_removed_too(
    importing: Importing, tmp_path: Path, dicom: DicomWriter, item: Item
) -> None:
    request = item(RequestingPhysician="Deep^Name", OtherPatientIDsSequence=[item(PatientID="hidden-id")])
    source = dicom(tmp_path / "source" / "a.dcm", plain(3), ReferencedStudySequence=[request])
    timeline, _ = importing("dicom", source)
    copied = timeline.root / timeline.table("images")["path"][0]
    assert b"Deep" not in copied.read_bytes()
    assert b"hidden-id" not in copied.read_bytes()


def test_pseudonyms_and_kept_ids(importing: Importing, planning: Planning, echo: Path) -> None:
    for key in ("", "secret"):
        plan = planning("dicom", echo, Options(key=key))
        assert [row["patient_id"] for row in plan.patients] == [pseudonym("204", key)]
    timeline, _ = importing("dicom", echo, Options(keep_ids=True))
    assert list(timeline.table("patients")["patient_id"]) == ["204"]
    copied = pydicom.dcmread(timeline.root / timeline.table("images")["path"][0], stop_before_pixels=True)
    assert (copied.PatientID, str(copied.PatientName)) == ("204", "204")


def test_reference_leaves_the_files_and_reads_the_same(
    importing: Importing, tmp_path: Path, dicom: DicomWriter, echo: Path
) -> None:
    for index, height in enumerate([3, 1, 2]):
        dicom(
            tmp_path / "source" / f"{index}.dcm",
            plain(height),
            ImagePositionPatient=[0, 0, height],
            ImageOrientationPatient=AXIAL,
        )
    (tmp_path / "source" / "echo").write_bytes(echo.read_bytes())
    before = {file: file.read_bytes() for file in (tmp_path / "source").iterdir()}
    timeline, _ = importing("dicom", tmp_path / "source", reference=True)
    assert {file: file.read_bytes() for file in (tmp_path / "source").iterdir()} == before
    volumes = timeline.table("sequences").query("spatial_dims == 3")["sequence_id"]
    assert_array_equal(timeline.read_images(volumes.item())[0][2][:, 0, 0], [1, 2, 3])
    assert [file for file in timeline.root.rglob("*") if file.suffix == ".dcm" and not file.is_symlink()] == []
    assert not (timeline.root / "deidentification.jsonl").exists()


def test_visits_are_ordered_by_date_and_time(importing: Importing, tmp_path: Path, dicom: DicomWriter) -> None:
    visits = [("20200301", "080000", 2), ("20190302", "200000", 1), ("20200301", "203000.5", 3)]
    for index, (day, clock, value) in enumerate(visits):
        dicom(
            tmp_path / "source" / f"{index}.dcm",
            plain(value),
            Modality="CR",
            StudyDate=day,
            StudyTime=clock,
            StudyInstanceUID=f"1.2.{9 - index}",
            SeriesInstanceUID=f"1.2.{9 - index}.1",
            ViewPosition="PA",
            PatientAge="034Y" if day == "20190302" else "035Y",
            PatientSex="F",
        )
    timeline, _ = importing("dicom", tmp_path / "source")
    (sequence,) = named_rows(timeline.table("sequences"))
    assert (sequence.modality, sequence.time_unit) == ("xray", "day")
    assert_allclose(timeline.table("timepoints")["time"], [0, 364.5, 365 + 1800.5 / 86400], atol=1e-9)
    images = timeline.read_images(sequence.sequence_id)
    assert [(channel, pixels[0, 0]) for _, channel, pixels in images] == [
        ("frontal", 1),
        ("frontal", 2),
        ("frontal", 3),
    ]
    patient = timeline.table("patients").iloc[0]
    assert (patient.sex, patient.age) == ("F", 34)


def test_time_of_day_is_used_only_where_every_study_has_one(
    importing: Importing, tmp_path: Path, dicom: DicomWriter
) -> None:
    for index, (day, clock) in enumerate([("20200101", "230000"), ("20200103", None)]):
        dicom(
            tmp_path / "source" / f"{index}.dcm",
            plain(index),
            StudyDate=day,
            StudyTime=clock,
            StudyInstanceUID=f"1.2.{index}",
            SeriesInstanceUID=f"1.2.{index}.1",
        )
    timeline, _ = importing("dicom", tmp_path / "source")
    assert list(timeline.table("timepoints")["time"]) == [0, 2]


@pytest.mark.parametrize(
    ("elements", "source"),
    [
        ({"SeriesDate": "20200110"}, "SeriesDate"),
        ({"AcquisitionDate": "20200110"}, "AcquisitionDate"),
        ({"AcquisitionDateTime": "20200110120000.5"}, "AcquisitionDateTime"),
    ],
)
def test_other_dates_where_the_study_has_none(
    planning: Planning, tmp_path: Path, dicom: DicomWriter, elements: dict[str, str], source: str
) -> None:
    dicom(tmp_path / "source" / "0.dcm", plain(0), StudyDate="20200101")
    dicom(tmp_path / "source" / "1.dcm", plain(1), StudyDate=None, StudyInstanceUID="1.9", **elements)
    [sequence] = planning("dicom", tmp_path / "source").sequences
    assert sequence.times == [0, 9]
    assert source in sequence.timing


def test_offsets_from_an_event_come_before_dates(importing: Importing, tmp_path: Path, dicom: DicomWriter) -> None:
    for index, offset in enumerate([100.0, -20.5]):
        dicom(
            tmp_path / "source" / f"{index}.dcm",
            plain(index),
            StudyInstanceUID=f"1.2.{index}",
            LongitudinalTemporalOffsetFromEvent=offset,
        )
    timeline, _ = importing("dicom", tmp_path / "source")
    assert list(timeline.table("timepoints")["time"]) == [0, 120.5]
    (sequence,) = named_rows(timeline.table("sequences"))
    assert timeline.read_images(sequence.sequence_id)[0][2][0, 0] == 1


def test_studies_without_a_date(importing: Importing, tmp_path: Path, dicom: DicomWriter) -> None:
    dicom(tmp_path / "alone" / "a.dcm", plain(0), StudyDate=None)
    timeline, _ = importing("dicom", tmp_path / "alone")
    assert list(timeline.table("timepoints")["time"]) == [0]
    for index in range(2):
        dicom(tmp_path / "two" / f"{index}.dcm", plain(0), StudyDate=None, StudyInstanceUID=f"1.{index}")
    with pytest.raises(InputError, match="no date"):
        importing("dicom", tmp_path / "two", overwrite=True)
    dicom(tmp_path / "two" / "cine.dcm", np.zeros((3, 4, 4), np.uint8), StudyDate=None, FrameTime=5)
    timeline, outcome = importing("dicom", tmp_path / "two", overwrite=True)
    assert len(timeline.table("sequences")) == 1
    assert set(reasons(outcome)) == {"0.dcm", "1.dcm"}


def test_ties_are_told_by_the_audit(importing: Importing, tmp_path: Path, dicom: DicomWriter) -> None:
    for index in range(2):
        dicom(tmp_path / "source" / f"{index}.dcm", plain(0), StudyInstanceUID=f"1.{index}")
    _, outcome = importing("dicom", tmp_path / "source")
    assert {"ties"} == {finding.rule for finding in outcome.findings} - {"blank_image"}


def test_patients_modalities_and_channels(planning: Planning, tmp_path: Path, dicom: DicomWriter) -> None:
    def series(name: str, patient: str, modality: str, description: str | None, number: int, **more: Any) -> None:
        dicom(
            tmp_path / "source" / name,
            plain(number),
            PatientID=patient,
            Modality=modality,
            StudyInstanceUID=f"1.{patient}",
            SeriesInstanceUID=f"1.{patient}.{number}",
            SeriesNumber=number,
            SeriesDescription=description,
            **more,
        )

    series("a", "7", "MR", "Ax T2 FLAIR", 2)
    series("b", "7", "MR", "Ax T1", 1)
    series("c", "7", "CT", None, 3)
    series("d", "8", "DX", "CHEST", 1, ViewPosition="LL")
    series("e", "8", "DX", "CHEST", 2)
    plan = planning("dicom", tmp_path / "source", Options(keep_ids=True))
    channels = {sequence.sequence_id: [picture.channel for picture in sequence.pictures] for sequence in plan.sequences}
    assert channels == {"7_mri": ["ax_t1", "ax_t2_flair"], "7_ct": ["image"], "8_xray": ["lateral", "image"]}
    renamed = planning("dicom", tmp_path / "source", Options(keep_ids=True, modality="body"))
    assert [sequence.sequence_id for sequence in renamed.sequences] == ["7_body", "8_body"]
    limited = planning("dicom", tmp_path / "source", Options(keep_ids=True, limit=1))
    assert [row["patient_id"] for row in limited.patients] == ["7"]
    assert "left out by --limit" in limited.notes[0]


def test_kept_ids_that_differ_in_case_or_signs_share_no_file(
    importing: Importing, tmp_path: Path, dicom: DicomWriter
) -> None:
    for value, patient in enumerate(["A/1", "a/1", "a_1", "A 1"]):
        dicom(tmp_path / "source" / str(value), plain(value), PatientID=patient, StudyInstanceUID=f"1.{value}")
    timeline, _ = importing("dicom", tmp_path / "source", Options(keep_ids=True))
    found = {name: int(timeline.read_images(name)[0][2][0, 0]) for name in timeline.table("sequences")["sequence_id"]}
    assert found == {"A/1_ct": 0, "a/1_ct": 1, "a_1_ct": 2, "A 1_ct": 3}


def test_what_is_no_image_is_named_with_its_reason(
    importing: Importing, tmp_path: Path, dicom: DicomWriter, echo: Path
) -> None:
    source = tmp_path / "source"
    dicom(source / "good.dcm", plain(1))
    (source / "twin.dcm").write_bytes((source / "good.dcm").read_bytes())
    (source / "notes.txt").write_text("hello")
    (source / "empty.dcm").write_bytes(b"")
    (source / "cut.dcm").write_bytes(echo.read_bytes()[:-30_000])
    (source / "sub").mkdir()
    for name in ("reportsi.dcm", "liver_1frame.dcm", "rtdose_1frame.dcm", "DICOMDIR"):
        path = next(Path(get_testdata_file("CT_small.dcm")).parent.rglob(name))
        (source / "sub" / name).write_bytes(path.read_bytes())
    dicom(source / "scout.dcm", plain(1), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    timeline, outcome = importing("dicom", source)
    assert len(timeline.table("images")) == 1
    found = reasons(outcome)
    expected = {
        "twin.dcm": "the same image as good.dcm",
        "notes.txt": "DICM marker",
        "empty.dcm": "an empty file",
        "cut.dcm": "expected readable pixels",
        "reportsi.dcm": "no pixels",
        "liver_1frame.dcm": "a segmentation",
        "rtdose_1frame.dcm": "a radiation dose",
        "DICOMDIR": "a DICOMDIR",
        "scout.dcm": "a localizer",
    }
    assert set(found) == set(expected)
    for name, reason in expected.items():
        assert reason in found[name]
    assert timeline.meta.provenance["files"] == {"used": 1, "skipped": 9}


def test_files_without_a_patient_id_are_not_thrown_together(
    planning: Planning, tmp_path: Path, dicom: DicomWriter
) -> None:
    for index in range(2):
        dicom(tmp_path / "source" / f"{index}.dcm", plain(0), PatientID="", StudyInstanceUID=f"1.{index}")
    plan = planning("dicom", tmp_path / "source")
    assert len(plan.patients) == 2
    assert "no PatientID" in plan.notes[0]


def test_processes_change_nothing(tmp_path: Path, dicom: DicomWriter) -> None:
    for index in range(70):
        dicom(
            tmp_path / "source" / f"{index}.dcm",
            plain(index),
            PatientID=str(index % 7),
            StudyInstanceUID=f"1.{index % 7}",
            ImagePositionPatient=[0, 0, -index],
            ImageOrientationPatient=AXIAL,
        )
    plans = [
        run_import(
            importer("dicom"),
            Request(tmp_path / "source", tmp_path / "out", Options(workers=workers), dry_run=True),
        ).plan
        for workers in (1, 2)
    ]
    assert len(plans[0].sequences) == 7
    assert plans[0] == plans[1]
