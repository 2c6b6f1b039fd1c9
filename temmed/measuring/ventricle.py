"""The left ventricle in loops of the apical four-chamber view: its short diameter, its beats, and contrast in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from temmed.errors import InputError
from temmed.measuring.beats import find_beats
from temmed.measuring.chamber import LEFT, MUSCLE, PARAMETERS, Outlines, fit_outlines
from temmed.measuring.segment import Sizes, Target

Floats = NDArray[np.float64]

_CHAMBER = "left ventricle"
_CONTRAST = "contrast"
_SYSTOLE = re.compile(r"\bsystole of beat (\d+)", re.IGNORECASE)
#: How near to the earlier frames one stays that hardly shows the cavity: the diameter, and all else, as a share of the
#: usual spread.
_NEAR, _NEARER = 0.3, 0.2


@dataclass(frozen=True)
class Ventricle:
    """Outlines the left ventricle frame by frame; `conf/model/measure.yaml` holds the values for the synthetic loops.

    A frame is taken by itself, but for those whose cavity is about as bright as the muscle, which stay near to the
    frames before; so a measurement never depends on a later frame.

    Args:
        field_of_view: width of the image in mm; pixels are square.
        probe: row and column of the probe, in fractions of the image.
        depths: nearest and farthest depth that is looked at, in mm from the probe.
        sides: the same to the left (negative) and to the right.
        half_angle: of the sector, in degrees.
        origin: how far to the right of the probe the apex lies, in mm.
        usual: what the fit starts from and stays near to, and its spread: ``diameter``, ``length``, ``wall``,
            ``apex`` (depth) and ``right`` (width of the right ventricle) in mm, ``tilt`` of the axis in radians. The
            spreads of diameter and length are relative.
        edge: width in mm over which the margin of a tissue fades.
        pixel: finer images are averaged down to pixels of about this many mm.
        grain: area of a grain of speckle in mm²: pixels in it tell no more than one.
        bleed: mm by which the diameter looks larger for each grey value that the cavity is brighter than the muscle.
        contrast: the cavity has contrast if it is at least so many grey values brighter than the muscle.
        faint: the outline is faint if the two differ by less.
    """

    field_of_view: float
    probe: Sequence[float]
    depths: Sequence[float]
    sides: Sequence[float]
    half_angle: float
    origin: float
    usual: Mapping[str, Sequence[float]]
    edge: float
    pixel: float
    grain: float
    bleed: float
    contrast: float
    faint: float

    def __post_init__(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            InputError: one does.
        """

        def refuse(key: str, expected: str, found: object) -> InputError:
            return InputError(expected, repr(found), f"model.measure.*.{key}", "Correct it in the YAML.")

        if set(self.usual) != set(PARAMETERS):
            raise refuse("usual", f"the keys {', '.join(PARAMETERS)}", sorted(self.usual))
        for name, pair in self.usual.items():
            if len(pair) != 2 or not pair[1] > 0:
                raise refuse(f"usual.{name}", "a value and its spread, more than 0", list(pair))
        for key in ("field_of_view", "half_angle", "edge", "pixel", "grain", "faint"):
            if not getattr(self, key) > 0:
                raise refuse(key, "more than 0", getattr(self, key))
        for key in ("depths", "sides"):
            if len(getattr(self, key)) != 2 or not getattr(self, key)[0] < getattr(self, key)[1]:
                raise refuse(key, "two values in order", list(getattr(self, key)))

    def target(self, *texts: str) -> Target | None:
        """What the last of some texts asks about, if any names the left ventricle: it, its contrast, or a systole."""
        if not any(_CHAMBER in text.casefold() for text in texts):
            return None
        if (systole := _SYSTOLE.search(texts[-1])) is not None:
            return Target(systole[0].casefold(), _CHAMBER)
        return Target(_CONTRAST if _CONTRAST in texts[-1].casefold() else "", _CHAMBER)

    def measure(self, images: Mapping[int, Mapping[str, NDArray]], targets: Sequence[Target]) -> dict[Target, Sizes]:
        """Measure in the frames of a loop.

        Args:
            images: pixels (H, W) by position and channel, all of one shape.
            targets: what to look for. Present is the ventricle always, contrast in the frames with contrast, and a
                systole in those where the ventricle empties.

        Returns:
            The short diameter in every frame, for every target.
        """
        positions = np.array(sorted(images), dtype=np.int64)
        if not len(positions) or not targets:
            return dict.fromkeys(targets, Sizes.of_nothing())
        found = self._outline(np.stack([np.mean(list(images[k].values()), axis=0) for k in positions.tolist()]))
        brighter = found.greys[:, LEFT] - found.greys[:, MUSCLE]
        diameter = np.exp(found.parameters[:, 0]) - self.bleed * brighter
        beats = find_beats(diameter)
        sizes = {}
        for target in targets:
            present = np.ones(len(positions), dtype=bool)
            if target.label == _CONTRAST:
                present = brighter >= self.contrast
            elif (systole := _SYSTOLE.search(target.label)) is not None:
                present = np.zeros(len(positions), dtype=bool)
                for beat in beats[int(systole[1]) - 1 : int(systole[1])]:
                    present[beat.diastole + 1 : beat.systole + 1] = True
            sizes[target] = Sizes(positions, present, diameter, np.ones(len(positions)), found.sd[:, 0])
        return sizes

    def _outline(self, frames: Floats) -> Outlines:
        """Outlines in frames (T, H, W)."""
        values, points, spacing = self._pixels(frames)
        usual, spread = np.array([self.usual[name] for name in PARAMETERS], dtype=float).T
        usual[:2] = np.log(usual[:2])

        def fit(rows: NDArray[np.float64], usual: Floats, spread: Floats) -> Outlines:
            grain = max(1.0, self.grain / spacing**2)
            return fit_outlines(
                rows, points, usual=usual, spread=spread, origin=self.origin, edge=self.edge, grain=grain
            )

        found = fit(values, usual, spread)
        faint = np.abs(found.greys[:, LEFT] - found.greys[:, MUSCLE]) < self.faint
        for row in np.flatnonzero(faint).tolist():
            before = np.flatnonzero(~faint[:row])
            if len(before):
                near = np.median(found.parameters[before], axis=0)
                near[0] = found.parameters[row - 1, 0]
                narrow = spread * np.where(np.arange(len(spread)) == 0, _NEAR, _NEARER)
                again = fit(values[row : row + 1], near, narrow)
                for kept, new in zip(found, again, strict=True):
                    kept[row] = new[0]
        return found

    def _pixels(self, frames: Floats) -> tuple[Floats, Floats, float]:
        """Grey values (T, P) in the sector, not finer than asked; places in mm from the probe (P, 2); pixel in mm."""
        spacing = self.field_of_view / frames.shape[2]
        factor = max(1, round(self.pixel / spacing))
        rows, columns = (length // factor for length in frames.shape[1:])
        cut = frames[:, : rows * factor, : columns * factor].astype(float)
        frames = cut.reshape(len(frames), rows, factor, columns, factor).mean(axis=(2, 4))
        width = self.field_of_view
        height = width * rows / columns
        spacing *= factor
        across = (np.arange(columns) + 0.5) * spacing - self.probe[1] * width
        depth = (np.arange(rows) + 0.5) * spacing - self.probe[0] * height
        x, y = np.meshgrid(across, depth)
        # A pixel on the side of the sector is partly black.
        angle = np.deg2rad(self.half_angle) - spacing / 1.5 / np.hypot(x, y)
        seen = (np.abs(np.arctan2(x, y)) < angle) & (y > self.depths[0]) & (y < self.depths[1])
        seen &= (x > self.sides[0]) & (x < self.sides[1])
        return frames[:, seen], np.stack([x[seen], y[seen]], axis=1), spacing
