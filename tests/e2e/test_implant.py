"""Real images with findings in them, from import to training."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import examples


@pytest.mark.slow
def test_training_on_implanted_findings(start: Callable[..., Any], command: Callable[..., Any], tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("ct", "mr", "ybr_color"):
        shutil.copy(Path(str(examples.get_path(name))), source / f"{name}.dcm")
    for words in (
        ("data", "import", "dicom", source, tmp_path / "images"),
        ("data", "implant", tmp_path / "images", tmp_path / "findings", "--visits", "5", "--workers", "1"),
        ("data", "audit", tmp_path / "findings"),
    ):
        result = command(*words)
        assert result.exit_code == 0, result.output
    outcome = start(
        "model=static",
        "data=folder",
        f"data.root={tmp_path / 'findings'}",
        "data.split.by=time",
        tiny=("debug=fast", "logger=none"),
    )
    assert outcome.metrics()
