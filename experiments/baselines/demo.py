"""Train, score and compare the baselines and the probes on synthetic MRI.

The static model is trained from pixels. The temporal models and the probes start from its image encoder, kept frozen,
so that they differ in how they use time and in nothing else; that also makes them quick to train on two cores.

Every line printed as `$ python train.py …` can be run by itself. A run that is finished is not trained again, so the
command can be stopped and started.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from temmed.errors import InputError



#: name -> overrides of `train.py`, for the model that trains the encoder.
ENCODER = ("model=static", "trainer.max_epochs=8", "optimizer.lr=2e-3")
#: What all others share; the checkpoint of the static run is added.
FROZEN = (
    "model.backbone.freeze=true",
    "model.start_parts=[backbone,project,place,text,reader,answer,value,event]",
    "data.cache_features=true",
    "trainer.max_epochs=8",
    "optimizer.lr=2e-3",
)
OTHERS: dict[str, tuple[str, ...]] = {
    "memory_fusion": ("model=memory_fusion",),
    "temporal_transformer": ("model=temporal_transformer",),
    "difference": ("model=difference",),
    "mean_pool": ("model=mean_pool",),
    "probe_asked_image": ("model=memory_fusion", "experiment=probe_asked_image"),
    "probe_prior_image": ("model=memory_fusion", "experiment=probe_prior_image"),
    "probe_text": ("model=memory_fusion", "experiment=probe_text"),
}


def run(name: str, seed: int, overrides: Sequence[str], out: Path) -> Path:
    """Train one model unless it is there; returns its folder."""
    from hydra import compose, initialize_config_dir

    from temmed.config.check import check
    from temmed.config.paths import conf_dir
    from temmed.config.schema import register
    from temmed.run import train

    folder = out / name / f"seed{seed}"
    words = [*overrides, f"seed={seed}"]
    print(f"\n$ python train.py {shlex.join(words)} paths.run={folder}", flush=True)
    if (folder / "metrics.json").exists():
        print("done before")
        return folder
    started = time.perf_counter()
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", overrides=[*words, f"paths.run={folder}", "logger=csv"])
    check(config)
    train(config)
    print(f"{name}, seed {seed}: {time.perf_counter() - started:.0f} s", flush=True)
    return folder


def main() -> int:
    """Run the demonstration; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the training (default: 0)")
    parser.add_argument("--models", nargs="+", choices=["static", *OTHERS], default=["static", *OTHERS])
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder of the runs and the page")
    parser.add_argument("overrides", nargs="*", help="further overrides for every run, for instance data.patients=200")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    started = time.perf_counter()
    folders = []
    try:
        for seed in options.seeds:
            static = run("static", seed, [*ENCODER, *options.overrides], options.out)
            folders.append(static)
            start = f"model.start_from={static}/checkpoints/best.ckpt"
            for name, own in OTHERS.items():
                if name in options.models:
                    folders.append(run(name, seed, [*own, *FROZEN, start, *options.overrides], options.out))
        from temmed.cli import app

        command = ["compare", *map(str, folders), "--out", str(options.out / "comparison")]
        print(f"\n$ temmed {shlex.join(command)}", flush=True)
        app(command, standalone_mode=False)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; start again to go on", file=sys.stderr)
        return 130
    print(f"\nAll in {(time.perf_counter() - started) / 60:.1f} minutes.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
