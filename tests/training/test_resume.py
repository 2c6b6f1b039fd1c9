"""A training that is stopped anywhere goes on from its last checkpoint as if it had not been."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from temmed.data.batch import TimelineBatch
from temmed.data.datamodule import TimelineDataModule
from temmed.data.fitted import Fitted
from temmed.data.images import ImageSource
from temmed.data.settings import DataSettings
from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split
from temmed.training import checkpoint
from temmed.training.averaging import MovingAverage
from temmed.training.checkpoint import AtomicCheckpointIO, BestCheckpoint, LastCheckpoint, LastingStop, read_checkpoint
from temmed.training.course import check_settings, describe_place
from temmed.training.module import TimelineModule
from temmed.training.quiet import without_noise
from temmed.training.schedules import cosine

from .conftest import QUIET, SCHEDULED, TASKS

EPOCHS = 2
#: Of 14 sequences in batches of 3.
BATCHES = 5


class Killed(BaseException):
    """In place of a signal that no code sees coming."""


@dataclass
class Stop:
    """Where a training is stopped: a hook of Lightning's callbacks, the epoch, and of some hooks the batch."""

    hook: str
    epoch: int
    batch: int | None = None

    def __str__(self) -> str:
        return f"{self.hook}-{self.epoch}" + ("" if self.batch is None else f"-{self.batch}")


