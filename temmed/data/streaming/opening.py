"""Open a timeline wherever it lies: a folder, a folder of shards, or shards at a URL."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock

from temmed.data.streaming.cache import ShardCache
from temmed.data.streaming.layout import MANIFEST, SHARDS, Manifest
from temmed.data.streaming.reading import LocalShards, ShardedFiles, remote_manifest
from temmed.data.streaming.remote import Remote, is_url
from temmed.files import atomic_write, staged_folder
from temmed.timelines.folder import Timeline


def default_cache() -> Path:
    """Where data of other machines is kept, when no configuration says so: as ``conf/paths`` has it."""
    return Path(os.environ.get("TEMMED_DATA", "data_cache"))


def open_timeline(root: str | Path, cache: Path, limit: int) -> Timeline:
    """Open a timeline.

    Args:
        root: a timeline folder, a folder of shards, or the URL of one.
        cache: where the tables of a URL are kept, and its shards as they are read.
        limit: bytes of shards that are kept there.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    if is_url(root):
        return _open_remote(Remote(str(root)), cache, limit)
    root = Path(root)
    timeline = Timeline.open(root)
    if (root / MANIFEST).is_file():
        manifest = Manifest.read((root / MANIFEST).read_text(encoding="utf-8"), str(root / MANIFEST))
        timeline.files = ShardedFiles(root, manifest, LocalShards(root))
    return timeline


def _open_remote(remote: Remote, cache: Path, limit: int) -> Timeline:
    manifest = remote_manifest(remote, MANIFEST)
    shards = ShardCache(remote, cache / SHARDS, limit)
    shards.check(manifest.shards)
    folder = cache / "tables" / manifest.key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not folder.is_dir():
            _fetch_tables(remote, manifest, folder)
    timeline = Timeline.open(folder)
    timeline.files = ShardedFiles(folder, manifest, shards)
    return timeline


def _fetch_tables(remote: Remote, manifest: Manifest, folder: Path) -> None:
    with staged_folder(folder) as staging:
        for blob in manifest.files:
            target = staging / blob.name
            target.parent.mkdir(parents=True, exist_ok=True)
            remote.download(blob, target)
        atomic_write(staging / MANIFEST, manifest.to_json())
