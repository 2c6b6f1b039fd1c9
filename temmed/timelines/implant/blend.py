"""Draw a finding into an image so that its noise and texture stay.

Inside, the level of the tissue is moved by an amount that is visible against the noise and the variation around it, and
what is broader than a few pixels is flattened. What is finer, noise and speckle included, is left as it is: the
finding has the grain of its surroundings because it is the same grain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from temmed.timelines.implant.visits import in_plane, in_type
from temmed.timelines.synthetic.lesions import Look, coverage
from temmed.timelines.synthetic.shapes import smooth_noise

#: Width in pixels of what is left as it is.
_GRAIN = 2.0
#: Amplitude of a finding: at least so many deviations of the noise, so much of the variation around it, and, where
#: neither is large, so much of the level above black, or so many Hounsfield units.
_OVER_NOISE, _OVER_TISSUE, _OVER_BLACK, _HOUNSFIELD = 3.0, 1.5, 0.2, 45.0
#: A finding must have room for so much of the amplitude it should have.
_ROOM = 0.7
#: How much of the structure inside is flattened, and the most that this may change, as a share of the amplitude.
_FLAT, _MOST = 0.5, 0.3
#: Unevenness of the inside, as a share of the amplitude, and the width of its structures as a share of the diameter.
_UNEVEN, _CLUMPS = 0.13, 0.35
#: Below this a pixel is not touched.
_NOTHING = 0.01
#: From the middle of the margin on, a pixel belongs to the finding.
INSIDE = 0.5

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Finding:
    """A finding as it is drawn.

    Attributes:
        look: its shape; the centre is (x, y, z) from the middle of the first pixel of the first image.
        amplitudes: by channel, what it adds to the level of the tissue in the first image.
        seed: of its inner structure.
    """

    look: Look
    amplitudes: dict[str, float]
    seed: int

    def moved(self, offset: NDArray[np.float64]) -> Finding:
        """The same, elsewhere; the offset is along the axes of the array."""
        shift = [*offset[::-1], 0.0][:3]
        x, y, z = (a + b for a, b in zip(self.look.centre, shift, strict=True))
        return replace(self, look=replace(self.look, centre=(float(x), float(y), float(z))))


class Room(NamedTuple):
    """How much brighter and darker than its surroundings a finding should be, and how much it can be."""

    wanted: float
    above: float
    below: float

    def allows(self, sign: int) -> bool:
        """Whether a finding of this sign can be seen."""
        return self.wanted > 0 and self._least(sign) >= _ROOM * self.wanted

    def amplitude(self, sign: int) -> float:
        """With its sign."""
        return sign * min(self.wanted, self._least(sign))

    def _least(self, sign: int) -> float:
        return self.above if sign > 0 else self.below


def spread(grey: Image) -> tuple[float, float]:
    """The darkest and brightest value of an image, but for a few pixels."""
    low, high = np.percentile(grey, (0.5, 99.5))
    return float(low), float(high)


def room(
    grey: Image,
    centre: NDArray[np.float64],
    radius: float,
    spacing: Sequence[float],
    strength: float,
    calibrated: bool,
) -> Room:
    """What a place allows.

    Args:
        grey: ``(*spatial)``.
        centre: of the finding along the axes, from the middle of the first pixel.
        radius: of the finding at its largest.
        spacing: size of a pixel along the axes.
        strength: multiplies the amplitude.
        calibrated: whether values are Hounsfield units.
    """
    around = _block(grey.shape, centre, 2 * radius, spacing)
    patch = grey[around]
    smooth = ndimage.gaussian_filter(patch, in_plane(patch.ndim, _GRAIN))
    distance = _distance(patch.shape, around, centre, spacing)
    near, about = distance <= radius, distance <= 1.4 * radius
    noise = _deviation((patch - smooth)[about])
    low, high = spread(grey)
    level = float(np.median(smooth[near]))
    least = _HOUNSFIELD if calibrated else _OVER_BLACK * (level - low)
    wanted = strength * max(_OVER_NOISE * noise, _OVER_TISSUE * _deviation(smooth[about]), least)
    above, below = high + 0.1 * (high - low) - level - noise, level - noise - (low + 0.1 * (high - low))
    return Room(wanted if _deviation(patch) > 0 else 0.0, above, below)


def grain(grey: Image, centre: NDArray[np.float64], radius: float, spacing: Sequence[float]) -> float:
    """Width of the finest structure around a place, in the unit of spacing: how blurred an edge is there."""
    patch = grey[_block(grey.shape, centre, 2 * radius, spacing)]
    fine = patch - ndimage.gaussian_filter(patch, in_plane(patch.ndim, 2 * _GRAIN))
    widths = []
    for axis in (-2, -1):
        lines = np.moveaxis(fine, axis, -1)
        lags = range(min(int(3 * _GRAIN), lines.shape[-1] - 1))
        alike = [float((lines[..., lag:] * lines[..., : lines.shape[-1] - lag]).mean()) for lag in lags]
        below = next((lag for lag in lags if alike[lag] < alike[0] / 2), len(alike))
        widths.append(2 * below * spacing[axis])
    return float(np.mean(widths)) / 2


def _deviation(values: NDArray) -> float:
    """A standard deviation that a few odd values do not move."""
    low, high = np.percentile(values, (15.87, 84.13))
    return float(high - low) / 2


def _block(
    shape: Sequence[int], centre: NDArray[np.float64], reach: float, spacing: Sequence[float]
) -> tuple[slice, ...]:
    """The pixels within ``reach`` of a centre along each axis."""
    found = []
    for length, middle, size in zip(shape, centre, spacing, strict=True):
        first, last = np.floor((middle - reach) / size), np.ceil((middle + reach) / size)
        found.append(slice(int(np.clip(first, 0, length - 1)), int(np.clip(last, 0, length - 1)) + 1))
    return tuple(found)


def _points(block: tuple[slice, ...], spacing: Sequence[float]) -> list[NDArray[np.float64]]:
    """Coordinates of the pixels of a block, along its axes."""
    lines = [np.arange(part.start, part.stop) * size for part, size in zip(block, spacing, strict=True)]
    return list(np.meshgrid(*lines, indexing="ij"))


def _distance(
    shape: Sequence[int], block: tuple[slice, ...], centre: NDArray[np.float64], spacing: Sequence[float]
) -> NDArray[np.float64]:
    parts = [(p - c) ** 2 for p, c in zip(_points(block, spacing), centre, strict=True)]
    return np.sqrt(np.sum(parts, axis=0)).reshape(shape)


def cover(
    finding: Finding, diameter: float, shape: Sequence[int], spacing: Sequence[float]
) -> tuple[tuple[slice, ...], NDArray[np.float64]]:
    """The block of pixels that a finding touches, and how much of each it covers."""
    centre = np.array(finding.look.centre[: len(shape)])[::-1]
    block = _block(shape, centre, 0.65 * diameter + 5 * finding.look.margin, spacing)
    share = coverage(finding.look, diameter, _points(block, spacing)[::-1])
    return block, np.where(share < _NOTHING, 0.0, share)


def mask(
    findings: Sequence[Finding], diameters: Sequence[float], shape: Sequence[int], spacing: Sequence[float]
) -> list[NDArray[np.uint8]]:
    """The mask of each finding, ``(*spatial)``, 1 inside."""
    masks = []
    for finding, diameter in zip(findings, diameters, strict=True):
        block, share = cover(finding, diameter, shape, spacing)
        inside = np.zeros(shape, np.uint8)
        inside[block] = share >= INSIDE
        masks.append(inside)
    return masks


def blend(
    image: NDArray,
    findings: Sequence[Finding],
    diameters: Sequence[float],
    channel: str,
    spacing: Sequence[float],
    gain: float = 1.0,
) -> NDArray:
    """An image with findings in it.

    Args:
        image: ``(*spatial)``, or with 3 at the end for colour, which keeps its hue.
        findings: where they are in this image.
        diameters: of the findings; 0 for absent.
        channel: whose amplitudes are used.
        spacing: size of a pixel along the axes.
        gain: multiplies the amplitudes: the contrast of this image relative to the first.

    Returns:
        The image in its own type; what no finding covers is as it was.
    """
    dims = len(spacing)
    changed = image.astype(np.float32)
    for finding, diameter in zip(findings, diameters, strict=True):
        if diameter <= 0:
            continue
        block, share = cover(finding, diameter, image.shape[:dims], spacing)
        grey = changed[block].mean(axis=-1) if image.ndim > dims else changed[block]
        added = _added(finding, diameter, grey, share, spacing, block, gain * finding.amplitudes[channel])
        changed[block] += added[..., None] if image.ndim > dims else added
    return in_type(changed, image)


def _added(
    finding: Finding,
    diameter: float,
    grey: Image,
    share: NDArray[np.float64],
    spacing: Sequence[float],
    block: tuple[slice, ...],
    amplitude: float,
) -> Image:
    """What a finding adds to a block of grey values."""
    smooth = ndimage.gaussian_filter(grey, in_plane(grey.ndim, _GRAIN))
    level = float(np.average(smooth, weights=share + 1e-9))
    most = _MOST * abs(amplitude)
    flattened = np.clip(_FLAT * (level - smooth), -most, most)
    own = [p - c for p, c in zip(_points(block, spacing)[::-1], finding.look.centre, strict=False)]
    uneven = smooth_noise(np.random.default_rng(finding.seed), own, _CLUMPS * diameter)
    total = amplitude * (1 + _UNEVEN * np.clip(uneven, -2, 2)) + flattened
    return np.asarray(share * total, dtype=np.float32)
