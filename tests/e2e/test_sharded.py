"""Weights divided among two processes: the run is that of two processes which each have all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from temmed.config.paths import conf_dir
from temmed.training.checkpoint import load_module, read_checkpoint

REPOSITORY = Path(conf_dir()).parent
RUN = (
    "debug=fast",
    "data.patients=24",
    "data.split.name=two",
    "data.split.fractions=[0.5,0.25,0.25]",
    "data.max_questions=2",
    "model=clip_vl",
    "model/text=tiny_llama",
    "model/backbone=timm",
    "trainer.devices=2",
    "trainer.limit_train_batches=2",
    "logger=csv",
)
#: Seconds that a start may take on a busy machine.
PATIENCE = 240


def _train(folder: Path, cache: Path, *overrides: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "train.py"), *RUN, f"hydra.run.dir={folder}", *overrides],
        cwd=folder.parent,
        env={**os.environ, "TEMMED_DATA": str(cache), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return read_checkpoint(folder / "checkpoints" / "best.ckpt")


@pytest.mark.slow
@pytest.mark.nightly
def test_sharded_weights_learn_what_whole_ones_do(tmp_path: Path, place: Path) -> None:
    whole, sharded = (
        _train(tmp_path / name, place / "data_cache", f"strategy={name}", "test=false") for name in ("ddp", "fsdp")
    )
    assert sharded["state_dict"].keys() == whole["state_dict"].keys()
    for name, tensor in sharded["state_dict"].items():
        torch.testing.assert_close(tensor, whole["state_dict"][name], atol=2e-5, rtol=1e-4)
    load_module(tmp_path / "fsdp" / "checkpoints" / "best.ckpt")
    went_on = _train(
        tmp_path / "rest",
        place / "data_cache",
        "strategy=fsdp",
        "trainer.max_epochs=2",
        f"ckpt_path={tmp_path}/fsdp/checkpoints/last.ckpt",
    )
    assert went_on["epoch"] in (0, 1)
    assert (tmp_path / "rest" / "metrics.json").is_file()
