"""How far an image is shifted against another, so that a finding stays with its tissue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

#: A shift is believed only if the images are then this much alike, and if it takes away this share of what is unlike.
_ALIKE, _GAIN = 0.3, 0.1
#: Further estimates after the first.
_PASSES = 2


def resampled(
    image: NDArray, spacing: Sequence[float], shape: Sequence[int], target: Sequence[float]
) -> NDArray[np.float32]:
    """An image on another grid, centre on centre.

    Args:
        image: ``(*spatial)``.
        spacing: size of its pixels along each axis.
        shape: of the other grid.
        target: size of its pixels.
    """
    if tuple(image.shape) == tuple(shape) and np.allclose(spacing, target, rtol=1e-3):
        return image.astype(np.float32)
    scale = np.asarray(target) / np.asarray(spacing)
    offset = (np.array(image.shape) - 1) / 2 - scale * (np.array(shape) - 1) / 2
    moved = ndimage.affine_transform(image.astype(np.float32), scale, offset, tuple(shape), order=1, mode="nearest")
    return np.asarray(moved, dtype=np.float32)


def displacement(fixed: NDArray, moving: NDArray, limit: Sequence[float]) -> NDArray[np.float64]:
    """The shift of ``moving`` against ``fixed`` in pixels along each axis, from their cross-correlation.

    Args:
        fixed: ``(*spatial)``.
        moving: of the same shape.
        limit: the longest shift looked for along each axis.

    Returns:
        What was at ``x`` in ``fixed`` is at ``x`` plus this in ``moving``; zeros where no shift makes them more alike.
    """
    total = _step(fixed, moving, np.asarray(limit, dtype=float), _GAIN)
    for _ in range(_PASSES if total.any() else 0):
        # The window pulls a shift towards 0; what is left of it is found with the image moved back.
        back = ndimage.shift(moving, -total, order=1, mode="nearest")
        total = total + _step(fixed, back, np.full(fixed.ndim, 2.0), 0.0)
    return total


def _step(fixed: NDArray, moving: NDArray, limit: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """One estimate of a shift; zeros unless it takes away the share ``least`` of what is unlike."""
    window = np.ones(())
    for length in fixed.shape:
        window = np.multiply.outer(window, signal.windows.tukey(length, 0.5))
    parts = [(one - np.average(one, weights=window + 1e-9)) * window for one in (fixed, moving)]
    norm = float(np.sqrt((parts[0] ** 2).sum() * (parts[1] ** 2).sum()))
    nothing = np.zeros(fixed.ndim)
    if norm <= 0:
        return nothing
    alike = signal.correlate(parts[1], parts[0], mode="same", method="fft") / norm
    centre = [length // 2 for length in fixed.shape]
    reach = [int(min(most, middle)) for most, middle in zip(limit, centre, strict=True)]
    start = np.array(centre) - reach
    near = alike[tuple(slice(s, s + 2 * r + 1) for s, r in zip(start, reach, strict=True))]
    peak = start + np.array(np.unravel_index(np.argmax(near), near.shape))
    top, still = float(alike[tuple(peak)]), float(alike[tuple(centre)])
    moved = bool((peak != centre).any())
    if top < _ALIKE or (moved and top - still < least * (1 - still)):
        return nothing
    return np.array([_refined(alike, peak, axis) for axis in range(fixed.ndim)]) - centre


def _refined(alike: NDArray, peak: NDArray, axis: int) -> float:
    """The top of a parabola through the peak and its neighbours along an axis."""
    place = int(peak[axis])
    if not 0 < place < alike.shape[axis] - 1:
        return float(place)
    index = [int(k) for k in peak]
    low, top, high = (float(alike[(*index[:axis], place + step, *index[axis + 1 :])]) for step in (-1, 0, 1))
    curve = low - 2 * top + high
    return place + (0.5 * (low - high) / curve if curve < 0 else 0.0)


def followed(
    frames: Sequence[NDArray], centre: Sequence[float], half: Sequence[int], limit: Sequence[float]
) -> NDArray[np.float64]:
    """The path of a piece of tissue through a loop, in pixels, ``(T, axes)``; about 0 in the first frame.

    Args:
        frames: ``(*spatial)`` each.
        centre: of the piece in the first frame.
        half: half its size along each axis.
        limit: the longest shift looked for along each axis.
    """
    shape = frames[0].shape
    start = [int(np.clip(round(c) - h, 0, max(n - 2 * h - 1, 0))) for c, h, n in zip(centre, half, shape, strict=True)]
    piece = tuple(slice(s, s + 2 * h + 1) for s, h in zip(start, half, strict=True))
    blurred = [ndimage.gaussian_filter(frame[piece].astype(np.float32), [1.0 if h > 2 else 0 for h in half])
               for frame in frames]  # fmt: skip
    path = np.array([displacement(blurred[0], frame, limit) for frame in blurred])
    # Single frames that are far off are mistakes; tissue moves smoothly.
    smooth = ndimage.median_filter(path, size=(5, 1), mode="nearest")
    smooth = ndimage.gaussian_filter1d(smooth, 1.0, axis=0, mode="nearest")
    return np.asarray(smooth)
