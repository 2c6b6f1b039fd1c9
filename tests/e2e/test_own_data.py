"""Real images, imported and trained on with the very commands of ``docs/own-data.md``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from temmed.config.paths import conf_dir

#: See conftest.
Start = Callable[..., Any]
Command = Callable[..., Any]

REPOSITORY = Path(conf_dir()).parent


def documented(heading: str) -> list[list[str]]:
    """The words of each command in the first code block below a heading of the page."""
    page = (REPOSITORY / "docs" / "own-data.md").read_text()
    block = re.search(rf"^## {re.escape(heading)}\n.*?```bash\n(.*?)```", page, re.DOTALL | re.MULTILINE)
    assert block is not None
    return [shlex.split(line, comments=True) for line in block[1].splitlines()]


def follow(lines: list[list[str]], source: Path, place: Path, command: Command, start: Start) -> Any:
    """Do what the page says below ``place``, with ``source`` as the file that its first lines fetch."""
    outcome = None
    (place / "docs").symlink_to(REPOSITORY / "docs")
    for words in lines:
        if words[0] == "mkdir":
            (place / words[-1]).mkdir()
        elif words[0] == "cp":
            target = place / words[-1]
            (target / source.name if target.is_dir() else target).write_bytes(source.read_bytes())
        elif words[0] == "temmed":
            result = command(*words[1:])
            assert result.exit_code == 0, result.output
        else:
            assert words[:2] == ["python", "train.py"]
            outcome = start(*words[2:], tiny=("debug=fast",))
    return outcome


def test_an_echo_loop(start: Start, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pydicom import examples

    monkeypatch.chdir(tmp_path)
    source = Path(str(examples.get_path("ybr_color")))
    outcome = follow(documented("A cine loop, from import to training"), source, tmp_path, command, start)
    metrics = outcome.metrics()
    assert any(key.endswith("/accuracy") for key in metrics)
    asked = command(
        "predict",
        outcome.run / "checkpoints/best.ckpt",
        "data/echo",
        "--ask",
        "Is the mitral valve open?",
        "--choices",
        "open|closed",
    )
    assert asked.exit_code == 0, asked.output
    assert "time point 29 (966.6" in asked.output


def test_a_functional_mri(start: Start, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nibabel

    monkeypatch.chdir(tmp_path)
    source = Path(nibabel.__file__).parent / "tests" / "data" / "functional.nii"
    outcome = follow(documented("A 4D NIfTI file"), source, tmp_path, command, start)
    assert outcome.metrics()
