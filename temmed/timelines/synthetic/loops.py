"""Courses of cine loops: the beats of a left ventricle, and contrast that arrives and washes out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from temmed.timelines.synthetic.courses import SITES, patient_rng
from temmed.timelines.synthetic.heart import Heart, draw_heart, ventricle_length

SCANNERS = ("US-A", "US-B", "US-C")
CHAMBER = "left ventricle"
MIN_FRAMES, MAX_FRAMES = 28, 40
#: End of ejection and of early filling, as shares of a beat.
_EJECTED, _FILLED = 0.36, 0.68
#: What is left to fill, as a share of the stroke, when early filling ends.
_LATE = 0.14


@dataclass(frozen=True)
class Beat:
    """One beat of a loop.

    Attributes:
        number: from 1.
        diastole: the frame where the chamber is largest, at its start.
        systole: the frame where it is smallest.
        next_diastole: the frame where it is largest afterwards, within the loop.
    """

    number: int
    diastole: int
    systole: int
    next_diastole: int


@dataclass
class Loop:
    """One synthetic cine loop.

    Attributes:
        index: number of the patient, from 0.
        sex: ``F`` or ``M``.
        age: in years.
        site: the hospital.
        scanners: name of the one scanner.
        heart: its shape.
        times: of the frames in milliseconds, ``(T,)``.
        diameters: short diameter of the left ventricle in mm, ``(T,)``.
        relaxed: the same at the fullest.
        contrast: level of contrast in it, 0 to 1, ``(T,)``.
        arrival: first frame with contrast (a level of at least a half), ``None`` for never.
        washout: first frame without it thereafter, ``None`` for never.
        beats: those whose emptying is shown.
    """

    index: int
    sex: str
    age: float
    site: str
    scanners: list[str]
    heart: Heart
    times: NDArray[np.float64]
    diameters: NDArray[np.float64]
    relaxed: float
    contrast: NDArray[np.float64]
    arrival: int | None
    washout: int | None
    beats: list[Beat]

    @property
    def ejection_fraction(self) -> float:
        """Of the first beat in percent: the cavity as an ellipsoid whose length follows its diameter."""
        beat = self.beats[0]
        full, empty = (self._volume(frame) for frame in (beat.diastole, beat.systole))
        return 100 * (1 - empty / full)

    def _volume(self, frame: int) -> float:
        diameter = float(self.diameters[frame])
        return diameter**2 * ventricle_length(self.heart, diameter / self.relaxed)


def emptied(phase: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much of the stroke is out, 0 at end-diastole and 1 at end-systole, by the share of the beat gone by."""
    ejection = np.sin(np.pi / 2 * phase / _EJECTED) ** 2
    early = _LATE + (1 - _LATE) * np.cos(np.pi / 2 * (phase - _EJECTED) / (_FILLED - _EJECTED)) ** 2
    late = _LATE * (1 - (phase - _FILLED) / (1 - _FILLED))
    return np.select([phase < _EJECTED, phase < _FILLED], [ejection, early], late)


def draw_loop(seed: int, index: int, spatial_dims: int = 2) -> Loop:
    """Draw one loop.

    Args:
        seed: of the whole set.
        index: number of the patient; other patients have no influence.
        spatial_dims: 2.
    """
    assert spatial_dims == 2
    rng = patient_rng(seed, index, 0)
    frames = int(rng.integers(MIN_FRAMES, MAX_FRAMES + 1))
    interval = float(rng.integers(55, 86))
    times = np.arange(frames, dtype=np.float64) * interval
    period = float(rng.uniform(650, 1050))
    # Beats differ a little in length and strength.
    count = int(np.ceil(times[-1] / period)) + 3
    starts = np.concatenate([[0.0], np.cumsum(period * rng.normal(1, 0.04, count))]) - period * rng.uniform(0.05, 1)
    which = np.searchsorted(starts, times, side="right") - 1
    phase = (times - starts[which]) / np.diff(starts)[which]
    relaxed = float(rng.uniform(38, 62))
    shortening = float(rng.uniform(0.12, 0.45))
    stroke = (
        relaxed * shortening * (rng.normal(1, 0.05, len(starts)) * np.where(rng.random(len(starts)) < 0.12, 0.6, 1))
    )
    diameters = relaxed - stroke[which] * emptied(phase)
    arrival, washout, contrast = _bolus(rng, frames)
    return Loop(
        index=index,
        sex=str(rng.choice(["F", "M"])),
        age=float(np.round(rng.uniform(25, 85))),
        site=str(rng.choice(SITES)),
        scanners=[str(rng.choice(SCANNERS))],
        heart=draw_heart(rng),
        times=times,
        diameters=diameters,
        relaxed=relaxed,
        contrast=contrast,
        arrival=arrival,
        washout=washout,
        beats=find_beats(diameters, which),
    )


def _bolus(rng: np.random.Generator, frames: int) -> tuple[int | None, int | None, NDArray[np.float64]]:
    """First frame with contrast, first frame without, and the level in every frame."""
    level = np.zeros(frames)
    if rng.random() < 0.2:
        return None, None, level
    arrival = int(rng.integers(1, frames - 2))
    washout = arrival + int(rng.integers(6, 26))
    frame = np.arange(frames)
    rise = np.interp(frame - arrival, [-2, -1, 0, 1, 2], [0, 0.15, 0.65, 0.9, 1.0])
    fall = np.interp(frame - washout, [-3, -2, -1, 0, 1, 2], [1.0, 0.9, 0.7, 0.3, 0.12, 0.0])
    return arrival, washout if washout < frames else None, np.minimum(rise, fall)


def find_beats(diameters: NDArray[np.float64], which: NDArray[np.int64]) -> list[Beat]:
    """The beats that the frames show from their largest to beyond their smallest diameter.

    Args:
        diameters: of the frames.
        which: the number of the beat that each frame belongs to.
    """
    beats: list[Beat] = []
    # The first beat began before the loop, so that its largest diameter is not shown.
    numbers = sorted(set(which.tolist()))[1:]
    lows: list[tuple[int, int]] = []
    for number in numbers:
        own = np.flatnonzero(which == number)
        low = int(own[np.argmin(diameters[own])])
        if own[0] < low < own[-1]:
            lows.append((int(own[0]), low))
    for order, (start, low) in enumerate(lows):
        before = lows[order - 1][1] if order else max(0, start - 3)
        after = lows[order + 1][1] if order + 1 < len(lows) else len(diameters)
        first = before + int(np.argmax(diameters[before:low]))
        beats.append(Beat(order + 1, first, low, low + int(np.argmax(diameters[low:after]))))
    return beats
