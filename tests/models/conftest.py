"""Temporal and task heads as their YAML files describe them, and readers to ask them with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from temmed.config.paths import conf_dir
from temmed.data.boxes import Box
from temmed.data.fitted import Fitted
from temmed.data.records import Record
from temmed.data.report_targets import fit_reports
from temmed.models.readers.place_and_moment import PlaceAndMoment
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split

DIM = 24
#: Arguments that say after how many positions a head forgets, merges or writes.
LIMITS = {"capacity", "segment", "window"}


def temporal_configs() -> list[Path]:
    """Every temporal head of the project: a new one is tested as soon as its YAML is there."""
    return sorted((Path(conf_dir()) / "model" / "temporal").glob("*.yaml"))


def task_heads() -> dict[str, Any]:
    """Every task head with a weight above 0, as conf/model/heads/full.yaml has them, or 1."""
    folder = Path(conf_dir()) / "model" / "heads"
    full = OmegaConf.load(folder / "full.yaml")
    del full["defaults"]
    heads = OmegaConf.to_container(OmegaConf.merge(OmegaConf.load(folder / "default.yaml"), full))
    assert isinstance(heads, dict)
    return {str(name): {**node, "weight": node["weight"] or 1.0} for name, node in heads.items()}


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


@pytest.fixture(scope="session")
def fitted(fitted: Fitted, tiny_timeline: Timeline, split: Split) -> Fitted:
    """With a vocabulary, so that reports can be written."""
    return fit_reports(fitted, tiny_timeline, split, None, size=400, longest=60)


def with_boxes(record: Record) -> Record:
    """A record with boxes of its events: the built-in sets have none."""
    rng = np.random.default_rng(len(record.times))
    boxes = [
        Box(event.label, "t1", event.tokens, int(at), (*rng.uniform(0.3, 0.7, 2), *rng.uniform(0.1, 0.5, 2)), (64, 32))
        for event in record.events
        for at in np.flatnonzero(record.imaged)[:2]
    ]
    return replace(record, boxes=boxes)
