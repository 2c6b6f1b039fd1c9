"""The cache of decoded images: how fast it is built, what memory that takes, and how fast it is read.

- Building: images a second with one process and with two, start of the processes included, in turns.
- Memory: the largest resident memory of any process of a build, of a set, of one 4 times and of one 16 times as large.
- Reading: images a second through `CachedPixels` and `pack`, against `np.take` of the same rows of the same mapped
  files into a new array, in turns; files are in memory.

    python benchmarks/image_cache.py [build] [memory] [read]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from temmed.data.caches.images import CachedPixels, build_images, image_key, read_states
from temmed.data.fitted import Fitted, Source, ValueScale
from temmed.data.pixels import pack
from temmed.data.preparation import Preparation
from temmed.data.tokenizer import Tokenizer
from temmed.timelines.folder import Timeline, write_timeline

ROOT = Path(__file__).resolve().parents[1]
#: Different files of a set; its rows name them in turn, and each is decoded again for every row.
FILES = 64
VISITS = 8
#: What is asked for.
FASTER, OF_GATHER = 1.8, 0.8


def make_set(folder: Path, sequences: int, size: int, channels: int, kind: type) -> Timeline:
    """A timeline folder of PNG images."""
    from PIL import Image

    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    ramp = np.linspace(0, np.iinfo(kind).max * 0.8, size)
    for number in range(FILES):
        noise = rng.normal(0, np.iinfo(kind).max * 0.02, (size, size))
        image = (ramp[:, None] * ramp[None] / ramp.max() + noise).clip(0, np.iinfo(kind).max).astype(kind)
        Image.fromarray(image).save(folder / "images" / f"{number:02d}.png")
    ids = np.array([f"s{number:07d}" for number in range(sequences)])
    rows = pd.DataFrame({"sequence_id": np.repeat(ids, VISITS), "position": np.tile(np.arange(VISITS), sequences)})
    images = pd.concat([rows.assign(channel=f"c{channel}") for channel in range(channels)], ignore_index=True)
    images["path"] = [f"images/{number % FILES:02d}.png" for number in range(len(images))]
    tables = {
        "patients": pd.DataFrame({"patient_id": ids}),
        "sequences": pd.DataFrame(
            {"sequence_id": ids, "patient_id": ids, "modality": "mri", "time_unit": "day", "spatial_dims": 2}
        ),
        "timepoints": rows.assign(time=rows["position"] * 30.0),
        "images": images,
    }
    write_timeline(folder, tables, name="png", version="1", licence="CC0-1.0", provenance={})
    return Timeline.open(folder)


def fitted_to(channels: int, size: int) -> Fitted:
    """Images of some channels, brought to a size."""
    sources = tuple(Source(f"c{channel}") for channel in range(channels))
    scale, steps = ValueScale(False, 0.0, 1.0), Preparation(size=(size, size))
    ones = (1.0,) * channels
    return Fitted(Tokenizer(()), sources, ones, ones, (size, size), scale, preparation=steps)


def build(timeline: Timeline, fitted: Fitted, cache: Path, workers: int) -> CachedPixels:
    """Build a cache, with so many processes."""
    states = read_states(timeline, cache)
    return build_images(cache / "images" / image_key(timeline, fitted, states), timeline, fitted, states, workers)


def measure_building(sequences: int, repeats: int) -> dict[str, Any]:
    """Images a second of builds with one process and with two."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as scratch:
        timeline, fitted = make_set(Path(scratch) / "set", sequences, 512, 1, np.uint8), fitted_to(1, 224)
        for turn in range(repeats):
            for workers in (1, 2) if turn % 2 == 0 else (2, 1):
                started = time.perf_counter()
                with tempfile.TemporaryDirectory() as cache:
                    build(timeline, fitted, Path(cache), workers)
                    rates[workers].append(sequences * VISITS / (time.perf_counter() - started))
    ratios = [two / one for one, two in zip(rates[1], rates[2], strict=True)]
    return {"images": sequences * VISITS, "one": rates[1], "two": rates[2], **spread(ratios), "at_least": FASTER}


