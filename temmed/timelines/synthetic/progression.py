"""The progression rule, applied to true sizes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from temmed.timelines.schema import PROGRESSION_BOUND, PROGRESSION_MARGIN


def verdict(first: NDArray, last: NDArray) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The progression rule.

    Args:
        first: longest diameters at the earlier position, > 0.
        last: the same at the later position.

    Returns:
        Index into (progressed, stable, regressed), and whether the pair is far enough from a bound to be asked.
    """
    # Larger by smaller, for ln(a / b) and -ln(b / a) may differ in the last digit, and the rule is to be symmetric.
    change = np.log(np.maximum(first, last) / np.minimum(first, last))
    index = np.where(change < PROGRESSION_BOUND, 1, np.where(np.greater(last, first), 0, 2))
    return index, np.abs(change - PROGRESSION_BOUND) > PROGRESSION_MARGIN
