"""Each kind of defect is planted alone in a sound folder, and must be found by its rule and by no other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from temmed.timelines.audit import Finding, audit
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import make_split, save_split

Tables = dict[str, pd.DataFrame]
Write = Callable[[Path, str, pd.DataFrame], None]
#: A change of a written folder: takes it, its tables and the function that replaces one of them.
Plant = Callable[[Path, Tables, Write], None]
LONG_TEXT = (
    "There is an irregular lesion in the left frontal lobe with a thin rim of enhancement and moderate oedema. "
    "The ventricles are of normal width and there is no shift of the midline. No restricted diffusion is seen anywhere."
)


def cells(*changes: tuple[str, int, str, object]) -> Plant:
    """Change cells: table, row from 0, column, value."""

    def plant(root: Path, tables: Tables, write: Write) -> None:
        for table, row, column, value in changes:
            if column not in tables[table]:
                tables[table][column] = None
            frame = tables[table].astype({column: "object"})
            frame.at[row, column] = value
            tables[table] = frame.infer_objects()
        for name in {table for table, *_ in changes}:
            write(root, name, tables[name])

    return plant


def column(table: str, name: str, values: Any) -> Plant:
    """Set a column, or compute it from the table."""

    def plant(root: Path, tables: Tables, write: Write) -> None:
        tables[table] = tables[table].assign(**{name: values(tables[table]) if callable(values) else values})
        write(root, table, tables[table])

    return plant


def added(table: str, *rows: dict[str, Any]) -> Plant:
    """Add rows; a row of the number ``like`` is copied with changes."""

    def plant(root: Path, tables: Tables, write: Write) -> None:
        frame = tables.get(table, pd.DataFrame())
        whole = [{**(frame.iloc[row["like"]].to_dict() if "like" in row else {}), **row} for row in rows]
        new = pd.DataFrame(whole).drop(columns="like", errors="ignore")
        tables[table] = pd.concat([frame, new], ignore_index=True)
        write(root, table, tables[table])

    return plant


def both(*plants: Plant) -> Plant:
    def plant(root: Path, tables: Tables, write: Write) -> None:
        for one in plants:
            one(root, tables, write)

    return plant


def pixels(change: Callable[[np.ndarray], np.ndarray], name: str = "s1_t1") -> Plant:
    def plant(root: Path, tables: Tables, write: Write) -> None:
        path = root / "images" / f"{name}.npy"
        np.save(path, change(np.load(path)))

    return plant


def frame(number: int, value: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], np.ndarray]:
    def change(loop: np.ndarray) -> np.ndarray:
        loop = loop.copy()
        loop[number] = value(loop)
        return loop

    return change


def truncated(root: Path, tables: Tables, write: Write) -> None:
    path = root / "images" / "s1_t1.npy"
    path.write_bytes(path.read_bytes()[:300])


def reversed_times(root: Path, tables: Tables, write: Write) -> None:
    for name in ("timepoints", "reports"):
        mine = tables[name]["sequence_id"] == "s1"
        tables[name].loc[mine, "time"] = 120.0 - tables[name].loc[mine, "time"]
        write(root, name, tables[name])


def texts(*of_s0: str) -> Plant:
    return cells(*[("reports", row, "text", text) for row, text in enumerate(of_s0)])


def single_files(names: Iterable[str], save: Callable[[Path, np.ndarray, int], None]) -> Plant:
    """The first T1 images of s0 as files of their own."""

    def plant(root: Path, tables: Tables, write: Write) -> None:
        loop = np.load(root / "images" / "s0_t1.npy")
        images = tables["images"].astype({"frame": "Int64"})
        rows = images.index[(images["sequence_id"] == "s0") & (images["channel"] == "t1")]
        for place, (row, name) in enumerate(zip(rows, names, strict=False)):
            save(root / "images" / name, loop[place], place)
            images.loc[row, "path"] = f"images/{name}"
            images.loc[row, "frame"] = pd.NA
        tables["images"] = images
        write(root, "images", images)

    return plant


def save_array(path: Path, image: np.ndarray, place: int) -> None:
    np.save(path, image)


def save_dicom(path: Path, image: np.ndarray, place: int) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    header.SOPClassUID = SecondaryCaptureImageStorage
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID
    header.StudyDate = ("20210301", "20210130")[place]
    header.Rows, header.Columns = image.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 8, 8, 7, 0
    header.PixelData = image.tobytes()
    header.save_as(path, enforce_file_format=True)


def save_named(path: Path, image: np.ndarray, place: int) -> None:
    from pydicom import dcmread

    save_dicom(path, image, place)
    header = dcmread(path)
    header.PatientName, header.PatientID, header.InstitutionName = "Okonkwo^Ada", "4471182", "Northfield Hospital"
    header.save_as(path)


def other_sequence(root: Path, tables: Tables, write: Write) -> None:
    """A second sequence of p0, 30 days after the first by its offset and 30 days before by the header."""
    both(
        single_files(("a.dcm",), save_dicom),
        cells(("sequences", 0, "clock_offset", 0.0)),
        added("sequences", {"like": 1, "sequence_id": "s9", "patient_id": "p0", "clock_offset": 30.0}),
        added("timepoints", {"sequence_id": "s9", "position": 0, "time": 0.0}),
        added("images", {"sequence_id": "s9", "position": 0, "channel": "t1", "path": "images/b.dcm"}),
    )(root, tables, write)
    save_dicom(root / "images" / "b.dcm", np.load(root / "images" / "s0_t1.npy")[3], 1)


def mask(content: bytes | np.ndarray) -> Plant:
    def plant(root: Path, tables: Tables, write: Write) -> None:
        path = root / "images" / "mask.npy"
        path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content)
        row = {"finding_id": "s0-f", "position": 1, "channel": "t1", "path": "images/mask.npy"}
        write(root, "masks", pd.DataFrame([row]))

    return plant


def split_file(text: str) -> Plant:
    def plant(root: Path, tables: Tables, write: Write) -> None:
        (root / "splits").mkdir()
        (root / "splits" / "mine.csv").write_text("sequence_id,patient_id,subset\n" + text)

    return plant


def edited(old: str, new: str) -> Plant:
    def plant(root: Path, tables: Tables, write: Write) -> None:
        path = save_split(make_split(Timeline.open(root)), root)
        lines = path.read_text().splitlines()
        path.write_text("\n".join([lines[0].replace(old, new), lines[1].replace(old, new), *lines[2:]]) + "\n")

    return plant


#: s0 and s1 on two sides.
APART = split_file("s0,p0,train\ns1,p1,test\ns2,p2,val\ns3,p3,val\n")


def copied(root: Path, tables: Tables, write: Write) -> None:
    """One image of s1 is one of s0, darker."""
    source = np.load(root / "images" / "s0_t1.npy")[2]
    pixels(frame(1, lambda loop: (source * 0.6 + 20).astype(np.uint8)))(root, tables, write)


def same_reports(root: Path, tables: Tables, write: Write) -> None:
    cells(("reports", 1, "text", LONG_TEXT), ("reports", 5, "text", LONG_TEXT.replace("thin", "thick").upper()))(
        root, tables, write
    )


def image_gone(root: Path, tables: Tables, write: Write) -> None:
    (root / "images" / "s0_t1.npy").unlink()


@dataclass(frozen=True)
class Defect:
    """What is planted, and what must be told of it; ``also`` are rules that may speak of the same cells."""

    plant: Plant
    rule: str
    severity: str
    count: int
    example: str
    also: frozenset[str] = field(default=frozenset())


def defect(plant: Plant, rule: str, severity: str, count: int, example: str, *also: str) -> Defect:
    return Defect(plant, rule, severity, count, example, frozenset(also))


EARLIER = "Study date: 2021-03-01. Comparison: 5 January 2022."
DEFECTS: dict[str, Defect] = {
    "one step back": defect(cells(("timepoints", 3, "time", 10.0)), "order", "error", 1, "s0, position 3"),
    "sequence reversed": defect(reversed_times, "reversed_sequence", "error", 1, "s1", "horizon"),
    "tied days": defect(cells(("timepoints", 2, "time", 30.0)), "ties", "warning", 1, "s0, position 2", "horizon"),
    "tied order": defect(
        both(column("sequences", "time_unit", "ordinal"), cells(("timepoints", 2, "time", 30.0))),
        "ties", "error", 1, "s0, position 2", "horizon",
    ),
    "no time": defect(cells(("timepoints", 2, "time", np.nan)), "missing_time", "error", 1, "s0, position 2"),
    "late start": defect(
        both(column("timepoints", "time", lambda t: t["time"] + 5), column("reports", "time", lambda t: t["time"] + 5)),
        "time_origin", "warning", 4, "s0, position 0",
    ),
    "bounds overlap": defect(
        cells(("timepoints", 1, "time_upper", 70.0)), "uncertain_order", "warning", 1, "s0, position 2"
    ),
    "counted, not measured": defect(
        both(
            column("timepoints", "time", lambda t: t["position"] * 1.0),
            column("reports", "time", lambda t: t["position"] * 1.0),
            column("questions", "horizon_time", None),
        ),
        "time_is_position", "warning", 4, "s0",
    ),
    "wrong unit": defect(
        both(cells(("timepoints", 4, "time", 1e6)), cells(("reports", 3, "time", None)),
             column("questions", "horizon_time", None)),
        "time_scale", "warning", 1, "s0: time 1e+06",
    ),
    "report too early": defect(
        cells(("reports", 1, "time", 12.0)), "report_dates", "error", 1, "s0-r1: dated 12, images of 30"
    ),
    "report too late": defect(
        cells(("reports", 1, "time", 62.0)), "report_dates", "error", 1, "s0-r1: dated 62, images of 30"
    ),
    "texts dated backwards": defect(
        texts("Exam date: 2021-03-01. Cyst.", "Exam date: 30 January 2021. Cyst."),
        "report_text_dates", "error", 1, "s0-r1: 30 January 2021", "identifiers",
    ),
    "texts dated apart": defect(
        texts("Exam date: 2021-03-01. Cyst.", "Date of the scan: April 30, 2021. Cyst."),
        "report_text_dates", "warning", 1, "s0-r1: April 30, 2021", "identifiers",
    ),
    "compared with the future": defect(
        texts(EARLIER), "report_compares_with_future", "error", 1, "s0-r0: of 2021-03-01, compared with 5 January 2022",
        "identifiers",
    ),
    "elapsed time in a text": defect(
        texts("First.", "MRI, 90 days after the first examination."),
        "report_elapsed", "error", 1, "s0-r1: 90 days, time point at 30",
    ),
    "report twice": defect(
        added("reports", {"like": 1, "report_id": "again"}), "repeated_report", "warning", 1, "s0-r1"
    ),
    "statement elsewhere": defect(
        cells(("statements", 0, "position", 2)), "statement_place", "error", 1, "t0: at 2, s0-r1 at 1"
    ),
    "treatment stops first": defect(
        cells(("treatments", 0, "stop", 10.0)), "treatment_interval", "error", 1, "p0, therapy: 31 to 10"
    ),
    "clock of one sequence": defect(
        both(
            cells(("sequences", 0, "clock_offset", 0.0)),
            added("sequences", {"like": 1, "sequence_id": "s9", "patient_id": "p0"}),
            added("timepoints", {"sequence_id": "s9", "position": 0, "time": 0.0}),
        ),
        "clock", "warning", 1, "p0",
    ),
    "clock with a treatment": defect(
        both(
            added("sequences", {"like": 1, "sequence_id": "s9", "patient_id": "p0"}),
            added("timepoints", {"sequence_id": "s9", "position": 0, "time": 0.0}),
        ),
        "clock", "warning", 1, "p0",
    ),
    "event after the end": defect(
        cells(*[("events", 1, name, value) for name, value in
                zip(("onset_lower", "onset_upper", "offset_lower", "offset_upper"), (150.0, 200.0, 200.0, np.inf),
                    strict=True)]),
        "event_outside", "warning", 1, "e1: seen from 200",
    ),
    "measured before it began": defect(
        cells(("events", 0, "onset_lower", 30.0), ("events", 0, "onset_upper", 60.0)),
        "event_measured", "error", 1, "e0: measured at 0, outside of (30, inf]",
    ),
    "headers dated backwards": defect(
        single_files(("a.dcm", "b.dcm"), save_dicom), "header_date", "error", 1, "s0, position 1: 20210130",
        "identifiers",
    ),
    "headers of two sequences": defect(
        other_sequence, "header_clock", "warning", 1, "s9, position 0: 20210130", "identifiers"
    ),
    "name and number in a text": defect(
        texts("Cyst. Mrs. Okonkwo, MRN 4471182, was told by phone."),
        "identifiers", "warning", 2, "reports.parquet, text: cleaned, ",
    ),
    "header as the scanner wrote it": defect(
        single_files(("a.dcm",), save_named), "identifiers", "warning", 1, "images/a.dcm, "
    ),
    "paths dated backwards": defect(
        single_files(("2021-03-01.npy", "2021-01-30.npy"), save_array),
        "path_order", "info", 1, "s0, position 1: images/2021-01-30.npy", "identifiers",
    ),
    "evidence in the future": defect(
        cells(("questions", 0, "evidence", [0, 2])),
        "evidence_after_question", "error", 1, "s0-q1: asked at 1, evidence at 2",
    ),
    "no evidence": defect(cells(("questions", 0, "evidence", [])), "evidence_missing", "warning", 1, "s0-q1"),
    "evidence of absence": defect(
        cells(("questions", 0, "evidence_kind", "absence")), "evidence_of_absence", "error", 1, "s0-q1: [0, 1]"
    ),
    "evidence unseen": defect(
        cells(("questions", 2, "evidence", [0, 3])), "evidence_without_image", "warning", 1, "s0-q4: evidence at 3"
    ),
    "evidence of another patient": defect(
        cells(("questions", 0, "evidence_report_id", "s1-r0")),
        "evidence_report", "error", 1, "s0-q1: s1-r0 is of p1",
    ),
    "evidence of a later report": defect(
        cells(("questions", 0, "evidence_report_id", "s0-r2")),
        "evidence_report", "error", 1, "s0-q1: asked at 1, s0-r2 at 2",
    ),
    "sentence nobody wrote": defect(
        cells(("questions", 0, "evidence_report_id", "s0-r1"), ("questions", 0, "evidence_sentence", "It grew.")),
        "evidence_report", "warning", 1, "s0-q1: 'It grew.' is not in s0-r1",
    ),
    "wrong horizon": defect(
        cells(("questions", 2, "horizon_steps", 1)),
        "horizon", "error", 1, "s0-q4: horizon_steps 1, evidence [0, 4], asked at 4",
    ),
    "wrong horizon in time": defect(
        cells(("questions", 2, "horizon_time", 30.0)),
        "horizon", "warning", 1, "s0-q4: horizon_time 30, the time points say 120",
    ),
    "two answers": defect(
        added("questions", {"like": 0, "question_id": "z", "answer": "regressed"}),
        "contradicting_questions", "error", 1, "z", "answer_measured",
    ),
    "asked twice": defect(
        added("questions", {"like": 0, "question_id": "z"}), "contradicting_questions", "info", 1, "z"
    ),
    "answer turned round": defect(
        cells(("questions", 2, "answer", "regressed"), ("measurements", 3, "value", 20.0)),
        "answer_measured", "warning", 1, "s0-q4: regressed, measured 9 at 0, 20 at 4",
    ),
    "answer not measured": defect(
        cells(("questions", 2, "answer", "progressed")),
        "answer_measured", "warning", 1, "s0-q4: progressed, measured 9 at 0, 9.8 at 4",
    ),
    "position in the prompt": defect(
        cells(("questions", 0, "prompt", "Has the cyst changed since visit 1?")),
        "names_position", "warning", 1, "s0-q1: Has the cyst",
    ),
    "answer in the prompt": defect(
        cells(("questions", 0, "prompt", "Is the cyst stable?")), "answer_in_prompt", "warning", 1, "s0-q1: 'stable'"
    ),
    "no choice": defect(cells(("questions", 0, "choices", ["stable"])), "single_choice", "warning", 1, "s0-q1"),
    "truncated image": defect(
        truncated, "unreadable_image", "error", 1, "images/s1_t1.npy: a truncated or damaged file"
    ),
    "too few frames": defect(
        pixels(lambda loop: loop[:3]), "unreadable_image", "error", 1, "images/s1_t1.npy: frame 4"
    ),
    "volume for a slice": defect(
        pixels(lambda loop: np.stack([loop] * 8, axis=1)),
        "image_shape", "error", 1, "images/s1_t1.npy: shape (8, 8, 8), spatial_dims 2",
    ),
    "blank image": defect(
        pixels(frame(2, lambda loop: 7)), "blank_image", "warning", 1, "s1, position 2: images/s1_t1.npy"
    ),
    "not a number": defect(
        pixels(lambda loop: np.where(np.arange(loop.size).reshape(loop.shape) == 70, np.nan, loop.astype(float))),
        "not_finite", "error", 1, "s1, position 1: images/s1_t1.npy",
    ),
    "visit copied": defect(
        pixels(frame(2, lambda loop: loop[0])), "repeated_image", "warning", 1, "s1, position 2 (t1): as position 0"
    ),
    "truncated mask": defect(mask(b"\x93NUMPY"), "unreadable_image", "error", 1, "images/mask.npy: a truncated"),
    "mask of another size": defect(
        mask(np.ones((4, 4), np.uint8)), "mask_shape", "error", 1, "images/mask.npy: (4, 4), image (8, 8)"
    ),
    "box turned round": defect(cells(("boxes", 0, "x2", 0.0)), "box", "error", 1, "s0-f, position 1: 1, 1 to 0, 5"),
    "box beyond the image": defect(
        cells(("boxes", 0, "x2", 40.0)), "box", "error", 1, "s0-f, position 1: 1, 1 to 40, 5"
    ),
    "image in two subsets": defect(
        both(copied, APART), "near_duplicate_images", "error", 1, "s0, position 2 (t1) and s1, position 1 (t1): "
    ),
    "image of two patients": defect(
        copied, "near_duplicate_images", "warning", 1, "s0, position 2 (t1) and s1, position 1 (t1): "
    ),
    "report in two subsets": defect(
        both(same_reports, APART), "near_duplicate_reports", "warning", 1, "s0-r1 of p0, s1-r1 of p1: "
    ),
    "report of two patients": defect(
        same_reports, "near_duplicate_reports", "info", 1, "s0-r1 of p0, s1-r1 of p1: "
    ),
    "patient in two subsets": defect(
        split_file("s0,p0,train\ns0,p0,test\ns1,p1,val\n"), "patient_overlap", "error", 1, "mine: p0"
    ),
    "unknown patient in a split": defect(edited("p0", "ghost"), "unknown_in_split", "error", 1, "patient_seed0: ghost"),
    "split that is no split": defect(
        edited("subset", "part"), "unreadable_split", "error", 1, "patient_seed0.csv: expected columns"
    ),
    "split changed": defect(edited("s0,p0,train", "s0,p0,test"), "edited_split", "error", 1, "patient_seed0: another"),
    "duplicate position": defect(cells(("timepoints", 2, "position", 1)), "form", "error", 1, "row 3: s0, 1", "ties"),
    "image gone": defect(image_gone, "form", "error", 1, "row 1: images/s0_t1.npy"),
}  # fmt: skip


def at_least(findings: Iterable[Finding], *severities: str) -> set[str]:
    return {finding.rule for finding in findings if finding.severity in severities}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_found_and_nothing_else(
    name: str, root: Path, tables: Tables, replace_table: Write
) -> None:
    planted = DEFECTS[name]
    planted.plant(root, tables, replace_table)
    findings = audit(Timeline.open(root, validate=False))
    told = [one for one in findings if one.rule == planted.rule and one.severity == planted.severity]
    if planted.rule == "form":
        told = [one for one in told if any(example.startswith(planted.example) for example in one.examples)]
    (finding,) = told
    # How many identifiers a header or a text has is for the privacy scan to say.
    assert finding.count == planted.count or (planted.rule == "identifiers" and finding.count > 0)
    assert finding.examples[0].startswith(planted.example), finding
    # The folder was changed after it was written, which the fingerprint tells each time.
    assert at_least(findings, "error", "warning") <= {planted.rule, "fingerprint", *planted.also}, findings


def test_more_than_thirty_kinds_are_planted() -> None:
    assert len({(one.rule, one.severity) for one in DEFECTS.values()}) >= 30


def test_a_placeholder_is_told_as_one_and_not_as_a_leak(
    build: Callable[..., Path], tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    from temmed.timelines import duplicates

    monkeypatch.setattr(duplicates, "MOST_PATIENTS", 3)
    root = build(tables)
    shared = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for sequence in ("s0", "s1", "s2", "s3"):
        pixels(frame(0, lambda loop: shared), f"{sequence}_t1")(root, tables, lambda *_: None)
    findings = audit(Timeline.open(root))
    (finding,) = [one for one in findings if one.rule == "placeholder_image"]
    assert (finding.severity, finding.count) == ("warning", 1)
    assert finding.examples[0].endswith(": 4 patients")
    assert not [one for one in findings if one.rule == "near_duplicate_images"]


def test_tables_only_opens_no_image(root: Path, tables: Tables, replace_table: Write) -> None:
    for path in (root / "images").iterdir():
        path.unlink()
    timeline = Timeline.open(root, validate=False, files=False)
    assert timeline.meta.fingerprint == timeline.recorded_fingerprint
    assert at_least(audit(timeline, tables_only=True), "error", "warning") == set()
