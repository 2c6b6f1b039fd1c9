"""Decoded images, kept in mapped files in the number type of the source."""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from temmed.data.caches.building import announce, check_space, divide, missing_parts, open_or_build, write_part
from temmed.data.caches.digests import FileState, ImageState, image_states
from temmed.data.caches.entry import FORMAT, Entry, Slab
from temmed.data.fitted import Fitted
from temmed.data.images import DecodedPixels, ImageSource
from temmed.data.pixels import Pixels, PixelStack
from temmed.data.preparation import Preparation
from temmed.data.streaming.reading import ShardedFiles
from temmed.errors import InputError
from temmed.processes import processors, work_together
from temmed.timelines import tables as table_io
from temmed.timelines.folder import Timeline

CacheImages = Literal["auto", "always", "never"]

#: Raise it when the readers or what follows them give other pixels than before.
_DECODING = 1
#: Libraries that decode or resize; another version may give other pixels.
_LIBRARIES = (
    "av",
    "nibabel",
    "numpy",
    "pillow",
    "pydicom",
    "pylibjpeg",
    "pylibjpeg-libjpeg",
    "pylibjpeg-openjpeg",
    "torch",
)
#: Sequences that are decoded to estimate the size of a cache and the time it takes.
_SAMPLE = 8
#: Work of fewer seconds is done sooner in one process than other processes start.
_WORTH_PROCESSES = 10.0
#: Bytes of a part of the cache at least, if there are as many.
_SMALLEST_PART = 16 << 20
#: Uncompressed files a sequence, on average, above which opening them takes much longer than reading a cache.
_MOST_PLAIN_FILES = 2


class CachedPixels:
    """Images from an entry of the cache, see `temmed.data.pixels.Pixels`.

    Args:
        entry: of kind ``images``.
    """

    def __init__(self, entry: Entry) -> None:
        self.entry = entry

    def size(self, sequence_id: str) -> tuple[int, ...]:
        """The size of the images of a sequence."""
        return self.entry.layout(self.entry.numbers[sequence_id]).shape[1:]

    def stack(self, sequence_id: str, positions: Sequence[int]) -> PixelStack:
        """The images of some positions of a sequence; their array is a view of the mapped file."""
        entry = self.entry
        number = entry.numbers[sequence_id]
        rows = entry.rows(number, positions)
        return PixelStack(entry.array(number), rows, entry.layout(number).columns, entry.mask(number, rows))


def image_key(timeline: Timeline, fitted: Fitted, states: Mapping[str, ImageState]) -> str:
    """A key that changes with the bytes of any image, with what is made of them, and with what reads them.

    Equal folders have equal keys, wherever they lie.

    Args:
        timeline: the images and sequences tables.
        fitted: which sources there are, and the size.
        states: of the image files, from `image_states`.
    """
    digest = hashlib.blake2b(digest_size=16)
    images = timeline.table("images")
    # The reader is chosen by the end of the name.
    content = {path: f"{''.join(Path(path).suffixes[-2:]).lower()} {state.digest}" for path, state in states.items()}
    images = images.assign(path=images["path"].map(content).astype("str"))
    sequences = timeline.table("sequences")[["sequence_id", "modality", "spatial_dims"]]
    made = {
        "format": FORMAT,
        "decoding": _DECODING,
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "sources": fitted.to_dict()["sources"],
        "preparation": fitted.preparation.key(),
        "sequences": sequences.to_numpy().tolist(),
    }
    digest.update(table_io.digest(images, "images"))
    digest.update(json.dumps(made, sort_keys=True).encode())
    return digest.hexdigest()


def open_pixels(
    timeline: Timeline,
    fitted: Fitted,
    cache: Path | None,
    mode: CacheImages = "auto",
    once: bool = False,
    states: Mapping[str, ImageState] | None = None,
) -> Pixels:
    """Where the pixels of a timeline are best taken from: a cache, built if need be, or the files.

    Args:
        timeline: the data.
        fitted: sources and image size.
        cache: the folder of all caches; ``None`` for the files.
        mode: ``always`` or ``never`` build a cache; ``auto`` where it is worth while: not for uncompressed arrays that
            have their size already.
        once: every image is read once or not at all, so that nothing is built; what is there is used.
        states: of the image files; looked up if it is not given.

    Raises:
        InputError: images cannot be read, or there is no space for a cache.
    """
    motions = cache and cache / "registration"

    def decoded() -> DecodedPixels:
        return DecodedPixels(ImageSource(timeline, fitted.windows), fitted, motions)

    if cache is None or mode == "never" or isinstance(timeline.files, ShardedFiles):
        return decoded()  # shards are a cache already
    if mode == "auto" and _is_plain(timeline, fitted):
        return decoded()
    if once and not _memo(cache, timeline).exists():
        return decoded()
    states = read_states(timeline, cache) if states is None else states
    target = cache / "images" / image_key(timeline, fitted, states)
    if once and not target.exists():
        return decoded()
    return build_images(target, timeline, fitted, states, motions=motions)


