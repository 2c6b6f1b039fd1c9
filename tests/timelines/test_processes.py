"""Work in other processes: the same results, and Ctrl-C that only the first process hears."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from temmed.processes import _interrupts_held, map_in_processes, work_together


@pytest.fixture
def _ctrl_c() -> Iterator[None]:
    """A test run in the background may ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("workers", "chunk"), [(1, 1), (2, 1), (3, 4)])
def test_results_come_in_the_order_of_the_items(workers: int, chunk: int) -> None:
    items = [9, -2, 4, -7, 0, 3]
    with closing(map_in_processes(abs, items, workers, chunk)) as results:
        assert list(results) == [9, 2, 4, 7, 0, 3]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_item_is_done_once_by_this_process_or_another(workers: int, tmp_path: Path) -> None:
    meet = partial(_meet, tmp_path, workers)
    with closing(work_together(meet, range(20), workers)) as results:
        found = list(results)
    assert sorted(number for number, _ in found) == list(range(20))
    processes = {process for _, process in found}
    assert os.getpid() in processes
    assert len(processes) == workers


def _meet(folder: Path, workers: int, item: int) -> int:
    """Wait until so many processes have begun an item."""
    (folder / str(os.getpid())).touch()
    end = time.monotonic() + 300
    while len(list(folder.iterdir())) < workers and time.monotonic() < end:
        time.sleep(0.01)
    return os.getpid()


@pytest.mark.parametrize("at", [0, 7])
def test_an_error_in_any_process_is_raised(at: int) -> None:
    items = ["1"] * at + ["none"] + ["1"] * (7 - at)
    with pytest.raises(ValueError, match="none"), closing(work_together(int, items, 2)) as results:
        list(results)


def test_workers_never_see_ctrl_c_and_the_parent_still_does() -> None:
    ask = partial(signal.pthread_sigmask, signal.SIG_BLOCK)
    before = signal.getsignal(signal.SIGINT)
    with closing(map_in_processes(ask, [()] * 8, 2)) as blocked:
        assert all(signal.SIGINT in found for found in blocked)
    assert signal.SIGINT not in ask(())
    assert signal.getsignal(signal.SIGINT) is before


def test_what_has_not_begun_is_dropped_when_the_results_are_left(tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(400)]
    with closing(map_in_processes(_touch, files, 2)) as results:
        next(results)
    done = list(tmp_path.iterdir())
    assert 0 < len(done) < len(files)
    time.sleep(0.2)
    assert list(tmp_path.iterdir()) == done


def _touch(file: Path) -> None:
    time.sleep(0.05)
    file.touch()


def test_workers_end_when_the_process_that_started_them_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", _KILLED], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = {int(parent.stdout.readline()) for _ in range(2)}
    parent.kill()
    parent.communicate()
    end = time.monotonic() + 120
    while (left := [worker for worker in workers if _is_at_work(worker)]) and time.monotonic() < end:
        time.sleep(0.05)
    assert left == []


_KILLED = """
import multiprocessing, time
from temmed.processes import map_in_processes
if __name__ == "__main__":
    results = map_in_processes(time.sleep, [0, 60, 60], 2)
    next(results)
    for child in multiprocessing.active_children():
        print(child.pid, flush=True)
    next(results)
"""


def _is_at_work(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def hold(interrupt: Callable[[], object], reached: list[str]) -> None:
    with _interrupts_held():
        interrupt()
        time.sleep(0.05)
        reached.append("the end of the block")


@pytest.mark.usefixtures("_ctrl_c")
def test_ctrl_c_is_answered_at_the_end_of_the_block() -> None:
    reached: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        hold(lambda: os.kill(os.getpid(), signal.SIGINT), reached)
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("_ctrl_c")
def test_ctrl_c_that_another_thread_lets_in_waits_too() -> None:
    reached: list[str] = []
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()  # before the block, so that Ctrl-C is not blocked in it
    try:
        with pytest.raises(KeyboardInterrupt):
            hold(lambda: signal.pthread_kill(thread.ident or 0, signal.SIGINT), reached)
    finally:
        done.set()
        thread.join()
    assert reached


def test_a_thread_may_use_processes() -> None:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.extend(map_in_processes(abs, [-1, 2], 2)))
    thread.start()
    thread.join()
    assert found == [1, 2]
