"""The DICOM profile: every table entry, every depth, damaged files."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pydicom
import pydicom.examples
import pytest
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from typer.testing import Result

from temmed.errors import InputError
from temmed.timelines.privacy.dicom_profile import Profile
from temmed.timelines.privacy.dicom_table import action_of
from temmed.timelines.privacy.run import Request, deidentify
from temmed.timelines.privacy.text import Scrubber

Running = Callable[..., Result]


def dataset(**elements: object) -> Dataset:
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


@pytest.fixture
def real() -> pydicom.FileDataset:
    """A real header with names, dates, private elements and sequences."""
    return pydicom.dcmread(pydicom.examples.get_path("ct"))


def apply(header: pydicom.FileDataset, scrubber: Scrubber, owner: str = "one") -> Profile:
    profile = Profile(scrubber, owner)
    profile.apply(header)
    return profile


def test_the_table_is_the_standards(scrubber: Scrubber) -> None:
    """Some entries, read off PS3.15 Table E.1-1 by hand."""
    expected = {
        "PatientName": "empty", "PatientAddress": "remove", "StudyInstanceUID": "uid", "InstitutionName": "replace",
        "OperatorsName": "replace", "AccessionNumber": "empty", "ImageComments": "remove", "PatientID": "replace",
        "ReferencedImageSequence": "uid", "IssuerOfPatientID": "remove", "Rows": None, "EchoTime": None,
    }  # fmt: skip
    for keyword, action in expected.items():
        assert action_of(pydicom.datadict.tag_for_keyword(keyword)) == action, keyword
    assert action_of(0x60003000) == action_of(0x60023000) == "remove", "overlays repeat"


def test_a_real_header_keeps_its_picture_and_loses_what_the_profile_names(
    real: pydicom.FileDataset, scrubber: Scrubber
) -> None:
    before = real.pixel_array.copy()
    old = {str(element.value) for element in real.iterall() if element.VR == "UI"}
    profile = apply(real, scrubber)
    assert (real.pixel_array == before).all()
    assert not [element.tag for element in real.iterall() if element.tag.is_private]
    assert real.PatientName == real.PatientID == scrubber.stand_ins.patient("one")
    assert real.PatientIdentityRemoved == "YES"
    kept = {str(element.value) for element in real.iterall() if element.VR == "UI"} & old
    assert all(uid.startswith("1.2.840.10008.") for uid in kept)
    assert real.file_meta.MediaStorageSOPInstanceUID == real.SOPInstanceUID
    assert profile.done


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_nothing_hides_in_sequences(depth: int, real: pydicom.FileDataset, scrubber: Scrubber) -> None:
    inner = dataset(
        PersonName="Deep^Name", StudyDate="20200102", SOPInstanceUID="1.2.3.4.5.6.7", ImageComments="Deep Name",
        DerivationDescription="seen by Okafor", TextValue="Mr. Okafor called", PatientBirthDate="19500102",
    )  # fmt: skip
    inner.private_block(0x11, "MAKER", create=True).add_new(1, "UN", b"Deep^Name")
    inner.add_new(0x00189999, "UN", b"Deep^Name")
    for _ in range(depth):
        inner = dataset(SharedFunctionalGroupsSequence=[inner])
    real.PerFrameFunctionalGroupsSequence = [inner]
    apply(real, scrubber)
    text = real.to_json()
    for left in ("Deep", "Okafor", "20200102", "19500102", "1.2.3.4.5.6.7"):
        assert left not in text


def test_nothing_hides_around_the_data_set(real: pydicom.FileDataset, scrubber: Scrubber, tmp_path: Path) -> None:
    """Preamble, file meta information, overlays, curves, codes of persons, bytes behind the end."""
    real.preamble = b"Doe^Jane".ljust(128, b"\0")
    real.file_meta.SourceApplicationEntityTitle = real.file_meta.SendingApplicationEntityTitle = "DOE_CLINIC"
    real.file_meta.ImplementationVersionName = "DOE 1.0"
    real.file_meta.PrivateInformationCreatorUID, real.file_meta.PrivateInformation = "1.2.3.4.5.6", b"DoeJane "
    for group in (0x6000, 0x601E, 0x5000):
        real.add_new((group, 0x0022), "LO", "Doe Jane")
        real.add_new((group, 0x3000), "OW", b"Doe Jane")
    person = dataset(CodeValue="DOE17", CodingSchemeDesignator="99X", CodeMeaning="Doe, Jane")
    real.ContentSequence = [dataset(PersonIdentificationCodeSequence=[person], TextValue="Mr. Doe", PersonName="Doe")]
    real.DataSetTrailingPadding = b"Doe Jane"
    real.PatientComments = real.ImageComments = real.AdditionalPatientHistory = "Doe"
    profile = apply(real, scrubber)
    real.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert b"DOE" not in (tmp_path / "a.dcm").read_bytes().upper()
    assert profile.done["preamble", "removed"] == 1
    again = pydicom.dcmread(tmp_path / "a.dcm")
    assert again.file_meta.ImplementationClassUID
    assert again.file_meta.FileMetaInformationVersion == b"\0\1"


def test_every_kind_of_date_moves_or_goes(real: pydicom.FileDataset, scrubber: Scrubber) -> None:
    """MIMIC's years lie beyond 2100; a range, a date without its day, and a date in a description are dates, too."""
    from datetime import date, timedelta

    shift = timedelta(days=scrubber.stand_ins.days("one"))
    real.StudyDate, real.SeriesDate, real.ContentDate = "21500304", ["20200304", "20200305"], "202003"
    real.FrameAcquisitionDateTime = "202003"
    real.PatientBirthDate, real.PatientBirthTime = "19500102", "1200"
    real.SeriesDescription = "Chest 2020-03-04"
    apply(real, scrubber)
    assert real.StudyDate == f"{date(2150, 3, 4) + shift:%Y%m%d}"
    assert list(real.SeriesDate) == [f"{date(2020, 3, day) + shift:%Y%m%d}" for day in (4, 5)]
    assert not real.ContentDate + real.FrameAcquisitionDateTime + (real.PatientBirthDate or "")
    assert "PatientBirthTime" not in real
    assert real.SeriesDescription == f"Chest {date(2020, 3, 4) + shift}"


