"""Files beside DICOM: NIfTI, pictures, videos, tables, JSON, names; each keeps its data and loses what names people."""

from __future__ import annotations

import csv
import gzip
import json
from datetime import date, timedelta
from fractions import Fraction
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image, PngImagePlugin

from temmed.errors import InputError
from temmed.timelines.pixels import read_frames
from temmed.timelines.privacy import containers
from temmed.timelines.privacy.columns import kind_of
from temmed.timelines.privacy.run import Request, deidentify
from temmed.timelines.privacy.stand_ins import StandIns

STAND_INS = StandIns("k")


def clean(source: Path, target: Path, **request: object) -> Path:
    outcome = deidentify(Request(source, target, key="k", **request))  # type: ignore[arg-type]
    assert outcome.left == []
    return target


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_nifti_keeps_voxels_and_geometry_and_loses_text(tmp_path: Path, suffix: str, kind: type) -> None:
    voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    image = kind(voxels, np.diag([2.0, 3.0, 4.0, 1.0]))
    image.header["descrip"], image.header["aux_file"] = b"Jane Doe", b"jane.txt"
    image.header["intent_name"] = b"Doe"
    fields = {"descrip", "aux_file", "intent_name", "extensions"}
    for name in {"db_name", "data_type", "unused_str"} & set(image.header.structarr.dtype.names):
        image.header[name] = b"Jane Doe"
        fields.add(name)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(6, b"scanned by Jane Doe"))
    source, target = tmp_path / f"jane{suffix}", tmp_path / f"out{suffix}"
    nibabel.save(image, source)
    removed = containers.copy_nifti(source, target)
    assert set(removed) == fields
    content = gzip.decompress(target.read_bytes()) if suffix.endswith("gz") else target.read_bytes()
    assert b"oe" not in content.lower().replace(b"\0", b"")
    assert b"jane" not in target.read_bytes()
    again = nibabel.load(target)
    assert (np.asarray(again.dataobj) == voxels).all()
    assert (again.affine == image.affine).all()
    assert containers.copy_nifti(target, tmp_path / f"twice{suffix}") == []


def test_a_cut_nifti_file_is_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4)), tmp_path / "a.nii")
    content = (tmp_path / "a.nii").read_bytes()
    for length in (0, 10, 348, 400):
        (tmp_path / "a.nii").write_bytes(content[:length])
        with pytest.raises(InputError, match="NIfTI"):
            containers.copy_nifti(tmp_path / "a.nii", tmp_path / "b.nii")


def test_png_and_jpeg_keep_pixels_and_lose_comments(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 30, 3)).astype(np.uint8)
    about = PngImagePlugin.PngInfo()
    about.add_text("Author", "Jane Doe")
    Image.fromarray(pixels).save(tmp_path / "a.png", pnginfo=about)
    exif = Image.Exif()
    exif[0x013B] = "Jane Doe"
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, comment=b"Jane Doe")
    with (tmp_path / "a.png").open("ab") as stream:
        stream.write(b"Jane Doe")
    for copy, name in ((containers.copy_png, "png"), (containers.copy_jpeg, "jpg")):
        source, target = tmp_path / f"a.{name}", tmp_path / f"b.{name}"
        assert copy(source, target)
        assert b"Jane" not in target.read_bytes()
        assert (np.asarray(Image.open(source)) == np.asarray(Image.open(target))).all()
        assert copy(target, tmp_path / f"c.{name}") == []
        target.write_bytes(source.read_bytes()[:30])
        with pytest.raises(InputError):
            copy(target, tmp_path / f"d.{name}")


