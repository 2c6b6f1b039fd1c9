"""Write the images of a timeline folder as shards."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from temmed.data.streaming.layout import (
    COMPRESSIONS,
    INDEX,
    MANIFEST,
    WHOLE,
    Blob,
    Manifest,
    StoredArray,
    write_index,
)
from temmed.data.streaming.remote import Remote, is_url
from temmed.data.streaming.shard_writer import Plan, Row, ShardWriter, pieces
from temmed.errors import InputError
from temmed.files import atomic_write, resumable_folder, sync
from temmed.processes import map_in_processes, processors
from temmed.timelines.folder import META_FILE, Timeline
from temmed.timelines.progress import Progress, silent
from temmed.timelines.schema import SCHEMA
from temmed.timelines.splits import FOLDER as SPLITS
from temmed.timelines.tables import find_table

#: Sequences that are read to learn how large a sequence is.
_SAMPLE = 8
#: Images of a sequence that are in memory at once.
_AT_ONCE = 256
_DONE = "done"


@dataclass(frozen=True)
class _Task:
    """The sequences of one shard, or of a few if they are larger than expected."""

    number: int
    sequences: tuple[tuple[str, tuple[Row, ...]], ...]


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        sequences: how many with images.
        images: how many.
        shards: how many.
        bytes: of the shards together.
    """

    sequences: int
    images: int
    shards: int
    bytes: int


