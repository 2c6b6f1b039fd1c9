"""sed_eval, to compare with: how it is loaded, and events in the form that it reads.

dcase_util, on which it rests, imports ``pkg_resources``, which recent setuptools no longer has, and asks it for nothing
that is used here. An empty module of that name is enough.
"""

from __future__ import annotations

import sys
import warnings
from collections import defaultdict
from types import ModuleType
from typing import Any

import numpy as np

from temmed.metrics.functional.intervals import Intervals

Events = list[dict[str, Any]]


def load() -> ModuleType:
    """The module ``sed_eval``."""
    stand_in = "pkg_resources" not in sys.modules
    if stand_in:
        sys.modules["pkg_resources"] = ModuleType("pkg_resources")
    try:
        with warnings.catch_warnings():
            # Invalid escapes in the docstrings of its dependencies.
            warnings.simplefilter("ignore")
            import sed_eval
    finally:
        if stand_in:
            del sys.modules["pkg_resources"]
    found: ModuleType = sed_eval
    return found


def files(truth: Intervals, predicted: Intervals) -> list[tuple[Events, Events]]:
    """True and predicted events of each sequence, as lists of what sed_eval calls event items."""
    by_file: dict[Any, tuple[Events, Events]] = defaultdict(lambda: ([], []))
    for kind, intervals in enumerate((truth, predicted)):
        for sequence, label, onset, offset in zip(*(np.asarray(column).tolist() for column in intervals), strict=True):
            by_file[sequence][kind].append(
                {"file": str(sequence), "event_label": str(label), "onset": float(onset), "offset": float(offset)}
            )
    return list(by_file.values())


def evaluate(metric: Any, pairs: list[tuple[Events, Events]]) -> Any:
    """Give all files to one of sed_eval's metrics."""
    for true, given in pairs:
        metric.evaluate(true, given)
    return metric
