"""Checkpoints: write one whole, at the right moments, load one to predict, start from parts of one."""

from __future__ import annotations

import pickle
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor

from temmed.data.fitted import Fitted
from temmed.errors import InputError
from temmed.files import atomic_stream
from temmed.models.adaptation import unadapted
from temmed.training.module import FORMAT, TimelineModule


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it.

    Lightning's own writes into the system's temporary folder and moves the file, which is a copy when that folder is
    on another disk: a process killed then leaves half a checkpoint where the last good one was.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint, as a whole or not at all."""
        with atomic_stream(path) as stream:
            torch.save(checkpoint, stream)


def _copy(former: Path, path: Path) -> None:
    with former.open("rb") as source, atomic_stream(path) as target:
        shutil.copyfileobj(source, target)


class BestCheckpoint(ModelCheckpoint):
    """Keeps the best checkpoint so far when a run is resumed in a folder of its own.

    Lightning's own forgets the best score when the folder is another one, so that a worse epoch after the resumption
    would count as the best. Arguments are those of `ModelCheckpoint`.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state, with copies of the files it names in this run's folder."""
        self.current_score = state_dict["current_score"]
        former = Path(state_dict["best_model_path"])
        if self.dirpath is not None and not state_dict["best_model_path"]:
            state_dict = {**state_dict, "dirpath": self.dirpath}  # no epoch was finished: there is nothing to copy
        if self.dirpath is None or former.parent == Path(self.dirpath) or not former.is_file():
            super().load_state_dict(state_dict)
            return
        copy = Path(self.dirpath) / former.name
        _copy(former, copy)
        score = state_dict["best_model_score"]
        super().load_state_dict(
            {
                **state_dict,
                "dirpath": self.dirpath,
                "best_model_path": str(copy),
                "best_k_models": {str(copy): score},
                "kth_best_model_path": str(copy),
                "last_model_path": "",
            }
        )


