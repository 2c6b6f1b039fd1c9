"""Broken files of every kind: one message or none, at once, and nothing left behind.

Every input is a valid one with a random change whose seed is its number, so that a failure can be had again.
"""

from __future__ import annotations

import csv
import datetime
import gzip
import io
import json
import random
import shutil
import signal
import struct
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import Any

import nibabel
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
import pytest
import yaml
from pydicom.data import get_testdata_file

from temmed.errors import InputError
from temmed.timelines import audit
from temmed.timelines.audit import Finding
from temmed.timelines.folder import Timeline
from temmed.timelines.importers.build import Outcome, Request, run_import
from temmed.timelines.importers.registry import importer

from .broken import Seed, cohort_seeds, parquet_seeds
from .conftest import DicomWriter, VideoWriter, VolumeWriter
from .xray.conftest import Mimic, items, picture, table

KINDS = ("dicom", "nifti", "csv", "json", "avi", "parquet", "cohorts")
#: Seconds that one import may take.
LIMIT = 10
#: What a text field or a cell becomes.
ODD_TEXTS = (
    *("", " ", "0", "-1", "1e308", "-1e308", "nan", "inf", "9" * 30, "9" * 5000, "1.5.2", "2024-13-45", "0001-01-01"),
    *(
        "9999-12-31",
        "n/a",
        "\x00",
        "a\x00b",
        "\ud800",
        "é" * 300,
        "x" * 5000,
        "../../x",
        "/",
        "a,b",
        '"',
        "T9",
        "week-0",
    ),
)
ODD_VALUES = (*ODD_TEXTS, None, True, -1, 0, 2**63, 10**400, 1e308, float("nan"), float("inf"), [], {}, [[[]]], [None])
#: What a whole column of a Parquet table becomes.
ODD_COLUMNS = (
    *(None, True, -1, 2**62, 1e308, float("nan"), "", b"\xff", [], [None], ["a"], {"x1": None}, [{"x1": "a"}]),
    *(datetime.date(1, 1, 1), datetime.datetime(2020, 1, 1), datetime.timedelta(days=1), Decimal("1.5")),
)
#: Elements of a DICOM header and what they become.
ODD_ELEMENTS = {
    "NumberOfFrames": ("0", "-1", "2", "999999", "2147483647"),
    "Rows": (0, 1, 65535),
    "Columns": (0, 1, 65535),
    "SamplesPerPixel": (0, 2, 3, 4, 65535),
    "BitsAllocated": (0, 1, 8, 16, 64, 65535),
    "BitsStored": (0, 1, 16, 65535),
    "PixelRepresentation": (1, 7),
    "PhotometricInterpretation": ("", "RGB", "YBR_FULL", "PALETTE COLOR", "MONOCHROME1", "NONSENSE"),
    "PlanarConfiguration": (1, 9),
    "RescaleSlope": ("0", "nan", "1e308", "x"),
    "FrameTime": ("0", "-5", "nan", "1e308", "x"),
    "FrameIncrementPointer": (0x00181063, 0x00540080, 0),
    "StudyDate": ("", "00000000", "20241345", "99991231", "00010101", "yesterday"),
    "StudyTime": ("", "256199", "x"),
    "PatientAge": ("", "Y", "999999Y", "-01Y"),
    "PatientBirthDate": ("99991231", "00010101"),
    "PatientID": ("", " ", "a\\b", "../../x", "é" * 300),
    "Modality": ("", "SEG", "ZZ"),
    "ImagePositionPatient": (["nan", "0", "0"], ["0", "0", "1e308"], ["1", "2"]),
    "ImageOrientationPatient": (["0"] * 6, ["1"] * 6, ["1", "0"]),
    "LongitudinalTemporalOffsetFromEvent": (float("nan"), 1e308, -1e308),
}
#: Fields of a NIfTI-1 header: where they are and how they are packed.
NIFTI_FIELDS = {
    "dim": (40, "<8h"),
    "datatype": (70, "<h"),
    "bitpix": (72, "<h"),
    "pixdim": (76, "<8f"),
    "vox_offset": (108, "<f"),
    "slope": (112, "<2f"),
    "units": (123, "<B"),
    "codes": (252, "<2h"),
    "affine": (280, "<12f"),
    "magic": (344, "<4B"),
}


class HangError(BaseException):
    """An import took too long; no code of ours may catch it."""


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Stop the block after some seconds of computing; what does not let itself be stopped fails afterwards."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise HangError

    before, start = signal.signal(signal.SIGPROF, stop), time.process_time()
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    assert time.process_time() - start < seconds


