"""Strides, windows and budgets under a real trainer: predictions in real positions and times, schedules that end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

from temmed.data.batch import COUNTED, TimelineBatch
from temmed.data.datamodule import TimelineDataModule
from temmed.data.fitted import Fitted
from temmed.data.settings import DataSettings
from temmed.data.subsample import strided
from temmed.errors import InputError
from temmed.timelines.folder import Timeline, write_timeline
from temmed.timelines.splits import Split
from temmed.training.module import TimelineModule
from temmed.training.predict import predict

from .conftest import QUIET

STRIDE = 3


@pytest.fixture(scope="module")
def kept(tiny_timeline: Timeline) -> dict[str, np.ndarray]:
    asked = tiny_timeline.table("questions").groupby("sequence_id")["asked_at"].unique()
    lengths = tiny_timeline.table("timepoints").groupby("sequence_id").size()
    return {key: strided(length, STRIDE, asked.get(key, ())) for key, length in lengths.items()}


@pytest.fixture(scope="module")
def on_disk(tiny_timeline: Timeline, kept: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    """The folder with every third position, and those asked at, alone; positions are counted anew."""

    def renumbered(name: str, column: str) -> pd.DataFrame:
        table = tiny_timeline.table(name)
        places = {(s, int(p)): n for s, positions in kept.items() for n, p in enumerate(positions)}
        found = [places.get(key, -1) for key in zip(table["sequence_id"], table[column], strict=True)]
        return table.assign(**{column: found})[np.array(found) >= 0].reset_index(drop=True)

    def evidence(sequence: str, positions: list[int] | None) -> list[int] | None:
        if positions is None or not set(positions) <= set(kept[sequence].tolist()):
            return None
        return np.searchsorted(kept[sequence], positions).tolist()

    questions = renumbered("questions", "asked_at").drop(columns=["horizon_steps", "horizon_time"])
    questions["evidence"] = [
        evidence(s, e) for s, e in zip(questions["sequence_id"], questions["evidence"], strict=True)
    ]
    questions["evidence_kind"] = None
    images = renumbered("images", "position")
    tables = {
        "patients": tiny_timeline.table("patients"),
        "sequences": tiny_timeline.table("sequences"),
        "findings": tiny_timeline.table("findings"),
        "timepoints": renumbered("timepoints", "position"),
        "images": images.assign(path=[str((tiny_timeline.root / path).resolve()) for path in images["path"]]),
        "events": tiny_timeline.table("events").assign(report_id=None, sentence=None),
        "questions": questions,
    }
    root = tmp_path_factory.mktemp("subsampled") / "set"
    root.mkdir()
    write_timeline(root, tables, name="sub", version="1", licence="", provenance={})
    return Timeline.open(root)


def _data(timeline: Timeline, split: Split, fitted: Fitted, **settings: object) -> TimelineDataModule:
    options = DataSettings(**{"size": 32, "batch_size": 3, "position_dropout": 0.2, **settings})  # type: ignore[arg-type]
    return TimelineDataModule(timeline, split, options, fitted, seed=7)


@pytest.fixture(scope="module")
def split_on_disk(on_disk: Timeline, split: Split) -> Split:
    lengths = on_disk.table("timepoints").groupby("sequence_id").size()
    frame = split.frame.assign(last_asked=split.frame["sequence_id"].map(lengths) - 1)
    return replace(split, frame=frame)


def test_a_subsampled_folder_is_what_subsampling_gives(
    tiny_timeline: Timeline,
    on_disk: Timeline,
    split: Split,
    split_on_disk: Split,
    fitted: Fitted,
    kept: dict[str, np.ndarray],
) -> None:
    loaders = [
        _data(tiny_timeline, split, fitted, stride=STRIDE).train_dataloader(),
        _data(on_disk, split_on_disk, fitted).train_dataloader(),
    ]
    compared = 0
    for flying, written in zip(*loaders, strict=True):
        assert isinstance(flying, TimelineBatch)
        for name, value in vars(written).items():
            other = getattr(flying, name)
            if name == "positions":
                for b, sequence in enumerate(flying.sequence_ids):
                    there = int(flying.mask[b].sum())
                    assert other[b, :there].tolist() == kept[sequence].tolist()
                    assert value[b, :there].tolist() == list(range(there))
            elif name.startswith("statement"):
                continue  # the folder has none
            elif name == "window":
                told = [COUNTED.index(items) for items in ("answer", "value", "event", "evidence")]
                assert other[told].tolist() == value[told].tolist()
            elif isinstance(value, torch.Tensor):
                torch.testing.assert_close(other, value, rtol=0, atol=0, equal_nan=True, msg=name)
                compared += 1
            else:
                assert other == value, name
    assert compared > 20


def test_predictions_speak_of_real_positions_and_times(
    tiny_timeline: Timeline,
    on_disk: Timeline,
    split: Split,
    split_on_disk: Split,
    fitted: Fitted,
    kept: dict[str, np.ndarray],
    make_module: Callable[..., TimelineModule],
) -> None:
    """A model without memory reads no names of positions: it says the same of both folders."""
    module = make_module(temporal="none").eval()
    with torch.no_grad():  # some events on, some off
        module.reasoner.heads["event"].out[-1].weight.mul_(50)
    trainer = pl.Trainer(**QUIET)
    tables = []
    for timeline, owner, settings in ((tiny_timeline, split, {"stride": STRIDE}), (on_disk, split_on_disk, {})):
        module.hparams["provenance"]["dataset"]["fingerprint"] = timeline.meta.fingerprint
        loader = _data(timeline, owner, fitted, **settings).loader("train")
        tables.append(predict(module, loader, timeline, owner.questions(timeline, "train"), trainer))
    (flying, flown), (written, wrote) = (table.values() for table in tables)
    assert len(flown["onset"].dropna()) > 3
    pd.testing.assert_frame_equal(flown, wrote)
    assert flying["question_id"].tolist() == sorted(split.questions(tiny_timeline, "train")["question_id"])
    sequence = split.questions(tiny_timeline, "train").set_index("question_id")["sequence_id"]
    asked_at = split.questions(tiny_timeline, "train").set_index("question_id")["asked_at"]
    for row, there in zip(flying.to_dict("records"), written.to_dict("records"), strict=True):
        assert row["evidence"] == [asked_at[row["question_id"]]]
        assert row["evidence"] == kept[sequence[row["question_id"]]][there["evidence"]].tolist()
    pd.testing.assert_series_equal(flying["answer"], written["answer"])


def test_pointers_name_kept_positions(
    tiny_timeline: Timeline, split: Split, fitted: Fitted, make_module: Callable[..., TimelineModule]
) -> None:
    module = make_module(temporal="memory_fusion").eval()
    loader = _data(tiny_timeline, split, fitted, stride=STRIDE).loader("train")
    questions = split.questions(tiny_timeline, "train")
    answers = predict(module, loader, tiny_timeline, questions, pl.Trainer(**QUIET))["answers"]
    asked = questions.set_index("question_id")
    grid = asked.groupby("sequence_id")["asked_at"].unique()
    cited = 0
    for row in answers.to_dict("records"):
        sequence, at = asked.loc[row["question_id"], ["sequence_id", "asked_at"]]
        assert all(p <= at and (p % STRIDE == 0 or p in grid[sequence]) for p in row["evidence"])
        cited += any(p >= 2 for p in row["evidence"])
    assert cited


class _Steps(pl.Callback):
    def __init__(self) -> None:
        self.batches: list[int] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.batches.append(trainer.fit_loop.batch_idx + 1)


@pytest.mark.parametrize("settings", [{"frames_per_batch": 17}, {"pairs_per_batch": 200, "window": 4}], ids=str)
def test_schedules_know_how_many_steps_there_are(
    tiny_timeline: Timeline,
    split: Split,
    fitted: Fitted,
    make_module: Callable[..., TimelineModule],
    settings: dict[str, int],
) -> None:
    planned: list[int] = []

    def schedule(optimizer: torch.optim.Optimizer, total_steps: int) -> torch.optim.lr_scheduler.LRScheduler:
        planned.append(total_steps)
        return torch.optim.lr_scheduler.ConstantLR(optimizer)

    module, steps = make_module(), _Steps()
    module._scheduler = partial(schedule)
    data = _data(tiny_timeline, split, fitted, **settings)
    trainer = pl.Trainer(
        **QUIET,
        max_epochs=3,
        accumulate_grad_batches=2,
        callbacks=[steps],
        limit_val_batches=0,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=data)
    assert planned == [trainer.global_step]
    assert len(set(steps.batches)) == 1
    assert trainer.global_step == 3 * -(-steps.batches[0] // 2)


def test_windows_too_short_for_any_question_are_refused(
    tiny_timeline: Timeline, split: Split, fitted: Fitted, caplog: pytest.LogCaptureFixture
) -> None:
    data = _data(tiny_timeline, split, fitted, window=3)
    data.train_dataloader()
    assert "questions are not trained on" in caplog.text
    for record in data.records("train"):
        record.questions = [replace(q, evidence=[]) for q in record.questions if q.asked_at > 1]
    again = _data(tiny_timeline, split, fitted, window=2)
    again._records = data._records
    with pytest.raises(InputError, match=r"data\.window"):
        again.train_dataloader()


def test_what_stands_alone_is_said(
    tiny_timeline: Timeline, split: Split, fitted: Fitted, caplog: pytest.LogCaptureFixture
) -> None:
    data = _data(tiny_timeline, split, fitted, frames_per_batch=5)
    batches = list(data.train_dataloader())
    assert all(len(batch.images) <= 5 or len(batch) == 1 for batch in batches)
    large = sum(record.imaged.sum() > 5 for record in data.records("train"))
    assert f"{large} of the {len(data.records('train'))} sequences" in caplog.text
    assert sum(map(len, batches)) == len(data.records("train"))


def test_evaluation_shows_whole_loops(tiny_timeline: Timeline, split: Split, fitted: Fitted) -> None:
    data = _data(tiny_timeline, split, fitted, window=3)
    asked = [name for batch in data.loader("test") for names in batch.question_ids for name in names]
    assert sorted(asked) == sorted(split.questions(tiny_timeline, "test")["question_id"])


@pytest.mark.parametrize("shown", [{}, {"stride": 3}, {"window": 4}], ids=str)
@pytest.mark.parametrize("budget", [{"frames_per_batch": 20}, {"pairs_per_batch": 300}], ids=str)
def test_a_probe_takes_as_many_steps_with_a_budget(
    tiny_timeline: Timeline, split: Split, fitted: Fitted, shown: dict[str, int], budget: dict[str, int]
) -> None:
    whole, probe = (
        len(_data(tiny_timeline, split, fitted, inputs=inputs, **shown, **budget).train_dataloader())
        for inputs in ("all", "asked_image")
    )
    assert probe == pytest.approx(whole, rel=0.3)


def test_a_probe_of_the_text_takes_as_many_steps_with_a_budget(
    tiny_timeline: Timeline, split: Split, fitted: Fitted
) -> None:
    """It has one view of a sequence, and 14 of them cannot be cut into any number of batches."""
    whole, probe = (
        len(_data(tiny_timeline, split, fitted, inputs=inputs, frames_per_batch=20).train_dataloader())
        for inputs in ("all", "text")
    )
    assert probe == pytest.approx(whole, rel=0.3)
