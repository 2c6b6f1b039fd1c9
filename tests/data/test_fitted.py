"""What is fitted comes from the train subset and survives being saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from temmed.data.fitted import Fitted, Source, ValueScale
from temmed.data.fitting import fit
from temmed.data.images import ImageSource
from temmed.timelines.folder import Timeline, write_timeline
from temmed.timelines.schema import SCHEMA
from temmed.timelines.splits import Split, make_split


def test_round_trip_through_plain_containers(fitted: Fitted) -> None:
    assert Fitted.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted


def _changed_copy(timeline: Timeline, root: Path, sequences: set[str]) -> Timeline:
    """The timeline with other images and other words in some sequences."""
    shutil.copytree(timeline.root / "images", root / "images")
    for sequence in sequences:
        path = root / "images" / f"{sequence}.npy"
        np.save(path, 4000 - np.load(path))
    tables: dict[str, pd.DataFrame] = {}
    for name in filter(timeline.has, SCHEMA):
        table = timeline.table(name).copy()
        if "text" in table:
            strange = table["sequence_id"].isin(sequences)
            table.loc[strange, "text"] = table.loc[strange, "text"] + " Xylophone."
        tables[name] = table
    write_timeline(root, tables, name="changed", version="1", licence="CC0-1.0", provenance=timeline.meta.provenance)
    return Timeline.open(root)


def test_test_and_val_subsets_take_no_part(
    tiny_timeline: Timeline, split: Split, fitted: Fitted, tmp_path: Path
) -> None:
    train = set(split.sequences("train")["sequence_id"])
    others = set(split.frame["sequence_id"]) - train
    assert others
    assert fit(_changed_copy(tiny_timeline, tmp_path / "other", others), split, 32) == fitted
    changed = fit(_changed_copy(tiny_timeline, tmp_path / "train", train), split, 32)
    assert changed.mean != fitted.mean
    assert "xylophone" in changed.tokenizer.words


def test_nothing_after_the_cut_takes_part_in_a_split_by_time(tiny_timeline: Timeline) -> None:
    by_time = make_split(tiny_timeline, by="time", seed=0)
    last = by_time.sequences("train").set_index("sequence_id")["last_asked"]
    statements = tiny_timeline.table("statements")
    late = statements["position"].to_numpy() > statements["sequence_id"].map(last).to_numpy()
    assert late.any()
    assert (~late).any()
    for marked in (late, ~late):
        table = statements.copy()
        table.loc[marked, "text"] = "Xylophone."
        changed = _WithTable(tiny_timeline, "statements", table)
        found = fit(changed, by_time, 32)  # type: ignore[arg-type]
        assert ("xylophone" in found.tokenizer.words) == (marked is not late)


class _WithTable:
    """A timeline with one table in place of another."""

    def __init__(self, timeline: Timeline, name: str, table: pd.DataFrame) -> None:
        self._timeline, self._name, self._table = timeline, name, table

    def table(self, name: str) -> pd.DataFrame:
        return self._table if name == self._name else self._timeline.table(name)

    def __getattr__(self, name: str) -> object:
        return getattr(self._timeline, name)


def test_images_are_standardised_per_channel(tiny_timeline: Timeline, split: Split, fitted: Fitted) -> None:
    source = ImageSource(tiny_timeline)
    train = split.sequences("train")["sequence_id"]
    for column, channel in enumerate(fitted.channels):
        pixels = np.concatenate([i[Source(channel)].ravel() for s in train for i in source.read(s).values()]).astype(
            float
        )
        assert fitted.mean[column] == pytest.approx(pixels.mean(), rel=1e-9)
        assert fitted.deviation[column] == pytest.approx(pixels.std(), rel=1e-6)
    assert fitted.spatial == (32, 32)
    assert fitted.channels == ("flair", "t1")


@given(st.lists(st.floats(0.01, 1e4), min_size=2, max_size=20))
def test_value_scale_round_trip(values: list[float]) -> None:
    array = np.array(values)
    scale = ValueScale.fit(array)
    assert scale.logarithm
    np.testing.assert_allclose(scale.inverse(scale.forward(array)), array, rtol=1e-6)


def test_value_scale_without_values_and_with_negative_ones() -> None:
    assert ValueScale.fit(np.array([np.nan])) == ValueScale(False, 0.0, 1.0)
    scale = ValueScale.fit(np.array([-1.0, 3.0, np.nan]))
    assert (scale.logarithm, scale.mean, scale.deviation) == (False, 1.0, 2.0)
    assert np.isnan(scale.forward(np.array([np.nan]))).all()
    assert np.isnan(ValueScale(True, 0.0, 1.0).forward(np.array([-1.0]))).all()
