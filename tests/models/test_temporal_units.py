"""The same sequences with their times in days and in weeks, through tables, records and batches, to every head."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from temmed.data.batch import TimelineBatch
from temmed.data.collate import Collator
from temmed.data.dataset import SequenceDataset
from temmed.data.fitted import Fitted
from temmed.data.images import DecodedPixels, ImageSource
from temmed.data.records import build_records
from temmed.timelines.folder import Timeline, write_timeline
from temmed.timelines.schema import SCHEMA
from temmed.timelines.splits import Split

from .conftest import DIM
from .test_temporal_long import make_head, mean_readable

#: Columns in the unit of their sequence.
_TIMES = {
    "timepoints": ("time", "time_lower", "time_upper"),
    "reports": ("time",),
    "questions": ("horizon_time",),
    "events": ("onset_lower", "onset_upper", "offset_lower", "offset_upper"),
}


def _in_weeks(timeline: Timeline, root: Path) -> Timeline:
    """The folder with other times and units, and the same images."""
    tables = {name: timeline.table(name) for name in SCHEMA if timeline.has(name)}
    for name, columns in _TIMES.items():
        table = tables[name]
        tables[name] = table.assign(**{x: table[x] / 7 for x in columns if x in table})
    tables["sequences"] = tables["sequences"].assign(time_unit="week")
    root.mkdir()
    (root / "images").symlink_to(timeline.root / "images")
    write_timeline(root, tables, name="weeks", version="1", licence="CC0-1.0", provenance={"source": "test"})
    return Timeline.open(root)


def _batch(timeline: Timeline, split: Split, fitted: Fitted) -> TimelineBatch:
    records = build_records(timeline, split, "train", fitted)[:3]
    dataset = SequenceDataset(records, DecodedPixels(ImageSource(timeline), fitted), len(fitted.sources))
    return Collator()([dataset[n] for n in range(3)])


@pytest.fixture(scope="module")
def batches(
    tiny_timeline: Timeline, split: Split, fitted: Fitted, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TimelineBatch, TimelineBatch]:
    weeks = _in_weeks(tiny_timeline, tmp_path_factory.mktemp("units") / "weeks")
    assert weeks.table("timepoints")["time"].max() == pytest.approx(tiny_timeline.table("timepoints")["time"].max() / 7)
    return _batch(tiny_timeline, split, fitted), _batch(weeks, split, fitted)


def test_units_of_time_are_one_in_batches(batches: tuple[TimelineBatch, TimelineBatch]) -> None:
    days, weeks = batches
    assert days.times.max() > 100
    torch.testing.assert_close(weeks.times, days.times)
    assert torch.equal(weeks.images, days.images)


def test_weeks_and_days_are_remembered_alike(
    head_config: Mapping[str, Any], batches: tuple[TimelineBatch, TimelineBatch]
) -> None:
    head = make_head(head_config)
    tokens = torch.randn(*batches[0].mask.shape, 2, DIM, generator=torch.Generator().manual_seed(4))
    in_days, in_weeks = (head(tokens, batch.times, batch.mask, batch.image_mask)[0] for batch in batches)
    for position in range(tokens.shape[1]):
        days, weeks = (mean_readable(memory, position, memory.values) for memory in (in_days, in_weeks))
        torch.testing.assert_close(weeks, days, atol=2e-5, rtol=1e-4)
        days, weeks = (mean_readable(memory, position, memory.times.unsqueeze(-1)) for memory in (in_days, in_weeks))
        torch.testing.assert_close(weeks, days)
