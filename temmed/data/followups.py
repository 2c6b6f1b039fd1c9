"""The follow-ups of a sequence on the grid of its first visit."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from temmed.data.fitted import Source
from temmed.data.registration import VERSION, How, Motion, apply_motion, find_motion, require_simpleitk
from temmed.files import atomic_stream
from temmed.processes import map_many, processors

if TYPE_CHECKING:
    from temmed.data.images import ImageSource
    from temmed.timelines.folder import Timeline

_LOG = logging.getLogger(__name__)

Images = dict[Source, NDArray]
#: A position and a source: whose file tells how far pixels lie apart.
Place = tuple[int, Source]
#: Of two images, along their axes.
Spacings = tuple[tuple[float, ...], tuple[float, ...]]


class FollowUps:
    """Reads images, with follow-ups moved onto the first visit where that is an improvement.

    The first channel, by name, that both visits have says how they are moved; it applies to all channels of the visit.

    Args:
        source: reads the images.
        how: ``rigid`` or ``affine``.
        folder: keeps what was found; ``None`` finds it each time.
    """

    def __init__(self, source: ImageSource, how: str, folder: Path | None) -> None:
        self.source, self.how, self.folder = source, cast(How, how), folder

    def read(self, sequence_id: str, positions: Collection[int] | None) -> tuple[dict[int, Images], dict[Place, Place]]:
        """Images by position and source; and of those that were moved, whose grid in the first visit they have.

        Raises:
            InputError: a file cannot be read, or SimpleITK is not installed.
        """
        wanted = self.source.positions(sequence_id) if positions is None else sorted(positions)
        if not wanted:
            return {}, {}
        first = self.source.positions(sequence_id)[0]
        found = self.source.read(sequence_id, {first, *wanted})
        motions = self.motions(sequence_id, {position: found[position] for position in {first, *wanted}})
        grids: dict[Place, Place] = {}
        for position, (kind, motion) in motions.items():
            for one in found[position] if motion.accepted else ():
                grids[position, one] = first, one if one in found[first] else kind
        moved = {place: self._moved(sequence_id, found, place, grid, motions) for place, grid in grids.items()}
        images = {p: {kind: moved.get((p, kind), image) for kind, image in found[p].items()} for p in wanted}
        return images, grids

    def motions(self, sequence_id: str, found: Mapping[int, Images]) -> dict[int, tuple[Source, Motion]]:
        """How visits are moved onto the first, by position, and the channel that says so."""
        first = min(found)
        motions: dict[int, tuple[Source, Motion]] = {}
        for position in sorted(found):
            shared = sorted(set(found[first]) & set(found[position]))
            if position != first and shared:
                kind = shared[0]
                images = found[first][kind], found[position][kind]
                spacings = self._spacings(sequence_id, (first, kind), (position, kind)) or _pixels(images[0].ndim)
                motions[position] = kind, find_motion(*images, self.how, spacings, self.folder)
        return motions

    def _moved(
        self,
        sequence_id: str,
        found: Mapping[int, Images],
        place: Place,
        grid: Place,
        motions: Mapping[int, tuple[Source, Motion]],
    ) -> NDArray:
        image, target = found[place[0]][place[1]], found[grid[0]][grid[1]]
        kind, motion = motions[place[0]]
        leaders = (grid[0], kind), (place[0], kind)
        known, own = self._spacings(sequence_id, *leaders), self._spacings(sequence_id, grid, place)
        if known is None or own is None:
            # The motion has the unit of the channel that gave it. A channel that does not tell its own spacing in this
            # unit shows the same field of view as that one.
            steps, shapes = known or _pixels(image.ndim), [found[position][one].shape for position, one in leaders]
            own = (
                tuple(steps[0] * np.divide(shapes[0], target.shape)),
                tuple(steps[1] * np.divide(shapes[1], image.shape)),
            )
        return apply_motion(motion, image, target.shape, own)

    def _spacings(self, sequence_id: str, one: Place, other: Place) -> Spacings | None:
        """Spacings of two images in mm, if both files tell."""
        spacings = self.source.spacing(sequence_id, *one), self.source.spacing(sequence_id, *other)
        return (spacings[0], spacings[1]) if spacings[0] and spacings[1] else None

    def table(self, sequence_id: str) -> list[dict[str, Any]]:
        """A row for each follow-up of a sequence: how it is moved, and whether it is."""
        motions = self.motions(sequence_id, self.source.read(sequence_id)) if self.source.positions(sequence_id) else {}
        return [
            {"sequence_id": sequence_id, "position": position, "channel": kind.channel, **asdict(motion)}
            for position, (kind, motion) in motions.items()
        ]


def _pixels(dims: int) -> Spacings:
    return (1.0,) * dims, (1.0,) * dims


def register_timeline(timeline: Timeline, source: ImageSource, how: str, folder: Path) -> pd.DataFrame:
    """Find how all follow-ups of a timeline are moved, in parallel, unless it is known.

    Args:
        timeline: the data.
        source: reads its images.
        how: ``rigid`` or ``affine``.
        folder: keeps what is found; a search that was stopped goes on there. A table of all is ``table-….parquet``.

    Returns:
        The table: a row for each follow-up with the fields of `Motion`.

    Raises:
        InputError: a file cannot be read, or SimpleITK is not installed.
    """
    known = [str(timeline.root.resolve()), timeline.meta.fingerprint, how, VERSION, require_simpleitk()]
    name = hashlib.blake2b(json.dumps(known).encode(), digest_size=16).hexdigest()
    path = folder / f"table-{name}.parquet"
    if not path.exists():
        follow_ups = FollowUps(source, how, folder)
        sequences = sorted(set(timeline.table("images")["sequence_id"]))
        rows: list[dict[str, Any]] = []
        with closing(map_many(follow_ups.table, sequences, processors())) as found:
            for part in tqdm(found, total=len(sequences), desc="Registering follow-ups", unit="seq", disable=None):
                rows.extend(part)
        with atomic_stream(path) as stream:
            pd.DataFrame(rows).to_parquet(stream)
    table = pd.read_parquet(path)
    left = table[~table["accepted"]] if len(table) else table
    reasons = Counter(left["reason"]) if len(left) else Counter()
    if told := ", ".join(f"{n} {reason}" for reason, n in reasons.most_common()):
        _LOG.warning("%d of %d follow-ups stay where they are: %s (%s).", len(left), len(table), told, path)
    return table
