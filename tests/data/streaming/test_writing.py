"""Shards hold what the files hold, and are the same whoever writes them."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from temmed.cli import app
from temmed.data.streaming.layout import INDEX, MANIFEST, Manifest, digest_of, read_index
from temmed.data.streaming.opening import open_timeline
from temmed.data.streaming.shard_writer import ShardWriter
from temmed.data.streaming.writing import write_shards
from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.synthetic.generate import generate
from tests.data.streaming.conftest import LIMIT, assert_same_images, read_row


def _manifest(folder: Path) -> Manifest:
    return Manifest.read((folder / MANIFEST).read_text(), str(folder))


def _content(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): digest_of(p) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("modality", "options", "compression"),
    [
        ("mri", {}, "none"),
        ("mri", {}, "zstd"),
        ("ultrasound", {"files": "avi"}, "none"),
        pytest.param("ct", {"spatial_dims": 3}, "zstd", marks=pytest.mark.slow),
        ("mixed", {}, "none"),
    ],
)
def test_shards_hold_the_images_of_the_files(modality: str, options: dict, compression: str, tmp_path: Path) -> None:
    made = generate(tmp_path / "set", modality, patients=4, size=16, workers=1, progress=False, **options)
    write_shards(made.root, str(tmp_path / "out"), tmp_path, 40_000, compression, workers=1)
    found = open_timeline(tmp_path / "out", tmp_path / "cache", LIMIT)
    assert_same_images(found, made)
    assert found.meta == made.meta
    assert not (tmp_path / "cache").exists()


def test_any_number_of_workers_writes_the_same(tiny_timeline: Timeline, sharded: Path, tmp_path: Path) -> None:
    write_shards(tiny_timeline.root, str(tmp_path / "out"), tmp_path, 60_000, workers=2)
    assert _content(tmp_path / "out") == _content(sharded)
    assert len(_manifest(sharded).shards) > 3


def test_the_index_tells_where_each_member_of_a_shard_lies(sharded: Path) -> None:
    shards = _manifest(sharded).shards
    said = {(row["shard"], row["offset"], row["size"]) for row in read_index(sharded / INDEX).to_pylist()}
    found = set()
    for number, shard in enumerate(shards):
        with tarfile.open(sharded / shard.name) as tar:
            members = tar.getmembers()
            found |= {(number, m.offset_data, m.size) for m in members if m.name.endswith(".npy")}
            about = [json.load(tar.extractfile(m)) for m in members if m.name.endswith(".json")]  # type: ignore[arg-type]
            assert len({one["sequence_id"] for one in about}) == len(about)
    assert found == said


def test_the_webdataset_library_reads_the_shards(sharded: Path, tiny_timeline: Timeline) -> None:
    webdataset = pytest.importorskip("webdataset")
    urls = [str(sharded / shard.name) for shard in _manifest(sharded).shards]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    assert sorted(s["json"]["sequence_id"] for s in samples) == tiny_timeline.table("sequences")["sequence_id"].tolist()
    images = tiny_timeline.table("images")[["sequence_id", "position", "channel"]]
    rows = {row: number for number, row in enumerate(images.itertuples(index=False, name=None))}
    for sample in samples:
        name = sample["json"]["sequence_id"]
        assert len(sample["json"]["images"]) == len(sample["0.npy"])
        for (position, channel), image in zip(sample["json"]["images"], sample["0.npy"], strict=True):
            expected = read_row(tiny_timeline, rows[name, position, channel])
            np.testing.assert_array_equal(image, expected[0])


def test_a_long_loop_comes_in_parts(tmp_path: Path) -> None:
    made = generate(tmp_path / "set", "ultrasound", patients=3, size=32, workers=1, progress=False)
    write_shards(made.root, str(tmp_path / "out"), tmp_path, 10_000, workers=1)
    manifest = _manifest(tmp_path / "out")
    assert len(manifest.shards) > 3
    assert all(shard.size < 2 * 10_000 + 20_000 for shard in manifest.shards)
    assert_same_images(open_timeline(tmp_path / "out", tmp_path, LIMIT), made)


#: Of the tasks that were done before.
_FIRST_TWO = ("shards/000000-", "shards/000001-")
_KILLED = """
import sys
from pathlib import Path
from temmed.data.streaming.shard_writer import ShardWriter
from temmed.data.streaming.writing import write_shards
def wait(label, done, total):
    print(done, flush=True)
    if done == 2:
        import time; time.sleep(60)
