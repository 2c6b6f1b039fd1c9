"""Which questions train, choose and test a model: the division itself, which cannot hold an overlap."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.recipe import DEFAULT_FRACTIONS, SUBSETS

COLUMNS = ["sequence_id", "patient_id", "subset", "first_asked", "last_asked"]


@dataclass(frozen=True)
class Basis:
    """What a frozen split was made from.

    Attributes:
        patients: how many.
        sequences: how many.
        fingerprint: a hash of their ids and lengths, and of the attributes and groups that decided.
        content: the fingerprint of the data that near-duplicates were looked for in, if they were.
        groups: the patients found to share an image or a report. What they decided is in the fingerprint.
    """

    patients: int
    sequences: int
    fingerprint: str
    content: str | None = field(default=None, compare=False)
    groups: tuple[tuple[str, ...], ...] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Bring groups that were read from a file to one type."""
        if self.groups is not None:
            object.__setattr__(self, "groups", tuple(tuple(map(str, group)) for group in self.groups))

    @property
    def record(self) -> dict[str, Any]:
        """What the split's JSON file says of it."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Split:
    """A division of sequences, or of parts of them, into train, val and test.

    Attributes:
        name: its file name without suffix.
        rule: one of :data:`temmed.timelines.recipe.RULES`, or any other word for a division made elsewhere. Only under
            ``time`` may a patient be in several subsets.
        seed: what the hash was made with.
        frame: one row per sequence and subset: ``sequence_id, patient_id, subset, first_asked, last_asked``; the
            subset owns the questions asked at positions first_asked … last_asked, both included.
        fractions: the shares of patients asked for, in the order of :data:`SUBSETS`.
        parameters: what else the rule was given: folds, site, few_shot, ….
        basis: what a frozen split was made from; ``None`` for one that a hash decides, or that was made elsewhere.
        companions: splits that have to be kept with this one: the one that a few-shot split is a part of, the other
            folds of frozen folds.

    Raises:
        InputError: on construction, when two subsets share a patient (or, under ``time``, a position of a sequence).
    """

    name: str
    rule: str
    seed: int
    frame: pd.DataFrame
    fractions: tuple[float, ...] = field(default=DEFAULT_FRACTIONS)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    basis: Basis | None = None
    companions: tuple[Split, ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        """Bring the rows to one order and type, and refuse an overlap."""
        where = f"split {self.name!r}"
        missing = [column for column in COLUMNS if column not in self.frame.columns]
        if missing:
            raise InputError(
                f"columns {', '.join(COLUMNS)}", f"no {', '.join(missing)}", where, "Correct the split's CSV file."
            )
        frame = self.frame[COLUMNS].sort_values(["sequence_id", "first_asked", "subset"], ignore_index=True)
        frame = frame.astype({"first_asked": "int64", "last_asked": "int64"})
        object.__setattr__(self, "frame", frame)
        strange = frame.loc[~frame["subset"].isin(SUBSETS), "subset"]
        if len(strange):
            raise InputError(
                f"one of {', '.join(SUBSETS)} as subset", repr(strange.iloc[0]), where, "Correct the split's CSV file."
            )
        self._refuse_overlap(where)

    def _refuse_overlap(self, where: str) -> None:
        overlap = overlapping(self.frame, self.rule)
        if len(overlap):
            what = "position ranges" if self.rule == "time" else "patients"
            raise InputError(
                f"no {what} in two subsets",
                f"{len(overlap)} that are, such as {', '.join(overlap[:3])}",
                where,
                "Give each to one subset: a model must not be tested on what it was trained on.",
            )

    @cached_property
    def fingerprint(self) -> str:
        """A hash of who is where; the name and the seed take no part."""
        return fingerprint_of(self.frame[COLUMNS])

    @property
    def record(self) -> dict[str, Any]:
        """What runs, checkpoints and the split's JSON file say of it."""
        return {
            "name": self.name,
            "rule": self.rule,
            "seed": self.seed,
            "fractions": list(self.fractions),
            "parameters": dict(self.parameters),
            "fingerprint": self.fingerprint,
        }

    def left_out(self, timeline: Timeline) -> pd.DataFrame:
        """The sequences of a timeline that are in no subset."""
        sequences = timeline.table("sequences")
        return sequences[~sequences["sequence_id"].isin(self.frame["sequence_id"])]

    def sequences(self, subset: str) -> pd.DataFrame:
        """The rows of one subset."""
        _check_subset(subset)
        return self.frame[self.frame["subset"] == subset]

    def questions(self, timeline: Timeline, subset: str) -> pd.DataFrame:
        """The questions that a subset owns: its sequences, asked at first_asked … last_asked."""
        rows = self.sequences(subset)[["sequence_id", "first_asked", "last_asked"]]
        questions = timeline.table("questions")
        bounds = questions[["sequence_id"]].merge(rows, on="sequence_id", how="left", validate="many_to_one")
        asked = questions["asked_at"].to_numpy()
        # A sequence of another subset has missing bounds, and comparisons with those are false.
        mine = (asked >= bounds["first_asked"].to_numpy()) & (asked <= bounds["last_asked"].to_numpy())
        return questions[mine]

    def last_label_position(self, sequence_id: str, subset: str) -> int:
        """The last position of a sequence whose labels a subset may see; later ones belong to another subset.

        Raises:
            KeyError: the subset has no part of the sequence.
        """
        _check_subset(subset)
        return self._last_asked[subset, sequence_id]

    @cached_property
    def _last_asked(self) -> dict[tuple[str, str], int]:
        keys = zip(self.frame["subset"], self.frame["sequence_id"], strict=True)
        return dict(zip(keys, self.frame["last_asked"].tolist(), strict=True))


