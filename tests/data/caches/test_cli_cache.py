"""``temmed cache``: what is listed, what is removed and what never is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from temmed.cli import app
from temmed.data.caches.building import lock_of, staging_of
from temmed.data.caches.entry import Entry
from temmed.data.caches.images import CachedPixels, open_pixels
from temmed.data.caches.manage import listed
from temmed.data.fitted import Fitted
from temmed.timelines.folder import Timeline

_DAY = 86400


@pytest.fixture(scope="module")
def built(cxr: Timeline, cxr_fitted: Fitted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with one entry."""
    cache = tmp_path_factory.mktemp("cache")
    assert isinstance(open_pixels(cxr, cxr_fitted, cache, "always"), CachedPixels)
    return cache


@pytest.fixture
def cache(built: Path, tmp_path: Path) -> Path:
    """Three entries: ``old`` made 40 days ago and used 20 days ago, ``used`` made then and used now, and a new one."""
    shutil.copytree(built, tmp_path / "cache")
    (new,) = (path for path in (tmp_path / "cache" / "images").iterdir() if path.is_dir())
    now = time.time()
    for name, used in (("old", now - 20 * _DAY), ("used", now)):
        shutil.copytree(new, new.with_name(name))
        os.utime(new.with_name(name) / "entry.json", (now - 40 * _DAY,) * 2)
        os.utime(new.with_name(name) / "used", (used,) * 2)
    new.rename(new.with_name("new"))
    return tmp_path / "cache"


def _cache(cache: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["cache", *words, "--root", str(cache)])


def _names(cache: Path) -> set[str]:
    return {item.path.name for item in listed(cache)}


def test_info_tells_what_there_is(cache: Path, cxr: Timeline) -> None:
    leftover = staging_of(cache / "images" / "dead")
    leftover.mkdir()
    (leftover / "part-00000.bin").write_bytes(bytes(100))
    rows = {Path(row["path"]).name: row for row in json.loads(_cache(cache, "info", "--json").stdout)}
    assert {name: row["state"] for name, row in rows.items()} == {
        "old": "entry",
        "used": "entry",
        "new": "entry",
        leftover.name: "leftover",
    }
    assert rows["new"]["size"] == sum(file.stat().st_size for file in (cache / "images" / "new").iterdir())
    assert rows["old"]["made"] < rows["old"]["used"] < rows["used"]["used"]
    told = _cache(cache, "info")
    assert told.exit_code == 0
    for expected in ("images", "32 × 32 pixels", str(cxr.root), "leftover"):
        assert expected in told.stdout


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        (("--older-than", "30d"), {"old", "used"}),
        (("--unused-for", "2w"), {"old"}),
        (("--larger-than", "1MB"), set()),
        (("--larger-than", "10KB"), {"old", "used", "new"}),
        (("--keep", "1B"), {"old", "used", "new"}),
        (("--keep", "1GB"), set()),
        (("--all",), {"old", "used", "new"}),
        (("--all", "--kind", "features"), set()),
    ],
)
def test_prune_removes_what_a_condition_names_once_it_is_confirmed(
    words: tuple[str, ...], gone: set[str], cache: Path
) -> None:
    dry = _cache(cache, "prune", *words)
    assert dry.exit_code == 0
    assert {name for name in _names(cache) if f"/{name} (" in dry.stdout} == gone
    assert _names(cache) == {"old", "used", "new"}
    assert _cache(cache, "prune", *words, "--yes").exit_code == 0
    assert _names(cache) == {"old", "used", "new"} - gone


def test_what_goes_while_one_looks_is_left_out(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = Path.stat

    def gone(path: Path, **how: Any) -> os.stat_result:
        """As if a build ended between the look into a folder and that at a file: what it wrote has another name."""
        if "old" in path.parts or path.name.endswith(".npz"):
            raise FileNotFoundError(path)
        return status(path, **how)

    monkeypatch.setattr(Path, "stat", gone)
    assert _names(cache) == {"used", "new"}


def test_keep_leaves_those_used_last(cache: Path) -> None:
    size = max(item.size for item in listed(cache))
    _cache(cache, "prune", "--keep", f"{2 * size + 10}B", "--yes")
    assert _names(cache) == {"used", "new"}


def test_prune_leaves_what_is_read_and_what_is_built(cache: Path) -> None:
    images = cache / "images"
    building, dead = staging_of(images / "building"), staging_of(images / "dead")
    building.mkdir()
    dead.mkdir()
    reader = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(images)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert reader.stdin is not None
    assert reader.stdout is not None
    try:
        assert reader.stdout.readline() == "ready\n"
        told = _cache(cache, "prune", "--all", "--leftovers", "--yes").stdout
        assert _names(cache) == {"old", building.name}
        assert f"In use, left alone: {images / 'old'}" in told
    finally:
        reader.communicate("done\n")
    _cache(cache, "prune", "--all", "--leftovers", "--yes")
    assert _names(cache) == set()


_HOLD = f"""
import sys
from pathlib import Path
from typing import Any
from {Entry.__module__} import Entry
from {lock_of.__module__} import lock_of
images = Path(sys.argv[1])
entry = Entry(images / "old")
with lock_of(images / "building"):
    print("ready", flush=True)
    sys.stdin.readline()
"""


def test_verify_names_damaged_entries_and_removes_them_on_request(cache: Path) -> None:
    assert _cache(cache, "verify").exit_code == 0
    part, about = cache / "images" / "used" / "part-00000.bin", cache / "images" / "new" / "entry.json"
    content = bytearray(part.read_bytes())
    content[50] ^= 1
    part.write_bytes(content)
    about.write_text("{")
    told = _cache(cache, "verify", "--remove")
    assert told.exit_code == 1
    assert str(part) in told.stderr
    assert str(about.parent) in told.stderr
    assert _names(cache) == {"old"}
    assert _cache(cache, "verify").exit_code == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("prune",), "expected a condition"),
        (("prune", "--older-than", "soon"), "--older-than: expected a time such as 30d"),
        (("prune", "--keep", "5"), "--keep: expected a size such as 500MB"),
        (("verify", "--kind", "pictures"), "expected images or features"),
    ],
)
def test_mistakes_are_told_and_nothing_is_removed(words: tuple[str, ...], expected: str, cache: Path) -> None:
    found = _cache(cache, *words)
    assert found.exit_code == 2
    assert expected in found.stderr
    assert _names(cache) == {"old", "used", "new"}


def test_no_caches_are_no_mistake(tmp_path: Path) -> None:
    assert "No caches in" in _cache(tmp_path, "info").stdout
    assert _cache(tmp_path / "absent", "info").exit_code == 2