class Stopper(pl.Callback):
    """Stops a training."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        setattr(self, stop.hook, self._stop)

    def _stop(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.current_epoch == self.stop.epoch and self.stop.batch in (None, trainer.fit_loop.batch_idx):
            raise Killed


class Recorder(pl.Callback):
    """Keeps what was trained on, what was drawn at random, and what was validated."""

    def __init__(self) -> None:
        self.trained: dict[tuple[int, int], tuple[list[str], float]] = {}
        self.validated: dict[int, str] = {}

    def on_before_backward(self, trainer: pl.Trainer, *_: Any) -> None:
        """What comes next of the random numbers, without taking it."""
        state = torch.get_rng_state()
        self.drawn = float(torch.rand(()))
        torch.set_rng_state(state)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: TimelineBatch, batch_idx: int
    ) -> None:
        self.trained[trainer.current_epoch, batch_idx] = (list(batch.sequence_ids), self.drawn)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.validated[trainer.global_step] = str(
            {k: float(v) for k, v in trainer.callback_metrics.items() if k[:3] == "val"}
        )


@dataclass
class Course:
    """One training.

    Attributes:
        folder: of its checkpoints.
        recorder: what it went through.
    """

    folder: Path
    recorder: Recorder

    @property
    def last(self) -> Path:
        return self.folder / "last.ckpt"


Train = Callable[..., Course]


@pytest.fixture
def train(
    tiny_timeline: Timeline,
    split: Split,
    fitted: Fitted,
    model_config: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Train:
    """``train("a", stop=…, resume=…, every=0, workers=0, batch_size=3, **trainer)``."""

    def run(
        name: str | Path,
        stop: Stop | None = None,
        resume: Path | None = None,
        every: float | None = 0,
        workers: int = 0,
        seed: int = 3,
        batch_size: int = 3,
        patience: int = 10,
        min_delta: float = 0.0,
        recipes: bool = False,
        **trainer: Any,
    ) -> Course:
        model = model_config()
        if recipes:
            model["previous_answers"] = SCHEDULED
        model["reader"] |= {"dropout": 0.2}
        torch.manual_seed(0 if resume is None else 99)  # a resumed run has its weights from the checkpoint
        module = TimelineModule(
            model, fitted.to_dict(), {"tasks": TASKS, "seed": seed}, partial(torch.optim.AdamW, lr=1e-2), cosine
        )
        settings = DataSettings(size=32, batch_size=batch_size, num_workers=workers, position_dropout=0.3)
        data = TimelineDataModule(tiny_timeline, split, settings, fitted, seed=seed)
        course = Course(tmp_path / name, Recorder())
        ticks = itertools.count()
        monkeypatch.setattr(checkpoint.time, "monotonic", lambda: 60.0 * next(ticks))
        best = BestCheckpoint(course.folder, "best", monitor="val/loss", enable_version_counter=False)
        last = LastCheckpoint(course.last, every)
        stopping = LastingStop("val/loss", patience=patience, min_delta=min_delta)
        settings_of_trainer = {**QUIET, "enable_checkpointing": True, "max_epochs": EPOCHS, **trainer}
        lightning = pl.Trainer(
            **settings_of_trainer,
            num_sanity_val_steps=0,
            callbacks=[
                *([MovingAverage(0.8)] if recipes else []),
                *(stopping, course.recorder, *([] if stop is None else [Stopper(stop)]), best, last),
            ],
            plugins=[AtomicCheckpointIO()],
            use_distributed_sampler=False,
        )
        with without_noise():
            if stop is None:
                lightning.fit(module, data, ckpt_path=resume, weights_only=True)
            else:
                with pytest.raises(Killed):
                    lightning.fit(module, data, ckpt_path=resume, weights_only=True)
        return course

    return run


def same(a: Any, b: Any, where: str = "") -> None:
    """Assert that two contents of checkpoints are the same to the bit, apart from folders and progress counters."""
    if isinstance(a, Tensor):
        assert torch.equal(a.nan_to_num(), b.nan_to_num()), where
    elif isinstance(a, dict):
        assert len(a) == len(b), where
        for (key, value), (other, against) in zip(a.items(), b.items(), strict=True):
            assert str(key).rpartition("/")[2] == str(other).rpartition("/")[2], where
            same(value, against, f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for number, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{where}.{number}")
    elif isinstance(a, str):
        assert a.rpartition("/")[2] == b.rpartition("/")[2] or where.endswith("dirpath"), where
    else:
        assert a == b, f"{where}: {a} {b}"


def assert_same_course(whole: Course, stopped: Course, rest: Course) -> None:
    """The rest after the stop is what it is in the whole training, and both parts together are all of it."""
    for key, value in rest.recorder.trained.items():
        assert value == whole.recorder.trained[key], key
    assert whole.recorder.trained == {**stopped.recorder.trained, **rest.recorder.trained}
    batches = list(whole.recorder.trained)
    assert list(rest.recorder.trained) == batches[len(batches) - len(rest.recorder.trained) :]
    assert whole.recorder.validated == {**stopped.recorder.validated, **rest.recorder.validated}
    for name in ("last.ckpt", "best.ckpt"):
        same(read_checkpoint(whole.folder / name), read_checkpoint(rest.folder / name), name)


@pytest.fixture
def whole(train: Train, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """As ``train``, for trainings that are not stopped; each is run once for all tests."""
    if not hasattr(request.module, "_whole"):
        request.module._whole = {}

    def run(**settings: Any) -> Course:
        key = str(sorted(settings.items()))
        if key not in request.module._whole:
            request.module._whole[key] = train(tmp_path_factory.mktemp("whole"), **settings)
        return request.module._whole[key]

    return run


STOPS = [
    Stop("on_train_batch_start", 0, 1),
    Stop("on_before_zero_grad", 0, 3),
    Stop("on_validation_start", 0),
    Stop("on_train_epoch_end", 0),
    Stop("on_train_epoch_start", 1),
    Stop("on_train_end", EPOCHS),
]


@pytest.mark.parametrize("stop", STOPS, ids=str)
def test_a_stopped_training_goes_on_as_if_it_had_not_been(train: Train, whole: Train, stop: Stop) -> None:
    stopped = train("stopped", stop)
    assert_same_course(whole(), stopped, train("rest", resume=stopped.last))


@pytest.mark.parametrize("stop", STOPS[:3], ids=str)
def test_so_do_averaged_weights_and_answers_drawn_at_random(train: Train, whole: Train, stop: Stop) -> None:
    stopped = train("stopped", stop, recipes=True)
    assert_same_course(whole(recipes=True), stopped, train("rest", resume=stopped.last, recipes=True))


def test_what_came_after_the_checkpoint_is_done_again(train: Train, whole: Train) -> None:
    stopped = train("stopped", Stop("on_validation_start", 0), every=3)
    rest = train("rest", resume=stopped.last, every=3)
    assert_same_course(whole(every=3), stopped, rest)
    assert set(stopped.recorder.trained) & set(rest.recorder.trained)


@pytest.mark.parametrize(
    ("stop", "trainer"),
    [
        (Stop("on_train_batch_start", 0, 3), {"accumulate_grad_batches": 2}),
        (Stop("on_train_batch_start", 1, 2), {"val_check_interval": 2}),
        (Stop("on_train_batch_start", 1, 1), {"val_check_interval": 3, "check_val_every_n_epoch": None}),
        (Stop("on_train_epoch_start", 1), {"max_epochs": -1, "max_steps": 8}),
        (Stop("on_train_batch_start", 0, 1), {"limit_train_batches": 3}),
    ],
    ids=str,
)
def test_it_does_so_whatever_the_trainer_is_set_to(
    train: Train, whole: Train, stop: Stop, trainer: dict[str, Any]
) -> None:
    stopped = train("stopped", stop, **trainer)
    rest = train("rest", resume=stopped.last, **trainer)
    assert_same_course(whole(**trainer), stopped, rest)


def test_early_stopping_is_kept_to(train: Train) -> None:
    # The first epoch counts as better than nothing, the second not as better by so much.
    settings = {"min_delta": 100.0, "max_epochs": 4}
    whole = train("whole", **settings, patience=1)
    assert max(whole.recorder.trained)[0] == 1
    again = train("again", resume=whole.last, **settings, patience=1)
    assert again.recorder.trained == {}
    assert again.last.read_bytes() == whole.last.read_bytes()
    longer = train("longer", resume=whole.last, **settings, patience=2)
    assert {epoch for epoch, _ in longer.recorder.trained} == {2}


def test_nothing_is_read_of_the_batches_before(
    train: Train, whole: Train, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = train("stopped", Stop("on_train_batch_start", 1, 3))
    assert describe_place(read_checkpoint(stopped.last)) == "batch 3 of epoch 2"
    assert describe_place(read_checkpoint(whole().last)) == f"epoch {EPOCHS}"
    read: list[str] = []
    reading = ImageSource.read
    monkeypatch.setattr(
        ImageSource, "read", lambda self, name, *more: (read.append(name), reading(self, name, *more))[1]
    )
    rest = train("rest", resume=stopped.last, every=None)
    trained = [name for names, _ in rest.recorder.trained.values() for name in names]
    assert len(rest.recorder.trained) == BATCHES - 3
    assert [name for name in read if name in set(split.sequences("train")["sequence_id"])] == trained


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 4}, "expected seed 3, .* found 4"),
        ({"batch_size": 4}, "expected batch size 3, .* found 4. Give the data.batch_size"),
        ({"accumulate_grad_batches": 2}, "expected batches per step 1, .* found 2. Give the trainer.accumulate"),
    ],
    ids=["seed", "batch size", "batches per step"],
)
def test_batches_in_another_order_are_refused(train: Train, whole: Train, change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        train("rest", resume=whole().last, **change)


def test_batches_of_other_content_are_refused() -> None:
    former = DataSettings(augment={"shared": []}, size=32)
    # A checkpoint may be older than a setting: it then was what it is by default.
    saved = {key: value for key, value in asdict(former).items() if key not in ("stride", "slices")}
    content = {"hyper_parameters": {"provenance": {"data": saved}}}
    check_settings(content, replace(former, num_workers=3, cache_images="never", stream_cache="1GB"), "last.ckpt")
    for change, words in (
        ({"size": 48}, r"last\.ckpt: expected data\.size=32, .* found 48"),
        ({"augment": None}, r'expected data\.augment=\{"shared": \[\]\}, .* found null'),
        ({"stride": 2}, r"expected data\.stride=1, .* found 2\. Give the data\.stride"),
        ({"position_dropout": 0.0}, r"expected data\.position_dropout=0\.1"),
    ):
        with pytest.raises(InputError, match=words):
            check_settings(content, replace(former, **change), "last.ckpt")


def test_a_place_within_an_optimizer_step_is_refused(train: Train) -> None:
    course = train("odd", accumulate_grad_batches=2, val_check_interval=3, max_epochs=1)
    content = read_checkpoint(course.folder / "best.ckpt")
    assert content["TimelineDataModule"]["batches"] == 3
    with pytest.raises(InputError, match=r"found one after batch 3, with 2 batches per step.*last\.ckpt"):
        train("rest", resume=course.folder / "best.ckpt", accumulate_grad_batches=2, val_check_interval=3)
