"""What a training step takes beyond its parts.

The whole is an epoch of the trainer over batches in memory. The parts are the same work on the same batches in bare
loops, forward and backward, each from tensors that the part before it made: images to tokens (backbone), tokens to
memory (temporal head), tokens, memory and texts to losses (text encoder, reader, task heads), and the optimizer with
clipping.

Usage: python benchmarks/step.py [--models static memory_fusion temporal_transformer] [--repeats 5] [--out FILE]
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from harness import Ratio, in_turn, parser, report
from torch import Tensor
from training import build, epoch_seconds

from temmed.data.batch import TimelineBatch
from temmed.models.temporal.base import TemporalMemory
from temmed.training.module import TimelineModule
from temmed.training.quiet import without_noise

OVERRIDES = ["data=mri", "data.patients=400", "data.batch_size=8"]
MODELS = ("static", "memory_fusion", "temporal_transformer")


class Step:
    """A model and batches in memory.

    Args:
        model: of ``conf/model``.
        cache: folder of the caches.
    """

    def __init__(self, model: str, cache: Path) -> None:
        self.module, data = build([*OVERRIDES, f"model={model}"], cache)
        self.batches = list(data.train_dataloader())
        self.module.train()
        reasoner = self.module.reasoner
        with torch.no_grad():
            self.tokens = [reasoner.encode_images(batch) for batch in self.batches]
            self.memories = [reasoner.remember(*both)[0] for both in zip(self.batches, self.tokens, strict=True)]

    def whole(self) -> float:
        """Seconds of an epoch."""
        batches: Any = self.batches
        return epoch_seconds(self.module, train_dataloaders=torch.utils.data.DataLoader(batches, batch_size=None))

    def parts(self) -> float:
        """Seconds of all parts, one after the other."""
        self.module.train()
        return sum(self.seconds().values())

    def seconds(self) -> dict[str, float]:
        """Seconds of each part."""
        module, reasoner = self.module, self.module.reasoner
        found = dict.fromkeys(("backbone", "head", "tasks and loss", "optimizer"), 0.0)
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True)
        for batch, tokens, memory in zip(self.batches, self.tokens, self.memories, strict=True):
            clock = time.perf_counter()
            made = reasoner.encode_images(batch)
            made.backward(torch.ones_like(made))
            clock = _note(found, "backbone", clock)
            leaf = tokens.clone().requires_grad_()
            values = reasoner.remember(batch, leaf)[0].values
            if values.requires_grad:
                values.backward(torch.ones_like(values))
            clock = _note(found, "head", clock)
            _tasks(module, batch, tokens, memory).backward()
            clock = _note(found, "tasks and loss", clock)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            _note(found, "optimizer", clock)
        return found


def _note(found: dict[str, float], part: str, since: float) -> float:
    now = time.perf_counter()
    found[part] += now - since
    return now


def _tasks(module: TimelineModule, batch: TimelineBatch, tokens: Tensor, memory: TemporalMemory) -> Tensor:
    """The loss from tokens and memory that are given."""
    reasoner = module.reasoner
    given = replace(memory, values=memory.values.clone().requires_grad_())
    with (
        patch.object(reasoner, "encode_images", return_value=tokens.clone().requires_grad_()),
        patch.object(reasoner, "remember", return_value=(given, {})),
    ):
        said = reasoner(batch)
    sums = reasoner.losses(said, batch)
    return (module.weights * sums / module.count(batch).clamp(min=1)).sum()


def main() -> int:
    """Measure, print, write JSON; 1 if the bar is missed."""
    arguments = parser(__doc__, "step")
    arguments.add_argument("--models", nargs="+", default=list(MODELS), help="of conf/model")
    options = arguments.parse_args()
    ratios: list[Ratio] = []
    shares: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as cache, without_noise(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for model in options.models:
            step = Step(model, Path(cache))
            found = in_turn({"whole": step.whole, "parts": step.parts}, options.repeats)
            what = f"{model}: seconds of a step, of the sum of its parts"
            ratios.append(Ratio.of(what, found["whole"], found["parts"], 1.05, at_most=True))
            step.module.train()
            shares[model] = step.seconds()
            told = ", ".join(f"{part} {1000 * spent / len(step.batches):.0f}" for part, spent in shares[model].items())
            print(f"{model}: milliseconds a step: {told}", flush=True)
    return report(options.out, ratios, seconds_of_parts=shares)


if __name__ == "__main__":
    sys.exit(main())
