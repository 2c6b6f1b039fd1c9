from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from temmed.errors import InputError
from temmed.timelines.folder import Timeline, write_timeline
from temmed.timelines.schema import SCHEMA
from temmed.timelines.validate import ValidationError

Tables = dict[str, pd.DataFrame]
Build = Callable[..., Path]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_what_is_written_is_what_is_opened(tables: Tables, build: Build, suffix: str) -> None:
    timeline = Timeline.open(build(tables, suffix))
    assert timeline.meta.name == "small"
    assert timeline.meta.licence == "CC0-1.0"
    assert timeline.meta.provenance == {"source": "test"}
    for name, frame in tables.items():
        assert timeline.has(name)
        opened = timeline.table(name)
        key = list(SCHEMA[name].key)
        written = frame.sort_values(key, ignore_index=True)
        for column in frame.columns:
            pd.testing.assert_series_equal(opened[column], written[column], check_dtype=False)
    assert not timeline.has("masks")
    assert list(timeline.table("masks").columns) == list(SCHEMA["masks"].columns)


def test_the_fingerprint_depends_on_the_content_alone(tables: Tables, build: Build) -> None:
    first = Timeline.open(build(tables, ".parquet", "one")).meta.fingerprint
    mixed = {name: frame.sample(frac=1, random_state=1) for name, frame in reversed(tables.items())}
    mixed["sequences"] = mixed["sequences"][mixed["sequences"].columns[::-1]]
    other = Timeline.open(build(mixed, ".csv", "two"))
    assert other.meta.fingerprint == first
    assert other.recompute_fingerprint() == first


def test_renamed_image_files_are_the_same_content(tables: Tables, build: Build) -> None:
    first = Timeline.open(build(tables, name="one")).meta.fingerprint
    tables["images"]["path"] = tables["images"]["path"].str.replace("images/", "images/x")
    assert Timeline.open(build(tables, name="two")).meta.fingerprint == first


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("timepoints", "time", 121.0),
        ("questions", "answer", "progressed"),
        ("patients", "arm", "c"),
        ("images", "frame", 0),
    ],
)
def test_a_changed_cell_changes_the_fingerprint_on_open(
    root: Path, replace_table: Callable[..., None], table: str, column: str, value: object
) -> None:
    before = Timeline.open(root)
    frame = before.table(table).copy()
    frame.loc[len(frame) - 1, column] = value
    replace_table(root, table, frame)
    after = Timeline.open(root)
    assert after.meta.fingerprint != before.meta.fingerprint
    assert after.recorded_fingerprint == before.meta.fingerprint


def test_changed_pixels_are_seen(root: Path) -> None:
    before = Timeline.open(root)
    path = root / "images" / "s0_t1.npy"
    pixels = np.load(path)
    pixels[0, 0, 0] ^= 1
    np.save(path, pixels)
    same_size = Timeline.open(root)
    assert same_size.meta.fingerprint == before.meta.fingerprint, "opening does not read files of the same size again"
    assert same_size.recompute_fingerprint() != before.meta.fingerprint
    np.save(path, np.concatenate([pixels, pixels]))
    assert Timeline.open(root).meta.fingerprint != before.meta.fingerprint


def test_recording_makes_the_folder_as_it_is_the_one_meant(root: Path) -> None:
    path = root / "images" / "s0_t1.npy"
    np.save(path, np.load(path) ^ 1)
    timeline = Timeline.open(root)
    recorded = timeline.record_fingerprint()
    assert recorded == timeline.meta.fingerprint
    again = Timeline.open(root)
    assert again.meta.fingerprint == again.recorded_fingerprint == again.recompute_fingerprint() == recorded
    assert again.meta.name == "small"


def test_a_folder_made_by_hand_needs_no_fingerprint(root: Path) -> None:
    expected = Timeline.open(root).meta.fingerprint
    (root / "dataset.json").write_text('{"format": "temmed-timeline/1", "name": "by hand"}')
    assert Timeline.open(root).meta.fingerprint == expected


