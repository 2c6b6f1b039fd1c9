"""What a run folder says of itself: ``run.json``."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from temmed.processes import processors

_PACKAGES = ("torch", "pytorch-lightning", "timm", "monai", "transformers", "numpy", "pandas")


def describe_environment() -> dict[str, Any]:
    """Versions, hardware and, in a git checkout, its state."""
    from temmed import __version__

    return {
        "created": datetime.now(UTC).isoformat(timespec="microseconds"),
        "versions": {
            "temmed": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in _PACKAGES},
        },
        "hardware": {
            "machine": platform.machine(),
            "cores": processors(),
            "threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())],
        },
        "git": _git_state(),
    }


def _git_state() -> dict[str, Any] | None:
    """Commit of the checkout this package lies in, and whether it has uncommitted changes; ``None`` outside one."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, timeout=20)
        except (FileNotFoundError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    return None if commit is None else {"commit": commit, "dirty": bool(git("status", "--porcelain"))}
