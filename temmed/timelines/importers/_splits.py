"""A source's own division into subsets, without a patient in two of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from temmed.timelines.importers._tables import Row
from temmed.timelines.importers.plan import Plan, PlannedSequence

OFFICIAL = "official"
_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
}
#: Who is in several subsets counts for the last of these: what a model is judged on must not have been trained on.
_ORDER = ("train", "val", "test")


def subset_named(row: Row, column: str) -> str:
    """The subset that a cell names, as TemMed calls it.

    Raises:
        InputError: it is none of the usual words.
    """
    name = _NAMES.get(row.needed(column).lower())
    if name is None:
        raise row.wrong(column, "train, validate or test")
    return name


def add_split(result: Plan, subsets: Iterable[tuple[PlannedSequence, str]], name: str = OFFICIAL) -> None:
    """Add a source's own split to a plan.

    A sequence that the source has in two subsets is left out. So is one of a patient who is also in a later subset
    (test after val after train). Both are counted in a note.

    Args:
        result: the plan.
        subsets: sequences and the subset of each; one may come several times.
        name: of the split.
    """
    of_sequence: dict[str, set[str]] = defaultdict(set)
    of_patient: dict[str, set[str]] = defaultdict(set)
    patients: dict[str, str] = {}
    for sequence, subset in subsets:
        of_sequence[sequence.sequence_id].add(subset)
        of_patient[sequence.patient_id].add(subset)
        patients[sequence.sequence_id] = sequence.patient_id
    rows = []
    for sequence_id, named in of_sequence.items():
        last = max(of_patient[patients[sequence_id]], key=_ORDER.index)
        if named == {last}:
            rows.append({"sequence_id": sequence_id, "patient_id": patients[sequence_id], "subset": last})
    left = len(of_sequence) - len(rows)
    if left:
        result.notes.append(
            f"{left:,} sequences are left out of the split {name!r}: the source has their patient in two subsets"
        )
    if rows:
        result.splits[name] = rows
