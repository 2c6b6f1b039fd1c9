"""The project's own files agree with each other."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins(name: str) -> dict[str, str]:
    """The pinned versions of a requirements file."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = (re.fullmatch(r"([A-Za-z0-9_.-]+)==(\S+)", line) for line in lines)
    return {canonicalize_name(match[1]): match[2] for match in found if match}


def test_every_dependency_is_pinned_to_a_version_it_allows() -> None:
    pinned = pins("requirements.txt") | pins("requirements-dev.txt")
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *extras["video"], *extras["tensorboard"], *extras["dev"]]
    for requirement in map(Requirement, wanted):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} has no pin"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} against {version}"


def test_every_pin_is_a_dependency() -> None:
    extras = PROJECT["optional-dependencies"].values()
    known = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    known |= {canonicalize_name(Requirement(line).name) for extra in extras for line in extra}
    assert set(pins("requirements.txt")) <= known
    assert set(pins("requirements-dev.txt")) <= known


def test_make_lists_every_target() -> None:
    shown = subprocess.run(
        ["make", "-C", str(ROOT), "--no-print-directory"], capture_output=True, text=True, check=True
    )
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    for target in phony.split():
        assert f"make {target} " in shown.stdout


def test_scripts_lead_to_functions_that_exist() -> None:
    from temmed import entry

    scripts = PROJECT["scripts"]
    assert callable(entry.train)
    assert callable(entry.evaluate)
    assert scripts["temmed-train"] == "temmed.entry:train"
    assert scripts["temmed-evaluate"] == "temmed.entry:evaluate"
