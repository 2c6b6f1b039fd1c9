"""Rules on splits: nobody is on both sides, and everybody named is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from temmed.errors import InputError
from temmed.timelines.audit import Audit, Finding, found, rule
from temmed.timelines.splits import (
    FOLDER,
    SUBSETS,
    EditedSplitError,
    complete,
    load_split,
    overlapping,
    read_about,
    read_split_frame,
)


def written_splits(audit: Audit) -> Iterator[tuple[str, str, pd.DataFrame]]:
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
    shared = [f"{name}: {case}" for name, by, frame in written_splits(audit) for case in overlapping(frame, by)]
    message = "patients or positions are in two subsets: scores would tell of memory and not of skill"
    yield from found("patient_overlap", "error", message, shared)


@rule
def unknown_in_split(audit: Audit) -> Iterator[Finding]:
    """A patient or sequence that the folder does not have."""
    patients = audit.timeline.table("patients")["patient_id"]
    sequences = audit.timeline.table("sequences")["sequence_id"]
    cases = []
    for name, _, frame in written_splits(audit):
        strange = frame[~frame["patient_id"].isin(patients) | ~frame["sequence_id"].isin(sequences)]
        # A file may name patients alone, or sequences alone.
        cases += [f"{name}: {', '.join(ids.dropna())}" for _, ids in strange[["patient_id", "sequence_id"]].iterrows()]
    yield from found("unknown_in_split", "error", "a split names patients or sequences that are not there", cases)


@rule
def edited_split(audit: Audit) -> Iterator[Finding]:
    """A split must be as it was written: checkpoints know it by its fingerprint."""
    cases = []
    for name, by, frame in written_splits(audit):
        path = audit.timeline.root / FOLDER / f"{name}.json"
        if not path.exists() or by == "file" or len(overlapping(frame, by)):
            continue
        try:
            load_split(audit.timeline.root, name, audit.timeline)
        except EditedSplitError as error:
            cases.append(f"{name}: {error.found}")
        except InputError:
            # Unknown patients, overlaps and unreadable files have rules of their own.
            continue
    message = "the split was changed after it was written: checkpoints made with it are refused"
    yield from found("edited_split", "error", message, cases)


@rule
def empty_subset(audit: Audit) -> Iterator[Finding]:
    """A subset without patients trains or tests nothing."""
    cases = []
    for name, _, frame in written_splits(audit):
        cases += [f"{name}: {subset}" for subset in SUBSETS if not frame["subset"].eq(subset).any()]
    yield from found("empty_subset", "info", "the split has a subset without patients", cases)