@pytest.fixture
def seeds(tmp_path: Path, dicom: DicomWriter, volume: VolumeWriter, video: VideoWriter) -> Callable[[str], list[Seed]]:
    """The valid sources of a kind."""
    root = tmp_path / "seeds"

    def make(kind: str) -> list[Seed]:
        if kind == "dicom":
            return _dicom_seeds(root, dicom)
        if kind == "nifti":
            return _nifti_seeds(root, volume)
        if kind == "csv":
            return [_table_seed(root / "table"), _mimic_seed(root / "mimic"), _echonet_seed(root / "echonet", video)]
        if kind == "json":
            return _json_seeds(root, volume)
        if kind == "parquet":
            return parquet_seeds(root)
        if kind == "cohorts":
            return cohort_seeds(root, volume)
        for name in ("a", "b"):
            video(root / "clips" / name / f"{name}.avi", 4, rate=25 if name == "a" else 30)
        return [Seed("video", root / "clips", ".", ("a/a.avi",), "b/b.avi")]

    return make


def _dicom_seeds(root: Path, dicom: DicomWriter) -> list[Seed]:
    """A sound file beside one of every common way to store pixels."""
    found = []
    names = (
        *("CT_small.dcm", "SC_rgb_rle.dcm", "SC_rgb_small_odd_jpeg.dcm", "JPEGLSNearLossless_16.dcm"),
        *("image_dfl.dcm", "MR_small_jp2klossless.dcm", "SC_rgb_jpeg_lossy_gdcm.dcm", "examples_palette.dcm"),
    )
    for name in ("loop", *names):
        folder = root / name
        dicom(folder / "sound.dcm", np.full((4, 4), 3, np.int16), PatientID="sound")
        if name == "loop":
            dicom(folder / "changed.dcm", np.zeros((3, 4, 4), np.uint8), Modality="US", FrameTime="33")
        else:
            shutil.copy(str(get_testdata_file(name, download=False)), folder / "changed.dcm")
        found.append(Seed("dicom", folder, ".", ("changed.dcm",), "sound.dcm"))
    return found


def _nifti_seeds(root: Path, volume: VolumeWriter) -> list[Seed]:
    shipped = Path(nibabel.__file__).parent / "tests" / "data"
    found = []
    for name in ("functional.nii", "example_nifti2.nii.gz", "visit.nii.gz", "visit.nii"):
        folder = root / name
        sound = volume(folder / "one" / "20200101" / "t1.nii.gz").relative_to(folder)
        changed = Path("one", "20200201", name)
        if (shipped / name).exists():
            (folder / changed).parent.mkdir()
            shutil.copy(shipped / name, folder / changed)
        else:
            volume(folder / changed)
        found.append(Seed("nifti", folder, ".", (str(changed),), str(sound)))
    return found


def _table_seed(folder: Path) -> Seed:
    rows = [
        {
            "who": f"P{patient}",
            "day": f"2020-0{visit + 1}-01",
            "file": f"{patient}{visit}.png",
            "years": 40,
            "part": "train",
        }
        | {"frame": "", "text": "Unchanged."}
        for patient in range(2)
        for visit in range(3)
    ]
    for row in rows:
        picture(folder / str(row["file"]))
    table(folder / "visits.csv", rows)
    columns = {"patient": "who", "time": "day", "path": "file", "frame": "frame", "report": "text", "subset": "part"}
    content = {"table": "visits.csv", "modality": "mri", "columns": columns, "attributes": {"age": "years"}}
    (folder / "map.yaml").write_text(yaml.safe_dump(content))
    question = {
        "patient": "P0",
        "position": 2,
        "prompt": "Grown?",
        "choices": "yes|no",
        "answer": "no",
        "evidence": "0|2",
    }
    table(folder / "questions.csv", [question, {"patient": "P1", "time": "2020-02-01", "prompt": "Size?", "value": 3}])
    table(
        folder / "events.csv", [{"patient": "P0", "label": "growth", "onset_position": 1, "offset": 60, "finding": "a"}]
    )
    changed = ("visits.csv", "map.yaml", "questions.csv", "events.csv")
    return Seed("table", folder, "map.yaml", changed, asked=True)


