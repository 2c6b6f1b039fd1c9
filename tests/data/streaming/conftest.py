"""A small folder with images of several shapes and kinds, as files and as shards."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from temmed.data.streaming.writing import write_shards
from temmed.timelines.folder import Timeline

LIMIT = 10**9


def read_row(timeline: Timeline, number: int) -> np.ndarray:
    """The image of a row of the images table."""
    row = timeline.table("images").iloc[number]
    frames = None if pd.isna(row["frame"]) else [int(row["frame"])]
    return timeline.files.read(row["sequence_id"], row["path"], frames)


def assert_same_images(found: Timeline, expected: Timeline) -> None:
    """Every image of the table, byte for byte and in its number type, and where it lies."""
    rows = expected.table("images")
    pd.testing.assert_frame_equal(found.table("images"), rows)
    for (sequence, path), of_file in rows.groupby(["sequence_id", "path"]):
        for frames in (None, of_file["frame"].dropna().astype(int).tolist()):
            if frames or (frames is None and of_file["frame"].isna().any()):
                one, other = (timeline.files.read(sequence, path, frames) for timeline in (found, expected))
                assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    for sequence, path in rows[["sequence_id", "path"]].drop_duplicates().itertuples(index=False):
        np.testing.assert_array_equal(found.files.affine(sequence, path), expected.files.affine(sequence, path))


@pytest.fixture(scope="session")
def sharded(tiny_timeline: Timeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny folder in about six shards, the last one smaller."""
    out = tmp_path_factory.mktemp("sharded") / "tiny"
    write_shards(tiny_timeline.root, str(out), out, shard_size=60_000, workers=1)
    return out


@pytest.fixture
def memory_url() -> str:
    """An address of its own in the store that lives in this process."""
    return f"memory://{uuid.uuid4().hex}/set"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("temmed.data.streaming.remote.FIRST_PAUSE", 0.001)


@pytest.fixture
def written(tiny_timeline: Timeline, memory_url: str, tmp_path: Path) -> str:
    """URL of the tiny folder's shards."""
    write_shards(tiny_timeline.root, memory_url, tmp_path / "work", shard_size=60_000, workers=1)
    return memory_url
