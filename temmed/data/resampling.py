"""Images on other grids: resized, resampled to millimetres, cut or padded, and read as slices.

All keep the number type of the image. Resizing is PyTorch's, antialiased along every axis: MONAI's `Resize` and
`Spacing` take single points of an image that becomes smaller, or blur it first by a rule of thumb.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional


def resize(image: NDArray, size: Sequence[int]) -> NDArray:
    """An image in another size, antialiased, and rounded where its number type is whole.

    Args:
        image: ``(H, W)`` or ``(D, H, W)``.
        size: of the result, as many numbers.
    """
    if image.shape == tuple(size):
        return image
    values = torch.from_numpy(np.ascontiguousarray(image, dtype=exact(image.dtype)))
    if image.ndim == 3 and image.shape[0] != size[0]:
        # PyTorch antialiases two axes at once; of a volume first the slices, then the other two.
        flat = values.flatten(1)[None, None]
        values = _interpolate(flat, (size[0], flat.shape[-1]))[0, 0].unflatten(1, image.shape[1:])
    planes = values if values.ndim == 3 else values[None]
    sized = _interpolate(planes[:, None], size[-2:])[:, 0].reshape(*size)
    return as_type(sized.numpy(), image.dtype)


def _interpolate(images: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    if tuple(images.shape[2:]) == tuple(size):
        return images
    return functional.interpolate(images, size=tuple(size), mode="bilinear", antialias=True, align_corners=False)


def exact(kind: np.dtype) -> np.dtype:
    """The type to interpolate in: float32, or float64 where that does not hold all values of an image's type."""
    return np.result_type(kind, np.float32)


def as_type(values: NDArray, kind: np.dtype) -> NDArray:
    """Interpolated values in the number type of their image: rounded, and within its limits."""
    if np.issubdtype(kind, np.floating):
        return values.astype(kind)
    limits = np.iinfo(kind)
    return np.rint(values).clip(limits.min, limits.max).astype(kind)


def resample(image: NDArray, spacing: Sequence[float], target: Sequence[float]) -> NDArray:
    """An image with other distances between its pixels, which shows the same field of view.

    Args:
        image: ``(*spatial)``.
        spacing: millimetres between its pixels along each axis.
        target: those of the result, to within half a pixel over the whole field of view.
    """
    sides = zip(image.shape, spacing, target, strict=True)
    return resize(image, [max(1, round(n * there / wanted)) for n, there, wanted in sides])


def cut_or_pad(image: NDArray, size: Sequence[int]) -> NDArray:
    """An image with its middle at the middle of another size; what is outside has its least value."""
    from monai.transforms.croppad.array import ResizeWithPadOrCrop

    if image.shape == tuple(size):
        return image
    change: Any = ResizeWithPadOrCrop(size, mode="constant", value=float(image.min()))
    return np.asarray(change(image[None])[0]).astype(image.dtype)


def spread_slices(volume: NDArray, count: int) -> NDArray:
    """So many slices of a volume, in the middle of as many equal parts of its first axis; a thin one repeats some."""
    return volume[((np.arange(count) + 0.5) * len(volume) / count).astype(int)]
