"""Frames a second from a warm cache, against a bare gather and against other libraries, same frames and number type.

A set of cine loops (uint8 frames of ``--side`` pixels) is written once. Each way then gives all frames, in batches of
whole loops, as one contiguous uint8 tensor a batch:

- ours: the image cache through the data set, the collator and the loader, with no questions asked;
- gather: ``numpy.take`` of the same rows from the same bytes in a mapped file;
- MONAI: ``CacheDataset`` and ``PersistentDataset`` of frames with ``LoadImaged`` and ``EnsureChannelFirstd`` cached,
  through its ``DataLoader``; and, told only, ``CacheDataset`` of whole loops in memory, which are but joined;
- webdataset: tar shards of NumPy frames; litdata: its optimized chunks of frames.

Every way runs with 0, 1 and 2 workers first; its best number is then measured in turn with the others.

Usage: python benchmarks/warm_cache.py [--loops 96] [--side 224] [--repeats 5] [--out FILE]
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from harness import Ratio, in_turn, parser, report

from temmed.data.batching import Budget
from temmed.data.caches.images import open_pixels
from temmed.data.collate import Collator
from temmed.data.dataset import SequenceDataset
from temmed.data.fitting import fit
from temmed.data.loader import Caught, CaughtCollator, TimelineLoader
from temmed.data.records import build_records
from temmed.data.samplers import EpochBatchSampler
from temmed.timelines.folder import Timeline, write_timeline
from temmed.timelines.splits import make_split

#: Loops in a batch.
BATCH = 16
#: A measurement goes on for at least so long.
SECONDS = 0.5
WORKERS = (0, 1, 2)
BARS = {"gather": 0.8, "monai CacheDataset": 3.0, "monai PersistentDataset": 5.0, "webdataset": 1.0, "litdata": 1.0}

Batches = Iterable[torch.Tensor]


class Loops:
    """Cine loops on disk, in every form that is compared.

    Args:
        folder: where.
        count: loops.
        side: pixels along each side of a frame.
    """

    def __init__(self, folder: Path, count: int, side: int) -> None:
        self.folder = folder
        rng = np.random.default_rng(0)
        self.lengths = rng.integers(16, 80, count).tolist()
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)]).tolist()
        self.frames = self.starts[-1]
        self.array = np.lib.format.open_memmap(
            folder / "frames.npy", mode="w+", dtype=np.uint8, shape=(self.frames, 1, side, side)
        )
        for start, stop in itertools.pairwise(self.starts):
            self.array[start:stop] = rng.integers(0, 255, (stop - start, 1, side, side), dtype=np.uint8)
        self.array.flush()
        self.timeline = self._timeline()
        split = make_split(self.timeline, fractions=(1.0, 0.0, 0.0))
        fitted = fit(self.timeline, split, side)
        pixels = open_pixels(self.timeline, fitted, folder / "cache", "always")
        records = build_records(self.timeline, split, "train", fitted, needs_questions=False)
        self.dataset = SequenceDataset(records, pixels, len(fitted.sources))
        sampler = EpochBatchSampler(self.dataset.sizes, Budget(BATCH), shuffle=True)
        #: Loops of each batch, in the order of ours.
        self.batches = [[index for _, index in batch] for batch in sampler]

    def _timeline(self) -> Timeline:
        root = self.folder / "timeline"
        (root / "images").mkdir(parents=True)
        names = [f"s{number:05d}" for number in range(len(self.lengths))]
        paths = []
        for frame in range(self.frames):
            path = root / "images" / f"{frame:06d}.npy"
            np.save(path, self.array[frame, 0])
            paths.append(f"images/{path.name}")
        position = np.concatenate([np.arange(length) for length in self.lengths])
        owner = np.repeat(names, self.lengths)
        tables = {
            "patients": pd.DataFrame({"patient_id": names}),
            "sequences": pd.DataFrame(
                {"sequence_id": names, "patient_id": names, "modality": "us", "time_unit": "frame", "spatial_dims": 2}
            ),
            "timepoints": pd.DataFrame({"sequence_id": owner, "position": position, "time": position.astype(float)}),
            "images": pd.DataFrame({"sequence_id": owner, "position": position, "channel": "us", "path": paths}),
        }
        write_timeline(root, tables, name="loops", version="1", licence="CC0-1.0", provenance={})
        return Timeline.open(root)

    def rows(self, batch: list[int]) -> list[int]:
        """Frames of the loops of a batch."""
        return [row for loop in batch for row in range(self.starts[loop], self.starts[loop + 1])]

    def files(self) -> list[dict[str, Any]]:
        """Every frame's file, in order."""
        return [{"image": str(self.timeline.root / path)} for path in self.timeline.table("images")["path"]]


def ours(loops: Loops, workers: int) -> Callable[[], Batches]:
    """The image cache."""
    loader = TimelineLoader(
        Caught(loops.dataset),
        batch_sampler=EpochBatchSampler(loops.dataset.sizes, Budget(BATCH), shuffle=True),
        num_workers=workers,
        collate_fn=CaughtCollator(Collator()),
        persistent_workers=workers > 0,
    )
    return lambda: (batch.images for batch in loader)


def gather(loops: Loops, workers: int) -> Callable[[], Batches]:
    """Rows of a mapped file."""
    array = np.load(loops.folder / "frames.npy", mmap_mode="r")
    chosen = [np.array(loops.rows(batch)) for batch in loops.batches]
    return lambda: (torch.from_numpy(np.take(array, rows, axis=0)) for rows in chosen)


