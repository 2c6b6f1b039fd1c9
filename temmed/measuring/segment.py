"""Find a finding in an image by its place and its looks, and tell how large it is. Nothing is learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from temmed.errors import InputError
from temmed.measuring.ellipse import Fit, fit_ellipses

Floats = NDArray[np.float64]

#: Signs that ``contrast`` may name.
_SIGNS = {"bright": 1.0, "dark": -1.0}
#: Windows fitted together: enough to be quick, few enough to stay in the processor's cache.
_BATCH = 64
#: Standard deviation of a finding's place around the centre of its region, relative to the farthest that it may lie.
_USUAL = 0.4
_FITTED = ("diameter", "elongation", "log_diameter_sd")


@dataclass(frozen=True)
class Target:
    """What to look for: a label and a region, both in lower case; the label is empty if the prompt names none."""

    label: str
    location: str


@dataclass(frozen=True)
class Sizes:
    """One finding in the images of a sequence.

    Attributes:
        positions: of the images, in order, (n,).
        present: whether the finding was told from its surroundings, (n,).
        diameter: of the circle of the same area, in mm, (n,); of use where it is present.
        elongation: longest axis over that diameter, (n,).
        log_diameter_sd: standard error of ln(diameter), (n,).
    """

    positions: NDArray[np.int64]
    present: NDArray[np.bool_]
    diameter: Floats
    elongation: Floats
    log_diameter_sd: Floats

    @classmethod
    def of_nothing(cls) -> Sizes:
        """For a sequence without images."""
        nothing = np.zeros(0)
        return cls(np.zeros(0, np.int64), np.zeros(0, np.bool_), nothing, nothing, nothing)

    def until(self, position: int) -> Sizes:
        """What was known at a position: the images up to it."""
        kept = self.positions <= position
        return Sizes(*(getattr(self, field.name)[kept] for field in fields(self)))


@dataclass(frozen=True)
class Segmenter:
    """Outlines findings by fitting an ellipse; `conf/model/measure.yaml` holds the values for the synthetic sets.

    Every image is taken by itself, so that a measurement never depends on a later image.

    Args:
        regions: the atlas: centre of each region as (row, column), in fractions of the image.
        radius: how far from that centre a finding may lie, as a fraction of the image's width.
        field_of_view: width of the image in mm; pixels are square.
        contrast: label → channel → ``bright`` or ``dark`` against the surroundings; what is not named may be either.
        sizes: least and largest diameter in mm.
        starts: diameters in mm that the fit starts from; the clearest outline is kept.
        edge: width in mm over which a margin fades.
        surroundings: how far around the finding, in mm, tells of the background.
        pixel: finer images are averaged down to pixels of about this many mm.
        least_contrast: of all channels together, in robust standard deviations of the surroundings.
        least_clarity: the same, times the square root of the number of pixels covered.
        most_elongated: longest axis over the diameter of the circle of the same area.
    """

    regions: Mapping[str, Sequence[float]]
    radius: float
    field_of_view: float
    contrast: Mapping[str, Mapping[str, str]]
    sizes: Sequence[float]
    starts: Sequence[float]
    edge: float
    surroundings: float
    pixel: float
    least_contrast: float
    least_clarity: float
    most_elongated: float

    def __post_init__(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            InputError: one does.
        """

        def refuse(key: str, expected: str, found: object) -> InputError:
            return InputError(expected, repr(found), f"model.measure.*.{key}", "Correct it in the YAML.")

        for name, centre in self.regions.items():
            if len(centre) != 2 or not all(isinstance(part, int | float) and 0 <= part <= 1 for part in centre):
                raise refuse(f"regions.{name}", "row and column between 0 and 1", centre)
        for label, signs in self.contrast.items():
            for channel, sign in signs.items():
                if sign not in _SIGNS:
                    raise refuse(f"contrast.{label}.{channel}", "bright or dark", sign)
        if len(self.sizes) != 2 or not 0 < self.sizes[0] < self.sizes[1]:
            raise refuse("sizes", "the least and the largest diameter, in mm", list(self.sizes))
        if not self.starts or not all(self.sizes[0] <= start <= self.sizes[1] for start in self.starts):
            raise refuse("starts", "one or more diameters within `sizes`", list(self.starts))
        for key in ("radius", "field_of_view", "edge", "surroundings", "pixel"):
            if not getattr(self, key) > 0:
                raise refuse(key, "more than 0", getattr(self, key))

    def target(self, *texts: str) -> Target | None:
        """The label and the region in the first of some texts that names a region of the atlas, if one does."""

        def named(names: Mapping[str, object], words: str) -> str:
            return max((name.casefold() for name in names if name.casefold() in words), key=len, default="")

        for words in map(str.casefold, texts):
            if location := named(self.regions, words):
                return Target(named(self.contrast, words), location)
        return None

    def measure(self, images: Mapping[int, Mapping[str, NDArray]], targets: Sequence[Target]) -> dict[Target, Sizes]:
        """Measure findings in the images of a sequence.

        Args:
            images: pixels (H, W) by position and channel, all of one shape.
            targets: what to look for.

        Returns:
            A measurement of every target in every image.
        """
        positions = sorted(images)
        if not positions or not targets:
            return dict.fromkeys(targets, Sizes.of_nothing())
        channels = sorted({channel for found in images.values() for channel in found})
        frames, spacing = self._frames([images[position] for position in positions], channels)
        half = int(np.ceil((self.sizes[1] / 2 + self.surroundings) / spacing))
        line = np.arange(-half, half + 1) * spacing
        points = np.stack([axis.ravel() for axis in np.meshgrid(line, line)], axis=1)  # x to the right, y downwards
        windows, places, signs = [], [], []
        for target in targets:
            cut, place = _cut(frames, self._centre(target, frames.shape[-2:]), half)
            windows.append(cut.reshape(*cut.shape[:2], -1))
            places += [place * spacing] * len(positions)
            looks = {name.casefold(): value for name, value in self.contrast.items()}.get(target.label, {})
            signs += [[_SIGNS.get(looks.get(channel, ""), 0.0) for channel in channels]] * len(positions)
        found = self._fit(np.concatenate(windows), points, np.array(places), np.array(signs), spacing)
        rows = np.array_split(np.arange(len(places)), len(targets))
        return {
            target: Sizes(np.array(positions), *(column[row] for column in found))
            for target, row in zip(targets, rows, strict=True)
        }

    def _frames(self, images: Sequence[Mapping[str, NDArray]], channels: Sequence[str]) -> tuple[Floats, float]:
        """Pixels (T, C, H, W), NaN where a channel is absent, not finer than asked; and their size in mm."""
        shape = next(iter(images[0].values())).shape
        spacing = self.field_of_view / shape[1]
        factor = max(1, int(self.pixel / spacing))
        rows, columns = (max(1, length // factor) for length in shape)
        frames = np.full((len(images), len(channels), rows, columns), np.nan)
        for time, found in enumerate(images):
            for channel, image in found.items():
                whole = np.asarray(image, dtype=float)[: rows * factor, : columns * factor]
                blocks = whole.reshape(rows, factor, columns, factor)
                frames[time, channels.index(channel)] = blocks.mean(axis=(1, 3))
        return frames, spacing * factor

    def _centre(self, target: Target, shape: tuple[int, ...]) -> Floats:
        """Row and column of the target's region, in pixels."""
        centres = {name.casefold(): centre for name, centre in self.regions.items()}
        return np.asarray(centres[target.location], dtype=float) * shape - 0.5

    def _fit(
        self, windows: Floats, points: Floats, places: Floats, signs: Floats, spacing: float
    ) -> tuple[NDArray, ...]:
        """Whether there is a finding in each window, and its diameter, elongation and standard error."""
        results = []
        for start in range(0, len(windows), _BATCH):
            rows = slice(start, start + _BATCH)
            fits = [
                fit_ellipses(
                    windows[rows],
                    points,
                    places[rows],
                    start=diameter,
                    sizes=self.sizes,
                    edge=self.edge,
                    place_sd=self.radius * self.field_of_view * _USUAL,
                    surroundings=self.surroundings,
                )
                for diameter in self.starts
            ]
            clarity = np.array([self._clarity(fit, signs[rows], spacing) for fit in fits])
            best = clarity.argmax(axis=0), np.arange(clarity.shape[1])
            columns = (np.array([getattr(fit, name) for fit in fits])[best] for name in _FITTED)
            results.append((clarity[best] >= self.least_clarity, *columns))
        return tuple(np.concatenate(parts) for parts in zip(*results, strict=True))

    def _clarity(self, fit: Fit, signs: Floats, spacing: float) -> Floats:
        """Contrast times the square root of the pixels covered; -inf for an outline that is not that of a finding."""
        contrast = np.nan_to_num(fit.contrast)
        strength = np.hypot.reduce(contrast, axis=1)
        good = (
            (contrast * signs >= 0).all(axis=1)
            & (strength >= self.least_contrast)
            & (fit.elongation <= self.most_elongated)
            & (np.hypot(*fit.offset.T) <= self.radius * self.field_of_view)
            & (fit.diameter < 0.999 * self.sizes[1])
        )
        return np.where(good, strength * np.sqrt(np.pi / 4) * fit.diameter / spacing, -np.inf)


def _cut(frames: Floats, centre: Floats, half: int) -> tuple[Floats, Floats]:
    """Windows of 2 half + 1 pixels around a place, NaN beyond the image.

    Returns:
        The windows (T, C, n, n), and the place from their centre as (x, y), in pixels.
    """
    row, column = (int(part) for part in np.rint(centre))
    padded = np.pad(frames, ((0, 0), (0, 0), (half, half), (half, half)), constant_values=np.nan)
    side = 2 * half + 1
    return padded[:, :, row : row + side, column : column + side], (centre - (row, column))[::-1]