def _mimic_seed(folder: Path) -> Seed:
    archive = Mimic(folder)
    for study, date in (("1", "21800101"), ("2", "21800201")):
        archive.study("10000001", study, date, report="Clear.")
    archive.write()
    for path in folder.glob("*.csv.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    ids = {"subject_id": "10000001", "study_id": "2", "dicom_id": "d2", "previous_study_id": "1"}
    label = {f"{name}_progression": "stable" for name in ("consolidation", "pleural_effusion", "pneumonia", "edema")}
    label |= ids | {"previous_dicom_id": "d1", "pneumothorax_progression": ""}
    name = "MS_CXR_T_temporal_image_classification_v1.0.0.csv"
    table(folder / name, [label])
    return Seed("ms-cxr-t", folder, ".", (name, "mimic-cxr-2.0.0-metadata.csv", "mimic-cxr-2.0.0-split.csv"))


def _echonet_seed(folder: Path, video: VideoWriter) -> Seed:
    video(folder / "Videos" / "0X1.avi", 4)
    about = {"FileName": "0X1", "EF": 60, "ESV": 40, "EDV": 100, "FrameHeight": 32, "FrameWidth": 32, "FPS": 50}
    table(folder / "FileList.csv", [about | {"NumberOfFrames": 4, "Split": "TRAIN"}])
    lines = [
        {"FileName": "0X1.avi", "X1": 1, "Y1": y, "X2": 5 + 3 * frame, "Y2": y, "Frame": frame}
        for frame in (1, 3)
        for y in (0, 2, 4, 6)
    ]
    table(folder / "VolumeTracings.csv", lines)
    return Seed("echonet", folder, ".", ("FileList.csv", "VolumeTracings.csv"))


def _json_seeds(root: Path, volume: VolumeWriter) -> list[Seed]:
    for name in ("a", "b"):
        for benchmark in ("frames", "grounding"):
            picture(root / benchmark / f"{name}.png")
    about = {"question_id": "1", "system": "s", "organ": "o", "keyword": "k", "modality": "MRI", "video_id": "v"}
    asked = {"question": "What?", "options": ["x", "y"], "image": ["a.png", "b.png"], "answer": "B"}
    items(root / "frames" / "test.json", [about | asked])
    boxed = {"task": "multi_view", "images": ["a.png", "b.png"], "question": "Where?", "answer": [1, 2, 7, 8]}
    items(root / "grounding" / "multi_view.json", [boxed | {"size": [12, 12]}] * 2)
    paths = {f"T{visit + 1}": f"p10/p10000001/s{visit}/d{visit}.jpg" for visit in range(5)}
    for path in paths.values():
        picture(root / "timelines" / path)
    choices = {"A": "T1 → T2", "B": "T1, T5", "C": "T3", "D": "T4", "E": "never"}
    row = {"qid": "q", "group_type": "TEL", "qtype": "onset", "images": paths, "choices": choices}
    items(root / "timelines" / "micxr_test.jsonl", [row | {"question": "When?", "answer": "B"}] * 1)
    pairs = {"image_path": "train/patient1/study2/b.png", "historical_image_path": "train/patient1/study1/a.png"}
    for path in pairs.values():
        picture(root / "pairs" / path)
    test = pairs | {
        "VQA_Final": [{"VQA_question": "Worse?", "VQA_answer": "Yes."}],
        "condition_changes_report": "Worse.",
    }
    items(root / "pairs" / "TestSet_VQA_ReportGeneration_Final.json", [test])
    items(root / "pairs" / "TestSet_SelectedVQA_2000.json", [{"img_id": 0, "question_id": 0}])
    selection = {"condition_change": "worse", "option": {"A": 0, "B": 0, "C": 0}, "right_option": "A"}
    items(root / "pairs" / "TestSet_ImagePairSelection.json", [selection])
    volume(root / "bids" / "sub-1" / "func" / "sub-1_task-rest_bold.nii.gz", 3)
    (root / "bids" / "task-rest_bold.json").write_text(json.dumps({"RepetitionTime": 2.0, "VolumeTiming": [0, 2, 5]}))
    names = ("VQA_ReportGeneration_Final", "SelectedVQA_2000", "ImagePairSelection")
    return [
        Seed("medframeqa", root / "frames", ".", ("test.json",)),
        Seed("medsg-bench", root / "grounding", ".", ("multi_view.json",)),
        Seed("mi-cxr", root / "timelines", ".", ("micxr_test.jsonl",)),
        Seed("temmed-bench", root / "pairs", ".", tuple(f"TestSet_{name}.json" for name in names)),
        Seed("bids", root / "bids", ".", ("task-rest_bold.json",)),
    ]


def change_bytes(content: bytes, choose: random.Random) -> bytes:
    """Flip, cut, delete, insert, repeat or blank bytes."""
    size = len(content)
    start, length = choose.randrange(size), choose.choice([1, 2, 16, 200])
    block = content[start : start + length]
    way = choose.randrange(6)
    if way == 0:
        changed = bytearray(content)
        for _ in range(choose.choice([1, 4, 64])):
            # Half of the changes go to the beginning, where headers are.
            changed[choose.randrange(min(size, choose.choice([400, size])))] = choose.randrange(256)
        return bytes(changed)
    if way == 1:
        return content[:start]
    if way == 2:
        return content[:start] + content[start + length :]
    if way == 3:
        return content[:start] + choose.randbytes(length) + content[start:]
    if way == 4:
        return content[:start] + block * choose.choice([2, 50]) + content[start:]
    return content[:start] + choose.choice([b"\0", b"\xff"]) * len(block) + content[start + length :]


def change_fields(name: str, content: bytes, choose: random.Random) -> bytes:
    """Give one field of a header, a table or an object another value."""
    if name.endswith(".dcm"):
        return _change_element(content, choose)
    if name.endswith(".nii.gz"):
        return gzip.compress(_change_nifti(gzip.decompress(content), choose))
    if name.endswith(".nii"):
        return _change_nifti(content, choose)
    if name.endswith(".parquet"):
        return _change_column(content, choose)
    if name.endswith((".csv", ".txt")):
        delimiter = "," if name.endswith(".csv") else "\t"
        return _change_cell(content.decode(), choose, delimiter).encode(errors="surrogatepass")
    if name.endswith(".json"):
        return json.dumps(_change_node(json.loads(content), choose)).encode()
    if name.endswith(".jsonl"):
        return b"\n".join(json.dumps(_change_node(json.loads(line), choose)).encode() for line in content.splitlines())
    if name.endswith(".yaml"):
        return yaml.safe_dump(_change_node(yaml.safe_load(content), choose), allow_unicode=True).encode(
            "utf-8", "replace"
        )
    place = choose.randrange(0, min(len(content), 512), 4)
    number = choose.choice([0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF])
    return content[:place] + struct.pack("<I", number) + content[place + 4 :]


def _change_element(content: bytes, choose: random.Random) -> bytes:
    keyword = choose.choice(sorted(ODD_ELEMENTS))
    dataset = pydicom.dcmread(io.BytesIO(content))
    lax = pydicom.config.IGNORE
    settings = pydicom.config.settings
    before = settings.reading_validation_mode, settings.writing_validation_mode
    settings.reading_validation_mode = settings.writing_validation_mode = lax
    written = io.BytesIO()
    try:
        setattr(dataset, keyword, choose.choice(ODD_ELEMENTS[keyword]))
        dataset.save_as(written)
    except (ValueError, TypeError, OverflowError):
        # pydicom cannot write this one: take the element out.
        if keyword in dataset:
            del dataset[keyword]
        written = io.BytesIO()
        dataset.save_as(written)
    finally:
        settings.reading_validation_mode, settings.writing_validation_mode = before
    return written.getvalue()


def _change_nifti(content: bytes, choose: random.Random) -> bytes:
    place, layout = NIFTI_FIELDS[choose.choice(sorted(NIFTI_FIELDS))]
    values = list(struct.unpack_from(layout, content, place))
    odd = {"f": [0.0, -1.0, float("nan"), float("inf"), 1e30], "h": [0, -1, 2, 7, 64, 32767, -32768], "B": [0, 9, 255]}
    values[choose.randrange(len(values))] = choose.choice(odd[layout[-1]])
    changed = bytearray(content)
    struct.pack_into(layout, changed, place, *values)
    return bytes(changed)


def _change_cell(text: str, choose: random.Random, delimiter: str) -> str:
    rows = list(csv.reader(io.StringIO(text), delimiter=delimiter))
    row = choose.choice(rows)
    row[choose.randrange(len(row))] = choose.choice(ODD_TEXTS)
    changed = io.StringIO()
    csv.writer(changed, delimiter=delimiter).writerows(rows)
    return changed.getvalue()


def _change_column(content: bytes, choose: random.Random) -> bytes:
    """A column is taken out, given another type, or given another value in one row or in all."""
    table = pq.read_table(io.BytesIO(content))
    name, place = choose.choice(table.column_names), choose.randrange(table.num_rows)
    column, number = table[name].combine_chunks(), table.column_names.index(name)
    odd = pa.array([choose.choice(ODD_COLUMNS)] * table.num_rows)
    way = choose.randrange(3)
    if way == 0:
        table = table.remove_column(number)
    elif way == 1 and pa.types.is_string(column.type):
        # What UTF-8 cannot hold no Parquet file can.
        cell = choose.choice(ODD_TEXTS).encode("utf-8", "replace").decode()
        cells = pa.array([cell if row == place else value for row, value in enumerate(column.to_pylist())])
        table = table.set_column(number, name, cells)
    else:
        table = table.set_column(number, name, odd)
    written = io.BytesIO()
    pq.write_table(table, written)
    return written.getvalue()


def _change_node(node: Any, choose: random.Random) -> Any:
    """A value somewhere inside becomes another."""
    if not isinstance(node, list | dict) or not node or choose.random() < 0.1:
        return choose.choice(ODD_VALUES)
    keys = list(range(len(node))) if isinstance(node, list) else list(node)
    key = choose.choice(keys)
    if isinstance(node, dict) and choose.random() < 0.1:
        return {name: value for name, value in node.items() if name != key}
    changed = node.copy()
    changed[key] = _change_node(node[key], choose)
    return changed


def broken_input(seed: Seed, folder: Path, choose: random.Random) -> str:
    """Copy a source with one file changed, and tell which; half of the time it stands alone."""
    shutil.copytree(seed.folder, folder)
    name = choose.choice(seed.changed)
    content = (folder / name).read_bytes()
    by_field = choose.random() < 0.5
    (folder / name).write_bytes(change_fields(name, content, choose) if by_field else change_bytes(content, choose))
    if seed.sound and choose.random() < 0.5:
        (folder / seed.sound).unlink()
    return name


def import_broken(seed: Seed, folder: Path) -> Outcome | None:
    """Import it. What is left is a whole dataset or nothing."""
    out = folder.with_name("out")
    request = Request(
        source=folder / seed.source,
        target=out,
        questions=folder / "questions.csv" if seed.asked else None,
        events=folder / "events.csv" if seed.asked else None,
    )
    outcome = None
    try:
        with at_most(LIMIT):
            outcome = run_import(importer(seed.importer), request)
    except InputError:
        pass
    written = outcome is not None and outcome.written
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, *(["out"] if written else [])}
    assert not written or (out / "dataset.json").is_file()
    return outcome