def test_files_without_a_patient_id_are_told_apart_by_name(tmp_path: Path, real: pydicom.FileDataset) -> None:
    """Two visits of one person keep their interval."""
    (tmp_path / "source").mkdir()
    for number, (name, day) in enumerate(
        [("Doe^Jane", "20200101"), ("Doe^Jane", "20200131"), ("Roe^Rick", "20200101")]
    ):
        real.PatientID, real.PatientName, real.PatientBirthDate, real.StudyDate = "", name, "19500102", day
        real.SOPInstanceUID, real.StudyInstanceUID = f"1.2.3.{number}", f"1.2.4.{number}"
        real.save_as(tmp_path / "source" / f"{number}.dcm")
    deidentify(Request(tmp_path / "source", tmp_path / "out", key="k", look=False))
    first, second, other = (pydicom.dcmread(tmp_path / "out" / f"{number}.dcm") for number in range(3))
    assert first.PatientID == second.PatientID != other.PatientID
    from datetime import datetime

    days = [datetime.strptime(header.StudyDate, "%Y%m%d") for header in (first, second)]
    assert (days[1] - days[0]).days == 30


def test_equal_unique_ids_become_equal_ones_everywhere(real: pydicom.FileDataset, scrubber: Scrubber) -> None:
    real.ReferencedImageSequence = [dataset(ReferencedSOPInstanceUID=real.SOPInstanceUID)]
    real.FrameOfReferenceUID = real.SOPInstanceUID
    apply(real, scrubber)
    assert real.ReferencedImageSequence[0].ReferencedSOPInstanceUID == real.SOPInstanceUID == real.FrameOfReferenceUID
    assert real.SOPInstanceUID.is_valid


