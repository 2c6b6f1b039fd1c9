"""Runs that write reports and locate findings, up to their prediction tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from temmed.predictions.tables import read_predictions
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import load_split
from temmed.timelines.tables import write_table

#: See conftest.
Start = Callable[..., Any]

SMALL = [f"model.heads.report.{size}" for size in ("vocabulary_size=300", "longest=16", "width=32", "layers=1")]


def test_reports_are_written_and_written_again(start: Start, dataset: Path) -> None:
    outcome = start("model/heads=report", "data.reports=past", *SMALL, "model.heads.report.beams=2")
    written = read_predictions(outcome.run / "predictions" / "test").reports
    timeline = Timeline.open(dataset)
    used = json.loads((outcome.run / "run.json").read_text(encoding="utf-8"))["split"]["path"]
    split = load_split(dataset, Path(used).stem, timeline)
    reports = timeline.table("reports").merge(split.sequences("test")[["sequence_id"]])
    assert written is not None
    expected = set(zip(reports["sequence_id"], reports["position"], strict=True))
    assert set(zip(written["sequence_id"], written["position"], strict=True)) == expected
    again = start(f"ckpt_path={outcome.run}/checkpoints/best.ckpt", f"out={outcome.run}/again", main="evaluate")
    assert again.code == 0, again.message
    pd.testing.assert_frame_equal(read_predictions(outcome.run / "again" / "predictions" / "test").reports, written)


def test_findings_are_located(start: Start, folder: Path) -> None:
    start("data=folder", f"data.root={folder}", "model/heads=box").refused("boxes", "model.heads.box.weight=0")
    measured = Timeline.open(folder).table("measurements")
    seen = measured[measured["quantity"] == "longest_diameter"][["finding_id", "position"]]
    boxes = seen.assign(channel="t1", x1=4.0, y1=8.0, x2=20.0, y2=16.0).reset_index(drop=True)
    write_table(boxes, folder / "boxes.parquet", "boxes")
    outcome = start("data=folder", f"data.root={folder}", "model/heads=box")
    found = read_predictions(outcome.run / "predictions" / "test").boxes
    assert found is not None
    assert len(found) > 0
    assert set(found["finding_id"]) <= set(boxes["finding_id"])
    side = 64
    assert found[["x1", "y1", "x2", "y2"]].to_numpy().min() >= 0
    assert found[["x1", "y1", "x2", "y2"]].to_numpy().max() <= side