def test_the_fingerprint_is_pinned(timeline: Timeline) -> None:
    """A change here makes every checkpoint refuse the data it was trained on: say so in the changelog."""
    assert timeline.meta.fingerprint == "21047b618eeafd4d3054dbc5b947877a"


def test_images_come_by_position_and_channel(timeline: Timeline) -> None:
    images = timeline.read_images("s1")
    assert [(position, channel) for position, channel, _ in images] == [
        (position, channel) for position in (0, 1, 2, 4) for channel in ("flair", "t1")
    ]
    stored = np.load(timeline.root / "images" / "s1_t1.npy")
    for position, channel, pixels in images:
        if channel == "t1":
            np.testing.assert_array_equal(pixels, stored[position])
    assert {position for position, _, _ in timeline.read_images("s1", positions=[4])} == {4}


def test_a_file_without_frames_is_one_image(tables: Tables, build: Build) -> None:
    tables["images"] = tables["images"].query("sequence_id == 's0' and position == 0").drop(columns="frame")
    root = build(tables)
    np.save(root / "images" / "s0_t1.npy", np.zeros((3, 4)))
    ((_, _, flair), (_, _, t1)) = Timeline.open(root).read_images("s0")
    assert t1.shape == (3, 4)
    assert flair.ndim == 3


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: None, "expected a timeline folder, found nothing"),
        (lambda path: path.write_text("x"), "expected a timeline folder, found a file"),
        (lambda path: path.mkdir(), "dataset.json, found an empty folder"),
        (lambda path: (path.mkdir(), (path / "a.png").touch()), "dataset.json, found other content"),
        (lambda path: (path.mkdir(), (path / "dataset.json").write_text("{")), "expected a JSON object"),
        (
            lambda path: (path.mkdir(), (path / "dataset.json").write_text("[]")),
            "format 'temmed-timeline/1', found list",
        ),
        (
            lambda path: (path.mkdir(), (path / "dataset.json").write_text('{"format": "temmed-timeline/9"}')),
            "found 'temmed-timeline/9'",
        ),
    ],
)
def test_what_is_no_timeline_folder_is_refused(tmp_path: Path, prepare: Callable[[Path], object], message: str) -> None:
    path = tmp_path / "data"
    prepare(path)
    with pytest.raises(InputError, match=message):
        Timeline.open(path)


def test_a_folder_with_nothing_but_its_json_names_the_tables(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"format": "temmed-timeline/1", "name": "bare"}))
    with pytest.raises(ValidationError) as caught:
        Timeline.open(tmp_path)
    assert [problem.file for problem in caught.value.problems] == [
        "patients.parquet",
        "sequences.parquet",
        "timepoints.parquet",
        "images.parquet",
    ]


def test_writing_refuses_broken_tables_and_writes_none(tables: Tables, pristine: Path, tmp_path: Path) -> None:
    tables["timepoints"].loc[3, "time"] = 1.0
    tables["images"]["path"] = str(pristine) + "/" + tables["images"]["path"]
    with pytest.raises(ValidationError, match="must not go back"):
        write_timeline(tmp_path, tables, name="x", version="1", licence="", provenance={})
    assert list(tmp_path.iterdir()) == []


def test_unknown_tables_are_programming_errors(timeline: Timeline, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="no table is called 'question'"):
        timeline.table("question")
    with pytest.raises(KeyError, match="no table is called 'question'"):
        write_timeline(tmp_path, {"question": pd.DataFrame()}, name="x", version="1", licence="", provenance={})


def test_paths_may_lie_outside_the_folder(tables: Tables, pristine: Path, tmp_path: Path) -> None:
    tables["images"]["path"] = str(pristine) + "/" + tables["images"]["path"]
    write_timeline(tmp_path, tables, name="x", version="1", licence="", provenance={})
    assert Timeline.open(tmp_path).meta.fingerprint == Timeline.open(pristine).meta.fingerprint