@pytest.mark.parametrize(
    ("keyword", "before", "after"),
    [
        ("PatientAge", "094Y", "090Y"),
        ("PatientAge", "034Y", "034Y"),
        ("SeriesDescription", "T2 FLAIR axial Okafor", "T2 FLAIR axial"),
        ("StudyDescription", "CT Chest w contrast", "CT Chest w contrast"),
        ("AcquisitionTime", "101112.5", "101112.5"),
        ("StudyDate", "not a date", ""),
        ("ManufacturerModelName", "Acme Scanner 3000", "Acme Scanner 3000"),
        ("AcquisitionComments", "anything", None),
        ("DeviceSerialNumber", "12345", "REMOVED"),
    ],
)
def test_elements(keyword: str, before: str, after: str | None, real: pydicom.FileDataset, scrubber: Scrubber) -> None:
    element = pydicom.DataElement(keyword, pydicom.datadict.dictionary_VR(keyword), before, validation_mode=0)
    real.add(element)
    apply(real, scrubber)
    assert (real.get(keyword) or ("" if keyword in real else None)) == after


def test_dates_with_times_and_old_forms_move_too(real: pydicom.FileDataset, scrubber: Scrubber) -> None:
    from datetime import date, timedelta

    real.AcquisitionDateTime, real.SeriesDate = "20200301101500.5+0100", "2020.03.01"
    apply(real, scrubber)
    day = date(2020, 3, 1) + timedelta(days=scrubber.stand_ins.days("one"))
    assert real.AcquisitionDateTime == f"{day:%Y%m%d}101500.5+0100"
    assert real.SeriesDate == f"{day:%Y%m%d}"


def test_doing_it_again_changes_nothing_but_dates(real: pydicom.FileDataset, scrubber: Scrubber) -> None:
    from temmed.timelines.privacy.stand_ins import Recognising

    real.PatientBirthDate, real.InstitutionName = "19500102", "Somewhere Clinic"
    apply(real, scrubber)
    again = apply(real, Scrubber(Recognising("", dated=True)), real.PatientID)
    assert dict(again.done) == {}


def test_every_element_of_the_table_is_known_to_this_version_of_pydicom_or_removed_by_number() -> None:
    """A table that did not load would protect nobody."""
    from temmed.timelines.privacy.dicom_table import _table

    single, repeated = _table()
    assert len(single) > 600
    assert len(repeated) == 3
    assert sum(bool(keyword_for_tag(tag)) for tag in single) > 600


def test_a_document_inside_of_a_file_is_left_out(tmp_path: Path, real: pydicom.FileDataset) -> None:
    source = tmp_path / "source"
    source.mkdir()
    real.save_as(source / "image.dcm")
    real.EncapsulatedDocument = b"%PDF-1.4 Jane Doe"
    real.SOPInstanceUID = "1.2.3.4.5"
    real.save_as(source / "letter.dcm")
    outcome = deidentify(Request(source, tmp_path / "out", key="k"))
    assert [path for path, _ in outcome.inventory.left_out] == ["letter.dcm"]
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 1


@pytest.mark.parametrize("seed", range(12))
def test_damaged_files_give_one_message_and_no_output(seed: int, tmp_path: Path) -> None:
    """Either the file can still be read, and is cleaned, or one message says what is wrong; never a part."""
    content = bytearray(Path(pydicom.examples.get_path("ct")).read_bytes())
    chance = random.Random(seed)
    if seed % 3 == 0:
        del content[chance.randrange(140, len(content)) :]
    else:
        for _ in range(60):
            content[chance.randrange(132, 3000)] = chance.randrange(256)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "one.dcm").write_bytes(content)
    out = tmp_path / "out"
    message, left = "", []
    try:
        left = deidentify(Request(tmp_path / "source", out, key="k")).left
    except InputError as error:
        message = str(error)
    assert out.exists() == (not message and not left)
    assert "\n" not in message.strip()
    assert not message or "one.dcm" in message
    assert [path.name for path in tmp_path.iterdir()] in (["source"], ["source", "out"], ["out", "source"])


def test_a_damaged_file_is_told_in_one_line_and_can_be_left_out(running: Running, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "good.dcm").write_bytes(Path(pydicom.examples.get_path("ct")).read_bytes())
    (source / "bad.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\0\0\0UL\x04")
    result = running("deidentify", source, tmp_path / "out")
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert "bad.dcm" in result.output
    assert not (tmp_path / "out").exists()
    assert running("deidentify", source, tmp_path / "out", "--skip-unreadable").exit_code == 0
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 1
