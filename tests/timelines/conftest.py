"""A small timeline folder, whole and broken in chosen ways."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from temmed.files import staged_folder
from temmed.timelines.folder import Timeline, write_timeline
from temmed.timelines.problems import Problems
from temmed.timelines.tables import conform, write_table

Tables = dict[str, pd.DataFrame]
LENGTH = 5
SIDE = 8


def make_tables(patients: int = 4) -> Tables:
    """Every table of the schema but masks, with one sequence of five visits per patient; visit 3 has no image."""
    ids = [f"p{index}" for index in range(patients)]
    sequences = [f"s{index}" for index in range(patients)]
    visits = [(sequence, position) for sequence in sequences for position in range(LENGTH)]
    imaged = [(sequence, position) for sequence, position in visits if position != 3]
    return {
        "patients": pd.DataFrame({"patient_id": ids, "sex": "F", "age": 60.5, "arm": ["a", "b"] * (patients // 2)}),
        "sequences": pd.DataFrame(
            {"sequence_id": sequences, "patient_id": ids, "modality": "mri", "time_unit": "day", "spatial_dims": 2}
        ),
        "timepoints": pd.DataFrame(
            [(sequence, position, 30.0 * position) for sequence, position in visits],
            columns=["sequence_id", "position", "time"],
        ),
        "images": pd.DataFrame(
            [
                (sequence, position, channel, f"images/{sequence}_{channel}.npy", position)
                for sequence, position in imaged
                for channel in ("t1", "flair")
            ],
            columns=["sequence_id", "position", "channel", "path", "frame"],
        ),
        "reports": pd.DataFrame(
            [
                (f"{sequence}-r{position}", f"p{sequence[1:]}", sequence, position, 30.0 * position, "report", "Text.")
                for sequence, position in imaged
            ],
            columns=["report_id", "patient_id", "sequence_id", "position", "time", "kind", "text"],
        ),
        "findings": pd.DataFrame(
            {"finding_id": [f"{name}-f" for name in sequences], "sequence_id": sequences, "label": "cyst"}
        ),
        "measurements": pd.DataFrame(
            [
                (f"{sequence}-f", position, "longest_diameter", 9.0 + 0.2 * position, "mm")
                for sequence, position in imaged
            ],
            columns=["finding_id", "position", "quantity", "value", "unit"],
        ),
        "treatments": pd.DataFrame({"patient_id": ids[:1], "name": "therapy", "start": 31.0}),
        "questions": pd.DataFrame(
            [
                {
                    "question_id": f"{sequence}-q{asked}",
                    "sequence_id": sequence,
                    "finding_id": f"{sequence}-f",
                    "task": "progression",
                    "template": "progression_previous",
                    "prompt": "Has the cyst changed?",
                    "asked_at": asked,
                    "choices": ["progressed", "stable", "regressed"],
                    "answer": "stable",
                    "evidence": [0, asked],
                    "evidence_kind": "positions",
                    "names_position": False,
                    "horizon_steps": asked,
                    "horizon_time": 30.0 * asked,
                }
                for sequence in sequences
                for asked in (1, 2, 4)
            ]
        ),
        "events": pd.DataFrame(
            [
                ("e0", "s0", "s0-f", "cyst", -np.inf, 0.0, 60.0, np.inf),
                ("e1", "s1", None, "nodule", np.nan, np.nan, np.nan, np.nan),
            ],
            columns=[
                "event_id",
                "sequence_id",
                "finding_id",
                "label",
                "onset_lower",
                "onset_upper",
                "offset_lower",
                "offset_upper",
            ],
        ),
        "statements": pd.DataFrame(
            {
                "statement_id": ["t0"],
                "report_id": ["s0-r1"],
                "sequence_id": ["s0"],
                "position": [1],
                "finding_id": ["s0-f"],
                "text": ["The cyst is larger."],
                "consistent": [True],
            }
        ),
        "boxes": pd.DataFrame(
            {"finding_id": ["s0-f"], "position": [1], "channel": "t1", "x1": [1.0], "y1": 1.0, "x2": 4.0, "y2": 5.0}
        ),
    }


def write_images(folder: Path, tables: Tables) -> None:
    """One array of visits per path of the images table."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for path in sorted(tables["images"]["path"].unique()):
        np.save(folder / path, rng.integers(0, 255, (LENGTH, SIDE, SIDE), dtype=np.uint8))


def write_folder(root: Path, tables: Tables, suffix: str = ".parquet") -> Path:
    """Write tables and pictures as a whole timeline folder."""
    with staged_folder(root, overwrite=True) as staging:
        write_images(staging, tables)
        write_timeline(
            staging,
            tables,
            name="small",
            version="1",
            licence="CC0-1.0",
            provenance={"source": "test"},
            suffix=suffix,
        )
    return root


@pytest.fixture(scope="session")
def template() -> Tables:
    return make_tables()


@pytest.fixture
def tables(template: Tables) -> Tables:
    """Tables of the test's own."""
    return {name: frame.copy() for name, frame in template.items()}


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Path]:
    """Write tables as a whole folder: takes the tables, the suffix of their files and the folder's name."""

    def write(tables: Tables, suffix: str = ".parquet", name: str = "data") -> Path:
        return write_folder(tmp_path / name, tables, suffix)

    return write


@pytest.fixture
def replace_table() -> Callable[[Path, str, pd.DataFrame], None]:
    """Put another table into a written folder, without any check."""

    def write(root: Path, name: str, frame: pd.DataFrame) -> None:
        path = next(root.glob(f"{name}.*"), root / f"{name}.parquet")
        write_table(conform(frame, name, path.name, Problems()), path, name)

    return write


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory, template: Tables) -> Path:
    """A folder that no test may change."""
    return write_folder(tmp_path_factory.mktemp("pristine") / "data", template)


@pytest.fixture
def root(pristine: Path, tmp_path: Path) -> Path:
    """A folder of the test's own."""
    return Path(shutil.copytree(pristine, tmp_path / "data"))


@pytest.fixture(scope="session")
def timeline(pristine: Path) -> Timeline:
    """The folder that no test may change, opened."""
    return Timeline.open(pristine)
