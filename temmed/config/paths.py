"""Where the Hydra configuration lies."""

from __future__ import annotations

from pathlib import Path

import temmed
from temmed.errors import InputError


def conf_dir() -> Path:
    """The folder with ``train.yaml``, ``evaluate.yaml`` and the groups.

    In a wheel it is ``temmed/conf``; in a checkout, ``conf`` beside the package.

    Raises:
        InputError: if neither is there.
    """
    package = Path(temmed.__file__).resolve().parent
    for candidate in (package / "conf", package.parent / "conf"):
        if (candidate / "train.yaml").is_file():
            return candidate
    raise InputError(
        expected="the configuration folder conf/",
        found="nothing there",
        where=str(package.parent / "conf"),
        remedy="The installation is incomplete: install temmed again.",
    )
