"""Overlap of boxes in the plane."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def box_iou(boxes: ArrayLike, others: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of boxes, elementwise.

    Args:
        boxes: corners ``x1, y1, x2, y2`` with x1 ≤ x2 and y1 ≤ y2, of shape ``(..., 4)``.
        others: likewise, in the same pixels.

    Returns:
        IoU of shape ``(...)``; 0 where both boxes have no area, NaN where a corner is NaN.

    Examples:
        >>> box_iou([0, 0, 2, 2], [1, 0, 3, 2]).round(4).item()
        0.3333
    """
    first, second = np.asarray(boxes, dtype=float), np.asarray(others, dtype=float)
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = np.prod(np.maximum(sides, 0), axis=-1)
    union = _area(first) + _area(second) - shared
    return np.where(union == 0, 0.0, shared / np.where(union == 0, 1.0, union))


def _area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1)
