"""The data module's parts on the tiny folder."""

from __future__ import annotations

import pytest

from temmed.data.fitted import Fitted
from temmed.data.images import DecodedPixels, ImageSource
from temmed.data.records import Record, build_records
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split


@pytest.fixture(scope="session")
def records(tiny_timeline: Timeline, split: Split, fitted: Fitted) -> list[Record]:
    return build_records(tiny_timeline, split, "train", fitted)


@pytest.fixture(scope="session")
def pixels(tiny_timeline: Timeline, fitted: Fitted) -> DecodedPixels:
    return DecodedPixels(ImageSource(tiny_timeline), fitted)
