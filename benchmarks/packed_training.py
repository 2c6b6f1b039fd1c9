"""How fast frames that exist are trained on, against zero-padded batches and against a loop without a framework.

On the lengths of the built-in CT set (visits) and of the ultrasound set (cine loops), one model is trained in turn

- as TemMed trains: batches of like lengths, the frames that exist packed, through the data module and the trainer;
- on zero-padded batches in random order, as many sequences each, whose empty positions are images of zeros;
- by a loop of a few lines over the very tensors that TemMed's batches hold, made before the clock starts.

Useful frames are images that exist. The lengths imply a gain over zero-padding: positions of the padded batches for
each useful frame. What is reached of it, and of the loop's speed, are the results.

Usage: python benchmarks/packed_training.py [--repeats 5] [--out FILE]
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from harness import Ratio, in_turn, parser, report
from training import build, epoch_seconds

from temmed.data.batch import TimelineBatch
from temmed.data.collate import Collator
from temmed.training.quiet import without_noise

GAIN, LOOP = 0.90, 0.95
OVERRIDES = {
    "ct": ["data=ct", "data.patients=240", "data.batch_size=8"],
    "ultrasound": ["data=ultrasound", "data.patients=32", "data.batch_size=4"],
}
COMMON = [
    "model=static",
    "model/temporal=mean_pool",
    "model.backbone.name=resnet18",
    "model.backbone.grid=2",
    "data.position_dropout=0",
    "data.max_questions=8",
]


class Padding:
    """Joins items into a batch with an image at every position, zeros where there is none."""

    def __init__(self) -> None:
        self.collate = Collator()
        self.positions = 0

    def __call__(self, items: list[Any]) -> TimelineBatch:
        """Join items."""
        batch = self.collate(items)
        size, length = batch.mask.shape
        images = torch.zeros(size, length, *batch.images.shape[1:], dtype=batch.images.dtype)
        images[batch.frame_index[:, 0], batch.frame_index[:, 1]] = batch.images
        index = torch.cartesian_prod(torch.arange(size), torch.arange(length))
        self.positions += len(index)
        return replace(batch, images=images.flatten(0, 1), frame_index=index)


class Bench:
    """A model and the data of one modality, and its three ways through an epoch."""

    def __init__(self, modality: str, cache: Path) -> None:
        self.module, self.data = build([*OVERRIDES[modality], *COMMON], cache)
        self.batches = list(self.data.train_dataloader())
        self.useful = sum(len(batch.images) for batch in self.batches)
        padding = Padding()
        dataset = self.data.dataset("train", training=True)
        generator = torch.Generator().manual_seed(0)
        self.padded = torch.utils.data.DataLoader(
            dataset, self.data.settings.batch_size, shuffle=True, collate_fn=padding, generator=generator
        )
        for _ in self.padded:
            pass
        self.implied = padding.positions / self.useful

    def ours(self) -> float:
        """Useful frames a second as TemMed trains."""
        return self.useful / epoch_seconds(self.module, datamodule=self.data)

    def zero_padded(self) -> float:
        """Useful frames a second of zero-padded batches, through the same trainer."""
        return self.useful / epoch_seconds(self.module, train_dataloaders=self.padded)

    def loop(self) -> float:
        """Useful frames a second of a loop over the packed tensors."""
        module = self.module.train()
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
        started = time.perf_counter()
        for batch in self.batches:
            sums = module.reasoner.losses(module.reasoner(batch), batch)
            loss = (module.weights * sums / module.count(batch).clamp(min=1)).sum()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        return self.useful / (time.perf_counter() - started)


def measure(modality: str, repeats: int, cache: Path) -> tuple[list[Ratio], dict[str, Any]]:
    """Both results on one modality's lengths, and the figures behind them."""
    bench = Bench(modality, cache)
    ways: dict[str, Callable[[], float]] = {"ours": bench.ours, "padded": bench.zero_padded, "loop": bench.loop}
    found = in_turn(ways, repeats)
    gain = Ratio.of(f"{modality}: frames a second, of zero-padded", found["ours"], found["padded"])
    implied = [speed * bench.implied for speed in found["padded"]]
    print(
        f"{modality}: {bench.useful} frames, {len(bench.batches)} batches; the lengths imply {bench.implied:.2f}",
        flush=True,
    )
    ratios = [
        gain,
        Ratio.of(
            f"{modality}: that, of the gain its lengths imply ({bench.implied:.2f})", found["ours"], implied, GAIN
        ),
        Ratio.of(f"{modality}: frames a second, of a loop on the same tensors", found["ours"], found["loop"], LOOP),
    ]
    return ratios, {"useful": bench.useful, "implied": bench.implied, "frames_per_second": found}


def main() -> int:
    """Measure, print, write JSON; 1 if a bar is missed."""
    options = parser(__doc__, "packed_training").parse_args()
    ratios: list[Ratio] = []
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as cache, without_noise(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for modality in OVERRIDES:
            found, figures[modality] = measure(modality, options.repeats, Path(cache))
            ratios.extend(found)
    return report(options.out, ratios, **figures)


if __name__ == "__main__":
    sys.exit(main())