def test_what_follows_the_picture_of_a_jpeg_and_other_programs_segments_go(tmp_path: Path) -> None:
    """Cameras append a second picture with a header of its own; progressive ones have several scans."""
    pixels = np.random.default_rng(0).integers(0, 255, (40, 30, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x013B] = "Jane Doe"
    Image.fromarray(pixels).save(tmp_path / "a.jpg", progressive=True)
    Image.fromarray(pixels).save(tmp_path / "preview.jpg", exif=exif)
    content = (tmp_path / "a.jpg").read_bytes()
    photoshop = b"Adobe_Photoshop2.5:Jane Doe"
    segment = b"\xff\xed" + (len(photoshop) + 2).to_bytes(2, "big") + photoshop
    whole = content[:2] + segment + content[2:] + (tmp_path / "preview.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(whole)
    assert set(containers.copy_jpeg(tmp_path / "b.jpg", tmp_path / "c.jpg")) == {"APP13", "bytes behind its end"}
    assert (tmp_path / "c.jpg").read_bytes() == content


def test_packed_chunks_of_a_png_go(tmp_path: Path) -> None:
    about = PngImagePlugin.PngInfo()
    about.add_text("Author", "Jane Doe", zip=True)
    about.add_itxt("Name", "Jane Doe", zip=True)
    image = Image.fromarray(np.zeros((4, 4), np.uint8))
    exif = Image.Exif()
    exif[0x013B] = "Jane Doe"
    image.save(tmp_path / "a.png", pnginfo=about, exif=exif, icc_profile=b"Jane Doe")
    assert set(containers.copy_png(tmp_path / "a.png", tmp_path / "b.png")) == {"zTXt", "iTXt", "eXIf", "iCCP"}


@pytest.mark.parametrize("suffix", ["avi", "mp4"])
def test_videos_keep_their_frames_and_times_and_lose_their_titles(tmp_path: Path, suffix: str) -> None:
    av = pytest.importorskip("av")
    source, target = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    with av.open(str(source), "w") as container:
        container.metadata["title"] = "Jane Doe"
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = Fraction(1, 25)
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * index, np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert b"Jane Doe" in source.read_bytes()
    assert "title" in containers.copy_video(source, target)
    assert b"Jane Doe" not in target.read_bytes()
    assert (read_frames(source, range(5)) == read_frames(target, range(5))).all()


def test_numpy_objects_are_refused_and_arrays_kept(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(5))
    containers.copy_numpy(tmp_path / "a.npy", tmp_path / "b.npy")
    assert (np.load(tmp_path / "b.npy") == np.arange(5)).all()
    np.save(tmp_path / "c.npy", np.array([{"name": "Jane"}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError):
        containers.copy_numpy(tmp_path / "c.npy", tmp_path / "d.npy")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("patient_id", "patient"), ("Patient", "patient"), ("participant_id", "patient"), ("MRN", "patient"),
        ("PatientName", "remove"), ("last_name", "remove"), ("ReferringPhysicianName", "remove"), ("phone", "remove"),
        ("dob", "birth"), ("PatientBirthDate", "birth"), ("StudyDate", "date"), ("acq_time", "date"),
        ("AccessionNumber", "record"), ("study_id", "record"), ("StudyInstanceUID", "record"), ("img_path", "path"),
        ("age", "age"), ("age_at_visit", "age"), ("sequence_id", "key"), ("name", "text"), ("task_name", "text"),
        ("SequenceName", "text"), ("value", "text"), ("image", "text"), ("names_position", "text"), ("unit", "text"),
    ],
)  # fmt: skip
def test_columns_are_told_by_their_names(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_a_table_keeps_numbers_and_rows_and_moves_dates_by_row(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    rows = [
        {"patient_id": "1001", "name": "Grace Okafor", "exam_date": "2020-01-05", "size": "14.5", "age": "93",
         "note": "Okafor, seen 2020-01-05, stable."},
        {"patient_id": "1002", "name": "", "exam_date": "2020-01-05T10:15:00", "size": "n/a", "age": "50", "note": ""},
    ]  # fmt: skip
    with (source / "data.tsv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    pd.DataFrame(rows).assign(size=[14.5, None]).to_parquet(source / "data.parquet")
    out = clean(source, tmp_path / "out")
    with (out / "data.tsv").open(newline="") as stream:
        first, second = csv.DictReader(stream, delimiter="\t")
    day = [date(2020, 1, 5) + timedelta(days=STAND_INS.days(patient)) for patient in ("1001", "1002")]
    assert first["patient_id"] == STAND_INS.patient("1001")
    assert (first["exam_date"], second["exam_date"]) == (day[0].isoformat(), f"{day[1]}T10:15:00")
    assert (first["size"], second["size"], first["age"], second["age"]) == ("14.5", "n/a", "90", "50")
    assert first["note"] == f"[NAME], seen {day[0]}, stable."
    frame = pd.read_parquet(out / "data.parquet")
    assert frame["exam_date"].tolist()[0] == day[0].isoformat()
    assert frame["size"].tolist()[0] == 14.5


def test_a_bids_folder_keeps_its_layout_and_its_links(tmp_path: Path) -> None:
    source = tmp_path / "source"
    folder = source / "sub-Doe01" / "ses-20200105" / "anat"
    folder.mkdir(parents=True)
    stem = "sub-Doe01_ses-20200105_acq-mprage_T1w"
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4)), folder / f"{stem}.nii.gz")
    side = {"AcquisitionDateTime": "2020-01-05T10:00:00", "EchoTime": 0.003, "InstitutionName": "Okafor Clinic",
            "SeriesDescription": "T1 mprage", "PatientBirthDate": "19600101", "DeviceSerialNumber": "99887",
            "ImageType": ["ORIGINAL", "PRIMARY"], "License": "CC0"}  # fmt: skip
    (folder / f"{stem}.json").write_text(json.dumps(side))
    (source / "participants.tsv").write_text("participant_id\tage\tsex\nsub-Doe01\t34\tF\n")
    (source / "sub-Doe01" / "sub-Doe01_sessions.tsv").write_text("session_id\tacq_time\nses-20200105\t2020-01-05\n")
    (source / "sub-Doe01" / "ses-20200105" / "sub-Doe01_ses-20200105_scans.tsv").write_text(
        f"filename\tacq_time\nanat/{stem}.nii.gz\t2020-01-05T10:00:00\n"
    )
    (source / "dataset_description.json").write_text(json.dumps({"Name": "Follow-up", "License": "CC0"}))
    out = clean(source, tmp_path / "out")
    day = date(2020, 1, 5) + timedelta(days=STAND_INS.days("Doe01"))
    subject = f"sub-{STAND_INS.patient('Doe01')}"
    session = f"ses-{day:%Y%m%d}"
    image = out / subject / session / "anat" / f"{subject}_{session}_acq-mprage_T1w.nii.gz"
    assert image.is_file()
    scans = (out / subject / session / f"{subject}_{session}_scans.tsv").read_text()
    assert f"anat/{image.name}\t{day}T10:00:00" in scans
    assert subject in (out / "participants.tsv").read_text()
    assert session in (out / subject / f"{subject}_sessions.tsv").read_text()
    told = json.loads(image.with_name(image.name.replace(".nii.gz", ".json")).read_text())
    assert told["EchoTime"] == 0.003
    assert told["AcquisitionDateTime"] == f"{day}T10:00:00"
    assert told["ImageType"] == ["ORIGINAL", "PRIMARY"]
    assert told["SeriesDescription"] == "T1 mprage"
    assert not told["InstitutionName"] + told["PatientBirthDate"]
    assert json.loads((out / "dataset_description.json").read_text())["License"] == "CC0"


def test_dated_names_keep_their_layout_and_intervals(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for day in ("20200105", "20200301"):
        nibabel.save(
            nibabel.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4)), source / f"Doe_{day}_flair.nii.gz"
        )
    names = sorted(path.name for path in clean(source, tmp_path / "out").glob("*.nii.gz"))
    first, second = (date.fromisoformat(name.split("_")[1]) for name in names)
    assert second - first == date(2020, 3, 1) - date(2020, 1, 5)
    assert {name.split("_")[0] for name in names} == {STAND_INS.patient("Doe")}
    assert {name.split("_")[2] for name in names} == {"flair.nii.gz"}


def test_two_files_that_only_an_identifier_told_apart_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("report_2020-01-05.txt", "report_2020-01-06.txt"):
        (source / name).write_text("Stable.")
    out = clean(source, tmp_path / "out")
    assert len(list(out.glob("report_*.txt"))) == 2, "dates without a patient become stand-ins and not one name"


def test_what_cannot_be_looked_through_is_left_out_and_told(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "letter.docx").write_bytes(b"PK Jane Doe")
    (source / "report.txt").write_text("Stable.")
    outcome = deidentify(Request(source, tmp_path / "out", key="k"))
    assert outcome.inventory.left_out == [("letter.docx", "not a kind that can be cleaned")]
    assert not (tmp_path / "out" / "letter.docx").exists()
