"""What one video file says about itself."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from temmed.errors import InputError
from temmed.timelines.importers.plan import Picture, PlannedSequence, Unusable, checksum
from temmed.timelines.readers.video import decode, is_grey

SUFFIXES = (".avi", ".mp4", ".m4v", ".mov")


@dataclass(frozen=True)
class Clip:
    """One video, decoded to its end: what a header says of its length is often wrong.

    Attributes:
        path: the file.
        checksum: SHA-256 of its bytes.
        times: seconds of each frame since the first, by the container's time stamps; empty where they do not grow.
        frames: how many frames it has.
        grey: whether the stream has no colour.
    """

    path: Path
    checksum: str
    times: tuple[float, ...]
    frames: int
    grey: bool

    def sequence(
        self, sequence_id: str, patient_id: str, modality: str, unit: str, times: list[float], timing: str
    ) -> PlannedSequence:
        """The sequence that it becomes: one time point per frame."""
        channel = "image" if self.grey else "rgb"
        return PlannedSequence(
            sequence_id=sequence_id,
            patient_id=patient_id,
            modality=modality,
            time_unit=unit,
            spatial_dims=2,
            times=times,
            pictures=[Picture(frame, channel, (self.path,), frame) for frame in range(self.frames)],
            timing=timing,
        )


def inspect(path: Path) -> Clip | Unusable:
    """Decode one video and note when each of its frames is shown."""
    stamps: list[float | None] = []
    grey = True
    try:
        for frame in decode(path):
            stamps.append(None if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base))
            grey = is_grey(frame)
    except InputError as error:
        return Unusable(path, f"expected {error.expected}, found {error.found}")
    if not stamps:
        return Unusable(path, "a video without frames")
    known = [stamp for stamp in stamps if stamp is not None]
    growing = len(known) == len(stamps) and all(before < after for before, after in pairwise(known))
    times = tuple(stamp - known[0] for stamp in known) if growing else ()
    return Clip(path, checksum(path), times, len(stamps), grey)
