"""OASIS-3, ADNI and NLST: cohorts whose tables say when their images were taken and what was found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.importers.plan import Options

from .conftest import DicomWriter, Importing, Planning, Training, VolumeWriter

KEPT = Options(keep_ids=True)
BOUNDS = ["onset_lower", "onset_upper", "offset_lower", "offset_upper"]
Source = Callable[..., Path]


def bounds(timeline: Timeline) -> dict[str, list[float]]:
    events = timeline.table("events")
    return dict(zip(events["event_id"], events[BOUNDS].astype(float).to_numpy().tolist(), strict=True))


def axial(dicom: DicomWriter, folder: Path, **elements: object) -> None:
    """Three slices of one series, the last one first."""
    for index in range(3):
        dicom(
            folder / f"{2 - index}.dcm",
            np.full((6, 5), 100 * index, np.int16),
            ImagePositionPatient=[0, 0, float(index)],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            **elements,
        )


@pytest.fixture
def oasis(tmp_path: Path, volume: VolumeWriter) -> Source:
    def make(clinical: str | None = None) -> Path:
        root = tmp_path / "OASIS3"
        for day, value in (("2500", 2), ("0129", 1)):
            volume(
                root / f"images/OAS30001_MR_d{day}/anat2/NIFTI/sub-OAS30001_ses-d{day}_run-01_T1w.nii.gz", value=value
            )
        volume(root / "images/OAS30001_MR_d0129/func1/sub-OAS30001_ses-d0129_task-rest_bold.nii.gz", frames=3, value=6)
        volume(root / "images/OAS30001_MR_d0129/dwi1/sub-OAS30001_ses-d0129_dwi.nii.gz", frames=3)
        volume(root / "images/OAS30001_PIB_d0423/pet1/pet.nii.gz")
        volume(root / "bids/sub-OAS30002_ses-d0010_T1w.nii.gz", value=5)
        (root / "OASIS3_MR.csv").write_text(
            "OASISID,OASIS_session_label,days_to_visit\nOAS30001,OAS30001_MR_d2500,2510\n"
        )
        (root / "OASIS3_UDSb4_cdr.csv").write_text(
            clinical
            or "OASISID,OASIS_session_label,days_to_visit,CDRTOT\n"
            "OAS30001,OAS30001_UDSb4_d2510,,0.5\nOAS30001,OAS30001_UDSb4_d0000,0,0\n"
            "OAS30001,OAS30001_UDSb4_d0129,129,0.0\nOAS30001,OAS30001_UDSb4_d0129,129,1\n"
            "OAS30001,OAS30001_UDSb4_d3000,3000,\nOAS30001,unknown,,0\nOAS30003,OAS30003_UDSb4_d0000,0,0\n"
        )
        (root / "OASIS3_demographics.csv").write_text(
            "OASISID,AgeatEntry,GENDER,EDUC\nOAS30001,64.5,2,16\nOAS30002,70,1,12\n"
        )
        return root

    return make


def test_oasis3(importing: Importing, oasis: Source, trained: Training) -> None:
    timeline, outcome = importing("oasis3", oasis(), KEPT)
    assert not outcome.has_errors
    times = timeline.table("timepoints").groupby("sequence_id")["time"].apply(list)
    # Days of visits without an image, the day of the label, and the day of the table where it has one.
    assert times["OAS30001_mri"] == [0, 129, 2510]
    assert times["OAS30002_mri"] == [0]
    shown = [(position, channel, pixels.max()) for position, channel, pixels in timeline.read_images("OAS30001_mri")]
    assert shown == [(1, "t1w", 1), (2, "t1w", 2)]
    [loop] = [name for name in times.index if name.startswith("OAS30001_mri_")]
    assert times[loop] == [0, 2, 4]
    assert timeline.table("sequences").set_index("sequence_id").loc[loop, "clock_offset"] == 129 * 86_400
    people = timeline.table("patients").set_index("patient_id")
    assert list(people.loc["OAS30001", ["sex", "age", "educ"]]) == ["F", 64.5, 16]
    questions = timeline.table("questions").set_index("question_id")
    assert questions.loc["OAS30001_mri_oasis3_cdr_change_2", "answer"] == "worse"
    assert list(questions.loc["OAS30001_mri_oasis3_cdr_change_2", "evidence"]) == [1, 2]
    assert questions.loc["OAS30001_mri_oasis3_cdr_change_1", "evidence"] is None
    assert list(questions["answer"]) == ["0", "0", "0.5", "unchanged", "worse"]
    assert bounds(timeline) == {"OAS30001_mri_clinical_dementia_rating_above_0": [129, 2510, 2510, np.inf]}
    reasons = {entry.path.name: entry.reason for entry in outcome.plan.skipped}
    assert reasons["pet.nii.gz"] == "a session of the kind PIB: only MR is imported"
    assert "only bold runs are loops" in reasons["sub-OAS30001_ses-d0129_dwi.nii.gz"]
    notes = "\n".join(outcome.plan.notes)
    assert "row 4 of OASIS3_UDSb4_cdr.csv is left out: another rating of the same day" in notes
    assert "row 6 of OASIS3_UDSb4_cdr.csv is left out: neither days_to_visit nor a label that ends in _dNNNN" in notes
    assert "1 patients of the tables have no image here" in notes
    assert trained(timeline)[0] == 5


@pytest.mark.parametrize(
    ("clinical", "told"),
    [
        ("OASISID,days_to_visit,CDRTOT\nOAS30001,0,4\n", "OASIS3_UDSb4_cdr.csv, row 1, CDRTOT: expected one of 0, 0.5"),
        ("OASISID,days_to_visit,CDRTOT\nOAS30001,zero,1\n", "row 1, days_to_visit: expected a number, found 'zero'"),
        ("OASISID,days_to_visit,CDRTOT\n,0,1\n", "row 1, OASISID: expected a value, found nothing"),
    ],
)
def test_oasis3_bad_tables(planning: Planning, oasis: Source, clinical: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        planning("oasis3", oasis(clinical))
    assert told in str(caught.value)


def test_oasis3_without_tables(planning: Planning, volume: VolumeWriter, tmp_path: Path) -> None:
    volume(tmp_path / "OAS30001_MR_d0129" / "T1w.nii.gz")
    with pytest.raises(InputError, match="a table with the column OASISID, found none"):
        planning("oasis3", tmp_path)


ADNI = "RID,PTID,VISCODE,SITE,EXAMDATE,DX_bl,AGE,PTGENDER,DX,IMAGEUID\n"
ADNI_ROWS = (
    "2,011_S_0002,m108,11,2014-09-18,CN,74.3,Male,Dementia,400\n"
    "2,011_S_0002,bl,11,9/18/2005,CN,74.3,Male,CN,35475.0\n"
    "2,011_S_0002,m24,11,2007-09-18,CN,74.3,Male,CN to MCI,\n"
    "2,011_S_0002,m06,11,2006-03-18,CN,74.3,Male,,300\n"
    "2,011_S_0002,m12,11,,CN,74.3,Male,CN,301\n"
    "3,011_S_0003,bl,11,2005-09-12,AD,81,Female,Dementia,500\n"
    "3,011_S_0003,bl,11,2005-09-12,AD,81,Female,Dementia,500\n"
    "4,011_S_0009,bl,11,2005-09-12,AD,81,Female,Dementia,501\n"
    "5,022_S_0005,bl,22,2005-09-12,CN,70,Female,CN,\n"
)


@pytest.fixture
def adni(tmp_path: Path, volume: VolumeWriter, dicom: DicomWriter) -> Source:
    def make(table: str = ADNI + ADNI_ROWS) -> Path:
        root = tmp_path / "ADNI"
        folder = root / "images/011_S_0002/MPR"
        volume(folder / "2005-09-01/I35475/ADNI_011_S_0002_MR_MPR_S1_I35475.nii", value=1)
        volume(folder / "2014-09-01/I400/ADNI_011_S_0002_MR_MPR_S1_I400.nii.gz", value=3)
        axial(dicom, folder / "2006-03-02/I300", Modality="MR", PatientID="011_S_0002", SeriesDescription="MPRAGE")
        volume(root / "images/022_S_0005/MPR/2005/I500/ADNI_022_S_0005_I500.nii")
        volume(root / "images/011_S_0003/MPR/2005/I500/ADNI_011_S_0003_I500.nii", value=4)
        volume(root / "images/011_S_0003/MPR/2005/I999/ADNI_011_S_0003_I999.nii")
        volume(root / "images/011_S_0003/scan.nii")
        (root / "ADNIMERGE_07Jan2024.csv").write_text(table)
        return root

    return make


def test_adni(importing: Importing, adni: Source, trained: Training) -> None:
    timeline, outcome = importing("adni", adni(), KEPT)
    assert not outcome.has_errors
    times = timeline.table("timepoints").groupby("sequence_id")["time"].apply(list)
    assert times["011_S_0002_mri"] == [0, 181, 730, 3287]
    shown = [(position, channel, pixels.max()) for position, channel, pixels in timeline.read_images("011_S_0002_mri")]
    assert shown == [(0, "t1", 1), (1, "t1", 200), (3, "t1", 3)]
    # The slices are sorted by place and not by name, and name nobody.
    [slices] = [pixels for position, _, pixels in timeline.read_images("011_S_0002_mri") if position == 1]
    assert [plane.max() for plane in slices] == [0, 100, 200]
    assert b"Doe" not in b"".join(path.read_bytes() for path in timeline.root.rglob("*.dcm"))
    questions = timeline.table("questions").set_index("question_id")
    first = questions.loc["011_S_0002_mri_adni_diagnosis_change_2"]
    assert (first["answer"], first["evidence"]) == ("worse", None)
    last = questions.loc["011_S_0002_mri_adni_diagnosis_3"]
    assert (last["answer"], list(last["evidence"])) == ("Dementia", [3])
    assert bounds(timeline) == {
        "011_S_0002_mri_dementia": [730, 3287, 3287, np.inf],
        "011_S_0003_mri_dementia": [-np.inf, 0, 0, np.inf],
    }
    people = timeline.table("patients").set_index("patient_id")
    assert list(people.loc["011_S_0002", ["sex", "age", "site", "dx_bl"]]) == ["Male", 74.3, "11", "CN"]
    reasons = {entry.path.name: entry.reason for entry in outcome.plan.skipped}
    assert reasons == {
        "ADNI_022_S_0005_I500.nii": "its path names another patient than the row with its image id",
        "ADNI_011_S_0003_I999.nii": "its image id is in no row of ADNIMERGE",
        "scan.nii": "no image id (I and digits) in its path",
    }
    notes = "\n".join(outcome.plan.notes)
    for told in (
        "row 5 of ADNIMERGE_07Jan2024.csv is left out: no EXAMDATE",
        "row 7",
        "row 8",
        "1 patients of the tables",
    ):
        assert told in notes
    assert trained(timeline)[0] == len(questions) == 6


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (ADNI + "2,011_S_0002,bl,11,soon,CN,74,Male,CN,1\n", "row 1, EXAMDATE: expected a date such as 2020-01-31"),
        (ADNI + "2,011_S_0002,bl,11,2005-01-01,CN,74,Male,Ill,35475\n", "row 1, DX: expected CN, MCI or Dementia"),
        (ADNI + "two,011_S_0002,bl,11,2005-01-01,CN,74,Male,CN,1\n", "row 1, RID: expected a whole number"),
        (ADNI + "2,011_S_0002,bl,11,2005-01-01,CN,74,Male,CN,I1\n", "row 1, IMAGEUID: expected a number"),
        (ADNI.replace("EXAMDATE", "DATE") + ADNI_ROWS, "the column EXAMDATE"),
    ],
)
def test_adni_bad_tables(planning: Planning, adni: Source, table: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        planning("adni", adni(table))
    assert told in str(caught.value)


def test_adni_two_tables(planning: Planning, adni: Source) -> None:
    root = adni()
    (root / "ADNIMERGE.csv").write_text(ADNI)
    with pytest.raises(InputError, match=r"found ADNIMERGE\.csv, ADNIMERGE_07Jan2024\.csv"):
        planning("adni", root)


COMPARED = "pid,study_yr,sct_ab_num,sct_ab_code,sct_ab_preexist,sct_ab_gwth,sct_ab_attn\n"
COMPARED_ROWS = (
    "100012,1,1,51,2,2,1\n"
    "100012.0,2,1,51,2,1,9\n"
    "100012,2,1,51,2,1,9\n"
    "100012,2,2,59,.M,.N,9\n"
    '"200034",1,1,.M,1,.N,.N\n'
    "300001,1,1,51,2,1,1\n"
)


@pytest.fixture
def nlst(tmp_path: Path, volume: VolumeWriter, dicom: DicomWriter) -> Source:
    def make(compared: str = COMPARED + COMPARED_ROWS, people: str | None = None) -> Path:
        root = tmp_path / "NLST"
        for year, made_up in enumerate(("19990102", "20000102", "20010102")):
            axial(
                dicom,
                root / f"100012/01-02-{made_up[:4]}/series",
                Modality="CT",
                PatientID="100012",
                StudyDate=made_up,
                StudyInstanceUID=f"1.2.{year}",
                SeriesInstanceUID=f"1.2.{year}.1",
                SeriesDescription="STANDARD",
            )
        for year in (0, 1):
            volume(root / f"nifti/200034/T{year}/standard.nii.gz", value=year)
        volume(root / "nifti/200034/later/standard.nii.gz")
        (root / "nlst_780_ctabc_idc.csv").write_text(compared)
        (root / "nlst_780_ctab_idc.csv").write_text(
            "pid,study_yr,sct_ab_num,sct_ab_desc,sct_long_dia\n100012,1,1,51,7\n200034,1,1,51,.N\n"
        )
        (root / "nlst_780_prsn_idc.csv").write_text(
            people or "pid,age,gender,scr_days0,scr_days1,scr_days2\n100012,61,1,5,372,740\n200034,66,2,4,.E,\n"
        )
        return root

    return make


def test_nlst(importing: Importing, nlst: Source, trained: Training) -> None:
    timeline, outcome = importing("nlst", nlst(), KEPT)
    assert not outcome.has_errors
    times = timeline.table("timepoints").groupby("sequence_id")["time"].apply(list)
    units = timeline.table("sequences").set_index("sequence_id")["time_unit"]
    assert (units["100012_ct"], times["100012_ct"]) == ("day", [0, 367, 735])
    assert (units["200034_ct"], times["200034_ct"]) == ("ordinal", [0, 1])
    assert [(position, channel) for position, channel, _ in timeline.read_images("100012_ct")] == [
        (0, "standard"), (1, "standard"), (2, "standard"),
    ]  # fmt: skip
    questions = timeline.table("questions").set_index("question_id")
    assert dict(questions["answer"]) == {
        "100012_ct_t1_1_nlst_preexisting": "yes",
        "100012_ct_t1_1_nlst_growth": "yes",
        "100012_ct_t1_1_nlst_attenuation": "no",
        "100012_ct_t2_1_nlst_preexisting": "yes",
        "100012_ct_t2_1_nlst_growth": "no",
        "200034_ct_t1_1_nlst_preexisting": "no",
    }
    assert list(questions.loc["100012_ct_t1_1_nlst_growth", "evidence"]) == [0, 1]
    # Two screens lie before: which one was compared with is not told.
    assert questions.loc["100012_ct_t2_1_nlst_growth", "evidence"] is None
    assert list(timeline.table("measurements")["value"]) == [7]
    people = timeline.table("patients").set_index("patient_id")
    assert list(people.loc["100012", ["sex", "age"]]) == ["M", 61]
    notes = "\n".join(outcome.plan.notes)
    assert "row 3 of nlst_780_ctabc_idc.csv is left out: a second row of the same abnormality" in notes
    assert "row 4 of nlst_780_ctabc_idc.csv is left out: nothing was determined about a change" in notes
    assert "row 6 of nlst_780_ctabc_idc.csv is left out: its patient has no image here" in notes
    assert "1 patients have no days of their screens" in notes
    assert [entry.reason for entry in outcome.plan.skipped] == ["not <pid>/T<study_yr>/<series>.nii.gz"]
    assert trained(timeline)[0] == 6


def test_nlst_dates_are_no_times(planning: Planning, nlst: Source) -> None:
    plan = planning("nlst", nlst(people="pid,age\n100012,61\n"), KEPT)
    assert {sequence.time_unit for sequence in plan.sequences} == {"ordinal"}
    assert [sequence.times for sequence in plan.sequences] == [[0, 1, 2], [0, 1]]


@pytest.mark.parametrize(
    ("compared", "told"),
    [
        (COMPARED + "100012,3,1,51,2,2,1\n", "ctabc_idc.csv, row 1, study_yr: expected 0, 1 or 2, found '3'"),
        (COMPARED + "100012,1,1,51,2,5,1\n", "row 1, sct_ab_gwth: expected 1, 2 or 9, found '5'"),
        (COMPARED + "x12,1,1,51,2,2,1\n", "row 1, pid: expected a number, found 'x12'"),
        (COMPARED.replace("sct_ab_attn", "attn") + COMPARED_ROWS, "the column sct_ab_attn"),
    ],
)
def test_nlst_bad_tables(planning: Planning, nlst: Source, compared: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        planning("nlst", nlst(compared))
    assert told in str(caught.value)


@pytest.mark.parametrize(("name", "table"), [("adni", "ADNIMERGE.csv"), ("nlst", "*ctabc*.csv")])
def test_a_missing_table(planning: Planning, volume: VolumeWriter, tmp_path: Path, name: str, table: str) -> None:
    volume(tmp_path / "a.nii")
    with pytest.raises(InputError) as caught:
        planning(name, tmp_path)
    assert f"expected one table {table}" in str(caught.value).replace("ADNIMERGE*", "ADNIMERGE")


@pytest.mark.parametrize("name", ["oasis3", "adni", "nlst"])
def test_nothing_usable_is_one_clear_error(
    importing: Importing, oasis: Source, adni: Source, nlst: Source, tmp_path: Path, name: str
) -> None:
    root = {"oasis3": oasis, "adni": adni, "nlst": nlst}[name]()
    for path in [*root.rglob("*.nii*"), *root.rglob("*.dcm")]:
        path.unlink()
    with pytest.raises(InputError, match=f"at least one image that the {name} importer can use"):
        importing(name, root)
    assert not (tmp_path / "dataset").exists()
