"""What is read from shards, near or far, is what is read from the folder; bad stores give one clear message."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar
from unittest.mock import Mock

import fsspec
import numpy as np
import pytest
import torch

from temmed.data.datamodule import TimelineDataModule
from temmed.data.fitting import fit
from temmed.data.samplers import EpochBatchSampler
from temmed.data.settings import DataSettings, find_timeline
from temmed.data.streaming.layout import MANIFEST, SHARDS, Blob, Manifest
from temmed.data.streaming.opening import open_timeline
from temmed.data.streaming.reading import ShardedFiles
from temmed.data.streaming.remote import ATTEMPTS, Remote
from temmed.data.streaming.sizes import read_size
from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split
from tests.data.streaming.conftest import LIMIT, assert_same_images, read_row


def _files(timeline: Timeline) -> ShardedFiles:
    assert isinstance(timeline.files, ShardedFiles)
    return timeline.files


def _kept(cache: Path) -> int:
    return sum(path.stat().st_size for path in (cache / SHARDS).glob("*.tar"))


def _largest(files: ShardedFiles) -> int:
    return max(shard.size for shard in files.manifest.shards)


def _read_all(timeline: Timeline, order: list[int] | None = None) -> None:
    for number in order or range(len(timeline.table("images"))):
        read_row(timeline, number)


def test_remote_shards_are_read_once_and_kept(
    written: str, tiny_timeline: Timeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeline = open_timeline(written, tmp_path / "cache", LIMIT)
    assert timeline.meta == tiny_timeline.meta
    assert timeline.files.address == written
    assert _kept(tmp_path / "cache") == 0
    assert_same_images(timeline, tiny_timeline)
    assert _kept(tmp_path / "cache") == sum(shard.size for shard in _files(timeline).manifest.shards)

    def refuse(*_: Any) -> None:
        raise AssertionError("nothing is to be fetched again")

    monkeypatch.setattr(Remote, "download", refuse)
    assert_same_images(open_timeline(written, tmp_path / "cache", LIMIT), tiny_timeline)


def test_no_more_is_kept_than_allowed(written: str, tiny_timeline: Timeline, tmp_path: Path) -> None:
    limit = 2 * _largest(_files(open_timeline(written, tmp_path / "other", LIMIT)))
    timeline = open_timeline(written, tmp_path / "cache", limit)
    for number in np.random.default_rng(0).permutation(len(timeline.table("images")))[:120].tolist():
        read_row(timeline, number)
        assert 0 < _kept(tmp_path / "cache") <= limit
    assert_same_images(timeline, tiny_timeline)


def test_what_was_used_longest_ago_makes_room(written: str, tmp_path: Path) -> None:
    probe = _files(open_timeline(written, tmp_path / "other", LIMIT))
    shards = sorted(probe.manifest.shards, key=lambda shard: shard.size)[-3:]
    cache = _files(open_timeline(written, tmp_path / "cache", sum(s.size for s in shards[1:]))).shards
    read: Callable[[Blob], int] = lambda shard: cache.use(shard, lambda path: path.stat().st_size)  # noqa: E731

    def there() -> set[str]:
        return {path.stem for path in (tmp_path / "cache" / SHARDS).glob("*.tar")}

    for shard in (shards[0], shards[1], shards[0]):
        read(shard)
    read(shards[2])
    assert there() == {shards[0].digest, shards[2].digest}


def test_a_limit_below_one_shard_is_refused(written: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.stream_cache"):
        open_timeline(written, tmp_path / "cache", 1000)


def test_an_image_stays_readable_when_its_shard_is_removed(written: str, tmp_path: Path) -> None:
    timeline = open_timeline(written, tmp_path / "cache", LIMIT)
    image = read_row(timeline, 0)
    before = image.tobytes()
    shutil.rmtree(tmp_path / "cache" / SHARDS)
    assert image.tobytes() == before
    image[:] = 0  # and who writes into it does not write into the shard
    timeline = open_timeline(written, tmp_path / "cache", LIMIT)
    assert read_row(timeline, 0).tobytes() == before


_READER = """
import sys
from pathlib import Path
import numpy as np
from filelock import FileLock
from temmed.data.streaming.opening import open_timeline
url, cache, limit, seed = sys.argv[1:]
timeline = open_timeline(url, Path(cache), int(limit))
rows = timeline.table("images")
for n in np.random.default_rng(int(seed)).permutation(len(rows))[:60].tolist():
    timeline.files.read(rows["sequence_id"][n], rows["path"][n], [int(rows["frame"][n])])
    with FileLock(Path(cache) / "shards" / ".room.lock"):  # nothing is removed meanwhile
        assert sum(path.stat().st_size for path in (Path(cache) / "shards").glob("*.tar")) <= int(limit)
