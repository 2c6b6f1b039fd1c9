"""What the patients of one modality are drawn from: visits, places, and the kinds of findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Kind:
    """The findings of one label.

    Attributes:
        contrast: range of the intensity that a finding adds, for each channel.
        sizes: bounds of its size in mm; below the first it is not drawn.
        places: the locations where it may lie; all by default.
        quantity: what its size is called.
        words: how its size is called in prompts and reports.
    """

    contrast: tuple[tuple[float, float], ...]
    sizes: tuple[float, float]
    places: tuple[str, ...] = ()
    quantity: str = "longest_diameter"
    words: str = "longest diameter"


@dataclass(frozen=True)
class Plan:
    """What the patients of one modality are drawn from.

    Attributes:
        examination: its name in reports.
        places: centre of each location in mm, (x, y, z).
        kinds: the findings, by label.
        scanners: names of at least two.
        visits: numbers of visits, equally likely.
        draw_anatomy: draws the shape of the body part, given a generator and the age in years.
        gap: median time between visits in days.
        gap_bounds: least and greatest time between visits in days.
        findings: half-open range of the number of findings.
        treated: share of the patients who get therapy.
    """

    examination: str
    places: Mapping[str, tuple[float, float, float]]
    kinds: Mapping[str, Kind]
    scanners: tuple[str, ...]
    visits: tuple[int, ...]
    draw_anatomy: Callable[[np.random.Generator, float], Any]
    gap: float = 95.0
    gap_bounds: tuple[float, float] = (14.0, 730.0)
    findings: tuple[int, int] = (2, 6)
    treated: float = 0.5

    def labels_at(self, location: str) -> list[str]:
        """The labels of findings that may lie at a location."""
        return [label for label, kind in self.kinds.items() if not kind.places or location in kind.places]

    def places_of(self, label: str) -> list[str]:
        """The locations where findings of a label may lie, in alphabetical order."""
        return sorted(self.kinds[label].places or self.places)
