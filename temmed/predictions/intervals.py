"""From whether an event is on in each image to the interval that ``events`` states."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def stay_between(first: int, last: int, times: NDArray[np.float64]) -> dict[str, float | None]:
    """Onset and offset of an event that is on from one image to another.

    It begins and ends midway to the neighbouring image; without a later image its end is open.

    Args:
        first: index of the first image in which it is on.
        last: of the last one.
        times: of all images, in order.

    Examples:
        >>> stay_between(1, 2, np.array([0.0, 10.0, 20.0, 40.0]))
        {'onset': 5.0, 'offset': 30.0}
    """
    onset = times[first] if first == 0 else (times[first - 1] + times[first]) / 2
    offset = None if last == len(times) - 1 else float((times[last] + times[last + 1]) / 2)
    return {"onset": float(onset), "offset": offset}