def read_states(timeline: Timeline, cache: Path) -> dict[str, ImageState]:
    """The state of all image files of a timeline, by their path in the images table.

    Raises:
        InputError: a file cannot be read.
    """
    paths = sorted(set(timeline.table("images")["path"]))
    if isinstance(timeline.files, ShardedFiles):
        # The fingerprint covers the shards, whose checksums are checked when they are fetched.
        return {path: ImageState((), f"{timeline.meta.fingerprint} {path}") for path in paths}
    return image_states(timeline.root, paths, _memo(cache, timeline))


def build_images(
    target: Path,
    timeline: Timeline,
    fitted: Fitted,
    states: Mapping[str, ImageState],
    workers: int | None = None,
    motions: Path | None = None,
) -> CachedPixels:
    """Decode all images of a timeline into an entry, unless it is there.

    One process builds it; others that want the same wait for it.

    Args:
        target: named by `image_key`.
        timeline: the data.
        fitted: sources and image size.
        states: of the image files.
        workers: processes that decode; by default one for each processor, if there is work for them.
        motions: a folder that keeps how follow-ups are moved onto the first visit.

    Raises:
        InputError: images cannot be read, or there is no space.
    """

    def build(staging: Path) -> dict[str, Any]:
        _Build(staging, timeline, fitted, states, motions).run(workers)
        return {
            "kind": "images",
            "made_from": {
                "dataset": timeline.meta.name,
                "root": str(timeline.root.absolute()),
                "size": "of their own size" if fitted.native else f"{' × '.join(map(str, fitted.spatial))} pixels",
                "images": len(timeline.table("images")),
            },
        }

    return CachedPixels(open_or_build(target, build))


@dataclass(frozen=True)
class _Job:
    """A part to be decoded, with what a worker needs for it alone."""

    staging: Path
    number: int
    source: ImageSource
    fitted: Fitted
    motions: Path | None
    sequences: tuple[str, ...]
    files: tuple[FileState, ...]


class _UnreadableError(Exception):
    """Leaves a part unwritten.

    Args:
        problems: why.
    """

    def __init__(self, problems: list[InputError]) -> None:
        super().__init__(f"{len(problems)} problems")
        self.problems = problems


def _decode_part(job: _Job) -> list[InputError]:
    """Write a part. If images of it cannot be read, it is not written, and all that are unreadable are told."""
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)
    try:
        write_part(job.staging, job.number, _slabs(job))
    except _UnreadableError as error:
        return error.problems
    return []


def _slabs(job: _Job) -> Iterator[Slab]:
    problems: list[InputError] = []
    decoded = DecodedPixels(job.source, job.fitted, job.motions)
    for sequence in job.sequences:
        try:
            slab = _slab(decoded, sequence, job.source.positions(sequence))
        except InputError as error:
            problems.append(error)
            continue
        if not problems:
            yield slab
    for file in job.files:
        try:
            file.check()
        except InputError as error:
            problems.append(error)
    if problems:
        raise _UnreadableError(problems)


def _slab(decoded: DecodedPixels, sequence: str, positions: Sequence[int]) -> Slab:
    stack = decoded.stack(sequence, positions)
    return Slab(sequence, positions, compact(stack.array[stack.rows]), stack.columns, stack.mask)


def compact(array: NDArray) -> NDArray:
    """The same values in 16 bits where these hold them: Hounsfield units, which readers give as float32."""
    if array.dtype.kind != "f" or not array.size:
        return array
    low, high = array.min(), array.max()
    for kind in (np.int16, np.uint16):
        # Comparisons with NaN are false, so that it stays what it is.
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            whole = array.astype(kind)
            return whole if np.array_equal(whole, array) else array
    return array


