"""As much of a timeline as splits look at, from a few words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest

from temmed.timelines.folder import Timeline

ANSWERS = ("progressed", "stable", "regressed")


def make_cohort(people: Mapping[str, tuple[list[int], str | None, str | None]], root: Path | None = None) -> Timeline:
    rows = [
        (f"{patient}/{index}", patient, length)
        for patient, (lengths, _, _) in people.items()
        for index, length in enumerate(lengths)
    ]
    asked = [(name, position) for name, _, length in rows for position in range(length)]
    frames: dict[str, Any] = {
        "patients": pd.DataFrame(
            [(patient, sex, site) for patient, (_, sex, site) in people.items()], columns=["patient_id", "sex", "site"]
        ).astype("str"),
        "sequences": pd.DataFrame(rows, columns=["sequence_id", "patient_id", "length"])[["sequence_id", "patient_id"]],
        "timepoints": pd.DataFrame(asked, columns=["sequence_id", "position"]),
        "questions": pd.DataFrame(
            [
                (f"{name}?{position}", name, position, "progression", ANSWERS[(len(name) + position) % 3])
                for name, position in asked
            ],
            columns=["question_id", "sequence_id", "asked_at", "task", "answer"],
        ),
    }
    return cast(Timeline, SimpleNamespace(table=frames.__getitem__, root=root or Path("nowhere")))


@pytest.fixture(scope="session")
def cohort() -> Callable[..., Timeline]:
    """``cohort({"p0": ([5, 3], "F", "A")}, root)``: the lengths of a patient's sequences, sex and site."""
    return make_cohort


@pytest.fixture(scope="session")
def crowd() -> Callable[..., Timeline]:
    """``crowd(100, root)``: so many patients of two sexes and three sites, each with a sequence of five positions."""

    def make(number: int, root: Path | None = None) -> Timeline:
        return make_cohort({f"p{n:04d}": ([5], "FM"[n % 2], "ABC"[n % 3]) for n in range(number)}, root)

    return make
