"""Rules on image files: every one is opened."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from temmed.errors import InputError
from temmed.processes import processors
from temmed.timelines.audit import Audit, Finding, found, rule
from temmed.timelines.pixels import read_frames
from temmed.timelines.validate import image_path

#: Volumes are large, so that few are held at a time.
_THREADS = min(4, processors())
_COLOURS = 3


@rule
def images(audit: Audit) -> Iterator[Finding]:
    """Every image can be read and has as many axes as its sequence says."""
    timeline = audit.timeline
    table = timeline.table("images").dropna(subset=["path"])
    dims = timeline.table("sequences").drop_duplicates("sequence_id").set_index("sequence_id")["spatial_dims"]
    files = list(table.assign(dims=table["sequence_id"].map(dims)).groupby("path", sort=False))

    def check(item: tuple[Any, Any]) -> tuple[str, str]:
        path, rows = item
        file = image_path(timeline.root, path)
        if not file.exists():
            # Told by the rule of form.
            return "", ""
        frames = rows["frame"].dropna().astype("int64").tolist()
        try:
            shape = read_frames(file, frames or None).shape[1:]
        except InputError as error:
            return f"{path}: {error.found}", ""
        fitting = {len(shape), len(shape) - (shape[-1] == _COLOURS)}
        wrong = sorted(set(rows["dims"].dropna().astype("int64")) - fitting)
        return "", f"{path}: shape {shape}, spatial_dims {wrong[0]}" if wrong else ""

    unreadable, misshapen = [], []
    with ThreadPoolExecutor(_THREADS) as pool:
        for done, (broken, odd) in enumerate(pool.map(check, files), start=1):
            unreadable += [broken] if broken else []
            misshapen += [odd] if odd else []
            audit.progress(done, len(files))
    yield from found("unreadable_image", "error", "the file cannot be read as an image", unreadable)
    message = "the image does not have the number of axes that its sequence says"
    yield from found("image_shape", "error", message, misshapen)


@rule
def visits_without_image(audit: Audit) -> Iterator[Finding]:
    """Visits at which nothing was imaged; models see them as missing."""
    timepoints = audit.timeline.table("timepoints")[["sequence_id", "position"]]
    seen = audit.timeline.table("images")[["sequence_id", "position"]].drop_duplicates()
    blank = timepoints.merge(seen, how="left", indicator="_seen").query("_seen == 'left_only'")
    cases = [f"{row.sequence_id}, position {row.position}" for row in blank.itertuples()]
    yield from found("visits_without_image", "info", "time points have no image", cases)
