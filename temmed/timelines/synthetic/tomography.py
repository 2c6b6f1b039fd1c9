"""The noise of computed tomography: photons counted by a detector, then filtered back-projection.

Counts are Poisson in the projections, so the noise of an image has the texture and the streaks of the real thing: its
spectrum grows with spatial frequency, and it is strongest where, and along the lines on which, much was absorbed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal, sparse

#: Attenuation of water at about 70 keV, in 1/mm.
WATER = 0.0193
#: Largest grid on which noise is made; finer images get it interpolated, as by a softer kernel.
LARGEST_GRID = 192
#: Noise that does not come from photons, in Hounsfield units (and the rounding of stored values).
ELECTRONIC = 2.0
_CALIBRATION = 24


@dataclass(frozen=True)
class Scanner:
    """Parallel-beam geometry for images of one size.

    Attributes:
        size: pixels along each side.
        spacing: of pixels and of detector elements, in mm.
        project: sparse ``(angles * detectors, size²)``: pixel values to line integrals per mm.
        filter: of the projections, by frequency; ramp with a Hann window, in 1/mm.
        angles: number of projections.
        detectors: number of detector elements.
    """

    size: int
    spacing: float
    project: sparse.csr_matrix
    filter: NDArray[np.float64]
    angles: int
    detectors: int

    def back_project(self, projections: NDArray[np.float64]) -> NDArray[np.float64]:
        """Filtered back-projection of ``(angles, detectors)`` to ``(size, size)``, in 1/mm."""
        spectrum = np.fft.rfft(projections, n=2 * self.detectors, axis=1) * self.filter
        filtered = np.fft.irfft(spectrum, n=2 * self.detectors, axis=1)[:, : self.detectors]
        return self._smear(filtered) * (np.pi / self.angles)

    def _smear(self, projections: NDArray[np.float64]) -> NDArray[np.float64]:
        return (self.project.T @ projections.ravel()).reshape(self.size, self.size)

    def mean_variance(self, variance: NDArray[np.float64]) -> NDArray[np.float64]:
        """For each pixel the mean, over angles, of the variance of the projection through it."""
        return self._smear(variance) / self.angles


@lru_cache(maxsize=4)
def scanner(size: int, spacing: float) -> Scanner:
    """The geometry for images of ``size`` pixels of ``spacing`` mm."""
    angles = max(48, size)
    detectors = int(np.ceil(size * np.sqrt(2))) + 3
    line = np.arange(size) - (size - 1) / 2
    x, y = np.meshgrid(line, -line)
    theta = (np.arange(angles) + 0.5) * np.pi / angles
    place = np.cos(theta)[:, None] * x.ravel() + np.sin(theta)[:, None] * y.ravel() + (detectors - 1) / 2
    low = np.floor(place).astype(np.int64)
    weight = place - low
    row = low + detectors * np.arange(angles)[:, None]
    column = np.broadcast_to(np.arange(size * size), row.shape)
    data = np.concatenate([(1 - weight).ravel(), weight.ravel()])
    rows = np.concatenate([row.ravel(), row.ravel() + 1])
    shape = (angles * detectors, size * size)
    matrix = sparse.csr_matrix((data, (rows, np.tile(column.ravel(), 2))), shape=shape)
    frequency = np.fft.rfftfreq(2 * detectors, spacing)
    window = 0.5 + 0.5 * np.cos(np.pi * frequency / frequency[-1])
    return Scanner(size, spacing, matrix, frequency * window, angles, detectors)


@lru_cache(maxsize=4)
def noise_texture(size: int, spacing: float) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """How the variance of projections becomes that of the image, and how it is spread over frequencies.

    Measured once on images of noise alone, of unit variance in the projections, in the middle of the image.

    Returns:
        Variance of a pixel (1/mm²) per unit of projection variance; and the spectrum as increasing frequencies (cycles
        per pixel) and density relative to white noise of the same variance.
    """
    machine = scanner(size, spacing)
    rng = np.random.default_rng(0)
    window = size // 2
    middle = slice(size // 4, size // 4 + window)
    power = np.zeros((window, window))
    for _ in range(_CALIBRATION):
        image = machine.back_project(rng.standard_normal((machine.angles, machine.detectors)))[middle, middle]
        power += np.abs(np.fft.fft2(image)) ** 2 / image.size
    power /= _CALIBRATION
    variance = float(power.mean())
    radius = np.hypot(np.fft.fftfreq(window)[:, None], np.fft.fftfreq(window)[None, :])
    edges = np.linspace(0, radius.max() + 1e-9, 13)
    ring = np.digitize(radius, edges[1:-1]).ravel()
    counts = np.bincount(ring, minlength=12)
    density = np.bincount(ring, power.ravel(), minlength=12) / np.maximum(counts, 1) / variance
    return variance, (edges[1:] + edges[:-1]) / 2, density


def photon_noise(
    rng: np.random.Generator, hu: NDArray[np.float64], spacing: float, photons: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Noise of one slice in Hounsfield units, and its local standard deviation.

    Args:
        rng: the generator.
        hu: the noise-free slice, ``(size, size)``.
        spacing: of its pixels, in mm.
        photons: counted by a detector element with nothing in the way.
    """
    size = hu.shape[0]
    grid = min(size, LARGEST_GRID)
    coarse = spacing * size / grid
    machine = scanner(grid, coarse)
    attenuation = np.clip(1 + _zoom(hu, grid) / 1000, 0, None) * WATER
    integrals = (machine.project @ attenuation.ravel()).reshape(machine.angles, -1) * coarse
    expected = photons * np.exp(-integrals)
    counted = np.maximum(rng.poisson(expected), 1)
    noise = machine.back_project(-np.log(counted / photons) - integrals)
    variance, _, _ = noise_texture(grid, coarse)
    local = machine.mean_variance(1 / np.maximum(expected, 1)) * variance
    if size > grid:  # band-limited: neither variance nor spectrum changes
        noise = signal.resample(signal.resample(noise, size, axis=0), size, axis=1)
    electronic = rng.standard_normal(hu.shape) * ELECTRONIC
    return noise * (1000 / WATER) + electronic, np.sqrt(_zoom(local, size)) * (1000 / WATER)


def _zoom(image: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Interpolate to another number of pixels of the same field of view."""
    if len(image) == size:
        return image
    zoomed: NDArray[np.float64] = ndimage.zoom(image, size / len(image), order=1, mode="nearest", grid_mode=True)
    return zoomed


def coloured_error(columns: list[NDArray[np.float64]], deviation: float, size: int, spacing: float) -> float:
    """The least standard error of the first parameter that noise of this texture allows (Cramér-Rao bound).

    The noise is taken as stationary over the patch, with the spectrum of `noise_texture`, independent between slices.

    Args:
        columns: derivative of the patch by each parameter, ``(h, w)`` or ``(d, h, w)``, in Hounsfield units.
        deviation: local standard deviation of the photon noise in Hounsfield units.
        size: pixels along each side of the whole image.
        spacing: of its pixels, in mm.
    """
    finer = size / min(size, LARGEST_GRID)
    _, frequency, density = noise_texture(round(size / finer), spacing * finer)
    height, width = columns[0].shape[-2:]
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    coloured = finer**2 * np.interp(finer * radius, frequency, density, right=0.0 if finer > 1 else None)
    spectrum = deviation**2 * coloured + ELECTRONIC**2
    whitened = np.stack([(np.fft.fft2(column) / np.sqrt(spectrum * height * width)).ravel() for column in columns])
    information = (whitened.conj() @ whitened.T).real
    return float(np.sqrt(np.linalg.pinv(information, hermitian=True)[0, 0]))
