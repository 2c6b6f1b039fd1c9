"""Boxes on their way from the table to a batch."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.ops import box_convert

from temmed.data.batch import valid_items
from temmed.data.boxes import fit_boxes
from temmed.data.collate import Collator
from temmed.data.dataset import SequenceDataset
from temmed.data.fitted import Fitted
from temmed.data.images import DecodedPixels, ImageSource
from temmed.data.records import build_records
from temmed.data.settings import DataSettings
from temmed.data.subsample import shown
from temmed.data.tokenizer import UNKNOWN
from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split
from temmed.timelines.tables import write_table

SETTINGS = DataSettings(augment={"shared": [], "each": []})


@pytest.fixture(scope="module")
def boxed(tiny_timeline: Timeline, tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    """The tiny folder with a box for each measured finding."""
    root = tmp_path_factory.mktemp("boxed") / "tiny"
    shutil.copytree(tiny_timeline.root, root)
    measured = tiny_timeline.table("measurements")
    seen = measured[measured["quantity"] == "longest_diameter"][["finding_id", "position"]]
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 20, (len(seen), 2))
    sizes = rng.integers(1, 12, (len(seen), 2))
    values = np.concatenate([corners, corners + sizes], axis=1).astype(float)
    frame = seen.assign(channel="flair", **dict(zip(("x1", "y1", "x2", "y2"), values.T, strict=True)))
    write_table(frame.reset_index(drop=True), root / "boxes.parquet", "boxes")
    return Timeline.open(root)


@pytest.fixture(scope="module")
def locating(fitted: Fitted, boxed: Timeline, split: Split) -> Fitted:
    return fit_boxes(fitted, boxed, split, SETTINGS)


def test_a_batch_holds_the_boxes_of_the_table(boxed: Timeline, locating: Fitted, split: Split) -> None:
    records = build_records(boxed, split, "train", locating)[:4]
    dataset = SequenceDataset(records, DecodedPixels(ImageSource(boxed), locating), len(locating.sources))
    batch = Collator()([dataset[n] for n in range(4)])
    valid = valid_items(batch, "box")
    pixels = box_convert(batch.boxes.double(), "cxcywh", "xyxy") * batch.box_sizes.repeat(1, 1, 2)
    found = {
        (*batch.box_names[b][g], int(batch.box_at[b, g])): pixels[b, g].numpy() for b, g in valid.nonzero().tolist()
    }
    ids = {record.sequence_id for record in records}
    findings = boxed.table("findings")
    owned = findings[findings["sequence_id"].isin(ids)]["finding_id"]
    table = boxed.table("boxes")
    truth = table[table["finding_id"].isin(owned)]
    assert set(found) == set(zip(truth["finding_id"], truth["channel"], truth["position"], strict=True))
    for row in truth.itertuples():
        corners = found[row.finding_id, row.channel, row.position]
        np.testing.assert_allclose(corners, [row.x1, row.y1, row.x2, row.y2], atol=1e-4)
    assert (batch.box_sizes[valid] == 32).all()
    assert UNKNOWN not in batch.box_prompts[valid]


def test_findings_of_one_image_have_words_of_their_own(boxed: Timeline, locating: Fitted, split: Split) -> None:
    for record in build_records(boxed, split, "train", locating):
        told = [(box.position, *box.tokens) for box in record.boxes]
        assert len(set(told)) == len(told)


def test_a_hidden_image_has_no_box_to_find(boxed: Timeline, locating: Fitted, split: Split) -> None:
    record = build_records(boxed, split, "train", locating)[0]
    hidden = record.boxes[0].position
    record = replace(record, imaged=np.where(np.arange(len(record.times)) == hidden, False, record.imaged))
    dataset = SequenceDataset([record], DecodedPixels(ImageSource(boxed), locating), len(locating.sources))
    batch = Collator()([dataset[0]])
    assert torch.equal(valid_items(batch, "box")[0], torch.tensor([box.position != hidden for box in record.boxes]))


def test_a_stride_keeps_the_boxes_that_are_shown(boxed: Timeline, locating: Fitted, split: Split) -> None:
    record = build_records(boxed, split, "train", locating)[0]
    kept = np.arange(0, len(record.times), 2)
    expected = [(box.finding_id, box.position) for box in record.boxes if box.position in kept]
    assert [(box.finding_id, int(kept[box.position])) for box in shown(record, kept).boxes] == expected


def test_without_the_head_nothing_is_read(boxed: Timeline, fitted: Fitted, split: Split) -> None:
    assert not any(record.boxes for record in build_records(boxed, split, "train", fitted))


def test_a_box_beyond_its_image_is_refused(
    boxed: Timeline, locating: Fitted, split: Split, with_tables: Callable[..., Timeline]
) -> None:
    table = boxed.table("boxes").assign(x2=33.0)
    with pytest.raises(InputError, match="≤ 32") as error:
        build_records(with_tables(boxed, boxes=table), split, "train", locating)
    assert "temmed data audit" in str(error.value)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"register": "rigid"}, "data.register"),
        ({"spacing": 1.0}, "data.spacing"),
        ({"augment": {"shared": [{"_target_": "temmed.data.augment.RandomMove"}], "each": []}}, "data.augment"),
    ],
)
def test_what_moves_pixels_is_refused(
    settings: dict[str, Any], key: str, fitted: Fitted, boxed: Timeline, split: Split
) -> None:
    with pytest.raises(InputError, match=key):
        fit_boxes(fitted, boxed, split, replace(SETTINGS, **settings))


def test_volumes_and_data_without_boxes_are_refused(
    fitted: Fitted, boxed: Timeline, tiny_timeline: Timeline, split: Split, with_tables: Callable[..., Timeline]
) -> None:
    volumes = with_tables(boxed, sequences=boxed.table("sequences").assign(spatial_dims=3))
    with pytest.raises(InputError, match="a volume needs six"):
        fit_boxes(fitted, volumes, split, SETTINGS)
    with pytest.raises(InputError, match=r"model\.heads\.box\.weight=0"):
        fit_boxes(fitted, tiny_timeline, split, SETTINGS)
