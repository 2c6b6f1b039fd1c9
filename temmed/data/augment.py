"""Random changes of training images, by MONAI's transforms.

What moves pixels is the same for all images of a sequence, so that change over time stays what it was. What a scanner
does to single images is drawn for each of them. All of it depends on the seed, the epoch and the item alone, whatever
worker makes the item, and in whatever order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from monai.transforms.spatial.array import Affine, RandSimulateLowResolution
from monai.transforms.transform import Randomizable, RandomizableTransform
from torch import Tensor

from temmed.data.fitted import Fitted
from temmed.data.pixels import PixelStack
from temmed.errors import InputError

Transform = Callable[[Any], Any]
#: Sources that are one image: the components of a colour image, the slices of a volume.
_PART = re.compile(r"\.(red|green|blue|slice\d+)$")


class Augmentation:
    """Changes the images of one item.

    Args:
        shared: transforms of ``(C, *spatial)`` that are drawn once for an item and applied to all its images.
        each: transforms that are drawn anew for each image; the parts of a colour image, and the slices of a volume
            that is read as slices, are one image of several channels.
        fitted: sources, and the deviation of their pixels, in units of which transforms see them.
    """

    def __init__(self, shared: Sequence[Transform], each: Sequence[Transform], fitted: Fitted) -> None:
        self.shared, self.each = list(shared), list(each)
        self.units = np.array(fitted.units, dtype=np.float32)
        names = [_PART.sub("", source.channel) for source in fitted.sources]
        self.images = [[n for n, name in enumerate(names) if name == image] for image in sorted(set(names))]

    @classmethod
    def of(cls, settings: Mapping[str, Sequence[Any]], fitted: Fitted) -> Augmentation:
        """From ``data.augment``: lists of ``_target_`` nodes."""
        shared, each = ([instantiate(node) for node in settings[name]] for name in ("shared", "each"))
        return cls(shared, each, fitted)

    def __call__(self, stack: PixelStack, positions: Sequence[int], key: Sequence[int]) -> PixelStack:
        """Change the images of an item.

        Args:
            stack: its images.
            positions: of each image; an image is changed in the same way whichever others are shown with it.
            key: seed, epoch and index of the item.

        Returns:
            A stack of its own, float32, in the units of the files.

        Raises:
            InputError: a transform changes the size of the images.
        """
        if not len(stack):
            return stack
        units = self.units[list(stack.columns)].reshape(-1, *(1,) * len(stack.spatial))
        images = torch.from_numpy(stack.array[stack.rows].astype(np.float32) / units)
        flat = images.flatten(0, 1)
        for number, transform in enumerate(self.shared):
            flat = _apply(transform, flat, key, (0, number))
        images = flat.unflatten(0, images.shape[:2])
        place = {column: n for n, column in enumerate(stack.columns)}
        for number, columns in enumerate(self.images):
            parts = [place[column] for column in columns if column in place]
            for row in np.flatnonzero(stack.mask[:, parts].any(axis=1)).tolist() if parts else ():
                image = images[row, parts]
                for n, transform in enumerate(self.each):
                    image = _apply(transform, image, key, (1, n, positions[row], number))
                images[row, parts] = image
        return PixelStack(images.numpy() * units, np.arange(len(stack)), stack.columns, stack.mask)


def _apply(transform: Any, images: Tensor, key: Sequence[int], draw: tuple[int, ...]) -> Tensor:
    """Apply a transform whose randomness is that of this key and draw, and no other."""
    if isinstance(transform, Randomizable):
        seeds = np.random.SeedSequence(list(key), spawn_key=draw)
        transform.set_random_state(state=np.random.RandomState(np.random.MT19937(seeds)))
    changed = torch.as_tensor(np.asarray(transform(images)), dtype=torch.float32)
    if changed.shape != images.shape:
        raise InputError(
            f"images of {tuple(images.shape[1:])} as before",
            f"{tuple(changed.shape[1:])} after {type(transform).__name__}",
            f"data.augment.{('shared', 'each')[draw[0]]}",
            "Leave it out, or let it keep the size; data.size sets the size.",
        )
    return changed


class RandomMove(RandomizableTransform):
    """Turns, shifts and zooms by MONAI's `Affine`, whose random form knows neither shares of a side nor one zoom.

    Volumes are turned about the axis of their slices alone, which often lie further apart than pixels. What comes in
    from outside has the least value of the image.

    Args:
        prob: how often.
        rotation: at the most so many degrees, either way.
        shift: at the most this share of each side, either way.
        zoom: larger or smaller by at most this share. Sizes in millimetres are then no longer those of the answers.
    """

    def __init__(self, prob: float = 1.0, rotation: float = 0.0, shift: float = 0.0, zoom: float = 0.0) -> None:
        RandomizableTransform.__init__(self, prob)
        self.rotation, self.shift, self.zoom = rotation, shift, zoom

    def __call__(self, img: Tensor, randomize: bool = True) -> Tensor:
        """Move ``(C, *spatial)``."""
        self.randomize(None)
        angle = np.deg2rad(self.R.uniform(-self.rotation, self.rotation))
        shifts = [self.R.uniform(-self.shift, self.shift) * n for n in img.shape[1:]]
        scale = float(np.exp(self.R.uniform(-1, 1) * np.log1p(self.zoom)))
        if not self._do_transform:
            return img
        move: Any = Affine(
            rotate_params=(angle,),
            translate_params=shifts,
            scale_params=[1 / scale] * len(shifts),
            padding_mode="zeros",
            image_only=True,
        )
        least = img.amin(dim=tuple(range(1, img.ndim)), keepdim=True)
        moved: Tensor = move(img - least)
        return moved + least


class RandomResolution(RandSimulateLowResolution):
    """MONAI's `RandSimulateLowResolution` for images and volumes alike: smaller by averaging, then back by a line.

    Args:
        prob: how often.
        least: of the pixels along each side, at least this share is kept.
    """

    def __init__(self, prob: float = 0.1, least: float = 0.5) -> None:
        super().__init__(prob=prob, downsample_mode="area", zoom_range=(least, 1.0))

    def __call__(self, img: Tensor, randomize: bool = True) -> Tensor:
        """Coarsen ``(C, *spatial)``."""
        self.upsample_mode = "bilinear" if img.ndim == 3 else "trilinear"
        coarse: Tensor = super().__call__(img, randomize)
        return coarse
