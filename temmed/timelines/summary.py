"""What a timeline folder holds, in numbers."""

from __future__ import annotations

from typing import Any

import pandas as pd

from temmed.timelines.folder import Timeline
from temmed.timelines.schema import ABSENCE_BIN, HORIZON_BINS, SCHEMA, horizon_bin
from temmed.timelines.splits import FOLDER

_BINS = ["0", *[label for label, _, _ in HORIZON_BINS], ABSENCE_BIN]


def summarise(timeline: Timeline) -> dict[str, Any]:
    """Counts of a folder, ready for JSON.

    Returns:
        ``meta``, ``rows`` (by table), ``splits`` (names) and ``sections``: headed lists of rows for people, in which
        the first row of each holds the column heads.
    """
    sections = {"Sequences": _sequences(timeline)}
    if timeline.has("questions"):
        sections["Questions by template and horizon in steps"] = _questions(timeline)
    if timeline.has("findings"):
        counts = timeline.table("findings")["label"].value_counts()
        sections["Findings"] = [["", "findings"], *[[str(label), f"{count:,}"] for label, count in counts.items()]]
    meta = timeline.meta
    return {
        "meta": {
            "name": meta.name,
            "version": meta.version,
            "licence": meta.licence,
            "fingerprint": meta.fingerprint,
            "provenance": meta.provenance,
        },
        "rows": {name: len(timeline.table(name)) for name in SCHEMA if timeline.has(name)},
        "splits": sorted(path.stem for path in (timeline.root / FOLDER).glob("*.csv")),
        "sections": sections,
    }


def _sequences(timeline: Timeline) -> list[list[str]]:
    sequences = timeline.table("sequences")
    groups = timeline.table("timepoints").groupby("sequence_id")["time"]
    lengths = sequences.assign(
        points=sequences["sequence_id"].map(groups.size()),
        span=sequences["sequence_id"].map(groups.max() - groups.min()),
    )
    channels = timeline.table("images").groupby("sequence_id")["channel"].unique()
    rows = [["", "sequences", "time points", "span", "images per time point", "channels"]]
    images = timeline.table("images").groupby("sequence_id").size()
    for (modality, unit, dims), part in lengths.groupby(["modality", "time_unit", "spatial_dims"]):
        names = sorted({str(name) for found in channels.reindex(part["sequence_id"]).dropna() for name in found})
        per_point = images.reindex(part["sequence_id"]).sum() / part["points"].sum()
        rows.append(
            [
                f"{modality}, {dims}D",
                f"{len(part):,}",
                _range(part["points"]),
                f"{_range(part['span'])} {unit}s" if unit not in ("frame", "ordinal") else f"{unit} only",
                f"{per_point:.2f}",
                ", ".join(names),
            ]
        )
    return rows


def _range(values: pd.Series) -> str:
    low, middle, high = values.min(), values.median(), values.max()
    return f"{low:g}" if low == high else f"{low:g}-{high:g} (median {middle:g})"


def _questions(timeline: Timeline) -> list[list[str]]:
    questions = timeline.table("questions")
    counts = pd.crosstab(questions["template"], horizon_bins(questions))
    used = [label for label in _BINS if label in counts.columns]
    rows = [["", *used, "all"]]
    for template, row in counts.iterrows():
        rows.append([str(template), *[f"{row[label]:,}" for label in used], f"{row.sum():,}"])
    return rows


def horizon_bins(questions: pd.DataFrame) -> pd.Series:
    """The horizon bin of each question, as :func:`temmed.timelines.schema.horizon_bin` has it."""
    steps = questions["horizon_steps"].astype("float64")
    kinds = questions["evidence_kind"].astype("object").fillna("positions")
    bins = [horizon_bin(step, kind) for step, kind in zip(steps, kinds, strict=True)]
    return pd.Series(bins, index=questions.index, name="bin", dtype="str")
