"""Hydra calls this before the first run or sweep: a mistake is answered before a folder exists or torch is loaded."""

from __future__ import annotations

import sys
from typing import Any

from hydra import compose
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from temmed.config.check import check
from temmed.config.explain import explain
from temmed.errors import InputError


def refuse(error: InputError) -> SystemExit:
    """Say what is wrong, on stderr and in one line, and return the exit that follows from it."""
    print(f"error: {error}", file=sys.stderr)
    return SystemExit(2)


class CheckBeforeRun(Callback):
    """Check the configuration of a run, or of every job of a grid sweep, before the first one starts.

    Hydra turns exceptions of callbacks into warnings, so the process ends here.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Check the one configuration."""
        try:
            check(config)
        except InputError as error:
            raise refuse(error) from None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Compose and check every job that the grid sweeper will start."""
        overrides = OverridesParser.create(config_loader=None).parse_overrides(list(config.hydra.overrides.task))
        (jobs,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
        for job in jobs:
            try:
                check(compose(config.hydra.job.config_name, overrides=list(job)))
            except InputError as error:
                raise refuse(error) from None
            except HydraException as error:
                raise refuse(explain(error, config.hydra.job.config_name)) from None