def monai(loops: Loops, workers: int, persistent: bool, whole: bool = False) -> Callable[[], Batches]:
    """MONAI's data sets, of frames or of whole loops."""
    from monai.data.dataloader import DataLoader
    from monai.data.dataset import CacheDataset, PersistentDataset
    from monai.transforms.compose import Compose
    from monai.transforms.io.dictionary import LoadImaged
    from monai.transforms.utility.array import ToTensor
    from monai.transforms.utility.dictionary import EnsureChannelFirstd

    if whole:
        items: list[Any] = [loops.array[a:b] for a, b in itertools.pairwise(loops.starts)]
        chain = Compose([ToTensor(dtype=torch.uint8, track_meta=False)])
        batches, joined = loops.batches, torch.cat
    else:
        items = loops.files()
        read = LoadImaged("image", dtype=np.uint8)
        chain = Compose([read, EnsureChannelFirstd("image", channel_dim="no_channel")])
        batches, joined = [loops.rows(batch) for batch in loops.batches], None
    if persistent:
        dataset: Any = PersistentDataset(items, chain, cache_dir=loops.folder / "persistent")
    else:
        dataset = CacheDataset(items, chain, num_workers=2, progress=False)
    further = {} if joined is None else {"collate_fn": joined}
    loader = DataLoader(dataset, batch_sampler=batches, num_workers=workers, persistent_workers=workers > 0, **further)
    return lambda: (batch if isinstance(batch, torch.Tensor) and whole else batch["image"] for batch in loader)


def webdataset(loops: Loops, workers: int) -> Callable[[], Batches]:
    """Tar shards."""
    import webdataset as wds

    folder = loops.folder / "tar"
    if not folder.exists():
        folder.mkdir()
        with wds.ShardWriter(str(folder / "%04d.tar"), maxcount=loops.frames // 8 + 1, verbose=0) as sink:
            for row in range(loops.frames):
                sink.write({"__key__": f"{row:06d}", "npy": loops.array[row]})
    shards = sorted(str(path) for path in folder.iterdir())
    size = loops.frames // len(loops.batches)
    dataset = wds.WebDataset(shards, shardshuffle=False).decode().to_tuple("npy").batched(size, collation_fn=_first)
    loader = wds.WebLoader(dataset, batch_size=None, num_workers=workers, persistent_workers=workers > 0)
    return lambda: iter(loader)


def _first(samples: list[tuple[np.ndarray]]) -> torch.Tensor:
    return torch.from_numpy(np.stack([sample[0] for sample in samples]))


def _frame(row: int, path: str) -> np.ndarray:
    return np.load(path, mmap_mode="r")[row].copy()


def litdata(loops: Loops, workers: int) -> Callable[[], Batches]:
    """Optimized chunks."""
    from litdata import StreamingDataLoader, StreamingDataset, optimize

    folder = loops.folder / "chunks"
    if not folder.exists():
        read = partial(_frame, path=str(loops.folder / "frames.npy"))
        optimize(read, list(range(loops.frames)), str(folder), num_workers=1, chunk_bytes="64MB")
    size = loops.frames // len(loops.batches)
    loader = StreamingDataLoader(
        StreamingDataset(str(folder)), batch_size=size, num_workers=workers, persistent_workers=workers > 0
    )
    return lambda: iter(loader)


WAYS: dict[str, Callable[[Loops, int], Callable[[], Batches]]] = {
    "ours": ours,
    "gather": gather,
    "monai CacheDataset": partial(monai, persistent=False),
    "monai PersistentDataset": partial(monai, persistent=True),
    "monai CacheDataset of loops": partial(monai, persistent=False, whole=True),
    "webdataset": webdataset,
    "litdata": litdata,
}


def speed(loops: Loops, batches: Callable[[], Batches]) -> float:
    """Frames a second over whole passes."""
    seen, started = 0, time.perf_counter()
    while (seconds := time.perf_counter() - started) < SECONDS or not seen:
        counts = [len(images) for images in _checked(batches())]
        assert sum(counts) == loops.frames, f"{sum(counts)} of {loops.frames} frames came"
        seen += sum(counts)
    return seen / seconds


def _checked(batches: Batches) -> Iterator[torch.Tensor]:
    for images in batches:
        assert images.dtype == torch.uint8
        yield images


def best(loops: Loops, name: str) -> tuple[int, Callable[[], float]]:
    """The number of workers with which a way is fastest, and how to measure it so."""
    trials = {}
    for workers in (0,) if name == "gather" else WORKERS:
        measure = partial(speed, loops, WAYS[name](loops, workers))
        measure()
        trials[workers] = (measure(), measure)
    chosen = max(trials, key=lambda workers: trials[workers][0])
    print(f"{name:<28}" + "".join(f"{w} workers {fps:12,.0f}  " for w, (fps, _) in trials.items()), flush=True)
    return chosen, trials[chosen][1]


def main() -> int:
    """Measure, print, write JSON; 1 if a bar is missed."""
    arguments = parser(__doc__, "warm_cache")
    arguments.add_argument("--loops", type=int, default=96)
    arguments.add_argument("--side", type=int, default=224)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loops = Loops(Path(folder), options.loops, options.side)
        chosen = {name: best(loops, name) for name in WAYS}
        found = in_turn({name: measure for name, (_, measure) in chosen.items()}, options.repeats)
    ratios = [
        Ratio.of(f"ours, of {name}", found["ours"], found[name], BARS.get(name)) for name in WAYS if name != "ours"
    ]
    workers = {name: number for name, (number, _) in chosen.items()}
    return report(options.out, ratios, frames=loops.frames, workers=workers, frames_per_second=found)


if __name__ == "__main__":
    sys.exit(main())
