"""Who had a part in a model: the patients of its own training, and of those of the checkpoints it started from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split, reopen_split, seen_before


def trainings(provenance: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Data and split of each training that led to a model, its own last.

    Args:
        provenance: what its checkpoint says of the data; ``before`` holds the trainings of the checkpoint it started
            from.
    """
    own = {"dataset": provenance["dataset"]["fingerprint"], "split": provenance["split"]}
    return [*provenance.get("before", ()), own]


def check_unseen(provenance: Mapping[str, Any], timeline: Timeline, split: Split, subset: str) -> None:
    """Refuse to judge a model on patients that it, or a model it started from, was trained on.

    Patients of other timeline folders cannot be told from these and are not looked for.

    Args:
        provenance: what the checkpoint says of the data.
        timeline: the data to judge on.
        split: divides them.
        subset: the part to judge on; anything goes for ``train``.

    Raises:
        InputError: some of the subset had a part in a training, or the split of one is no longer there.
    """
    for training in trainings(provenance):
        if subset == "train" or training["dataset"] != timeline.meta.fingerprint:
            continue
        trained = reopen_split(timeline, training["split"])
        if trained.fingerprint != training["split"]["fingerprint"]:
            raise InputError(
                f"the split {trained.name} as it was in a training that led to the checkpoint",
                "another division under that name",
                f"{timeline.root}",
                "Put back the split's file, or judge on other data.",
            )
        if seen := seen_before(trained, split, subset, timeline):
            raise InputError(
                f"a {subset} subset that had no part in the training with the split {trained.name}",
                f"{len(seen)} that had, such as {', '.join(seen[:3])}",
                f"{timeline.root}, split {split.name}",
                "Judge on the split of the training, or train with this one.",
            )
