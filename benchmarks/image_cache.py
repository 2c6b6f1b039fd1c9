"""The cache of decoded images: how fast it is built, what memory that takes, and how fast it is read.

- Building: images a second with two processes against one, the start of the processes included; beside it what two
  processes gain on this machine that do nothing but decode the same files, when they have started.
- Memory: the largest resident memory of any process of a build, of a set, of one 4 times and of one 16 times as large.
- Reading: images a second through `CachedPixels` and `pack`, against `np.take` of the same rows of the same mapped
  files into a new array; the files are in memory.

Usage: python benchmarks/image_cache.py [--parts build memory read] [--sequences 2000] [--repeats 5] [--out FILE]
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from harness import ROOT, Ratio, in_turn, parser, report

from temmed.data.caches.images import CachedPixels, build_images, image_key, read_states
from temmed.data.fitted import Fitted, Source, ValueScale
from temmed.data.pixels import pack
from temmed.data.preparation import Preparation
from temmed.data.tokenizer import Tokenizer
from temmed.timelines.folder import Timeline, write_timeline

#: Different files of a set; its rows name them in turn, and each is decoded again for every row.
FILES = 64
VISITS = 8
PARTS = ("build", "memory", "read")


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


def decode(paths: list[Path]) -> int:
    """Decode files and nothing else; how many pixels that were."""
    from PIL import Image

    return sum(np.asarray(Image.open(path)).size for path in paths)


def measure_building(sequences: int, repeats: int) -> list[Ratio]:
    """Builds with two processes against builds with one; and what two processes gain that only decode the files."""
    with tempfile.TemporaryDirectory() as scratch:
        timeline, fitted = make_set(Path(scratch) / "set", sequences, 512, 1, np.uint8), fitted_to(1, 224)

        def rate(workers: int) -> float:
            started = time.perf_counter()
            with tempfile.TemporaryDirectory() as cache:
                build(timeline, fitted, Path(cache), workers)
                return sequences * VISITS / (time.perf_counter() - started)

        files = [timeline.root / path for path in timeline.table("images")["path"]]

        def bare(workers: int) -> float:
            with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
                list(pool.map(decode, [files[:1]] * workers))  # start them
                started = time.perf_counter()
                list(pool.map(decode, [files[n::workers] for n in range(workers)]))
                return len(files) / (time.perf_counter() - started)

        rates = in_turn(
            {"two": lambda: rate(2), "one": lambda: rate(1), "bare two": lambda: bare(2), "bare one": lambda: bare(1)},
            repeats,
        )
    speed = f"{rates['one'][0]:.0f} images/s"
    return [
        Ratio.of(f"building, two processes / one, {speed}", rates["two"], rates["one"], 1.8),
        Ratio.of("decoding the same files, two processes / one", rates["bare two"], rates["bare one"]),
    ]


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


def measure_reading(sequences: int, size: int, channels: int, kind: type, batch: int, repeats: int) -> Ratio:
    """Through the cache against a bare gather."""
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
        count = sum(map(len, wanted.values()))

        def through_cache() -> float:
            started = time.perf_counter()
            for chosen in batches:
                pack([pixels.stack(key, positions) for key, positions in chosen], channels)
            return count / (time.perf_counter() - started)

        def gather() -> float:
            started = time.perf_counter()
            for chosen in batches:
                out: np.ndarray = np.empty((sum(len(rows[key]) for key, _ in chosen), channels, size, size), kind)
                start = 0
                for key, _ in chosen:
                    end = start + len(rows[key])
                    np.take(views[key], rows[key], axis=0, out=out[start:end], mode="clip")
                    start = end
            return count / (time.perf_counter() - started)

        rates = in_turn({"cache": through_cache, "gather": gather}, repeats)
    shape = " × ".join(map(str, (channels, size, size)))
    return Ratio.of(f"reading {shape} {np.dtype(kind).name}, cache / gather", rates["cache"], rates["gather"], 0.8)


def main() -> int:
    """Measure, print, write JSON; 1 if a bar is missed."""
    options = parser(__doc__, "image_cache")
    options.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="all by default")
    options.add_argument("--sequences", type=int, default=2000, help="of the set whose cache is built")
    options.add_argument("--one-build", type=int, metavar="N", help="build once, of N sequences, and tell the memory")
    given = options.parse_args()
    if given.one_build:
        print(json.dumps(one_build(given.one_build)))
        return 0
    ratios: list[Ratio] = []
    further: dict[str, Any] = {}
    if "build" in given.parts:
        ratios.extend(measure_building(given.sequences, given.repeats))
    if "read" in given.parts:
        ratios.append(measure_reading(2000, 64, 2, np.uint16, 16, given.repeats))
        ratios.append(measure_reading(500, 224, 1, np.uint8, 16, given.repeats))
    if "memory" in given.parts:
        further["memory"] = memory = measure_memory(max(given.sequences // 16, 1))
        for times, found in memory["mebibytes"].items():
            print(f"MiB at {times}: {', '.join(f'{name} {value:.0f}' for name, value in found.items())}")
        for process in ("main", "worker"):
            four, sixteen = (memory["mebibytes"][times][process] for times in ("4x", "16x"))
            what = f"memory of the {process} process, 16 times the data / 4 times"
            ratios.append(Ratio.of(what, [sixteen], [four], 1.1, at_most=True))
    return report(given.out, ratios, **further)


if __name__ == "__main__":
    sys.exit(main())
