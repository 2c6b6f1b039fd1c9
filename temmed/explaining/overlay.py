"""Heat over images: the pictures of a page, from arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from temmed.timelines.pictures import LONGEST, grey_uri, grey_window, png_uri

#: Sizes above this percentile of a question are shown as the largest: single pixels would leave the rest invisible.
_FULL = 99.8
#: Colours of what speaks for an answer, and against it.
_FOR, _AGAINST = (255, 122, 0), (64, 156, 255)
#: Opacity of the largest relevance.
_DENSEST = 0.65


@dataclass(frozen=True)
class Pictures:
    """The images of one question, as the model was given them, and how much each pixel counted.

    Attributes:
        maps: ``(N, *spatial)`` float32.
        positions: ``(N,)`` long, of each image.
        images: ``(N, C, *spatial)``, normalised; constant where a channel is absent.
        channels: names of the channels.
    """

    maps: NDArray[np.float32]
    positions: NDArray[np.int64]
    images: NDArray[np.float32]
    channels: Sequence[str]

    @property
    def slice(self) -> int | None:
        """Of volumes, the slice that counted most over all time points; ``None`` for images."""
        return int(np.abs(self.maps).sum(axis=(0, 2, 3)).argmax()) if self.maps.ndim == 4 else None


@dataclass(frozen=True)
class Picture:
    """One image with its heat, as data URIs; no heat where the image had no part."""

    channel: str
    image: str
    heat: str | None


def draw(pictures: Pictures, positions: Sequence[int]) -> dict[int, list[Picture]]:
    """The pictures of some time points, with one scale of grey for each channel and one of heat for all.

    Args:
        pictures: of one question.
        positions: those wanted; those without an image get none.
    """
    maps, images = pictures.maps, pictures.images
    if pictures.slice is not None:
        maps, images = maps[:, pictures.slice], images[:, :, pictures.slice]
    sizes = np.abs(maps)
    full = float(np.percentile(sizes[sizes > 0], _FULL)) if sizes.any() else 1.0
    windows = [grey_window([image for image in images[:, c] if np.ptp(image)] or [images[0, c]]) for c in _each(images)]
    drawn: dict[int, list[Picture]] = {}
    for n, position in enumerate(pictures.positions.tolist()):
        if position in positions:
            heat = _heat_uri(maps[n] / full) if sizes[n].any() else None
            drawn[position] = [
                Picture(pictures.channels[c], grey_uri(images[n, c], windows[c]), heat)
                for c in _each(images)
                if np.ptp(images[n, c])
            ]
    return drawn


def _each(images: NDArray[np.float32]) -> range:
    return range(images.shape[1])


def _heat_uri(share: NDArray[np.float32]) -> str:
    """What counted as colours that hide the image below the more, the more it counted.

    Args:
        share: ``(H, W)``, of what is shown as the largest; below 0 what speaks against the answer.
    """
    values = Image.fromarray(share.astype(np.float32))
    values.thumbnail((LONGEST, LONGEST), Image.Resampling.BOX)
    sized = np.asarray(values)
    colours = np.where(sized[..., None] < 0, np.array(_AGAINST), np.array(_FOR))
    opacity = 255 * _DENSEST * np.abs(sized).clip(0, 1)[..., None]
    return png_uri(Image.fromarray(np.concatenate([colours, opacity], axis=-1).round().astype(np.uint8)))
