from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from temmed.errors import InputError
from temmed.files import UnfinishedError, atomic_write, resumable_folder, staged_folder


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run_until_ready_then_kill(code: str, *arguments: object) -> None:
    """Start a Python process, wait for its line `ready`, and kill it as `kill -9` does."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_atomic_write_replaces_the_content_and_leaves_nothing_beside(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    atomic_write(target, "old")
    atomic_write(target, "é")
    assert target.read_bytes() == "é".encode()
    assert listing(target.parent) == ["file.txt"]


def test_a_failed_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file.txt"
    atomic_write(target, "old")

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        atomic_write(target, "new")
    assert target.read_text() == "old"
    assert listing(tmp_path) == ["file.txt"]


def test_a_staged_folder_is_invisible_until_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "data"
    with staged_folder(target) as staging:
        (staging / "a").write_text("1")
        assert not target.exists()
        assert staging.parent == target.parent
    assert listing(tmp_path) == ["data"]
    assert (target / "a").read_text() == "1"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_or_ctrl_c_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def interrupted() -> None:
        with staged_folder(tmp_path / "data") as staging:
            (staging / "a").write_text("1")
            raise error

    with pytest.raises(error):
        interrupted()
    assert listing(tmp_path) == []


def test_an_error_while_overwriting_keeps_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "data"
    target.mkdir()
    (target / "dataset.json").write_text("old")

    def interrupted() -> None:
        with staged_folder(target, overwrite=True) as staging:
            (staging / "dataset.json").write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert (target / "dataset.json").read_text() == "old"
    assert listing(tmp_path) == ["data"]


def test_an_error_between_the_two_renames_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "data"
    target.mkdir()
    (target / "dataset.json").write_text("old")
    rename = os.rename

    def fail_for_staging(source: str | Path, place: str | Path) -> None:
        if "partial" in Path(source).name:
            raise OSError("disk gone")
        rename(source, place)

    monkeypatch.setattr(os, "rename", fail_for_staging)
    with pytest.raises(OSError, match="disk gone"), staged_folder(target, overwrite=True):
        pass
    assert (target / "dataset.json").read_text() == "old"
    assert listing(tmp_path) == ["data"]


def test_a_folder_with_content_is_not_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(InputError, match="ask to overwrite"), staged_folder(tmp_path):
        pytest.fail("the block must not run")
    assert listing(tmp_path) == ["dataset.json"]


def test_overwriting_never_removes_a_folder_of_something_else(tmp_path: Path) -> None:
    target = tmp_path / "home"
    target.mkdir()
    (target / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="other content"), staged_folder(target, overwrite=True):
        pytest.fail("the block must not run")
    assert (target / "thesis.tex").read_text() == "years of work"


def test_a_file_or_link_is_not_a_place_for_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("file", "link"):
        with pytest.raises(InputError, match="a file or a link"), staged_folder(tmp_path / name, overwrite=True):
            pytest.fail("the block must not run")


def test_a_killed_process_leaves_no_target_and_the_next_start_clears_up(tmp_path: Path) -> None:
    target = tmp_path / "data"
    run_until_ready_then_kill(
        """
        import sys, time
        from temmed.files import staged_folder
        with staged_folder(sys.argv[1]) as staging:
            (staging / "half").write_text("x")
            print("ready", flush=True)
            time.sleep(60)
        """,
        target,
    )
    assert not target.exists()
    assert len(listing(tmp_path)) == 1, "the half-written folder is there, hidden"
    with staged_folder(target) as staging:
        assert listing(tmp_path) == [staging.name], "what the dead process left is gone"
        (staging / "whole").write_text("x")
    assert listing(target) == ["whole"]


def test_a_process_killed_while_replacing_loses_nothing(tmp_path: Path) -> None:
    target = tmp_path / "data"
    target.mkdir()
    (target / "dataset.json").write_text("old")
    run_until_ready_then_kill(
        """
        import os, sys, time
        from temmed import files
        rename = os.rename
        def pause_before_the_second(source, place):
            if "partial" in str(source):
                print("ready", flush=True)
                time.sleep(60)
            rename(source, place)
        os.rename = pause_before_the_second
        with files.staged_folder(sys.argv[1], overwrite=True) as staging:
            (staging / "dataset.json").write_text("new")
        """,
        target,
    )
    assert not target.exists()
    with pytest.raises(InputError, match="a folder with content"), staged_folder(target):
        pytest.fail("the old folder must be back in its place")
    assert (target / "dataset.json").read_text() == "old"
    assert listing(tmp_path) == ["data"]


def test_what_a_living_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    code = """
        import sys, time
        from temmed.files import staged_folder
        with staged_folder(sys.argv[1]) as staging:
            print("ready", flush=True)
            sys.stdin.read()
        """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "data")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    (theirs,) = listing(tmp_path)
    with staged_folder(tmp_path / "data"):
        assert theirs in listing(tmp_path)
    process.kill()
    process.communicate()


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05])
def test_a_file_rewritten_without_pause_is_always_whole(tmp_path: Path, delay: float) -> None:
    target = tmp_path / "file"
    size = 200_000
    atomic_write(target, "0" * size)
    code = """
        import sys
        from temmed.files import atomic_write
        print("ready", flush=True)
        while True:
            for letter in "ab":
                atomic_write(sys.argv[1], letter * int(sys.argv[2]))
        """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(target), str(size)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(delay)
    process.kill()
    process.communicate()
    content = target.read_text()
    assert len(content) == size
    assert len(set(content)) == 1
    atomic_write(target, "after")
    assert listing(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (InputError("a", "b", "c", "d"), False),
        (UnfinishedError("a", "b", "c", "d"), True),
        (OSError("disk full"), True),
        (RuntimeError(), True),
        (KeyboardInterrupt(), True),
    ],
)
def test_only_input_that_cannot_be_used_throws_work_away(tmp_path: Path, error: BaseException, kept: bool) -> None:
    def interrupted() -> None:
        with resumable_folder(tmp_path / "data", "key") as staging:
            (staging / "a").write_text("1")
            raise error

    with pytest.raises(type(error)):
        interrupted()
    assert listing(tmp_path) == ([".data.resume-key"] if kept else [])
    with resumable_folder(tmp_path / "data", "key") as staging:
        assert listing(staging)[1:] == (["a"] if kept else [])
        (staging / "b").write_text("2")
    assert listing(tmp_path) == ["data"]
    assert listing(tmp_path / "data") == (["a", "b"] if kept else ["b"])


def test_a_resumable_folder_that_cannot_take_its_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "data"
    target.mkdir()
    (target / "dataset.json").write_text("old")
    rename = os.rename

    def fail_for_staging(source: str | Path, place: str | Path) -> None:
        if "resume" in Path(source).name:
            raise OSError("disk gone")
        rename(source, place)

    monkeypatch.setattr(os, "rename", fail_for_staging)
    with pytest.raises(OSError, match="disk gone"), resumable_folder(target, "key", overwrite=True):
        pass
    assert (target / "dataset.json").read_text() == "old"
    assert listing(tmp_path) == [".data.resume-key", "data"]
