"""Images of a sequence as small pictures that can be put into a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Sequence

import numpy as np
from PIL import Image

from temmed.timelines.folder import Timeline
from temmed.timelines.pixels import read_frames
from temmed.timelines.validate import image_path
from temmed.timelines.windows import WINDOWS

#: Longest side of a picture, in pixels.
LONGEST = 320
#: Grey values below and above these percentiles of a whole sequence and channel are clipped. One window for all time
#: points, as a change of brightness over time is information.
_WINDOW = (1.0, 99.5)
#: How CT is shown instead: its values mean something by themselves.
_CT_WINDOWS = ("lung", "soft", "bone")
#: Values below this, in Hounsfield units, tell CT from pictures that were made of it.
_AIR = -500.0


def data_uris(
    timeline: Timeline, sequence: str, positions: Collection[int], longest: int = LONGEST
) -> tuple[dict[int, dict[str, str]], tuple[int, int]]:
    """PNG pictures as data URIs; of volumes, the slice that shows most of the findings.

    CT in Hounsfield units is shown in a window for lung, soft tissue and bone, as ``ct.lung`` and so on.

    Args:
        timeline: where the sequence is from.
        sequence: its id.
        positions: the time points wanted.
        longest: longest side of a picture, in pixels; larger images are scaled down.

    Returns:
        Data URIs by position and channel, without the positions that have no image; and the (width, height) of the
        images before scaling.

    Raises:
        InputError: an image cannot be read.
    """
    sequences = timeline.table("sequences").set_index("sequence_id")
    dims, modality = sequences["spatial_dims"].astype(int)[sequence], str(sequences["modality"][sequence])
    images: dict[str, list[tuple[int, np.ndarray]]] = {}
    for position, channel, pixels in timeline.read_images(sequence, positions=positions):
        images.setdefault(channel, []).append((position, pixels))
    found: dict[int, dict[str, str]] = {}
    size = (1, 1)
    for channel, points in images.items():
        if dims == 3:
            axis, index = _largest_slice(timeline, sequence, points[0][1])
            points = [
                (position, volume.take(min(index, volume.shape[axis] - 1), axis=axis)) for position, volume in points
            ]
        windows = _windows(channel, modality, [image for _, image in points])
        for position, image in points:
            size = (image.shape[1], image.shape[0])
            slot = found.setdefault(position, {})
            slot.update({name: grey_uri(image, window, longest) for name, window in windows.items()})
    return found, size


def _largest_slice(timeline: Timeline, sequence: str, volume: np.ndarray) -> tuple[int, int]:
    """The axis across the slices (the shortest), and the slice with most of the findings' masks, else the middle."""
    spatial = volume.shape[:3]
    axis = int(np.argmin(spatial))
    masks = timeline.table("masks")
    findings = timeline.table("findings").query("sequence_id == @sequence")["finding_id"]
    area = np.zeros(spatial[axis])
    for path in masks.loc[masks["finding_id"].isin(findings), "path"].drop_duplicates():
        mask = read_frames(image_path(timeline.root, path))[0] > 0
        if mask.shape == spatial:
            area += mask.sum(axis=tuple(other for other in range(3) if other != axis))
    return axis, int(area.argmax()) if area.any() else spatial[axis] // 2


def _windows(channel: str, modality: str, images: list[np.ndarray]) -> dict[str, tuple[float, float]]:
    """The value shown black and the one shown white, for each picture that a channel gives."""
    if modality.lower() == "ct" and min(float(image.min()) for image in images) < _AIR:
        parts = ((name, *WINDOWS[name]) for name in _CT_WINDOWS)
        return {f"{channel}.{name}": (centre - width / 2, centre + width / 2) for name, centre, width in parts}
    if images[0].dtype == np.uint8:
        return {channel: (0.0, 255.0)}
    return {channel: grey_window(images)}


def grey_window(images: Sequence[np.ndarray]) -> tuple[float, float]:
    """The value shown black and the one shown white of images ``(H, W)`` that are to be compared."""
    sample = np.concatenate([image[::2, ::2].ravel() for image in images]).astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 1.0
    low, high = np.percentile(sample, _WINDOW)
    return float(low), float(max(high, low + 1e-6))


def grey_uri(image: np.ndarray, window: tuple[float, float], longest: int = LONGEST) -> str:
    """A grey PNG picture as a data URI.

    Args:
        image: ``(H, W)``.
        window: the value shown black and the one shown white.
        longest: longest side of the picture, in pixels; a larger image is scaled down.
    """
    low, high = window
    scaled = np.nan_to_num((image.astype(np.float64) - low) / (high - low))
    grey = (np.clip(scaled, 0, 1) * 255).round().astype(np.uint8)
    picture = Image.fromarray(grey)
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return png_uri(picture)


def png_uri(picture: Image.Image) -> str:
    """A picture as a data URI."""
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
