"""What the tests of several parts share: one tiny synthetic folder per session."""

from __future__ import annotations

import pytest

from temmed.timelines.folder import Timeline
from temmed.timelines.synthetic.generate import generate


@pytest.fixture(scope="session")
def tiny_timeline(tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    """24 patients, 32 pixels, one worker. Tests must not write into it."""
    root = tmp_path_factory.mktemp("synthetic") / "tiny"
    return generate(root, patients=24, size=32, workers=1, progress=False)
