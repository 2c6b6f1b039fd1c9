"""Rules on splits: nobody is on both sides, and everybody named is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from temmed.errors import InputError
from temmed.timelines.audit import Audit, Finding, found, rule
from temmed.timelines.splits import FOLDER, complete, overlapping, read_about, read_split_frame


def _written(audit: Audit) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Name, rule and rows of every readable split, unchecked."""
    if audit.split is not None:
        yield audit.split.name, audit.split.rule, audit.split.frame
    for path in sorted((audit.timeline.root / FOLDER).glob("*.csv")):
        try:
            frame = complete(read_split_frame(path), audit.timeline)
        except InputError:
            continue
        yield path.stem, _rule_of(path.with_suffix(".json")), frame


def _rule_of(about: Path) -> str:
    try:
        return str(read_about(about).get("rule", "file")) if about.is_file() else "file"
    except InputError:
        return "file"


@rule
def unreadable_split(audit: Audit) -> Iterator[Finding]:
    """A split that cannot be read protects nobody."""
    broken = []
    for path in sorted((audit.timeline.root / FOLDER).glob("*.csv")):
        try:
            read_split_frame(path)
        except InputError as error:
            broken.append(f"{path.name}: expected {error.expected}, found {error.found}")
    yield from found("unreadable_split", "error", "the split cannot be read", broken)


@rule
def patient_overlap(audit: Audit) -> Iterator[Finding]:
    """A patient (under ``time``: a position) in two subsets."""
    shared = [f"{name}: {case}" for name, by, frame in _written(audit) for case in overlapping(frame, by)]
    message = "patients or positions are in two subsets: scores would tell of memory and not of skill"
    yield from found("patient_overlap", "error", message, shared)


@rule
def unknown_in_split(audit: Audit) -> Iterator[Finding]:
    """A patient or sequence that the folder does not have."""
    patients = audit.timeline.table("patients")["patient_id"]
    sequences = audit.timeline.table("sequences")["sequence_id"]
    cases = []
    for name, _, frame in _written(audit):
        strange = frame[~frame["patient_id"].isin(patients) | ~frame["sequence_id"].isin(sequences)]
        # A file may name patients alone, or sequences alone.
        cases += [f"{name}: {', '.join(ids.dropna())}" for _, ids in strange[["patient_id", "sequence_id"]].iterrows()]
    yield from found("unknown_in_split", "error", "a split names patients or sequences that are not there", cases)
