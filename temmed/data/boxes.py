"""Where findings lie in their images: boxes in shares of the image, each with the words that name what lies there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from temmed.data.fitted import Fitted
from temmed.data.settings import DataSettings
from temmed.data.tokenizer import Tokenizer
from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split
from temmed.timelines.tables import named_rows


@dataclass
class Box:
    """A finding in an image.

    Attributes:
        finding_id: of the finding.
        channel: of the image.
        tokens: of the words that name the finding and the channel.
        position: of the image.
        place: centre along columns and rows, width and height, in shares of the image.
        size: columns and rows of the image as its file has it.
    """

    finding_id: str
    channel: str
    tokens: list[int]
    position: int
    place: tuple[float, float, float, float]
    size: tuple[int, int]


def _named(timeline: Timeline) -> pd.DataFrame:
    """The boxes with ``sequence_id``, and ``text``: what lies there, where, and in which channel."""
    findings = timeline.table("findings")[["finding_id", "sequence_id", "label", "location"]]
    table = timeline.table("boxes").merge(findings, on="finding_id", how="inner")
    where = (" in the " + table["location"].astype("str")).where(table["location"].notna(), "")
    return table.assign(text=table["label"] + where + ", " + table["channel"])


def finding_boxes(
    timeline: Timeline, encode: Callable[[str], list[int]], first: Mapping[str, int], last: Mapping[str, int]
) -> dict[str, list[Box]]:
    """Boxes by sequence; every image with a box is read once, for its size.

    Args:
        timeline: the data.
        encode: from words to token ids.
        first: of each sequence, the first position that is asked about.
        last: of each sequence, the last one.

    Raises:
        InputError: an image cannot be read, or a box is empty or lies beyond its image.
    """
    table = _named(timeline)
    kept = table["position"].ge(table["sequence_id"].map(first)) & table["position"].le(table["sequence_id"].map(last))
    images = {(row.sequence_id, row.position, row.channel): row for row in named_rows(timeline.table("images"))}
    sizes: dict[tuple[str, str], tuple[int, int]] = {}
    found: dict[str, list[Box]] = {}
    for row in named_rows(table[kept].sort_values(["sequence_id", "position", "finding_id", "channel"])):
        image = images.get((row.sequence_id, row.position, row.channel))
        if image is None:
            continue
        file = (row.sequence_id, image.path)
        if file not in sizes:
            frames = None if pd.isna(image.frame) else [int(image.frame)]
            rows, columns = timeline.files.read(*file, frames)[0].shape[:2]
            sizes[file] = (columns, rows)
        told = row.finding_id, row.channel, encode(row.text), int(row.position)
        found.setdefault(row.sequence_id, []).append(Box(*told, _place(row, sizes[file], timeline), sizes[file]))
    return found


def _place(row: Any, size: tuple[int, int], timeline: Timeline) -> tuple[float, float, float, float]:
    columns, rows = size
    if not (0 <= row.x1 < row.x2 <= columns and 0 <= row.y1 < row.y2 <= rows):
        raise InputError(
            f"0 ≤ x1 < x2 ≤ {columns} and 0 ≤ y1 < y2 ≤ {rows}, the size of the image",
            f"{row.x1:g}, {row.y1:g} to {row.x2:g}, {row.y2:g}",
            f"{timeline.root}, boxes, finding {row.finding_id}, position {row.position}, channel {row.channel}",
            "Give boxes in pixels of the image file; temmed data audit lists all that are not.",
        )
    return (
        (row.x1 + row.x2) / 2 / columns,
        (row.y1 + row.y2) / 2 / rows,
        (row.x2 - row.x1) / columns,
        (row.y2 - row.y1) / rows,
    )


def fit_boxes(fitted: Fitted, timeline: Timeline, split: Split, settings: DataSettings) -> Fitted:
    """Add the words that name findings with boxes, and that these are to be located.

    Args:
        fitted: what else is fitted.
        timeline: the data.
        split: whose train subset is used, and nothing else.
        settings: what images go through.

    Raises:
        InputError: there are no boxes in the train subset, or boxes do not follow what images go through.
    """
    moved = settings.augment is not None and len(settings.augment["shared"]) > 0
    dims = int(timeline.table("sequences")["spatial_dims"].max())
    for key, wrong, found in (
        ("data.augment", moved, "changes that move pixels"),
        ("data.register", settings.register is not None, repr(settings.register)),
        ("data.spacing", settings.spacing is not None, repr(settings.spacing)),
    ):
        if wrong:
            raise InputError("images whose boxes stay where they are", found, key, f"Leave {key} out to locate boxes.")
    if dims != 2:
        raise InputError(
            "images of two dimensions: the boxes table has four coordinates, a volume needs six",
            f"{dims} dimensions",
            f"{timeline.root}, sequences, spatial_dims",
            "Set model.heads.box.weight=0.",
        )
    table = _named(timeline)
    last = split.sequences("train").set_index("sequence_id")["last_asked"]
    # Comparison with the NaN of other subsets' sequences is false.
    texts = table.loc[table["position"] <= table["sequence_id"].map(last).astype(float), "text"]
    if texts.empty:
        raise InputError(
            "boxes of the train subset, to learn to locate findings",
            "none",
            f"{timeline.root}, boxes",
            "Set model.heads.box.weight=0, or import data with boxes.",
        )
    known = fitted.tokenizer
    if isinstance(known, Tokenizer):
        known = Tokenizer(tuple(sorted({*known.words, *Tokenizer.fit(texts).words})))
    return replace(fitted, tokenizer=known, boxes=True)
