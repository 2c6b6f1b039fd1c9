"""Draw the findings of a sequence into its images and write them, with a mask for each finding and position."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from temmed.timelines.implant.blend import Finding, blend, mask, spread
from temmed.timelines.implant.geometry import write_nifti
from temmed.timelines.implant.motion import followed
from temmed.timelines.implant.plan import Drawn
from temmed.timelines.implant.scene import Scene

#: Tissue around a finding that is followed through a loop, in pixels, and the longest shift as a share of that.
_AROUND, _LIMIT = 6, 0.4
#: Units of time that NIfTI has.
_NIFTI_TIME = {"second": "sec", "millisecond": "msec"}


@dataclass
class Written:
    """Rows of the tables that name files or pixels of a sequence; ids are the source's."""

    images: list[dict[str, Any]] = field(default_factory=list)
    masks: list[dict[str, Any]] = field(default_factory=list)
    boxes: list[dict[str, Any]] = field(default_factory=list)


def drawn_at(scene: Scene, drawn: Drawn) -> dict[int, list[Finding]]:
    """The findings at each position where their tissue is."""
    places = {position: [one.moved(drawn.offsets[position]) for one in drawn.findings] for position in scene.positions}
    if not scene.is_loop:
        return places
    greys = [scene.grey(position) for position in scene.positions]
    for number, (finding, truth) in enumerate(zip(drawn.findings, drawn.course.findings, strict=True)):
        spacing = np.array(scene.spacing(scene.positions[0]))
        centre = np.array(finding.look.centre[: scene.dims])[::-1] / spacing
        half = np.ceil(truth.diameters.max() / 2 / spacing).astype(int)
        half[-2:] += _AROUND
        path = followed(greys, centre, half.tolist(), (_LIMIT * half).tolist()) * spacing
        for position, offset in zip(scene.positions, path, strict=True):
            places[position][number] = finding.moved(offset)
    return places


def _gains(scene: Scene, drawn: Drawn, channel: str) -> dict[int, float]:
    """The contrast of a channel at each position relative to the first that has it; scanners differ in it."""
    having = [position for position in scene.positions if channel in scene.images[position]]
    if scene.is_loop or drawn.calibrated:
        return dict.fromkeys(having, 1.0)
    ranges = {position: np.subtract(*spread(scene.grey(position, channel))) for position in having}
    first = ranges[having[0]]
    return {position: float(one / first) if first else 1.0 for position, one in ranges.items()}


def implanted(scene: Scene, drawn: Drawn) -> tuple[dict[int, dict[str, NDArray]], dict[int, list[NDArray[np.uint8]]]]:
    """Images with their findings by position and channel, and the masks of the findings by position."""
    places = drawn_at(scene, drawn)
    channels = sorted({name for image in scene.images.values() for name in image})
    gains = {channel: _gains(scene, drawn, channel) for channel in channels}
    images: dict[int, dict[str, NDArray]] = {}
    masks = {}
    for position in scene.positions:
        sizes = [float(truth.diameters[position]) for truth in drawn.course.findings]
        spacing = scene.spacing(position)
        images[position] = {
            channel: blend(image, places[position], sizes, channel, spacing, gains[channel][position])
            for channel, image in scene.images[position].items()
        }
        masks[position] = mask(places[position], sizes, scene.grey(position).shape, spacing)
    return images, masks


def write_images(scene: Scene, drawn: Drawn, staging: Path, sequence_id: str, folder: str) -> Written:
    """Write the images and masks of a sequence.

    Args:
        scene: the images without findings.
        drawn: the findings.
        staging: the folder to write into.
        sequence_id: the sequence's id.
        folder: a name for files of the sequence.
    """
    written = Written()
    images, masks = implanted(scene, drawn)
    (staging / "masks" / folder).mkdir()
    if scene.is_loop:
        _write_loop(scene, images, staging, sequence_id, folder, written)
    else:
        (staging / "images" / folder).mkdir()
        for position, channels in images.items():
            for number, (channel, image) in enumerate(sorted(channels.items())):
                path = f"images/{folder}/{position:02d}-{number}.nii.gz"
                write_nifti(staging / path, image, scene.affines[position], scene.known, scene.dims)
                written.images.append(_row(sequence_id, position, channel, path, None))
    for position, found in masks.items():
        for number, inside in enumerate(found):
            if not inside.any():
                continue
            path = f"masks/{folder}/{position:03d}-f{number}.nii.gz"
            write_nifti(staging / path, inside, scene.affines[position], scene.known, scene.dims)
            finding = f"{sequence_id}-f{number}"
            for channel in sorted(images[position]):
                if drawn.findings[number].amplitudes[channel]:
                    own = {"finding_id": finding, "position": position, "channel": channel}
                    written.masks.append({**own, "path": path})
                    written.boxes += [{**own, **_box(inside)}] if scene.dims == 2 else []
    return written


def _row(sequence_id: str, position: int, channel: str, path: str, frame: int | None) -> dict[str, Any]:
    return {"sequence_id": sequence_id, "position": position, "channel": channel, "path": path, "frame": frame}


def _box(inside: NDArray[np.uint8]) -> dict[str, float]:
    rows, columns = np.nonzero(inside)
    return {
        "x1": float(columns.min()), "y1": float(rows.min()), "x2": float(columns.max() + 1), "y2": float(rows.max() + 1)
    }  # fmt: skip


def _write_loop(
    scene: Scene,
    images: dict[int, dict[str, NDArray]],
    staging: Path,
    sequence_id: str,
    folder: str,
    written: Written,
) -> None:
    """One file for each channel, whose frames are its positions in order."""
    steps = np.diff(scene.times)
    even = bool(len(steps)) and np.allclose(steps, steps[0], rtol=0.01)
    unit = _NIFTI_TIME.get(scene.time_unit, "unknown") if even else "unknown"
    for number, channel in enumerate(sorted({name for image in images.values() for name in image})):
        positions = [position for position in scene.positions if channel in images[position]]
        path = f"images/{folder}-{number}.nii"
        frames = np.stack([images[position][channel] for position in positions])
        step = (float(steps[0]) if even else 0.0, unit)
        write_nifti(staging / path, frames, scene.affines[positions[0]], scene.known, scene.dims, step)
        written.images += [
            _row(sequence_id, position, channel, path, frame) for frame, position in enumerate(positions)
        ]