def fingerprint_of(frame: pd.DataFrame) -> str:
    """A hash of a table's rows, in whatever order they stand."""
    rows = sorted("\0".join(map(str, row)) for row in frame.itertuples(index=False, name=None))
    return hashlib.blake2b("\n".join(rows).encode(), digest_size=16).hexdigest()


def overlapping(frame: pd.DataFrame, rule: str) -> list[str]:
    """The patients in two subsets or, under ``time``, the sequences two of whose ranges share a position.

    Also a sequence listed twice in one subset counts, as its questions would be asked twice.
    """
    if rule == "time":
        ordered = frame.sort_values(["sequence_id", "first_asked"])
        before = ordered.groupby("sequence_id")["last_asked"].shift(1)
        shared = ordered.loc[ordered["first_asked"] <= before, "sequence_id"]
    else:
        subsets = frame.groupby("patient_id")["subset"].nunique()
        shared = pd.Series(subsets.index[subsets > 1], dtype="str")
    twice = frame.loc[frame.duplicated(["sequence_id", "subset"]), "sequence_id"]
    return sorted({*shared, *twice})


def seen_before(trained: Split, split: Split, subset: str, timeline: Timeline) -> list[str]:
    """Who of a subset of one split had a part in making a model that was trained with another.

    Args:
        trained: the split of the training. Its val chose the epoch, which does not matter when val is judged.
        split: the split of the judgement.
        subset: which subset of it is judged.
        timeline: the data of both.

    Returns:
        Ids of patients or, where a split divides the time of a patient, of questions.
    """
    column = "question_id" if "time" in (trained.rule, split.rule) else "patient_id"

    def owned(division: Split, subset: str) -> set[str]:
        part = division.questions(timeline, subset) if column == "question_id" else division.sequences(subset)
        return set(part[column])

    used = owned(trained, "train") | (owned(trained, "val") if subset != "val" else set())
    return sorted(used & owned(split, subset))


def _check_subset(subset: str) -> None:
    if subset not in SUBSETS:
        raise KeyError(f"no subset is called {subset!r}; there are {', '.join(SUBSETS)}")
