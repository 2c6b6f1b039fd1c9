"""Files are read again only when they may have changed, and always then."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from temmed.data.caches import digests
from temmed.data.caches.digests import FileState, image_states
from temmed.errors import InputError


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were read."""
    found: list[str] = []
    read = FileState.read

    def noted(path: str) -> FileState:
        found.append(Path(path).name)
        return read(path)

    monkeypatch.setattr(digests.FileState, "read", noted)
    return found


def _later(monkeypatch: pytest.MonkeyPatch, seconds: float = 10.0) -> None:
    now = time.time
    monkeypatch.setattr(digests.time, "time", lambda: now() + seconds)


def test_settled_files_are_read_once(tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    memo = tmp_path / "memo" / "m.parquet"
    _later(monkeypatch)
    first = image_states(tmp_path, ["a", "b"], memo)
    assert image_states(tmp_path, ["a", "b"], memo) == first
    assert sorted(reads) == ["a", "b"]
    (tmp_path / "b").write_text("c")
    assert image_states(tmp_path, ["a", "b"], memo)["b"].digest != first["b"].digest
    assert sorted(reads) == ["a", "b", "b"]


@pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing"])
def test_a_damaged_memo_is_told_of_and_written_again(
    content: bytes,
    tmp_path: Path,
    reads: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "a").write_text("a")
    memo = tmp_path / "m.parquet"
    _later(monkeypatch)
    first = image_states(tmp_path, ["a"], memo)
    memo.write_bytes(content)
    assert image_states(tmp_path, ["a"], memo) == first
    assert str(memo) in caplog.text
    assert image_states(tmp_path, ["a"], memo) == first
    assert reads == ["a", "a"]


def test_a_file_that_was_written_just_now_is_read_again(tmp_path: Path, reads: list[str]) -> None:
    """Its times may not show the next change."""
    (tmp_path / "a").write_text("a")
    for _ in range(2):
        (state,) = image_states(tmp_path, ["a"], tmp_path / "memo.parquet")["a"].files
        assert not state.settled
    assert reads == ["a", "a"]


def test_an_unsettled_file_is_compared_by_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("a")
    state = FileState.read(str(file))
    assert state.still()
    file.write_text("b")
    status = os.stat(file)
    same_times = FileState(str(file), 1, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, state.digest, False)
    assert not same_times.still()
    with pytest.raises(InputError, match="changed meanwhile"):
        same_times.check()


def test_a_folder_of_slices_is_its_files_and_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "volume"
    folder.mkdir()
    for name in "ab":
        (folder / name).write_text(name)
    memo = tmp_path / "memo.parquet"
    before = image_states(tmp_path, ["volume"], memo)["volume"]
    assert len(before.files) == 2
    (folder / "a").rename(folder / "z")
    assert image_states(tmp_path, ["volume"], memo)["volume"].digest != before.digest
