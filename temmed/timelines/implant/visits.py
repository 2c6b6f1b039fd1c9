"""Visits made of one real image: the same anatomy, moved a little, brighter or darker, with noise of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from temmed.timelines.implant.scene import Scene
from temmed.timelines.synthetic.courses import BRAIN, draw_times

#: Standard deviation of the shift along rows and columns, in pixels; longer ones are cut at two of it.
_SHIFT = 1.5
#: Standard deviation of ln(brightness).
_GAIN = 0.04
#: Noise added, relative to the image's own.
_NOISE = 0.7
#: Widths in pixels, of the filter that tells noise from structure and of the window in which noise is measured.
_FINE, _LOCAL = 1.2, 9


def residual(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is finer than about a pixel and a half in each slice: mostly noise, and texture."""
    return np.asarray(image - ndimage.gaussian_filter(image, in_plane(image.ndim, _FINE)))


def in_plane(dims: int, width: float) -> list[float]:
    """The width of a filter along each axis, that leaves slices apart."""
    return [0.0] * (dims - 2) + [width] * 2


def noise_like(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """New noise with the spectrum of an image's own and with its strength at each place.

    Args:
        image: ``(*spatial)``.
        rng: the generator.
    """
    own = residual(image)
    strength = np.sqrt(np.clip(ndimage.uniform_filter(own**2, [1] * (image.ndim - 2) + [_LOCAL] * 2), 0, None))
    # Edges are part of the residual: where it is far above what is usual nearby it is no noise.
    usual = ndimage.median_filter(strength[..., ::4, ::4], size=[1] * (image.ndim - 2) + [5, 5])
    usual = ndimage.zoom(usual, [a / b for a, b in zip(image.shape, usual.shape, strict=True)], order=1)
    strength = np.minimum(strength, usual)
    even = own / np.maximum(strength, 1e-6 + 0.05 * float(strength.max()))
    spectrum = np.abs(np.fft.fft2(np.clip(even, -3, 3)))
    drawn = np.fft.ifft2(spectrum * np.exp(1j * np.angle(np.fft.fft2(rng.standard_normal(image.shape))))).real
    return np.asarray(drawn / max(float(drawn.std()), 1e-9) * strength, dtype=np.float32)


def repeated(scene: Scene, visits: int, calibrated: bool, rng: np.random.Generator) -> Scene:
    """A scene of one image as several visits at made-up times.

    Args:
        scene: with one position that has images.
        visits: how many, at least 2.
        calibrated: whether values are the same for all scanners, as in CT, so that brightness stays.
        rng: the generator.
    """
    [first] = scene.positions
    spacing = np.array(scene.spacing(first))
    times = draw_times(rng, visits, BRAIN)
    images, moved = {}, {}
    for visit in range(visits):
        shift = np.zeros(scene.dims)
        shift[-2:] = np.clip(rng.normal(0, _SHIFT, 2), -2 * _SHIFT, 2 * _SHIFT)
        gain = 1.0 if calibrated else float(np.exp(rng.normal(0, _GAIN)))
        images[visit] = {
            name: _retaken(image, scene.dims, shift, gain, rng) for name, image in scene.images[first].items()
        }
        moved[visit] = shift * spacing
    origin = moved[0]
    return Scene(
        images=images,
        main=scene.main,
        affines=dict.fromkeys(range(visits), scene.affines[first]),
        known=scene.known,
        dims=scene.dims,
        times=times,
        time_unit="day",
        moved={visit: shift - origin for visit, shift in moved.items()},
        notes=[*scene.notes, f"one real image repeated as {visits} visits at made-up times"],
    )


def _retaken(image: NDArray, dims: int, shift: NDArray, gain: float, rng: np.random.Generator) -> NDArray:
    """An image taken again, in its own type and range."""
    values = image.astype(np.float32)
    moved = ndimage.shift(values, [*shift, *[0.0] * (image.ndim - dims)], order=3, mode="nearest")
    grey = moved.mean(axis=-1) if image.ndim > dims else moved
    noise = _NOISE * noise_like(grey, rng)
    low = float(values.min())
    new = low + gain * (moved - low) + (noise[..., None] if image.ndim > dims else noise)
    return in_type(new, image)


def in_type(values: NDArray, image: NDArray) -> NDArray:
    """Values in the type of an image; none below its least, none that the type cannot hold."""
    low = float(image.min())
    if image.dtype.kind == "f":
        return np.maximum(values, low).astype(image.dtype)
    high = np.iinfo(image.dtype).max
    return np.clip(np.rint(values), low, high).astype(image.dtype)