class LastCheckpoint(Checkpoint):
    """Writes the one checkpoint to go on from: at the end of every epoch, and within an epoch by the clock.

    It is written only where the trainer can take up its work exactly: after an optimizer step, and never between a
    batch and the validation that follows it. At the end of an epoch that is after validation, and after the best
    checkpoint and early stopping have taken note of it.

    Args:
        path: the file, written anew each time.
        every_minutes: the time between two checkpoints within an epoch, at least; 0 for one after every optimizer step,
            ``None`` for none.
    """

    def __init__(self, path: str | Path, every_minutes: float | None = 15.0) -> None:
        self.path = Path(path)
        self._seconds = None if every_minutes is None else 60 * every_minutes
        self._written_at = 0.0
        self._most_steps = -1
        self._validated: dict[str, Tensor] = {}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what early stopping compares with if the training ends without another validation."""
        checkpoint["callback_metrics"] = dict(trainer.callback_metrics)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the former numbers until the trainer has cleared its own."""
        self._validated = checkpoint.get("callback_metrics", {})

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock; a resumed run begins with a copy of its checkpoint and the metrics of the former one."""
        former = trainer.ckpt_path
        if former is not None and trainer.is_global_zero and Path(former).absolute() != self.path.absolute():
            _copy(Path(former), self.path)
        trainer.callback_metrics.update(self._validated)
        self._written_at = time.monotonic()
        # With a limit of steps, Lightning takes every checkpoint for one within an epoch, and ends the epoch again.
        loop = trainer.fit_loop.epoch_loop
        self._most_steps, loop.max_steps = loop.max_steps, -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Limit the steps, now that Lightning has found its place."""
        trainer.fit_loop.epoch_loop.max_steps = self._most_steps

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write if it is time, unless validation follows."""
        number = trainer.fit_loop.total_batch_idx if trainer.check_val_every_n_epoch is None else batch_idx
        interval = trainer.val_check_batch  # none if validation goes by the clock
        if interval is None or (number + 1) % interval:
            self._write_if_due(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write if it is time, unless the epoch ends here."""
        if not trainer.sanity_checking:
            self._write_if_due(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write."""
        self._write(trainer)

    def _write_if_due(self, trainer: pl.Trainer) -> None:
        done = trainer.fit_loop.batch_idx + 1
        within = done % trainer.accumulate_grad_batches == 0 and done < trainer.num_training_batches
        if self._seconds is None or not within:
            return
        due = time.monotonic() - self._written_at >= self._seconds
        # The clocks of two processes may differ, and a checkpoint is written by all of them together.
        if trainer.strategy.reduce_boolean_decision(due, all=False):
            self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path, weights_only=False)
        self._written_at = time.monotonic()


class LastingStop(EarlyStopping):
    """Early stopping that a resumed run keeps to, with the patience it is given.

    Lightning's own would train one more epoch after a stop, and takes over the former patience. Arguments are those of
    `EarlyStopping`.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what was seen so far."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop at once if patience ran out before."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= max(1, self.patience)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint, tensors and plain containers only.

    Raises:
        InputError: the file is damaged or is not a TemMed checkpoint.
    """
    remedy = "Give checkpoints/best.ckpt of a run."
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError("a readable checkpoint", reason, str(path), remedy) from error
    saved = content.get("hyper_parameters") if isinstance(content, dict) else None
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        raise InputError(f"a TemMed checkpoint of format {FORMAT}", "another file", str(path), remedy)
    return content


def load_module(path: str | Path) -> TimelineModule:
    """A trained model, in evaluation mode, on the CPU."""
    content = read_checkpoint(path)
    saved = content["hyper_parameters"]
    model = dict(saved["model"])
    # The checkpoint holds all weights: nothing is to be fetched.
    if "pretrained" in model["text"]:
        model["text"] = {**model["text"], "pretrained": False}
    module = TimelineModule(model, saved["fitted"], saved["provenance"])
    module.load_state_dict(content["state_dict"])
    return module.eval()


def read_fitted(path: str | Path) -> Fitted:
    """What the model of a checkpoint knows of its training data.

    Raises:
        InputError: see `read_checkpoint`.
    """
    return Fitted.from_dict(read_checkpoint(path)["hyper_parameters"]["fitted"])


def start_from(module: TimelineModule, path: str | Path, parts: Sequence[str], other_data: bool = False) -> None:
    """Copy parts of another run's model into a fresh one.

    Low-rank additions that the other has not start from nothing, and words that it does not know from chance.

    Args:
        module: the fresh model; with ``other_data`` fitted `Fitted.after` the checkpoint.
        path: the other run's checkpoint.
        parts: names of modules of the `Reasoner`, for instance ``backbone`` or ``heads.answer``.
        other_data: whether it may have been trained on other data.

    Raises:
        InputError: a part does not exist, or has other shapes; or the vocabulary or the normalisation differs.
    """
    content = read_checkpoint(path)
    former = Fitted.from_dict(content["hyper_parameters"]["fitted"])
    if former != module.fitted and not other_data:
        raise InputError(
            "a checkpoint fitted to the same train subset",
            "another vocabulary, normalisation or image size",
            str(path),
            "Start from a run on the same data, split and data.size, or set model.start_data=other.",
        )
    known = sorted({name.split(".")[0] for name in module.reasoner.state_dict()})
    words = len(former.tokenizer), len(module.fitted.tokenizer)
    for part in parts:
        prefix = f"reasoner.{part}"
        own = {k: v for k, v in module.state_dict().items() if k == prefix or k.startswith(prefix + ".")}
        if not own:
            raise InputError(f"parts among {', '.join(known)}", repr(part), "model.start_parts", "Correct the name.")
        found = {name: _former(name, value, content["state_dict"], words) for name, value in own.items()}
        if wrong := [name for name, value in own.items() if found[name].shape != value.shape]:
            raise InputError(
                f"the same shapes in {part}", f"{wrong[0]} differs", str(path), "Use the same model.* settings."
            )
        module.load_state_dict(found, strict=False)


def _former(name: str, fresh: Tensor, saved: Mapping[str, Tensor], words: tuple[int, int]) -> Tensor:
    """What a fresh tensor is to be; one that the checkpoint lacks is empty.

    Args:
        name: of the tensor.
        fresh: as it is.
        saved: the tensors of the checkpoint.
        words: how many ids of words the checkpoint has, and the fresh model.
    """
    before = name if name in saved else unadapted(name)
    if before is None:
        return fresh
    value = saved.get(before, fresh.new_empty(0))
    grown = words[0] < words[1] and (*value.shape[:1], *fresh.shape[:1]) == words
    if grown and value.shape[1:] == fresh.shape[1:]:
        return torch.cat([value, fresh[len(value) :]])
    return value
