"""The beats of a heart, from the diameter of its left ventricle in the frames of a loop."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks

#: A beat is smaller than its neighbours by at least this share of the largest diameter, in its smallest frame.
_LEAST_STROKE = 0.04
#: Frames from one end-systole to the next, at least.
_LEAST_FRAMES = 6
#: The length of the ventricle shortens by this share of what its diameter does.
_SHORTENING = 0.45


class Beat(NamedTuple):
    """The indices of the frames where the chamber is largest and then smallest."""

    diastole: int
    systole: int


def find_beats(diameter: NDArray[np.float64]) -> list[Beat]:
    """The beats whose emptying is shown from its beginning.

    Args:
        diameter: in each frame, (T,).

    Examples:
        >>> find_beats(50 + 5 * np.cos(np.arange(24) * np.pi / 6))
        [Beat(diastole=12, systole=18)]
    """
    if not len(diameter):
        return []
    lows, _ = find_peaks(-diameter, prominence=_LEAST_STROKE * diameter.max(), distance=_LEAST_FRAMES)
    starts = [0, *lows.tolist()]
    beats = [Beat(start + int(diameter[start:low].argmax()), low) for start, low in pairwise(starts)]
    # What empties from the first frame on has begun before the loop.
    return [beat for beat in beats if beat.diastole > 0]


def ejection_fraction(full: float, empty: float) -> float:
    """In percent, from the largest and the smallest short diameter: an ellipsoid whose length follows its diameter.

    Examples:
        >>> round(ejection_fraction(50.0, 40.0), 2)
        41.76
    """
    share = empty / full
    return 100 * (1 - share**2 * (1 - _SHORTENING * (1 - share)))
