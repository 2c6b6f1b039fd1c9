"""Text burned into pixels: what headers say about it, and lines of letters seen at the edges of a frame.

The search by eye is a warning and no proof: it sees printed lines of four letters and more whose strokes stand out
from what is around them. `docs/privacy.md` states how many it finds and how often it is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

#: Modalities whose devices usually write the patient's name into the picture.
_WRITING = {"US": "ultrasound", "ES": "endoscopy", "XC": "photography", "OT": "other", "SC": "secondary capture",
            "IVUS": "intravascular ultrasound", "OP": "fundus photography", "DOC": "a document"}  # fmt: skip
_SECONDARY = "1.2.840.10008.5.1.4.1.1.7"
_SCREENS = ("SECONDARY", "SCREEN SAVE", "SCREENSHOT", "REFORMATTED", "REPORT")
#: The part of each side that is looked at.
_MARGIN = 0.25
#: Strokes differ from their surroundings by at least this part of the frame's range.
_CONTRAST = 0.35
_LOWEST, _HIGHEST = 5, 48
_LETTERS = 4


@dataclass(frozen=True)
class _Box:
    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top


def by_header(header: Dataset) -> list[str]:
    """Why a DICOM header lets one expect text in the pixels; empty when it does not, or says that there is none."""
    reasons = ["an overlay in unused bits of the pixels"] if _overlaid(header) else []
    told = str(header.get("BurnedInAnnotation") or "").upper()
    if told == "YES":
        return [*reasons, "BurnedInAnnotation is YES"]
    if told == "NO":
        return reasons
    modality = str(header.get("Modality") or "")
    if modality in _WRITING:
        reasons.append(f"modality {modality} ({_WRITING[modality]})")
    if str(header.get("SOPClassUID") or "").startswith(_SECONDARY):
        reasons.append("a secondary capture by its SOP class")
    kinds = [str(value).upper() for value in header.get("ImageType") or ()]
    reasons += [f"ImageType {kind}" for kind in kinds if kind in _SCREENS]
    return reasons


def _overlaid(header: Dataset) -> bool:
    """Whether an overlay has rows and no data of its own: it lies in bits of the pixels, as older devices write it."""
    groups = {tag.group for tag in list(header.keys()) if tag.group & 0xFF01 == 0x6000}
    return any((group, 0x0010) in header and (group, 0x3000) not in header for group in groups)


def by_looking(path: Path, count: int | None) -> int:
    """How many lines of text are seen in a file: the most in its first, middle and last frame.

    Args:
        path: an image file.
        count: its number of frames; ``None`` for a file that is one image.

    Raises:
        InputError: the pixels cannot be read.
    """
    from temmed.timelines.pixels import read_frames

    frames = None if count is None else sorted({0, count // 2, count - 1})
    images = read_frames(path, frames)
    if images.ndim == 4 and images.shape[-1] not in (3, 4):
        # A volume: one slice in ten is enough to see what was written on all.
        images = images[0][:: max(1, images.shape[1] // 10)]
    return max((lines_of_text(image) for image in images), default=0)


def lines_of_text(image: np.ndarray) -> int:
    """How many lines of printed text are seen at the edges of a picture.

    Args:
        image: ``(rows, columns)`` or ``(rows, columns, 3)``.
    """
    from scipy import ndimage

    grey = image.astype(np.float32)
    grey = grey.max(axis=-1) if grey.ndim == 3 else grey
    if min(grey.shape) < 4 * _LOWEST:
        return 0
    low, high = float(grey.min()), float(np.percentile(grey, 99.9))
    high = max(high, low + 0.5 * (float(grey.max()) - low))
    if high <= low:
        return 0
    grey = np.clip((grey - low) / (high - low), 0, 1)
    lines: list[list[_Box]] = []
    for side in (grey, 1 - grey):
        # Thinner than the structuring element and brighter than around: strokes, and not organs.
        strokes = side - ndimage.grey_opening(side, size=(9, 9)) > _CONTRAST
        lines += _lines(_letters(strokes), grey.shape)
    return len(lines)


def _letters(strokes: np.ndarray) -> list[_Box]:
    from scipy import ndimage

    labels, _ = ndimage.label(strokes, structure=np.ones((3, 3)))
    boxes = []
    for number, part in enumerate(ndimage.find_objects(labels), 1):
        rows, columns = part
        height, width = rows.stop - rows.start, columns.stop - columns.start
        filled = float((labels[part] == number).mean())
        if _LOWEST <= height <= _HIGHEST and width <= 1.6 * height and 0.12 <= filled <= 0.95:
            boxes.append(_Box(rows.start, columns.start, rows.stop, columns.stop))
    return boxes


def _lines(boxes: list[_Box], shape: tuple[int, ...]) -> list[list[_Box]]:
    """Letters of one height on one base line beside each other, near an edge."""
    lines: list[list[_Box]] = []
    for box in sorted(boxes, key=lambda box: (box.left, box.top)):
        for line in lines:
            last = line[-1]
            height = max(last.height, box.height)
            near = -1 <= box.left - last.right <= 1.5 * height
            level = abs(box.bottom - last.bottom) <= max(1, 0.2 * height)
            if near and level and min(last.height, box.height) >= 0.6 * height:
                line.append(box)
                break
        else:
            lines.append([box])
    return [line for line in lines if len(line) >= _LETTERS and _at_edge(line, shape)]


def _at_edge(line: list[_Box], shape: tuple[int, ...]) -> bool:
    row = (line[0].top + line[-1].bottom) / 2 / shape[0]
    column = (line[0].left + line[-1].right) / 2 / shape[1]
    return not (_MARGIN < row < 1 - _MARGIN and _MARGIN < column < 1 - _MARGIN)
