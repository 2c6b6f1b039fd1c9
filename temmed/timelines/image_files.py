"""Where the pixels of a timeline come from: its image files, unless something else keeps what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from temmed.timelines.implant.geometry import Affine, affine_of
from temmed.timelines.pixels import read_frames
from temmed.timelines.validate import image_path


class ImageFiles:
    """The image files of a folder.

    Args:
        root: the folder that relative paths start from.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def address(self) -> str:
        """What a user gives to open the data again: a folder, or a URL."""
        return str(self.root)

    def read(self, sequence_id: str, path: str, frames: Sequence[int] | None = None) -> np.ndarray:
        """Some frames of an image file; see `temmed.timelines.pixels.read_frames`.

        Args:
            sequence_id: the sequence that the image is of.
            path: as the images table has it.
            frames: as `read_frames` takes them.

        Raises:
            InputError: the file cannot be read.
        """
        return read_frames(image_path(self.root, path), frames)

    def affine(self, sequence_id: str, path: str) -> Affine | None:
        """Where the pixels of an image file lie; see `temmed.timelines.implant.geometry.affine_of`.

        Raises:
            InputError: the header is damaged.
        """
        return affine_of(image_path(self.root, path))