def measure_memory(sequences: int) -> dict[str, Any]:
    """MiB of the largest process of builds of sets of several sizes, by how many times they are as large."""
    found = {}
    for times in (1, 4, 16):
        command = [sys.executable, __file__, "--one-build", str(times * sequences)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found[f"{times}x"] = json.loads(done.stdout.splitlines()[-1])
    return {"images": sequences * VISITS, "mebibytes": found}


def one_build(sequences: int) -> dict[str, float]:
    """Build once with two processes; the largest memory of this process meanwhile, and of the others, in MiB."""
    with tempfile.TemporaryDirectory() as scratch:
        timeline, fitted = make_set(Path(scratch) / "set", sequences, 256, 1, np.uint8), fitted_to(1, 224)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        size = build(timeline, fitted, Path(scratch) / "cache", 2).entry.about["bytes"] / 2**20
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    others = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"cache": size, "before": before, "main": own, "worker": others}


def measure_reading(sequences: int, size: int, channels: int, kind: type, batch: int, repeats: int) -> dict[str, Any]:
    """Images a second through the cache and of a bare gather."""
    with tempfile.TemporaryDirectory() as scratch:
        timeline = make_set(Path(scratch) / "set", sequences, size, channels, kind)
        pixels = build(timeline, fitted_to(channels, size), Path(scratch) / "cache", 1)
        rng = np.random.default_rng(0)
        order = rng.permutation(np.array(pixels.entry.index.ids))
        # A tenth of the positions is dropped, as in training.
        wanted = {str(key): np.flatnonzero(rng.random(VISITS) > 0.1).tolist() or [0] for key in order}
        batches = [list(wanted.items())[start : start + batch] for start in range(0, len(order), batch)]
        views = {key: pixels.entry.array(pixels.entry.numbers[key]) for key in wanted}
        rows = {key: np.array(positions) for key, positions in wanted.items()}

        def through_cache() -> None:
            for chosen in batches:
                pack([pixels.stack(key, positions) for key, positions in chosen], channels)

        def gather() -> None:
            for chosen in batches:
                out = np.empty((sum(len(rows[key]) for key, _ in chosen), channels, size, size), kind)
                start = 0
                for key, _ in chosen:
                    end = start + len(rows[key])
                    np.take(views[key], rows[key], axis=0, out=out[start:end], mode="clip")
                    start = end

        count = sum(map(len, wanted.values()))
        rates = in_turns({"cache": through_cache, "gather": gather}, count, repeats)
    ratios = [cache / bare for cache, bare in zip(rates["cache"], rates["gather"], strict=True)]
    about = {
        "images": count,
        "shape": [channels, size, size],
        "dtype": np.dtype(kind).name,
        "sequences_in_batch": batch,
    }
    return {**about, **rates, **spread(ratios), "at_least": OF_GATHER}


def in_turns(functions: dict[str, Callable[[], None]], count: int, repeats: int) -> dict[str, list[float]]:
    """Images a second of functions that each go through ``count`` of them, once to warm up and then in turns."""
    rates: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(-1, repeats):
        for name in list(functions)[:: 1 if turn % 2 else -1]:
            started = time.perf_counter()
            functions[name]()
            if turn >= 0:
                rates[name].append(count / (time.perf_counter() - started))
    return rates


def spread(ratios: list[float]) -> dict[str, float]:
    """Median and extremes."""
    return {"ratio": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def main() -> int:
    """Measure, print, write JSON; 1 if a ratio is not reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("parts", nargs="*", choices=["build", "memory", "read", []], help="all by default")
    parser.add_argument("--sequences", type=int, default=1000, help="of the set whose cache is built")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "image_cache.json")
    parser.add_argument("--one-build", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one_build:
        print(json.dumps(one_build(options.one_build)))
        return 0
    parts = options.parts or ["build", "memory", "read"]
    result: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine()}
    result["load"] = os.getloadavg()[0]
    ratios: dict[str, dict[str, Any]] = {}
    if "build" in parts:
        ratios["two processes / one, building"] = result["build"] = measure_building(options.sequences, options.repeats)
    if "read" in parts:
        small = result["read_small"] = measure_reading(2000, 64, 2, np.uint16, 16, options.repeats)
        large = result["read_large"] = measure_reading(500, 224, 1, np.uint8, 16, options.repeats)
        ratios |= {"cache / gather, 2 × 64 × 64": small, "cache / gather, 224 × 224": large}
    for name, found in ratios.items():
        print(f"{name}: {found['ratio']:.2f} ({found['lowest']:.2f} to {found['highest']:.2f})")
    if "memory" in parts:
        result["memory"] = measure_memory(max(options.sequences // 8, 1))
        for times, found in result["memory"]["mebibytes"].items():
            told = ", ".join(f"{name} {value:.0f}" for name, value in found.items())
            print(f"MiB at {times}: {told}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return int(any(found["ratio"] < found["at_least"] for found in ratios.values()))


if __name__ == "__main__":
    sys.exit(main())
