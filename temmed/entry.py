"""The entry points ``train.py`` and ``evaluate.py``: compose, check, hand over.

Nothing heavy is imported before the configuration has been found right, so that ``--help``, ``--cfg`` and a typo are
answered at once.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import CodeType

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from temmed.config.explain import explain
from temmed.config.help import help_text
from temmed.config.hydra_callback import refuse
from temmed.config.paths import conf_dir
from temmed.config.schema import register
from temmed.errors import InputError

#: A composed configuration in, the metrics of the run out.
Task = Callable[[DictConfig], dict[str, float]]


def train() -> None:
    """Train as the command line says: the console script ``temmed-train`` and ``python train.py``."""
    _start("train", _train)


def evaluate() -> None:
    """Judge a checkpoint as the command line says: ``temmed-evaluate`` and ``python evaluate.py``."""
    _start("evaluate", _evaluate)


def _train(config: DictConfig) -> dict[str, float]:
    from temmed.run import train as run

    return run(config)


def _evaluate(config: DictConfig) -> dict[str, float]:
    from temmed.run import evaluate as run

    return run(config)


def _start(name: str, task: Task) -> None:
    """Run ``task`` under Hydra; what the user did wrong is said in one line, with exit code 2.

    Anything else keeps its traceback. Who sets ``HYDRA_FULL_ERROR=1`` sees Hydra's own account of a wrong
    configuration too.
    """

    def job(config: DictConfig) -> dict[str, float]:
        try:
            return task(config)
        except (InputError, KeyboardInterrupt) as error:
            _remove_if_empty(Path(HydraConfig.get().runtime.output_dir), Path(config.paths.runs).absolute())
            if isinstance(error, InputError):
                raise refuse(error) from None
            raise

    if {"--help", "-h"} & set(sys.argv[1:]):
        print(help_text(name), end="")
        return
    full_error = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors instead of printing them
    try:
        register()
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(job)()
    except InputError as error:
        raise refuse(error) from None
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        if full_error == "1" or not _is_about_configuration(error, job.__code__):
            raise
        raise refuse(explain(error, name)) from None
    except KeyboardInterrupt as interrupt:
        print(": ".join(["interrupted", *filter(None, map(str, interrupt.args))]), file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        if full_error is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full_error


def _is_about_configuration(error: BaseException, job: CodeType) -> bool:
    """Whether Hydra or OmegaConf raised this by themselves; what comes out of the job is a bug of ours."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    innermost = frames[-1].f_globals.get("__name__", "").partition(".")[0]
    return innermost in {"hydra", "omegaconf", "antlr4", "yaml"} and all(frame.f_code is not job for frame in frames)


def _remove_if_empty(folder: Path, top: Path) -> None:
    """Take away the folder that Hydra made for a run that wrote nothing, and the empty ones above it up to ``top``."""
    for candidate in (folder, *folder.parents):
        if not candidate.is_relative_to(top) or Path.cwd().is_relative_to(candidate):
            return
        try:
            candidate.rmdir()
        except OSError:
            return  # it holds something, so it stays
