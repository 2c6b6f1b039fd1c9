"""Builds killed at any instant: what is opened after is right or is not opened."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from temmed.data.caches import building, images
from temmed.data.caches.building import part_name, staging_of
from temmed.data.caches.digests import ImageState
from temmed.data.caches.entry import ABOUT, INDEX, DamagedError, Entry, Slab, damage
from temmed.data.caches.images import CachedPixels, build_images, read_states
from temmed.data.fitted import Fitted
from temmed.data.images import DecodedPixels
from temmed.timelines.folder import Timeline

if TYPE_CHECKING:
    from tests.data.caches.conftest import SameAsFiles

#: Where files are written and renamed.
_TRACED = ("caches/building.py", "caches/entry.py", "temmed/files.py")
Build = Callable[[], CachedPixels]


@pytest.fixture(scope="module")
def states(cxr: Timeline, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ImageState]:
    return read_states(cxr, tmp_path_factory.mktemp("states"))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "images" / "key"


@pytest.fixture
def build(
    target: Path, cxr: Timeline, cxr_fitted: Fitted, states: dict[str, ImageState], monkeypatch: pytest.MonkeyPatch
) -> Build:
    """Build, in this process and in several parts. Each sequence is decoded once: it is writing that is killed."""
    slabs: dict[str, Slab] = {}
    decode = images._slab

    def decoded(pixels: DecodedPixels, sequence: str, positions: list[int]) -> Slab:
        if sequence not in slabs:
            slabs[sequence] = decode(pixels, sequence, positions)
        return slabs[sequence]

    monkeypatch.setattr(images, "_slab", decoded)
    monkeypatch.setattr(images, "_SMALLEST_PART", 20_000)
    return lambda: build_images(target, cxr, cxr_fitted, states, workers=1)


def _in_child(work: Callable[[], Any]) -> int:
    """Start work in a copy of this process; returns its number."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def _ended(child: int) -> int:
    """Wait for a child; its exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _traced(build: Build, stop_at: int) -> int:
    """Build, killing this process at the n-th line of what writes; returns how many there were."""
    lines = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        if event == "call":
            return trace if frame.f_code.co_filename.endswith(_TRACED) else None
        if event == "line":
            lines += 1
            if lines == stop_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    try:
        build()
    finally:
        sys.settrace(None)
    return lines


def _kill_and_check(
    points: int, target: Path, build: Build, check: Callable[[CachedPixels], None], rng: np.random.Generator
) -> tuple[int, int]:
    """Kill builds at random points, each going on from what the last left; how many were killed, and were finished."""
    build()
    _remove(target)
    lines = _traced(build, -1)
    _remove(target)
    killed = finished = 0
    for _ in range(points):
        stop_at = int(rng.integers(1, lines + 1))
        status = _ended(_in_child(lambda stop_at=stop_at: _traced(build, stop_at)))  # type: ignore[misc]
        assert status in (0, -signal.SIGKILL)
        killed += status != 0
        try:
            entry = Entry(target)
        except DamagedError:
            assert not target.exists()
            continue
        check(CachedPixels(entry))
        finished += 1
        _remove(target)
    check(build())
    return killed, finished


def _remove(target: Path) -> None:
    for path in target.iterdir():
        path.unlink()
    target.rmdir()


@pytest.mark.parametrize("points", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_killed_builds_are_never_read_wrong(
    points: int, target: Path, build: Build, cxr: Timeline, cxr_fitted: Fitted, same_as_files: SameAsFiles
) -> None:
    check = lambda found: same_as_files(found, cxr, cxr_fitted)  # noqa: E731
    killed, finished = _kill_and_check(points, target, build, check, np.random.default_rng(points))
    assert killed > points / 2
    assert finished < points


def test_a_build_killed_at_a_random_time_goes_on(
    target: Path, build: Build, cxr: Timeline, cxr_fitted: Fitted, same_as_files: SameAsFiles
) -> None:
    rng = np.random.default_rng(0)
    started = time.perf_counter()
    build()
    seconds = time.perf_counter() - started
    for _ in range(5):
        _remove(target)
        child = _in_child(build)
        time.sleep(rng.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        _ended(child)
        same_as_files(build(), cxr, cxr_fitted)


def test_parts_of_a_killed_build_are_used_if_they_are_sound(
    target: Path,
    build: Build,
    cxr: Timeline,
    cxr_fitted: Fitted,
    same_as_files: SameAsFiles,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decode, decoded = images._decode_part, []

    def third_fails(job: Any) -> Any:
        decoded.append(job.number)
        if len(decoded) == 3:
            raise RuntimeError("power cut")
        return decode(job)

    monkeypatch.setattr(images, "_decode_part", third_fails)
    with pytest.raises(RuntimeError, match="power cut"):
        build()
    damaged = staging_of(target) / part_name(0)
    content = bytearray(damaged.read_bytes())
    content[100] ^= 1
    damaged.write_bytes(content)
    same_as_files(build(), cxr, cxr_fitted)
    # The second part was used; the first was damaged and the third not there.
    assert decoded == [0, 1, 2, 0, 2, *range(3, max(decoded) + 1)]


def test_parts_that_were_divided_otherwise_are_not_used(
    target: Path,
    build: Build,
    cxr: Timeline,
    cxr_fitted: Fitted,
    same_as_files: SameAsFiles,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def killed(*_: Any) -> None:
        raise RuntimeError("power cut")

    finish = building._finish
    for size in (10_000, 40_000):
        monkeypatch.setattr(images, "_SMALLEST_PART", size)
        monkeypatch.setattr(building, "_finish", killed)
        with pytest.raises(RuntimeError, match="power cut"):
            build()
    monkeypatch.setattr(building, "_finish", finish)
    monkeypatch.setattr(images, "_SMALLEST_PART", 20_000)
    found = build()
    same_as_files(found, cxr, cxr_fitted)
    assert len(found.entry.numbers) == len(found.entry.index.ids)


@pytest.mark.parametrize(
    "content", ["{}", "[]", '{"files": []}', '{"files": {"index.npz": {}}}', '{"files": {}}', "\0"]
)
def test_a_description_of_something_else_is_damage(content: str, target: Path, build: Build) -> None:
    build()
    (target / ABOUT).write_text(content)
    with pytest.raises(DamagedError):
        Entry(target)
    assert damage(target)


@pytest.mark.parametrize("name", [ABOUT, INDEX, "part-00000.bin"])
def test_a_damaged_entry_is_built_again(
    name: str, target: Path, build: Build, cxr: Timeline, cxr_fitted: Fitted, same_as_files: SameAsFiles
) -> None:
    build()
    file = target / name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DamagedError):
        Entry(target)
    same_as_files(build(), cxr, cxr_fitted)


def test_of_two_processes_one_builds_and_both_read(
    target: Path,
    build: Build,
    cxr: Timeline,
    cxr_fitted: Fitted,
    same_as_files: SameAsFiles,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    decode, log = images._decode_part, tmp_path / "log"

    def noted(job: Any) -> Any:
        with log.open("a") as stream:
            stream.write(f"{job.number} {os.getpid()}\n")
        return decode(job)

    monkeypatch.setattr(images, "_decode_part", noted)
    children = [_in_child(lambda: same_as_files(build(), cxr, cxr_fitted)) for _ in range(2)]
    assert [_ended(child) for child in children] == [0, 0]
    numbers, builders = zip(*(line.split() for line in log.read_text().splitlines()), strict=True)
    assert [int(number) for number in numbers] == list(range(len(numbers)))
    assert len(set(builders)) == 1
