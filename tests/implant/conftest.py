"""Real images from installed packages, imported, and what was implanted into them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from pydicom import examples

from temmed.timelines.folder import Timeline, write_timeline
from temmed.timelines.implant.build import Outcome, implant
from temmed.timelines.implant.plan import Drawn, draw
from temmed.timelines.implant.scene import Scene, Task
from temmed.timelines.importers.build import Request, run_import
from temmed.timelines.importers.registry import importer

#: Sequences of the folder ``real`` by what they show.
LOOP, CT, MR = "ultrasound", "ct", "mri"
Phantom = Callable[..., Path]


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    """A real CT slice, a real MR slice and a real echo loop in colour, imported."""
    root = tmp_path_factory.mktemp("real")
    (root / "source").mkdir()
    for name in ("ct", "mr", "ybr_color"):
        shutil.copy(Path(str(examples.get_path(name))), root / "source" / f"{name}.dcm")
    run_import(importer("dicom"), Request(source=root / "source", target=root / "timeline"))
    return Timeline.open(root / "timeline")


@pytest.fixture(scope="session")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    """A real loop of two brain volumes (4D NIfTI), imported."""
    root = tmp_path_factory.mktemp("volumes")
    file = Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"
    run_import(importer("nifti"), Request(source=file, target=root / "timeline"))
    return Timeline.open(root / "timeline")


@pytest.fixture(scope="session")
def abdomen(tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    """A real MR slice of an abdomen, 300 x 484, imported."""
    root = tmp_path_factory.mktemp("abdomen")
    run_import(importer("dicom"), Request(source=Path(str(examples.get_path("overlay"))), target=root / "timeline"))
    return Timeline.open(root / "timeline")


@pytest.fixture(scope="session")
def done(real: Timeline, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Findings in the real images; single images are five visits."""
    return implant(real.root, tmp_path_factory.mktemp("done") / "out", visits=5, workers=1, progress=False)


def task_of(timeline: Timeline, modality: str) -> Task:
    """The one sequence of a modality, as a worker is given it."""
    sequences = timeline.table("sequences")
    [index] = sequences.index[sequences["modality"].str.lower() == modality]
    row = sequences.loc[index]
    points = timeline.table("timepoints").query("sequence_id == @row.sequence_id")
    images = timeline.table("images").query("sequence_id == @row.sequence_id")
    return Task(
        int(index), row["sequence_id"], row["modality"], row["time_unit"], int(row["spatial_dims"]),
        tuple(points["time"]), images,
    )  # fmt: skip


def drawn_in(scene: Scene, task: Task, seed: int = 0) -> Drawn:
    return draw(scene, task, seed, None)


@pytest.fixture
def phantom(tmp_path: Path) -> Phantom:
    """``phantom(shifts)``: a folder with one patient whose body, a noisy disc, is shifted by so much at each visit."""

    def make(shifts: list[tuple[int, int]], side: int = 96, radius: float = 36.0, **sequence: object) -> Path:
        root = tmp_path / "phantom"
        (root / "images").mkdir(parents=True)
        rng = np.random.default_rng(0)
        rows, columns = np.indices((side, side))
        texture = rng.normal(0, 1, (side, side))
        frames = []
        for down, right in shifts:
            distance = np.hypot(rows - side / 2 - down, columns - side / 2 - right)
            body = np.where(distance < radius, 120 + 8 * np.roll(texture, (down, right), (0, 1)), 5)
            frames.append(np.clip(body + rng.normal(0, 2, body.shape), 0, 255).astype(np.uint8))
        np.save(root / "images" / "s.npy", np.stack(frames))
        count = range(len(shifts))
        about = {"modality": "mri", "time_unit": "day", "spatial_dims": 2, **sequence}
        write_timeline(
            root,
            {
                "patients": pd.DataFrame({"patient_id": ["p"], "sex": ["F"]}),
                "sequences": pd.DataFrame({"sequence_id": ["s"], "patient_id": ["p"], **about}),
                "timepoints": pd.DataFrame({"sequence_id": "s", "position": count, "time": [30.0 * k for k in count]}),
                "images": pd.DataFrame(
                    {"sequence_id": "s", "position": count, "channel": "t1", "path": "images/s.npy", "frame": count}
                ),
                "reports": pd.DataFrame(
                    {
                        "report_id": "r", "patient_id": "p", "sequence_id": "s", "position": 0, "time": 0.0,
                        "kind": "report", "text": "No finding.",
                    },
                    index=[0],
                ),
            },
            name="phantom",
            version="1",
            licence="CC0-1.0",
            provenance={"source": "a test"},
        )  # fmt: skip
        return root

    return make
