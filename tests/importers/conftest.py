"""Real files from installed packages, and DICOM files made up on the spot."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom.examples
import pytest
import pytorch_lightning as pl
import torch
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from typer.testing import CliRunner, Result

from temmed.cli import app
from temmed.data.datamodule import TimelineDataModule
from temmed.data.fitting import fit
from temmed.data.settings import DataSettings
from temmed.timelines.folder import Timeline
from temmed.timelines.importers.build import Outcome, Request, run_import
from temmed.timelines.importers.plan import Options, Plan
from temmed.timelines.importers.registry import importer
from temmed.timelines.splits import Split
from temmed.training.module import TimelineModule
from temmed.training.schedules import constant

DicomWriter = Callable[..., Path]
Importing = Callable[..., tuple[Timeline, Outcome]]
Planning = Callable[..., Plan]
Running = Callable[..., Result]
Training = Callable[[Timeline], tuple[int, dict[str, float]]]
VideoWriter = Callable[..., Path]
VolumeWriter = Callable[..., Path]


@pytest.fixture(scope="session")
def echo() -> Path:
    """A real echo cine: 30 colour frames, 33.333 ms apart."""
    return Path(pydicom.examples.get_path("ybr_color"))


@pytest.fixture(scope="session")
def nibabel_data() -> Path:
    """Real NIfTI files."""
    return Path(nibabel.__file__).parent / "tests" / "data"


def write(path: Path, pixels: np.ndarray, **elements: Any) -> Path:
    """Write a DICOM file.

    Args:
        path: where to.
        pixels: (rows, columns), (frames, rows, columns) or (rows, columns, 3); integers.
        elements: further elements by keyword; ``None`` leaves one out.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    frames = pixels.shape[0] if pixels.ndim == 3 and not colour else None
    values: dict[str, Any] = {
        "PatientID": "one",
        "PatientName": "Doe^Jane",
        "Modality": "CT",
        "StudyDate": "20200101",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.4",
        "NumberOfFrames": frames,
        "Rows": pixels.shape[1] if frames else pixels.shape[0],
        "Columns": pixels.shape[2] if frames else pixels.shape[1],
        "SamplesPerPixel": 3 if colour else 1,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
        "BitsAllocated": 8 * pixels.dtype.itemsize,
        "BitsStored": 8 * pixels.dtype.itemsize,
        "HighBit": 8 * pixels.dtype.itemsize - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    }
    if colour:
        values["PlanarConfiguration"] = 0
    for keyword, value in (values | elements).items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.PixelData = pixels.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path)
    return path


@pytest.fixture
def dicom() -> DicomWriter:
    return write


@pytest.fixture
def item() -> Callable[..., Dataset]:
    """Makes a dataset for a sequence's item."""

    def make(**elements: Any) -> Dataset:
        made = Dataset()
        for keyword, value in elements.items():
            setattr(made, keyword, value)
        return made

    return make


@pytest.fixture
def importing(tmp_path: Path) -> Importing:
    """Runs an import and opens what it wrote."""

    def run(name: str, source: Path, options: Options | None = None, **request: Any) -> tuple[Timeline, Outcome]:
        target = tmp_path / "dataset"
        asked = Request(source=source, target=target, options=options or Options(), **request)
        outcome = run_import(importer(name), asked)
        assert outcome.written, outcome.findings
        return Timeline.open(target), outcome

    return run


@pytest.fixture
def planning() -> Planning:
    """Runs an importer up to its plan, which takes a tenth of an import's time."""

    def run(name: str, source: Path, options: Options | None = None) -> Plan:
        return importer(name).plan(
            source, options or Options(), lambda label, function, items: list(map(function, items))
        )

    return run


@pytest.fixture
def running() -> Running:
    """Runs ``temmed data import …`` as a user does."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["data", "import", *map(str, arguments)])

    return run


@pytest.fixture
def trained(model_config: Callable[..., dict[str, Any]]) -> Training:
    """Opens a folder again and trains one step on all its questions; returns how many they are and the losses."""

    def run(timeline: Timeline) -> tuple[int, dict[str, float]]:
        timeline = Timeline.open(timeline.root)
        split = everybody(timeline)
        data = TimelineDataModule(timeline, split, DataSettings(size=16, batch_size=64), fit(timeline, split, 16), 0)
        module = TimelineModule(
            model_config(), data.fitted.to_dict(), {}, optimizer=partial(torch.optim.SGD, lr=0.1), scheduler=constant
        )
        before = [weights.detach().clone() for weights in module.parameters()]
        trainer = pl.Trainer(
            accelerator="cpu",
            max_steps=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(module, train_dataloaders=data.loader("train", training=True))
        assert any(not torch.equal(old, new) for old, new in zip(before, module.parameters(), strict=True))
        assert all(torch.isfinite(weights).all() for weights in module.parameters())
        asked = sum(len(record.questions) for record in data.records("train"))
        return asked, {name: float(value) for name, value in trainer.callback_metrics.items()}

    return run


def everybody(timeline: Timeline) -> Split:
    """All sequences in the train subset."""
    sequences = timeline.table("sequences")
    length = sequences["sequence_id"].map(timeline.table("timepoints").groupby("sequence_id").size())
    rows = sequences[["sequence_id", "patient_id"]].assign(subset="train", first_asked=0, last_asked=length - 1)
    return Split("all", "file", 0, rows)


@pytest.fixture
def video() -> VideoWriter:
    """Writes a tiny video whose frames grow lighter."""

    def make(path: Path, frames: int, rate: int = 25, codec: str = "mjpeg", pixel_format: str = "yuvj420p") -> Path:
        av = pytest.importorskip("av")
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=rate)
            stream.width, stream.height, stream.pix_fmt = 32, 32, pixel_format
            for index in range(frames):
                picture = np.full((32, 32, 3), 20 + 5 * index, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        return path

    return make


@pytest.fixture
def volume() -> VolumeWriter:
    """Writes a tiny NIfTI volume, or several in time."""

    def make(path: Path, frames: int = 0, step: float = 2.0, value: float = 1.0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (6, 5, 4, frames) if frames else (6, 5, 4)
        image = nibabel.Nifti1Image(np.full(shape, value, np.float32), np.diag([-1, -1, 1, 1]))
        image.header.set_xyzt_units("mm", "sec")
        if frames:
            image.header.set_zooms((1, 1, 1, step))
        nibabel.save(image, path)
        return path

    return make
