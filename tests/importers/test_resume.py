"""Imports that are stopped go on; imports in parts give what one import gives."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from temmed.timelines.folder import Timeline
from temmed.timelines.importers import placing

DicomWriter = Callable[..., Path]
Running = Callable[..., Result]
VISITS = 6


@pytest.fixture
def source(tmp_path: Path, dicom: DicomWriter) -> Path:
    """Six visits of one patient."""
    for number in range(VISITS):
        day = f"2020010{number + 1}"
        pixels = np.full((4, 4), number, np.uint8)
        study = {"StudyInstanceUID": f"1.2.{number}", "SeriesInstanceUID": f"1.2.{number}.1", "StudyDate": day}
        dicom(tmp_path / "source" / f"{number}.dcm", pixels, Modality="DX", **study)
    return tmp_path / "source"


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the files that are copied, as they are."""
    names: list[str] = []
    copy_one = placing._copy_one

    def note(task: placing._Copy) -> list[str]:
        names.append(task.source.name)
        return copy_one(task)

    monkeypatch.setattr(placing, "_copy_one", note)
    return names


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "dataset.json"
    }


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_stopped_import_goes_on_where_it_was(
    running: Running,
    tmp_path: Path,
    source: Path,
    copied: list[str],
    monkeypatch: pytest.MonkeyPatch,
    stop: BaseException,
) -> None:
    whole = tmp_path / "whole"
    assert running("dicom", source, whole, "--keep-ids").exit_code == 0
    copied.clear()
    with monkeypatch.context() as patch:
        copy_one = placing._copy_one

        def fail_at_the_fourth(task: placing._Copy) -> list[str]:
            if len(copied) == 3:
                raise stop
            return copy_one(task)

        patch.setattr(placing, "_copy_one", fail_at_the_fourth)
        done = running("dicom", source, tmp_path / "out", "--keep-ids")
    assert done.exit_code in (2, 130)
    assert "Traceback" not in done.output
    if done.exit_code == 2:
        assert "No space left" in done.output
        assert "goes on where it stopped" in done.output
    assert not (tmp_path / "out").exists()
    first = list(copied)
    copied.clear()
    assert running("dicom", source, tmp_path / "out", "--keep-ids").exit_code == 0
    assert len(first) == 3
    assert sorted(first + copied) == [f"{number}.dcm" for number in range(VISITS)]
    assert tree(tmp_path / "out") == tree(whole)
    assert Timeline.open(tmp_path / "out").meta.fingerprint == Timeline.open(whole).meta.fingerprint
    assert {path.name for path in tmp_path.iterdir()} == {"source", "whole", "out"}


def test_another_request_starts_afresh_and_clears_up(
    running: Running, tmp_path: Path, source: Path, copied: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from temmed.timelines import folder

    def interrupt(*arguments: object, **named: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(folder, "write_timeline", interrupt)
        assert running("dicom", source, tmp_path / "out").exit_code == 130
    assert len(copied) == VISITS
    assert len(list(tmp_path.iterdir())) == 2
    copied.clear()
    assert running("dicom", source, tmp_path / "out", "--pseudonym-key", "other").exit_code == 0
    assert len(copied) == VISITS
    assert {path.name for path in tmp_path.iterdir()} == {"source", "out"}


def test_parts_make_what_one_import_makes(running: Running, tmp_path: Path, source: Path, copied: list[str]) -> None:
    assert running("dicom", source, tmp_path / "whole").exit_code == 0
    shares = []
    for part in ("2/3", "1/3", "3/3"):
        copied.clear()
        done = running("dicom", source, tmp_path / "out", "--part", part)
        assert done.exit_code == 0, done.output
        assert f"Copied part {part[0]} of 3" in done.output
        assert "same command without --part" in done.output
        assert not (tmp_path / "out").exists()
        shares.append(list(copied))
    assert [len(share) for share in shares] == [2, 2, 2]
    assert len({name for share in shares for name in share}) == VISITS
    copied.clear()
    assert running("dicom", source, tmp_path / "out").exit_code == 0
    assert copied == []
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


@pytest.mark.parametrize("part", ["0/3", "4/3", "3", "a/b", "-1/3"])
def test_a_part_that_is_none(running: Running, tmp_path: Path, source: Path, part: str) -> None:
    done = running("dicom", source, tmp_path / "out", f"--part={part}")
    assert done.exit_code == 2
    assert "I/N with I from 1 to N" in done.output


def test_a_killed_import_goes_on(running: Running, tmp_path: Path, source: Path, copied: list[str]) -> None:
    script = """
import sys, time
from pathlib import Path
from temmed.timelines.importers import placing
from temmed.timelines.importers.build import Request, run_import
from temmed.timelines.importers.registry import importer
copy_one, count = placing._copy_one, 0
def wait_at_the_fourth(task):
    global count
    count += 1
    if count == 4:
        task.target.write_bytes(b"half")
        print("ready", flush=True)
        time.sleep(60)
    return copy_one(task)
placing._copy_one = wait_at_the_fourth
run_import(importer("dicom"), Request(Path(sys.argv[1]), Path(sys.argv[2])))
"""
    command = [sys.executable, "-c", script, str(source), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        refused = running("dicom", source, tmp_path / "out")
        assert refused.exit_code == 2
        assert "no other process at work on it" in refused.output
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "out").exists()
    done = running("dicom", source, tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert len(copied) == VISITS - 3
    assert running("dicom", source, tmp_path / "whole").exit_code == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
