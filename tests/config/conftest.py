"""Run an entry point in this process, with a training that only takes notes."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from temmed import entry
from temmed.config.paths import conf_dir
from temmed.config.schema import register


@dataclass
class Outcome:
    """What the entry point did."""

    code: int
    message: str
    output: str
    jobs: list[DictConfig] = field(default_factory=list)


@pytest.fixture
def start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Outcome]]:
    """``start("model=static", main="train", body=…)`` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.delenv("TEMMED_RUNS", raising=False)
    # Hydra composes once more to learn whether a file asks for a sweep; none does, and it doubles the time.
    monkeypatch.setattr(Hydra, "get_mode", lambda *_, **__: None)

    def run(*arguments: str, main: str = "train", body: Callable[[DictConfig], None] | None = None) -> Outcome:
        jobs: list[DictConfig] = []

        def job(config: DictConfig) -> dict[str, float]:
            jobs.append(OmegaConf.create(OmegaConf.to_container(config, resolve=True)))
            if body is not None:
                body(config)
            return {}

        fake = types.ModuleType("temmed.run")
        fake.train = fake.evaluate = job  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "temmed.run", fake)
        monkeypatch.setattr(sys, "argv", [f"{main}.py", *arguments])
        GlobalHydra.instance().clear()
        code = 0
        try:
            getattr(entry, main)()
        except SystemExit as stop:
            code = int(stop.code or 0)
        written = capfd.readouterr()
        return Outcome(code, written.err, written.out, jobs)

    yield run
    GlobalHydra.instance().clear()


@pytest.fixture(scope="session")
def composed() -> Callable[..., DictConfig]:
    """``composed("model=static", primary="train")``: what Hydra makes of the overrides."""
    register()

    def run(*overrides: str, primary: str = "train") -> DictConfig:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return compose(primary, overrides=list(overrides))

    return run