def read_everything(timeline: Timeline, progress: object) -> list[Finding]:
    """Stands for the audit, most of whose time goes into tables that are sound."""
    for sequence in timeline.table("sequences")["sequence_id"]:
        timeline.read_images(sequence)
    return []


def check(kind: str, numbers: range, seeds: list[Seed], tmp_path: Path) -> None:
    """Import changed inputs, every twelfth with its audit; all failures are told at once."""
    failures, written, harmed = [], 0, 0
    for number in numbers:
        choose = random.Random(f"{kind} {number}")
        seed, place = seeds[number % len(seeds)], tmp_path / str(number)
        place.mkdir()
        name = broken_input(seed, place / "source", choose)
        try:
            with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
                warnings.simplefilter("ignore")
                if number % 12:
                    patch.setattr(audit, "audit", read_everything)
                outcome = import_broken(seed, place / "source")
        except (Exception, HangError) as error:
            told = f"{type(error).__name__}: {error!s:.300}"
            failures.append(f"{kind} {number} ({seed.folder.name}/{name}): {told} {_where(error)}")
            continue
        written += outcome is not None and outcome.written
        harmed += outcome is None or bool(outcome.plan.skipped)
        shutil.rmtree(place)
    assert not failures, "\n".join(failures)
    # Some changes do no harm; if none or all did, the test would test nothing.
    assert written
    assert harmed


def _where(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/temmed/" in frame.filename]
    return " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)


@pytest.mark.parametrize(
    "kind", [kind if kind in ("dicom", "json") else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_some_broken_inputs(kind: str, seeds: Callable[[str], list[Seed]], tmp_path: Path) -> None:
    check(kind, range(12), seeds(kind), tmp_path)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_broken_inputs(kind: str, seeds: Callable[[str], list[Seed]], tmp_path: Path) -> None:
    check(kind, range(12, 162), seeds(kind), tmp_path)
