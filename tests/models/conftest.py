"""Temporal and task heads as their YAML files describe them, and readers to ask them with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from temmed.config.paths import conf_dir
from temmed.models.readers.place_and_moment import PlaceAndMoment

DIM = 24
#: Arguments that say after how many positions a head forgets, merges or writes.
LIMITS = {"capacity", "segment", "window"}


def temporal_configs() -> list[Path]:
    """Every temporal head of the project: a new one is tested as soon as its YAML is there."""
    return sorted((Path(conf_dir()) / "model" / "temporal").glob("*.yaml"))


def task_heads() -> dict[str, Any]:
    """Every task head with a weight above 0, as conf/model/heads/full.yaml has them."""
    folder = Path(conf_dir()) / "model" / "heads"
    full = OmegaConf.load(folder / "full.yaml")
    del full["defaults"]
    heads = OmegaConf.to_container(OmegaConf.merge(OmegaConf.load(folder / "default.yaml"), full))
    assert isinstance(heads, dict)
    return {str(name): node for name, node in heads.items()}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "head_config" not in metafunc.fixturenames:
        return
    cases = []
    for path in temporal_configs():
        config = OmegaConf.load(path)
        resolved = OmegaConf.to_container(OmegaConf.merge({"model": {"dim": DIM}, "it": config}), resolve=True)
        assert isinstance(resolved, dict)
        cases.append(pytest.param(resolved["it"], id=path.stem))
        for size in sorted(LIMITS & resolved["it"].keys()):
            # Fewer slots than positions: what happens when they are full is at work, too.
            cases += [pytest.param({**resolved["it"], size: n}, id=f"{path.stem}-{n}") for n in (1, 3)]
    metafunc.parametrize("head_config", cases)


@pytest.fixture
def reader() -> PlaceAndMoment:
    torch.manual_seed(1)
    return PlaceAndMoment(DIM, places=3, heads=3, head_dim=8, hidden=32).eval()
