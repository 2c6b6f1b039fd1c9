"""What ``--help`` prints.

The text is the ``hydra.help.template`` of the primary configuration. Hydra would fill it itself, but it copies its
whole registry once for every group it lists, which takes seconds; here the groups are read from the folders.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import yaml

from temmed.config.paths import conf_dir


def help_text(name: str) -> str:
    """The help of the primary configuration ``name``."""
    template = string.Template(_primary(name)["hydra"]["help"]["template"])
    return template.substitute(APP_CONFIG_GROUPS=_listing(groups(), defaults(name)))


def defaults(name: str) -> dict[str, str | None]:
    """The groups that a primary configuration uses, and the option of each that it starts from."""
    entries = _primary(name)["defaults"]
    return {group: option for entry in entries if isinstance(entry, dict) for group, option in entry.items()}


def groups() -> dict[str, list[str]]:
    """The options of every group; nested groups are written with a slash."""
    root = conf_dir()
    found: dict[str, list[str]] = {}
    for file in sorted(root.glob("*/**/*.yaml")):
        found.setdefault(_slashed(file.parent, root), []).append(file.stem)
    return dict(sorted(found.items()))


def _primary(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((conf_dir() / f"{name}.yaml").read_text(encoding="utf-8"))
    return loaded


def _slashed(folder: Path, root: Path) -> str:
    return folder.relative_to(root).as_posix()


def _listing(options: dict[str, list[str]], chosen: dict[str, str | None]) -> str:
    """One line for each group, the default with a star."""
    width = max(map(len, options))
    lines = []
    for group, names in options.items():
        starred = [f"{name}*" if name == chosen.get(group) else name for name in names]
        lines.append(f"  {group:<{width}}  {', '.join(starred)}")
    return "\n".join(lines)