"""


def test_many_processes_share_one_cache(sharded: Path, tiny_timeline: Timeline, tmp_path: Path) -> None:
    limit = 2 * _largest(_files(open_timeline(sharded, tmp_path, LIMIT)))
    arguments = [sharded.as_uri(), str(tmp_path / "cache"), str(limit)]
    readers = [subprocess.Popen([sys.executable, "-c", _READER, *arguments, str(seed)]) for seed in range(3)]
    assert [reader.wait() for reader in readers] == [0, 0, 0]
    # Nothing but whole shards is left, and the files by which the processes waited for each other.
    left = {path.name.rpartition(".")[2] for path in (tmp_path / "cache" / SHARDS).iterdir()}
    assert left == {"tar", "lock"}
    assert_same_images(open_timeline(sharded.as_uri(), tmp_path / "cache", LIMIT), tiny_timeline)


def test_threads_fetch_a_shard_once(written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []
    download = Remote.download

    def counted(self: Remote, blob: Blob, target: Path) -> None:
        fetched.append(blob.name)
        download(self, blob, target)

    timelines = [open_timeline(written, tmp_path / "cache", LIMIT) for _ in range(4)]
    monkeypatch.setattr(Remote, "download", counted)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(_read_all, timelines))
    assert sorted(fetched) == sorted(shard.name for shard in _files(timelines[0]).manifest.shards)


def test_what_a_dead_process_left_is_removed(written: str, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / SHARDS
    folder.mkdir(parents=True)
    (folder / f".{'0' * 32}-999999999.partial").write_bytes(b"half a shard")
    timeline = open_timeline(written, tmp_path / "cache", 10**6)
    _read_all(timeline)
    assert not list(folder.glob("*.partial"))


class _Failing:
    """Fails so many times, then does what it was to do."""

    def __init__(self, action: Callable[..., Any], times: int, error: Callable[[], BaseException]) -> None:
        self.action, self.times, self.error, self.calls = action, times, error, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error()
        return self.action(*args, **kwargs)


@pytest.mark.parametrize("times", [1, ATTEMPTS - 1])
def test_a_fault_that_passes_is_waited_for(
    times: int, written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeline = open_timeline(written, tmp_path / "cache", LIMIT)
    memory = fsspec.filesystem("memory")
    failing = _Failing(memory.get_file, times, lambda: ConnectionResetError("by peer"))
    monkeypatch.setattr(type(memory), "get_file", staticmethod(failing))
    read_row(timeline, 0)
    assert failing.calls == times + 1


def test_a_fault_that_stays_is_told(written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timeline = open_timeline(written, tmp_path / "cache", LIMIT)
    memory = fsspec.filesystem("memory")
    failing = _Failing(memory.get_file, 99, lambda: TimeoutError("no answer"))
    monkeypatch.setattr(type(memory), "get_file", staticmethod(failing))
    with pytest.raises(InputError, match=r"found no answer\. Check the connection"):
        read_row(timeline, 0)
    assert failing.calls == ATTEMPTS
    assert not list((tmp_path / "cache" / SHARDS).glob("*.partial"))


def test_an_error_of_a_driver_is_told(written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class BotoCoreError(Exception):
        pass

    def refuse(*_: Any) -> None:
        raise BotoCoreError("Unable to locate credentials")

    monkeypatch.setitem(sys.modules, "botocore.exceptions", Mock(BotoCoreError=BotoCoreError))
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", refuse)
    with pytest.raises(InputError, match=r"Unable to locate credentials\. Check the connection and the permissions"):
        open_timeline(written, tmp_path / "cache", LIMIT)


def _damage(url: str, shard: Blob) -> None:
    memory = fsspec.filesystem("memory")
    path = f"{url}/{shard.name}"
    content = bytearray(memory.cat_file(path))
    content[len(content) // 2] ^= 1
    memory.pipe_file(path, bytes(content))


def test_damage_on_the_way_is_mended_by_fetching_again(
    written: str, tiny_timeline: Timeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeline = open_timeline(written, tmp_path / "cache", LIMIT)
    memory = fsspec.filesystem("memory")
    whole, calls = memory.get_file, []

    def cut(remote: str, local: str, *args: Any, **kwargs: Any) -> None:
        whole(remote, local, *args, **kwargs)
        calls.append(remote)
        if calls.count(remote) == 1:
            Path(local).write_bytes(Path(local).read_bytes()[:-600])

    monkeypatch.setattr(type(memory), "get_file", staticmethod(cut))
    assert_same_images(timeline, tiny_timeline)


def test_damage_in_the_store_is_told(written: str, tmp_path: Path) -> None:
    timeline = open_timeline(written, tmp_path / "cache", LIMIT)
    for shard in _files(timeline).manifest.shards:
        _damage(written, shard)
    with pytest.raises(InputError, match="with another checksum"):
        read_row(timeline, 0)
    assert _kept(tmp_path / "cache") == 0


def test_a_truncated_local_shard_is_told(sharded: Path, tmp_path: Path) -> None:
    shutil.copytree(sharded, tmp_path / "set")
    timeline = open_timeline(tmp_path / "set", tmp_path, LIMIT)
    for path in (tmp_path / "set" / SHARDS).glob("*.tar"):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="found 1,000"):
        read_row(timeline, 0)


def test_addresses_that_lead_nowhere_are_told(memory_url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="temmed data shard DIR URL"):
        open_timeline(memory_url, tmp_path, LIMIT)
    with pytest.raises(InputError, match="a URL that fsspec can open"):
        open_timeline("nonsense://bucket/set", tmp_path, LIMIT)


@pytest.mark.parametrize(("url", "extra"), [("s3://bucket/set", "s3"), ("gs://bucket/set", "gcs")])
def test_a_driver_that_is_not_installed_is_named(
    url: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(url: str) -> None:
        raise ImportError("Install it")

    monkeypatch.setattr("fsspec.core.url_to_fs", absent)
    with pytest.raises(InputError, match=rf"pip install 'temmed\[{extra}\]'"):
        open_timeline(url, tmp_path, LIMIT)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "other/1"}', '{"format": "temmed-shards/1"}'])
def test_a_manifest_of_something_else_is_told(text: str) -> None:
    with pytest.raises(InputError, match="temmed data shard"):
        Manifest.read(text, "here")


def test_a_manifest_cannot_name_files_elsewhere() -> None:
    text = Manifest("f", "none", (), (Blob("../../etc/passwd", 1, "0"),)).to_json()
    with pytest.raises(InputError, match="below the folder"):
        Manifest.read(text, "here")


@pytest.mark.parametrize("text", ["", "0", "fast", "5 XB", "-3MB"])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="64MB"):
        read_size(text, "--shard-size")


def test_over_http(sharded: Path, tiny_timeline: Timeline, tmp_path: Path) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        refused: ClassVar[set[str]] = set()

        def do_GET(self) -> None:
            """Refuse everything once."""
            if self.path not in Quiet.refused:
                Quiet.refused.add(self.path)
                self.send_error(503)
                return
            super().do_GET()

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(sharded))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}"
            assert_same_images(open_timeline(url, tmp_path / "cache", LIMIT), tiny_timeline)
            assert {Path(path).suffix for path in Quiet.refused} >= {".tar", ".json", ".parquet"}
            with pytest.raises(InputError, match=MANIFEST):
                open_timeline(f"{url}/nowhere", tmp_path / "cache", LIMIT)
        finally:
            server.shutdown()
            thread.join()
    with pytest.raises(InputError, match="Check the connection"):
        open_timeline(url, tmp_path / "cache", LIMIT)


def _batches(timeline: Timeline, split: Split, tmp_path: Path, workers: int = 0) -> list[Any]:
    settings = DataSettings(size=16, batch_size=4, num_workers=workers, max_questions=3)
    data = TimelineDataModule(timeline, split, settings, fit(timeline, split, 16), seed=4)
    return [*data.loader("train", training=True), *data.loader("val")]


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_training_from_shards_is_training_from_the_folder(
    workers: int, sharded: Path, tiny_timeline: Timeline, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeline = open_timeline(sharded.as_uri(), tmp_path / "cache", LIMIT)
    files = _files(timeline)
    with monkeypatch.context() as patch:
        # The folder in the order that the shards are read in.
        patch.setattr(TimelineDataModule, "_shard_order", partial(_as_if, files))
        expected = _batches(tiny_timeline, split, tmp_path)
    found = _batches(timeline, split, tmp_path, workers)
    assert len(found) == len(expected) > 4
    for one, other in zip(found, expected, strict=True):
        for field in fields(one):
            mine, its = getattr(one, field.name), getattr(other, field.name)
            if isinstance(mine, torch.Tensor):
                torch.testing.assert_close(mine, its, rtol=0, atol=0, equal_nan=True)
            else:
                # NaN, for no bound, is not equal to itself.
                assert repr(mine) == repr(its), field.name


def _as_if(files: ShardedFiles, dataset: Any) -> Any:
    from temmed.data.streaming.order import ShardOrder

    return ShardOrder([files.shard_of(dataset.records[view.record].sequence_id) for view in dataset.views])


def test_training_reads_shard_by_shard(sharded: Path, split: Split, tmp_path: Path) -> None:
    timeline = find_timeline(DataSettings(root=str(sharded)), tmp_path)
    data = TimelineDataModule(timeline, split, DataSettings(size=16, batch_size=2), fit(timeline, split, 16))
    sampler = data.loader("train", training=True).batch_sampler
    assert isinstance(sampler, EpochBatchSampler)
    assert sampler.shards is not None
    records = data.dataset("train", training=True).records
    shards = [_files(timeline).shard_of(record.sequence_id) for record in records]
    assert sampler.shards.shards.tolist() == shards
    assert len(set(shards)) > 2


def test_workers_are_sent_no_table(written: str, tmp_path: Path) -> None:
    files = _files(open_timeline(written, tmp_path / "cache", LIMIT))
    sent = pickle.dumps(files)
    assert len(sent) < 2000 + 200 * len(files.manifest.shards)
    assert pickle.loads(sent).address == written
