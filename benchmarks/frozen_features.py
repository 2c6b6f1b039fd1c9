"""An epoch on stored features of a frozen EfficientNet-Lite0 against one from pixels, 128 x 128.

The same model, loops, batches and questions; from pixels the frozen backbone runs over every frame again. Its weights
are random here, which changes no time.

Usage: python benchmarks/frozen_features.py [--patients 40] [--repeats 5] [--out FILE]
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

from harness import Ratio, in_turn, parser, report
from training import build, epoch_seconds

from temmed.data.datamodule import TimelineDataModule
from temmed.run import store_features
from temmed.training.quiet import without_noise

BAR = 30.0
OVERRIDES = [
    "data=ultrasound",
    "data.size=128",
    "data.batch_size=16",
    "data.max_questions=8",
    "model=static",
    "model/temporal=mean_pool",
    "model.backbone.name=efficientnet_lite0",
    "model.backbone.stage=4",
    "model.backbone.grid=1",
    "model.backbone.train=none",
]


def main() -> int:
    """Measure, print, write JSON; 1 if the bar is missed."""
    arguments = parser(__doc__, "frozen_features")
    arguments.add_argument("--patients", type=int, default=80, help="loops (default 80)")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder, without_noise(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cache = Path(folder)
        module, pixels = build([*OVERRIDES, f"data.patients={options.patients}"], cache)
        stored = TimelineDataModule(
            pixels.timeline,
            pixels.data_split,
            pixels.settings,
            pixels.fitted,
            features=store_features(module, pixels.timeline, pixels.settings, cache),
        )
        frames = sum(len(batch.images) for batch in pixels.train_dataloader())
        found = in_turn(
            {
                "pixels": lambda: frames / epoch_seconds(module, datamodule=pixels),
                "features": lambda: frames / epoch_seconds(module, datamodule=stored),
            },
            options.repeats,
        )
    ratio = Ratio.of("frames a second from features, of those from pixels", found["features"], found["pixels"], BAR)
    return report(options.out, [ratio], frames=frames, frames_per_second=found)


if __name__ == "__main__":
    sys.exit(main())
