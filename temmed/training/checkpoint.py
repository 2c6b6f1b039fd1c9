"""Checkpoints: write one whole, load one to predict, start from parts of one."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from temmed.data.fitted import Fitted
from temmed.errors import InputError
from temmed.files import atomic_stream
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


class BestCheckpoint(ModelCheckpoint):
    """Keeps the best checkpoint so far when a run is resumed in a folder of its own.

    Lightning's own forgets the best score when the folder is another one, so that a worse epoch after the resumption
    would count as the best. Arguments are those of `ModelCheckpoint`.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state, with copies of the files it names in this run's folder."""
        former = Path(state_dict["best_model_path"])
        if self.dirpath is None or former.parent == Path(self.dirpath) or not former.is_file():
            super().load_state_dict(state_dict)
            return
        copy = Path(self.dirpath) / former.name
        with former.open("rb") as source, atomic_stream(copy) as target:
            shutil.copyfileobj(source, target)
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
    # The checkpoint holds all weights: nothing is to be fetched for the backbone.
    model["backbone"] = {**model["backbone"], "pretrained": False, "weights": None}
    module = TimelineModule(model, saved["fitted"], saved["provenance"])
    module.load_state_dict(content["state_dict"])
    return module.eval()


def start_from(module: TimelineModule, path: str | Path, parts: Sequence[str]) -> None:
    """Copy parts of another run's model into a fresh one.

    Args:
        module: the fresh model.
        path: the other run's checkpoint.
        parts: attributes of the `Reasoner`, for instance ``backbone``.

    Raises:
        InputError: a part does not exist, or has other shapes; or the vocabulary or the normalisation differs.
    """
    content = read_checkpoint(path)
    if Fitted.from_dict(content["hyper_parameters"]["fitted"]) != module.fitted:
        raise InputError(
            "a checkpoint fitted to the same train subset",
            "another vocabulary, normalisation or image size",
            str(path),
            "Start from a run on the same data, split and data.size.",
        )
    known = sorted({name.split(".")[0] for name in module.reasoner.state_dict()})
    for part in parts:
        prefix = f"reasoner.{part}"
        own = {k: v for k, v in module.state_dict().items() if k == prefix or k.startswith(prefix + ".")}
        if not own:
            raise InputError(f"parts among {', '.join(known)}", repr(part), "model.start_parts", "Correct the name.")
        wrong = [
            k for k, v in own.items() if k not in content["state_dict"] or content["state_dict"][k].shape != v.shape
        ]
        if wrong:
            raise InputError(
                f"the same shapes in {part}", f"{wrong[0]} differs", str(path), "Use the same model.* settings."
            )
        module.load_state_dict({k: content["state_dict"][k] for k in own}, strict=False)
