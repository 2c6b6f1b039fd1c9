"""Synthetic CT: Hounsfield units through DICOM, noise of the stated size, findings where the truth puts them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from temmed.timelines.pixels import read_frames
from temmed.timelines.synthetic import tomography
from temmed.timelines.synthetic.courses import draw_course
from temmed.timelines.synthetic.generate import generate
from temmed.timelines.synthetic.modalities.ct import PLAN, render_visit
from temmed.timelines.synthetic.tomography import coloured_error, photon_noise


def _phantom(size: int) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.where(np.hypot(x / 0.44, y / 0.3) < size, 0.0, -1000.0)


def test_files_hold_hounsfield_units_and_the_elements_that_readers_want(tmp_path: Path) -> None:
    timeline = generate(tmp_path / "ct", "ct", patients=1, size=64, workers=1, progress=False)
    path = timeline.root / timeline.table("images")["path"].iloc[0]
    hu = read_frames(path)[0]
    assert hu.dtype == np.float32
    assert hu[0, 0] == -1024  # outside the field of view
    assert np.median(hu[2:6, 28:36]) == pytest.approx(-1000, abs=40)  # air in front of the chest
    lung = hu[(hu > -1000) & (hu < -700)]
    assert lung.size > 300
    assert np.median(lung) == pytest.approx(-870, abs=50)
    assert hu.max() > 300  # bone
    header = pydicom.dcmread(path)
    assert header.Modality == "CT"
    assert float(header.PixelSpacing[0]) == pytest.approx(360 / 64)
    assert header.file_meta.MediaStorageSOPInstanceUID == header.SOPInstanceUID
    np.testing.assert_array_equal(header.pixel_array.astype(float) * header.RescaleSlope + header.RescaleIntercept, hu)


def test_a_volume_is_a_series_in_order_of_position(tmp_path: Path) -> None:
    timeline = generate(tmp_path / "ct", "ct", patients=1, size=16, spatial_dims=3, workers=1, progress=False)
    folder = timeline.root / timeline.table("images")["path"].iloc[0]
    headers = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    assert len(headers) == 16
    assert len({header.SeriesInstanceUID for header in headers}) == 1
    assert len({header.SOPInstanceUID for header in headers}) == 16
    heights = [float(header.ImagePositionPatient[2]) for header in headers]
    assert heights == sorted(heights)
    assert read_frames(folder).shape == (1, 16, 16, 16)


@pytest.mark.parametrize("largest", [192, 32])
def test_photon_noise_has_the_deviation_it_states(largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tomography, "LARGEST_GRID", largest)
    rng = np.random.default_rng(0)
    drawn = [photon_noise(rng, _phantom(48), 7.5, 2e5) for _ in range(120)]
    found = np.std([noise for noise, _ in drawn], axis=0)
    stated = np.hypot(drawn[0][1], 2.0)
    for place in (np.s_[20:28, 20:28], np.s_[20:28, 6:10]):
        assert found[place].mean() == pytest.approx(stated[place].mean(), rel=0.06)
    # More is absorbed on the way to the middle than to the side.
    assert stated[20:28, 20:28].mean() > 1.1 * stated[20:28, 5:8].mean()
    # Mean zero but for the bias of the logarithm.
    assert abs(np.mean([noise for noise, _ in drawn])) < 0.1 * found.mean()


@pytest.mark.parametrize("largest", [192, 32])
def test_stated_error_is_that_of_a_least_squares_reader_of_drawn_noise(
    largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound for the amplitude of a known blob, against the generalised least-squares estimate on drawn noise."""
    monkeypatch.setattr(tomography, "LARGEST_GRID", largest)
    rng = np.random.default_rng(1)
    size, patch = 48, np.s_[14:34, 14:34]
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    blob = 100 * np.exp(-(x**2 + y**2) / 18)[patch]
    drawn = [photon_noise(rng, _phantom(size), 7.5, 2e5) for _ in range(300)]
    noise = np.array([n[patch] for n, _ in drawn])
    stated = coloured_error([blob], float(drawn[0][1][patch].mean()), size, 7.5)
    # The estimator weighs frequencies by the inverse of the spectrum that the same number of other draws shows.
    spectrum = np.mean(np.abs(np.fft.fft2(noise[:150])) ** 2, axis=0)
    weighted = np.fft.fft2(blob).conj() / spectrum
    estimates = (np.fft.fft2(noise[150:]) * weighted).sum(axis=(1, 2)).real / (np.fft.fft2(blob) * weighted).sum().real
    # The spectrum is not the same in all directions and places, as the bound takes it to be.
    assert np.std(estimates) == pytest.approx(stated, rel=0.35)


def test_findings_are_seen_where_the_truth_puts_them() -> None:
    courses = (draw_course(0, index, 2, PLAN) for index in range(50))
    course = next(c for c in courses if any(f.diameters[0] > 20 and "node" not in f.label for f in c.findings))
    finding = max(course.findings, key=lambda f: f.diameters[0] * ("node" not in f.label))
    with_it, _ = render_visit(0, course, 0, (64, 64))
    kept = finding.diameters[0]
    finding.diameters[0] = 0
    without, _ = render_visit(0, course, 0, (64, 64))
    finding.diameters[0] = kept
    change = with_it.astype(float) - without
    row, column = np.unravel_index(np.argmax(change), change.shape)
    x, y = (column - 31.5) * 360 / 64, -(row - 31.5) * 360 / 64
    assert np.hypot(x - finding.look.centre[0], y - finding.look.centre[1]) < kept / 2 + 14
    assert change.max() > 150


def test_sets_of_other_seeds_share_no_identifier(tmp_path: Path) -> None:
    uids = []
    for seed in (0, 1):
        timeline = generate(tmp_path / str(seed), "ct", patients=1, size=16, seed=seed, workers=1, progress=False)
        paths = timeline.root.glob("images/*/*.dcm")
        uids.append({pydicom.dcmread(path).SOPInstanceUID for path in paths})
    assert uids[0].isdisjoint(uids[1])
