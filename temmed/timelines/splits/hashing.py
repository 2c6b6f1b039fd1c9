"""Places that follow from an id and a seed alone, so that adding patients moves nobody."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from temmed.errors import InputError
from temmed.timelines.recipe import DEFAULT_FRACTIONS, SUBSETS

#: How far, in binomial standard deviations, a subset's size may be from its share.
TOLERANCE = 4.0


def place(identity: str, seed: int, purpose: str = "") -> float:
    """A number in [0, 1) that an id and a seed decide; those of two purposes are unrelated."""
    text = f"{purpose}:{seed}:{identity}" if purpose else f"{seed}:{identity}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64


def assign(patient_id: str, seed: int, fractions: Sequence[float] = DEFAULT_FRACTIONS, purpose: str = "") -> str:
    """The subset of a patient: a function of the id and the seed alone."""
    bounds = np.cumsum(fractions)
    found = int(np.searchsorted(bounds, place(patient_id, seed, purpose), side="right"))
    # The fractions may add up to a little less than 1, and a last one of 0 owns nobody.
    return SUBSETS[min(found, max(index for index, share in enumerate(fractions) if share))]


def fold_of(patient_id: str, seed: int, folds: int) -> int:
    """The fold of a patient, 0 … folds - 1: a function of the id and the seed alone."""
    return int(place(patient_id, seed, "fold") * folds)


def subset_of_fold(found: int, fold: int, folds: int) -> str:
    """The subset of a patient of the fold ``found`` when ``fold`` is the test.

    >>> [subset_of_fold(found, 3, 4) for found in range(4)]
    ['val', 'train', 'train', 'test']
    """
    return {fold % folds: "test", (fold + 1) % folds: "val"}.get(found, "train")


def in_order(identities: Sequence[str], seed: int, purpose: str) -> list[str]:
    """The ids in an order of chance that each one's own place decides: leaving some out keeps the order of the rest."""
    return sorted(identities, key=lambda identity: (place(identity, seed, purpose), identity))


def check_proportions(placed: pd.Series, roots: pd.Series, fractions: Sequence[float], seed: int) -> None:
    """Refuse sizes that chance hardly gives.

    Args:
        placed: patient → subset.
        roots: patient → who stands for the group that is placed together.
        fractions: the shares asked for.
        seed: of the hash.

    Raises:
        InputError: a subset is more than :data:`TOLERANCE` standard deviations from its share.
    """
    count = len(placed)
    sizes = roots.value_counts()
    for subset, share in zip(SUBSETS, fractions, strict=True):
        found = int((placed == subset).sum())
        spread = math.sqrt(float((sizes**2).sum()) * share * (1 - share))
        # One more, as a handful of patients does not follow the normal law that the tolerance comes from.
        if abs(found - count * share) > TOLERANCE * spread + sizes.max():
            raise InputError(
                f"about {count * share:.0f} of {count} patients in {subset}",
                f"{found}, more than {TOLERANCE:g} standard deviations away",
                f"the split with seed {seed}",
                "Use another seed.",
            )