write_shards(sys.argv[1], sys.argv[2], Path(sys.argv[3]), 60_000, workers=1, progress=wait)
"""


@pytest.mark.parametrize("remote", [False, True])
def test_what_was_written_before_a_kill_is_not_written_again(
    remote: bool, tiny_timeline: Timeline, sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    address = out.as_uri() if remote else str(out)
    command = [sys.executable, "-c", _KILLED, str(tiny_timeline.root), address, str(tmp_path / "work")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != "2":
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not (out / MANIFEST).exists()
    with pytest.raises(InputError):
        open_timeline(address, tmp_path / "cache", LIMIT)
    added: set[str] = set()
    add = ShardWriter.add

    def noted(self: ShardWriter, sequence: str, *rest: Any) -> None:
        added.add(sequence)
        add(self, sequence, *rest)

    monkeypatch.setattr(ShardWriter, "add", noted)
    write_shards(tiny_timeline.root, address, tmp_path / "work", 60_000, workers=1)
    assert _content(out) == _content(sharded)
    names = [shard.name for shard in _manifest(out).shards]
    rows = read_index(out / INDEX).to_pylist()
    assert added == {row["sequence_id"] for row in rows if not names[row["shard"]].startswith(_FIRST_TWO)}


def _begin(source: Path, url: str, work: Path, tasks: int) -> None:
    """Write shards, and stop after so many tasks."""

    def stop(label: str, done: int, total: int) -> None:
        if done == tasks:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(source, url, work, 60_000, workers=1, progress=stop)


def test_shards_that_another_set_was_written_over_are_written_again(
    tiny_timeline: Timeline, memory_url: str, tmp_path: Path
) -> None:
    shutil.copytree(tiny_timeline.root, tmp_path / "other")
    for path in (tmp_path / "other" / "images").iterdir():
        np.save(path, 4000 - np.load(path))  # of as many bytes
    Timeline.open(tmp_path / "other").record_fingerprint()
    _begin(tiny_timeline.root, memory_url, tmp_path / "work", 3)
    _begin(tmp_path / "other", memory_url, tmp_path / "work", 2)
    write_shards(tiny_timeline.root, memory_url, tmp_path / "work", 60_000, workers=1)
    assert_same_images(open_timeline(memory_url, tmp_path / "cache", LIMIT), tiny_timeline)


def test_only_one_process_writes_to_a_url(tiny_timeline: Timeline, memory_url: str, tmp_path: Path) -> None:
    refused: list[str] = []

    def second(label: str, done: int, total: int) -> None:
        with pytest.raises(InputError, match="no other process") as error:
            write_shards(tiny_timeline.root, memory_url, tmp_path / "work", 60_000, workers=1)
        refused.append(error.value.where)

    write_shards(tiny_timeline.root, memory_url, tmp_path / "work", 10**9, workers=1, progress=second)
    assert refused == [memory_url]


def test_shards_are_not_replaced_unasked(written: str, tiny_timeline: Timeline, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ask to overwrite"):
        write_shards(tiny_timeline.root, written, tmp_path, workers=1)
    write_shards(tiny_timeline.root, written, tmp_path, workers=1, overwrite=True)
    assert len(open_timeline(written, tmp_path, LIMIT).files.manifest.shards) == 1  # type: ignore[attr-defined]


def test_a_folder_that_was_changed_is_refused(tiny_timeline: Timeline, tmp_path: Path) -> None:
    shutil.copytree(tiny_timeline.root, tmp_path / "set")
    (tmp_path / "set" / "questions.parquet").unlink()
    with pytest.raises(InputError, match="info --record"):
        write_shards(tmp_path / "set", str(tmp_path / "out"), tmp_path, workers=1)
    assert not (tmp_path / "out").exists()


def test_the_command(tiny_timeline: Timeline, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["data", "shard", str(tiny_timeline.root), str(out), "--shard-size", "60kB", "--workers", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert f"data.root={out}" in result.output
    result = CliRunner().invoke(app, ["data", "info", str(out)])
    assert result.exit_code == 0, result.output
    assert tiny_timeline.meta.fingerprint in result.output
    for wrong in (["--shard-size", "much"], ["--compression", "zip"]):
        result = CliRunner().invoke(app, [*arguments[:3], str(tmp_path / "other"), *wrong])
        assert result.exit_code == 2
        assert wrong[1] in result.output
        assert not (tmp_path / "other").exists()
