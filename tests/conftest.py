"""What the tests of several parts share: one tiny synthetic folder per session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from temmed.config.paths import conf_dir
from temmed.data.fitted import Fitted
from temmed.data.fitting import fit
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split, make_split
from temmed.timelines.synthetic.generate import generate

from .golden import Golden


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--refresh-golden", action="store_true", help="write the recorded numbers of tests/models/golden")


@pytest.fixture
def golden(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Golden:
    """Recorded numbers to compare with; ``--refresh-golden`` writes them and prints what moved."""

    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end="")

    return Golden(request.config.getoption("refresh_golden"), say)


@pytest.fixture(scope="session")
def tiny_timeline(tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    """24 patients, 32 pixels, one worker. Tests must not write into it."""
    root = tmp_path_factory.mktemp("synthetic") / "tiny"
    return generate(root, patients=24, size=32, workers=1, progress=False)


@pytest.fixture(scope="session")
def split(tiny_timeline: Timeline) -> Split:
    return make_split(tiny_timeline, by="patient", seed=0)


@pytest.fixture(scope="session")
def fitted(tiny_timeline: Timeline, split: Split) -> Fitted:
    return fit(tiny_timeline, split, 32)


@pytest.fixture(scope="session")
def save_text_encoder() -> Callable[[Path, str], str]:
    """``save_text_encoder(folder, kind)``: a tiny ``bert``, ``clip`` or ``t5`` in the form of the hub; its folder."""
    from tests.text_encoders import save  # transformers takes seconds to import

    return save


@pytest.fixture(scope="session")
def model_config() -> Callable[..., dict[str, Any]]:
    """``model_config("memory_fusion", capacity=2)``: the ``model`` group of conf/, small."""

    def make(temporal: str = "memory_fusion", **changes: Any) -> dict[str, Any]:
        folder = Path(conf_dir()) / "model"
        parts = {
            "backbone": "backbone/timm",
            "text": "text/builtin",
            "temporal": f"temporal/{temporal}",
            "reader": "reader/place_and_moment",
            "heads": "heads/default",
        }
        loaded = {key: OmegaConf.load(folder / f"{path}.yaml") for key, path in parts.items()}
        config = OmegaConf.to_container(OmegaConf.create({"model": {"dim": 16, **loaded}}), resolve=True)
        assert isinstance(config, dict)
        model = config["model"]
        model["backbone"] |= {"stage": 1, "grid": 2}
        model["text"] |= {"heads": 2}
        model["reader"] |= {"heads": 3, "head_dim": 8, "hidden": 32}
        model |= {"chunk": None, "carry": "exact", "previous_answers": {}, "train": "full"}
        model["temporal"] |= changes
        return model

    return make
