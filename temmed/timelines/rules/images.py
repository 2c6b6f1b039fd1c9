"""Rules on image files: every one is opened, once for all rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from temmed.timelines.audit import Audit, Finding, View, found, found_rows, rule
from temmed.timelines.duplicates import placeholders
from temmed.timelines.rules.order import place, units


def _row_view(row: Any, caption: str) -> View:
    return View(caption, ((row.sequence_id, int(row.position)),))


@rule
def images(audit: Audit) -> Iterator[Finding]:
    """Every image and mask can be read, and images have as many axes as their sequence says."""
    scan = audit.image_scan
    yield from found("unreadable_image", "error", "the file cannot be read as an image", scan.unreadable)
    message = "the image does not have the number of axes that its sequence says"
    yield from found("image_shape", "error", message, scan.misshapen)


@rule
def blank_image(audit: Audit) -> Iterator[Finding]:
    """An image with one value everywhere shows nothing; a missing image is better left out of the table."""
    images = audit.image_scan.images
    blank = images[images["is_blank"]]
    message = "the image has one value everywhere: leave its row out, so that models know that it is missing"
    yield from found_rows("blank_image", "warning", message, blank, lambda row: f"{place(row)}: {row.path}", _row_view)


@rule
def not_finite(audit: Audit) -> Iterator[Finding]:
    """A value that is not a number spreads through a whole model."""
    images = audit.image_scan.images
    odd = images[~images["is_finite"]]
    message = "the image has values that are no finite numbers; one is enough to make a loss NaN"
    yield from found_rows("not_finite", "error", message, odd, lambda row: f"{place(row)}: {row.path}")


@rule
def repeated_image(audit: Audit) -> Iterator[Finding]:
    """Two visits of a patient with the very same pixels: one of them is not what it says."""
    images = audit.image_scan.images
    visits = images[~images["is_blank"] & images["sequence_id"].map(units(audit)).isin(_VISITS)]
    visits = visits[~visits["digest"].isin(placeholders(audit.image_scan)["digest"])]
    key = ["sequence_id", "channel", "digest"]
    visits = visits.sort_values(["sequence_id", "channel", "position"])
    first = visits.groupby(key)["position"].transform("first") if len(visits) else pd.Series(dtype="Int64")
    again = visits.assign(first=first)[visits.duplicated(key)]
    message = "a later visit has the very same pixels: a model would learn that nothing changed"
    yield from found_rows(
        "repeated_image",
        "warning",
        message,
        again,
        lambda row: f"{place(row)} ({row.channel}): as position {row.first}",
        lambda row, told: View(told, ((row.sequence_id, int(row.first)), (row.sequence_id, int(row.position))), (1,)),
    )


_VISITS = ["day", "week", "ordinal"]


@rule
def placeholder_image(audit: Audit) -> Iterator[Finding]:
    """One picture that many patients have is no picture of any of them."""
    shared = placeholders(audit.image_scan)
    images = audit.image_scan.images.drop_duplicates("digest")
    shared = shared.merge(images[["digest", "sequence_id", "position"]], on="digest")
    message = "the same pixels are given for many patients: a placeholder, or a copy gone wrong"
    yield from found_rows(
        "placeholder_image",
        "warning",
        message,
        shared,
        lambda row: f"{row.path}: {row.patients} patients",
        _row_view,
    )


@rule
def mask_shape(audit: Audit) -> Iterator[Finding]:
    """A mask lies on its image, point by point."""
    masks = _with_shape(audit, audit.image_scan.masks)
    wrong = masks[masks["shape"].map(tuple).ne(masks["image"].map(tuple))]
    message = "the mask does not have the shape of its image"
    yield from found_rows(
        "mask_shape", "error", message, wrong, lambda row: f"{row.path}: {row.shape}, image {row.image}"
    )


@rule
def box(audit: Audit) -> Iterator[Finding]:
    """A box has its corners in order and lies in its image."""
    boxes = audit.timeline.table("boxes")
    turned = (boxes["x2"] <= boxes["x1"]) | (boxes["y2"] <= boxes["y1"])

    def text(row: Any) -> str:
        return f"{row.finding_id}, position {row.position}: {row.x1:g}, {row.y1:g} to {row.x2:g}, {row.y2:g}"

    yield from found_rows("box", "error", "the box has its corners the wrong way round", boxes[turned], text)
    placed = _with_shape(audit, boxes[~turned])
    height = placed["image"].map(lambda shape: float(shape[-2])).astype("float64")
    width = placed["image"].map(lambda shape: float(shape[-1])).astype("float64")
    outside = (placed["x1"] < 0) | (placed["y1"] < 0) | (placed["x2"] > width) | (placed["y2"] > height)
    message = "the box reaches beyond its image: its coordinates may be of another size"
    yield from found_rows("box", "error", message, placed[outside], text)


def _with_shape(audit: Audit, table: pd.DataFrame) -> pd.DataFrame:
    """Rows of findings with ``image``, the shape of the image they lie on; others are left out."""
    findings = audit.timeline.table("findings").drop_duplicates("finding_id").set_index("finding_id")["sequence_id"]
    keys = zip(table["finding_id"].map(findings), table["position"], table["channel"], strict=True)
    shapes = [audit.image_scan.shapes.get(key) for key in keys]
    return table.assign(image=pd.Series(shapes, index=table.index, dtype="object")).dropna(subset=["image"])


@rule
def visits_without_image(audit: Audit) -> Iterator[Finding]:
    """Visits at which nothing was imaged; models see them as missing."""
    timepoints = audit.timeline.table("timepoints")[["sequence_id", "position"]]
    seen = audit.timeline.table("images")[["sequence_id", "position"]].drop_duplicates()
    merged = timepoints.merge(seen, how="left", indicator="_seen")
    blank = merged[merged["_seen"].eq("left_only")]
    yield from found_rows("visits_without_image", "info", "time points have no image", blank, place)