def write_shards(
    source: str | Path,
    out: str,
    work: Path,
    shard_size: int = 64_000_000,
    compression: str = "none",
    workers: int | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Written:
    """Write a timeline folder as shards.

    What was done before an interruption is there the next time, with the same arguments. The content of the shards does
    not depend on the number of workers.

    Args:
        source: the timeline folder; it is not changed.
        out: a folder to make, or a URL.
        work: where shards wait for their upload, and where notes are kept of those that are done, if ``out`` is a URL.
        shard_size: bytes of a shard, about.
        compression: ``none`` or ``zstd``.
        workers: processes; the number of cores by default.
        overwrite: replace shards that are there.
        progress: told of the shards that are written.

    Raises:
        InputError: the source cannot be used, an image cannot be read, or there are shards already.
    """
    if compression not in COMPRESSIONS:
        raise InputError(" or ".join(COMPRESSIONS), repr(compression), "--compression", "Correct it.")
    timeline = Timeline.open(source)
    if timeline.recorded_fingerprint != timeline.meta.fingerprint:
        raise InputError(
            "a dataset.json of what the folder holds",
            "another fingerprint, as the folder was changed since",
            str(source),
            f"Look whether the change was meant, then run `temmed data info --record {source}`.",
        )
    if (timeline.root / MANIFEST).is_file():
        raise InputError("image files", "shards", str(source), "Copy the folder as it is, or give its source.")
    remote = Remote(out) if is_url(out) else None
    key = _digest(json.dumps([timeline.meta.fingerprint, shard_size, compression]))
    # Of the address alone: what is begun with other settings clears the notes of what it writes over.
    target = work / f"sharding-{_digest(remote.url)}" if remote else Path(out)
    alone = nullcontext() if remote is None else _alone(remote, target, overwrite)
    with alone, resumable_folder(target, key, overwrite, finish=remote is None) as staging:
        plan = Plan(timeline.files, staging, remote, shard_size, compression)
        arrays, shards = _all_shards(plan, _tasks(timeline, plan), workers or processors(), progress)
        _write_rest(timeline, staging, arrays, shards, compression)
        if remote is not None:
            _upload_rest(staging, remote)
        else:
            shutil.rmtree(staging / _DONE)
    if remote is not None:
        shutil.rmtree(staging)
    images = sum(len(array.frames) for array in arrays)
    sequences = len({array.sequence_id for array in arrays})
    return Written(sequences, images, len(shards), sum(shard.size for shard in shards))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@contextmanager
def _alone(remote: Remote, target: Path, overwrite: bool) -> Iterator[None]:
    """Clear a URL for this process; a second one of this machine is refused, as a folder does it by itself."""
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        remedy = "Start this when the other has ended."
        raise InputError("no other process that writes shards there", "one", remote.url, remedy) from error
    try:
        _clear_remote(remote, overwrite)
        yield
    finally:
        lock.release()


def _clear_remote(remote: Remote, overwrite: bool) -> None:
    if not remote.exists(MANIFEST):
        return
    if not overwrite:
        raise InputError("a URL without shards", "shards", remote.url, "Give another, or ask to overwrite them.")
    manifest = Manifest.read(remote.read(MANIFEST).decode(), remote.address(MANIFEST))
    # First, so that nobody takes what is left for whole.
    remote.remove(MANIFEST)
    for blob in (*manifest.shards, *manifest.files):
        remote.remove(blob.name)


def _tasks(timeline: Timeline, plan: Plan) -> list[_Task]:
    """Which sequences go together, whatever the number of workers."""
    images = timeline.table("images")
    frames = [WHOLE if np.isnan(frame) else int(frame) for frame in images["frame"].astype(float)]
    rows: dict[str, list[Row]] = {}
    columns = (images[name] for name in ("sequence_id", "position", "channel", "path"))
    for sequence, position, channel, path, frame in zip(*columns, frames, strict=True):
        rows.setdefault(sequence, []).append((int(position), channel, path, frame))
    # Neighbours in the table are often of one site or one year; a shard must be a mixture.
    order = sorted(rows, key=lambda name: hashlib.blake2b(name.encode(), digest_size=8).digest())
    sample = order[:: max(1, len(order) // _SAMPLE)]
    sizes = [sum(p.nbytes for p, _ in pieces(plan, name, rows[name][:_AT_ONCE])) for name in sample]
    weights = [size * max(1, len(rows[name]) / _AT_ONCE) for name, size in zip(sample, sizes, strict=True)]
    each = max(1, round(plan.shard_size * len(weights) / max(1, sum(weights)))) if weights else 1
    starts = range(0, len(order), each)
    return [_Task(n, tuple((s, tuple(rows[s])) for s in order[k : k + each])) for n, k in enumerate(starts)]


def _all_shards(
    plan: Plan, tasks: Sequence[_Task], workers: int, progress: Progress
) -> tuple[list[StoredArray], list[Blob]]:
    """Do the tasks, and number the shards through."""
    arrays: list[StoredArray] = []
    shards: list[Blob] = []
    with closing(map_in_processes(partial(_do, plan), tasks, min(workers, len(tasks)))) as results:
        for done, (blobs, stored) in enumerate(results, start=1):
            arrays += [StoredArray(**{**row, "shard": row["shard"] + len(shards)}) for row in stored]
            shards += [Blob(**blob) for blob in blobs]
            progress("Writing shards", done, len(tasks))
    return arrays, shards


def _do(plan: Plan, task: _Task) -> tuple[list[dict], list[dict]]:
    """Write the shards of a task, unless a former run has; they are counted from 0."""
    note = plan.staging / _DONE / f"{task.number:06d}.json"
    if note.is_file():
        blobs, arrays = json.loads(note.read_text())
        if all(_is_there(plan, blob) for blob in blobs):
            return blobs, arrays
    writer = ShardWriter(plan, task.number)
    for sequence, rows in task.sequences:
        for start in range(0, len(rows), _AT_ONCE):
            part = rows[start : start + _AT_ONCE]
            writer.add(sequence, part, pieces(plan, sequence, part))
    writer.close()
    found = [asdict(blob) for blob in writer.blobs], [asdict(array) for array in writer.arrays]
    atomic_write(note, json.dumps(found))
    return found


def _is_there(plan: Plan, blob: dict) -> bool:
    if plan.remote is not None:
        return plan.remote.size(blob["name"]) == blob["size"]
    file = plan.staging / blob["name"]
    return file.is_file() and file.stat().st_size == blob["size"]


def _write_rest(
    timeline: Timeline, staging: Path, arrays: Sequence[StoredArray], shards: Sequence[Blob], compression: str
) -> None:
    """Everything but the shards; the list of all comes last."""
    write_index(staging / INDEX, arrays)
    sync(staging / INDEX)
    for file in _tables(timeline.root):
        copy = staging / file.relative_to(timeline.root)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, copy)
        sync(copy)
    names = [INDEX, *(str(file.relative_to(timeline.root)) for file in _tables(timeline.root))]
    files = tuple(Blob.of(staging / name, Path(name).as_posix()) for name in names)
    manifest = Manifest(timeline.meta.fingerprint, compression, tuple(shards), files)
    atomic_write(staging / MANIFEST, manifest.to_json())


def _tables(root: Path) -> Iterator[Path]:
    """The files of a timeline folder that hold no images."""
    yield root / META_FILE
    yield from filter(None, (find_table(root, name) for name in SCHEMA))
    yield from sorted(file for file in (root / SPLITS).glob("*") if file.is_file())


def _upload_rest(staging: Path, remote: Remote) -> None:
    manifest = Manifest.read((staging / MANIFEST).read_text(encoding="utf-8"), str(staging / MANIFEST))
    for blob in manifest.files:
        remote.upload(staging / blob.name, blob.name)
    remote.upload(staging / MANIFEST, MANIFEST)
