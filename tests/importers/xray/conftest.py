"""Invented sources in the layouts of the published ones, with images of a few pixels."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SIDE = 12


def table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> Path:
    """Write a table: with tabs for ``.txt``, packed for ``.gz``; a column that a row lacks is empty."""
    names = list(columns) or list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, delimiter="\t" if ".txt" in path.name else ",", restval="")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text.getvalue().encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def items(path: Path, rows: Sequence[Any]) -> Path:
    """Write items: a list for ``.json``, one a line for ``.jsonl``, columns for ``.parquet``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        path.write_text("\n".join(map(json.dumps, rows)) if path.suffix == ".jsonl" else json.dumps(rows))
    return path


def picture(path: Path, value: int = 0, size: tuple[int, int] = (SIDE, SIDE)) -> Path:
    """Write an image of its own: no two of other names or values are alike, or they would count as duplicates."""
    seed = zlib.crc32(f"{'/'.join(path.parts[-4:])} {value}".encode())
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0]), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


class Mimic:
    """A folder in the layout of MIMIC-CXR-JPG."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.metadata: list[dict[str, Any]] = []
        self.split: list[dict[str, Any]] = []

    def study(
        self,
        subject: str,
        study: str,
        date: str,
        time: str = "120000.0",
        images: Mapping[str, str] | None = None,
        subset: str = "train",
        report: str | None = None,
    ) -> None:
        """Add a study; ``images`` are views by image id, by default one frontal image called ``d<study>``."""
        folder = self.folder(subject)
        for number, (image, view) in enumerate((images or {f"d{study}": "PA"}).items()):
            ids = {"dicom_id": image, "subject_id": subject, "study_id": study}
            about = {"PerformedProcedureStepDescription": "CHEST (PA AND LAT)", "Rows": SIDE, "Columns": SIDE}
            self.metadata.append(ids | about | {"ViewPosition": view, "StudyDate": date, "StudyTime": time})
            self.split.append(ids | {"split": subset})
            picture(folder / f"s{study}" / f"{image}.jpg", int(study) + number)
        if report is not None:
            (folder / f"s{study}.txt").write_text(report)

    def folder(self, subject: str) -> Path:
        return self.root / "files" / f"p{subject[:2]}" / f"p{subject}"

    def write(self) -> Path:
        """Write the tables and return the folder."""
        table(self.root / "mimic-cxr-2.0.0-metadata.csv.gz", self.metadata)
        table(self.root / "mimic-cxr-2.0.0-split.csv.gz", self.split)
        return self.root


@pytest.fixture
def mimic(tmp_path: Path) -> Mimic:
    return Mimic(tmp_path / "mimic")


@pytest.fixture
def many(mimic: Mimic) -> Mimic:
    """Three patients with three studies each, whose numbers run against time."""
    for number in range(3):
        subject = f"1000000{number}"
        for visit, date in enumerate(("21800101", "21800201", "21810101")):
            mimic.study(subject, f"5{number}{9 - visit}", date, report=f"Report {visit} of patient {number}.")
    return mimic