class _Build:
    """The work of building an entry.

    Args:
        staging: where it is written.
        timeline: the data.
        fitted: sources and image size.
        states: of the image files.
    """

    def __init__(
        self,
        staging: Path,
        timeline: Timeline,
        fitted: Fitted,
        states: Mapping[str, ImageState],
        motions: Path | None,
    ) -> None:
        self.staging, self.fitted, self.motions = staging, fitted, motions
        self.source = ImageSource(timeline, fitted.windows)
        self.sequences = imaged_positions(timeline)
        self.files = files_by_sequence(timeline, states)
        # Two bytes a pixel: parts need not be of equal size, but the same each time.
        size = 2 * math.prod(fitted.spatial) * len(fitted.sources)
        self.parts = divide(self.sequences, _SMALLEST_PART // size + 1)

    def run(self, workers: int | None) -> None:
        """Write all parts that are not there.

        Raises:
            InputError: images cannot be read, or there is no space.
        """
        missing = missing_parts(self.staging, self.parts)
        if not missing:
            return
        count = sum(len(self.sequences[key]) for n in missing for key in self.parts[n])
        size, seconds = self._estimate()
        check_space(size * count, self.staging.parent)
        announce("Image cache", count, size * count, self.staging.parent)
        if workers is None:
            workers = processors() if seconds * count > _WORTH_PROCESSES else 1
        problems: dict[int, list[InputError]] = {}
        results = work_together(_decode_part, [self._job(n) for n in missing], min(workers, len(missing)))
        bar = tqdm(total=count, desc="Image cache", unit="img", disable=None, leave=False)
        with _one_thread() if workers > 1 else nullcontext(), closing(results), bar:
            for number, found in results:
                problems[number] = found
                bar.update(sum(len(self.sequences[key]) for key in self.parts[missing[number]]))
        if told := [problem for number in sorted(problems) for problem in problems[number]]:
            raise _joined(told)

    def _job(self, number: int) -> _Job:
        sequences = self.parts[number]
        files = tuple(file for key in sequences for file in self.files[key])
        part = self.source.only(sequences)
        return _Job(self.staging, number, part, self.fitted, self.motions, tuple(sequences), files)

    def _estimate(self) -> tuple[float, float]:
        """Bytes and seconds that a time point takes, from a few sequences."""
        decoded, ids = DecodedPixels(self.source, self.fitted, self.motions), list(self.sequences)
        positions, size, started = 0, 0, time.perf_counter()
        for sequence in ids[:: math.ceil(len(ids) / _SAMPLE)]:
            try:
                slab = _slab(decoded, sequence, self.sequences[sequence])
            except InputError:
                continue  # told with all others that are unreadable, after the build
            positions, size = positions + len(slab.positions), size + slab.array.nbytes
        return size / max(positions, 1), (time.perf_counter() - started) / max(positions, 1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Leave the other processors to the other processes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def files_by_sequence(timeline: Timeline, states: Mapping[str, ImageState]) -> dict[str, list[FileState]]:
    """The files that hold the images of each sequence."""
    images = timeline.table("images")
    return {
        str(key): [file for path in dict.fromkeys(paths) for file in states[path].files]
        for key, paths in images.groupby("sequence_id")["path"]
    }


def imaged_positions(timeline: Timeline) -> dict[str, list[int]]:
    """The positions that have images, ascending, by sequence."""
    images = timeline.table("images").drop_duplicates(["sequence_id", "position"])
    return {str(key): sorted(group) for key, group in images.groupby("sequence_id")["position"]}


def _joined(problems: list[InputError]) -> InputError:
    first = problems[0]
    if len(problems) == 1:
        return first
    others = "; ".join(dict.fromkeys(problem.where for problem in problems[1:6]))
    more = f"{others}; …" if len(problems) > 6 else others
    return InputError(
        first.expected, f"{first.found}, and {len(problems) - 1:,} other problems ({more})", first.where, first.remedy
    )


def _memo(cache: Path, timeline: Timeline) -> Path:
    name = hashlib.blake2b(str(timeline.root.resolve()).encode(), digest_size=16).hexdigest()
    return cache / "file-digests" / f"{name}.parquet"


def _is_plain(timeline: Timeline, fitted: Fitted) -> bool:
    """Whether the files are few uncompressed arrays just as they are wanted, as far as the first shows."""
    images = timeline.table("images")
    if (
        replace(fitted.preparation, size=None) != Preparation()
        or not images["path"].str.lower().str.endswith(".npy").all()
        or images["path"].nunique() > _MOST_PLAIN_FILES * images["sequence_id"].nunique()
    ):
        return False
    sequence, position = images["sequence_id"].iloc[0], int(images["position"].iloc[0])
    source = ImageSource(timeline, fitted.windows)
    held = source.read(sequence, [position])[position].values()
    return all(fitted.preparation.size in (None, image.shape) for image in held)


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "absent"
