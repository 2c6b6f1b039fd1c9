"""Which importers there are: every module beside this one that defines ``IMPORTER``."""

from __future__ import annotations

import importlib
import pkgutil
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from temmed.errors import InputError
from temmed.timelines.importers.plan import Mapper, Options, Plan
from temmed.wording import did_you_mean


def copy_bytes(source: Path, target: Path, patient_id: str) -> list[str]:
    """Copy a file as it is.

    Args:
        source: the file.
        target: where to.
        patient_id: of no use here; see :attr:`Importer.copy`.

    Returns:
        Nothing: no element was removed.
    """
    shutil.copyfile(source, target)
    return []


@dataclass(frozen=True)
class Importer:
    """A kind of source that TemMed reads.

    Attributes:
        name: the word after ``temmed data import``.
        summary: one line of help.
        needs: what SRC must be and hold.
        plan: finds the sequences of a source; writes nothing.
        copy: copies one file into the dataset, given its patient's id, and returns what it removed from the copy.
    """

    name: str
    summary: str
    needs: str
    plan: Callable[[Path, Options, Mapper], Plan]
    copy: Callable[[Path, Path, str], list[str]] = copy_bytes


@cache
def importers() -> dict[str, Importer]:
    """All importers by name."""
    from temmed.timelines import importers as package

    found: dict[str, Importer] = {}
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importer = getattr(importlib.import_module(module.name), "IMPORTER", None)
        if isinstance(importer, Importer):
            if importer.name in found:
                raise RuntimeError(f"two importers are called {importer.name!r}")
            found[importer.name] = importer
    return dict(sorted(found.items()))


def importer(name: str) -> Importer:
    """An importer by its name.

    Raises:
        InputError: there is none of that name.
    """
    known = importers()
    if name not in known:
        remedy = did_you_mean(name, known, "See `temmed data import --help`.")
        raise InputError(f"one of {', '.join(known)}", repr(name), "importer", remedy)
    return known[name]
