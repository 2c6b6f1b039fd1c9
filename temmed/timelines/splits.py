"""Which questions train, choose and test a model, decided once and kept beside the data.

Patients go to subsets by a hash of their id and the seed, so that adding patients moves nobody.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from temmed.errors import InputError
from temmed.files import atomic_write
from temmed.timelines.folder import Timeline

SUBSETS = ("train", "val", "test")
RULES = ("patient", "time", "patient_time")
DEFAULT_FRACTIONS = (0.6, 0.1, 0.3)
#: Tenths of a sequence at which ``time`` and ``patient_time`` cut it.
CUTS = (6, 8)
#: How far, in binomial standard deviations, a subset's size may be from its share.
TOLERANCE = 4.0
FOLDER = "splits"

_COLUMNS = ["sequence_id", "patient_id", "subset", "first_asked", "last_asked"]
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """A division of sequences, or of parts of them, into train, val and test.

    Attributes:
        name: its file name without suffix.
        rule: ``patient``, ``time``, ``patient_time``, or any other word for a division that was not made by a hash.
            Only under ``time`` may a patient be in several subsets.
        seed: what the hash was made with.
        frame: one row per sequence and subset: ``sequence_id, patient_id, subset, first_asked, last_asked``; the
            subset owns the questions asked at positions first_asked … last_asked, both included.
        fractions: the shares of patients asked for, in the order of :data:`SUBSETS`.

    Raises:
        InputError: on construction, when two subsets share a patient (or, under ``time``, a position of a sequence).
    """

    name: str
    rule: str
    seed: int
    frame: pd.DataFrame
    fractions: tuple[float, ...] = field(default=DEFAULT_FRACTIONS)

    def __post_init__(self) -> None:
        """Bring the rows to one order and type, and refuse an overlap."""
        where = f"split {self.name!r}"
        missing = [column for column in _COLUMNS if column not in self.frame.columns]
        if missing:
            raise InputError(
                f"columns {', '.join(_COLUMNS)}", f"no {', '.join(missing)}", where, "Correct the split's CSV file."
            )
        frame = self.frame[_COLUMNS].sort_values(["sequence_id", "first_asked", "subset"], ignore_index=True)
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
        rows = map("\0".join, self.frame[_COLUMNS].astype("str").itertuples(index=False, name=None))
        return hashlib.blake2b("\n".join(sorted(rows)).encode(), digest_size=16).hexdigest()

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


def make_split(
    timeline: Timeline, by: str = "patient", seed: int = 0, fractions: tuple[float, ...] = DEFAULT_FRACTIONS
) -> Split:
    """Divide a timeline.

    Args:
        timeline: what to divide.
        by: ``patient`` (no patient in two subsets), ``time`` (each sequence is cut at ⌊0.6 T⌋ and ⌊0.8 T⌋; compares a
            patient with their own past) or ``patient_time`` (both: the test is test patients after the second cut).
        seed: of the hash.
        fractions: shares of the patients for train, val and test. ``time`` has every patient in every subset and
            does not use them.

    Returns:
        The split, not yet written.

    Raises:
        InputError: the rule is unknown, the fractions do not add up to 1, or the sizes are far from them.
    """
    if by not in RULES:
        raise InputError(f"one of {', '.join(RULES)}", repr(by), "the rule of the split", "Choose one of them.")
    if len(fractions) != len(SUBSETS) or min(fractions) < 0 or not math.isclose(sum(fractions), 1.0, abs_tol=1e-6):
        raise InputError(
            "three fractions that add up to 1", str(tuple(fractions)), "the fractions of the split", "Correct them."
        )
    sequences = timeline.table("sequences")[["sequence_id", "patient_id"]]
    length = timeline.table("timepoints").groupby("sequence_id").size()
    frame = sequences.assign(length=sequences["sequence_id"].map(length))
    if by != "time":
        patients = frame["patient_id"].drop_duplicates()
        placed = pd.Series([assign(patient, seed, fractions) for patient in patients], index=patients, dtype="str")
        _check_proportions(placed, fractions, seed)
        frame = frame.assign(subset=frame["patient_id"].map(placed))
    if by == "patient":
        frame = frame.assign(first_asked=0, last_asked=frame["length"] - 1)
    else:
        parts = _cut(frame)
        frame = parts if by == "time" else parts[parts["subset"] == parts["part"]]
        if by == "time":
            frame = frame.assign(subset=frame["part"])
    return Split(f"{by}_seed{seed}", by, seed, frame[_COLUMNS], tuple(fractions))


def assign(patient_id: str, seed: int, fractions: tuple[float, ...] = DEFAULT_FRACTIONS) -> str:
    """The subset of a patient: a function of the id and the seed alone."""
    digest = hashlib.blake2b(f"{seed}:{patient_id}".encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64
    bounds = np.cumsum(fractions)
    return SUBSETS[min(int(np.searchsorted(bounds, place, side="right")), len(SUBSETS) - 1)]


def save_split(split: Split, root: Path) -> Path:
    """Write a split into a timeline folder, as ``splits/NAME.csv`` with ``splits/NAME.json``.

    Returns:
        The CSV file. It is written last, so that a split whose CSV is there is whole.
    """
    about = {
        "name": split.name,
        "rule": split.rule,
        "seed": split.seed,
        "fractions": list(split.fractions),
        "fingerprint": split.fingerprint,
    }
    path = Path(root) / FOLDER / f"{split.name}.csv"
    atomic_write(path.with_suffix(".json"), json.dumps(about, indent=2) + "\n")
    atomic_write(path, split.frame.to_csv(index=False, lineterminator="\n"))
    return path


def load_split(root: Path, name: str, timeline: Timeline) -> Split:
    """Read a written split.

    A file without its JSON (an official division, say) needs only ``sequence_id``, ``patient_id`` and ``subset``; the
    subset then owns all questions of the sequence.

    Raises:
        InputError: there is no such split, it was edited after it was written, it overlaps, or it names a patient or a
            sequence that the timeline does not have.
    """
    path = Path(root) / FOLDER / f"{name}.csv"
    if not path.is_file():
        others = ", ".join(sorted(other.stem for other in path.parent.glob("*.csv"))) or "none"
        raise InputError(f"a split {name!r}", f"splits: {others}", str(path), "Make it with `temmed data split`.")
    frame = read_split_frame(path)
    _check_known(frame, timeline, path)
    length = frame["sequence_id"].map(timeline.table("timepoints").groupby("sequence_id").size())
    frame["first_asked"] = frame["first_asked"].fillna(0).astype("int64")
    frame["last_asked"] = frame["last_asked"].fillna(length - 1).astype("int64")
    outside = (
        (frame["first_asked"] < 0) | (frame["last_asked"] >= length) | (frame["first_asked"] > frame["last_asked"])
    )
    if outside.any():
        row = frame[outside].iloc[0]
        raise InputError(
            "0 ≤ first_asked ≤ last_asked < number of time points",
            f"{row['first_asked']} … {row['last_asked']} for {row['sequence_id']}",
            f"{path}, row {int(np.flatnonzero(outside)[0]) + 1}",
            "Correct the row.",
        )
    about = _read_about(path.with_suffix(".json"))
    split = Split(
        name=name,
        rule=str(about.get("rule", "file")),
        seed=int(about.get("seed", 0)),
        frame=frame,
        fractions=tuple(about.get("fractions", DEFAULT_FRACTIONS)),
    )
    if "fingerprint" in about and about["fingerprint"] != split.fingerprint:
        raise InputError(
            f"the split with fingerprint {about['fingerprint']}",
            f"another division ({split.fingerprint})",
            str(path),
            f"The file was changed after it was written: remove {path.with_suffix('.json').name} if that was meant.",
        )
    return split


def get_split(
    timeline: Timeline,
    by: str = "patient",
    seed: int = 0,
    fractions: tuple[float, ...] = DEFAULT_FRACTIONS,
    keep: bool = True,
) -> Split:
    """The split of a rule and seed: the written one if there is one, else a new one.

    Args:
        timeline: what to divide.
        by: see `make_split`, as for ``seed`` and ``fractions``.
        seed: of the hash.
        fractions: shares of train, val and test.
        keep: write a new one at once; else it is for the caller to `keep_split` it once it has proved of use.

    Raises:
        InputError: the written split was made with another rule or other fractions, or from other patients.
    """
    split = make_split(timeline, by, seed, fractions)
    path = timeline.root / FOLDER / f"{split.name}.csv"
    if not path.is_file():
        if keep:
            keep_split(split, timeline)
        return split
    written = load_split(timeline.root, split.name, timeline)
    remedy = f"Remove {path} to have it made again, or use another seed."
    asked = (split.rule, split.seed, *(round(share, 6) for share in split.fractions))
    if asked != (written.rule, written.seed, *(round(share, 6) for share in written.fractions)):
        raise InputError(
            f"a split by {split.rule}, seed {split.seed}, fractions {split.fractions}",
            f"one by {written.rule}, seed {written.seed}, fractions {written.fractions}",
            str(path),
            remedy,
        )
    if written.fingerprint != split.fingerprint:
        raise InputError(
            f"a split of the folder's {split.frame['sequence_id'].nunique()} sequences",
            f"one of {written.frame['sequence_id'].nunique()}, made before the data changed",
            str(path),
            remedy + " Nobody who was there moves to another subset.",
        )
    return written


def keep_split(split: Split, timeline: Timeline) -> None:
    """Write a split into its timeline folder unless it is there."""
    path = timeline.root / FOLDER / f"{split.name}.csv"
    if path.is_file():
        return
    try:
        save_split(split, timeline.root)
    except OSError as error:
        # A shared, read-only folder: the hash gives everyone the same split all the same.
        _LOG.warning("The split is not kept, as %s cannot be written: %s", path, error.strerror)


def read_split_frame(path: Path) -> pd.DataFrame:
    """A split's CSV as it stands, unchecked but for its columns.

    Raises:
        InputError: the file is not a table with the columns of a split.
    """
    try:
        frame = pd.read_csv(path, dtype="str", keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise InputError("a readable CSV table", str(error), str(path), "Write the file again.") from error
    missing = [column for column in _COLUMNS[:3] if column not in frame.columns]
    if missing:
        raise InputError(f"columns {', '.join(_COLUMNS)}", f"no {', '.join(missing)}", str(path), "Add the columns.")
    for column in _COLUMNS[3:]:
        given = frame[column] if column in frame else pd.Series(np.nan, index=frame.index, dtype="str")
        frame[column] = pd.to_numeric(given, errors="coerce")
        if (frame[column].isna() & given.notna()).any():
            raise InputError("whole numbers", "other text", f"{path}, {column}", "Correct the column.")
    return frame[_COLUMNS]


def _cut(frame: pd.DataFrame) -> pd.DataFrame:
    """Each sequence in three parts; a part with no position is left out."""
    first_cut, second_cut = (frame["length"] * tenths // 10 for tenths in CUTS)
    bounds = (frame["length"] * 0, first_cut, second_cut, frame["length"])
    parts = [
        frame.assign(part=subset, first_asked=first, last_asked=following - 1)
        for subset, (first, following) in zip(SUBSETS, pairwise(bounds), strict=True)
    ]
    whole = pd.concat(parts, ignore_index=True)
    return whole[whole["first_asked"] <= whole["last_asked"]]


def _check_proportions(placed: pd.Series, fractions: tuple[float, ...], seed: int) -> None:
    count = len(placed)
    for subset, share in zip(SUBSETS, fractions, strict=True):
        found = int((placed == subset).sum())
        spread = math.sqrt(count * share * (1 - share))
        # One patient more, as a handful of patients does not follow the normal law that the tolerance comes from.
        if abs(found - count * share) > TOLERANCE * spread + 1:
            raise InputError(
                f"about {count * share:.0f} of {count} patients in {subset}",
                f"{found}, more than {TOLERANCE:g} standard deviations away",
                f"the split with seed {seed}",
                "Use another seed.",
            )


def _check_known(frame: pd.DataFrame, timeline: Timeline, path: Path) -> None:
    sequences = timeline.table("sequences")
    for column, known in (("patient_id", timeline.table("patients")), ("sequence_id", sequences)):
        unknown = frame[~frame[column].isin(known[column])]
        if len(unknown):
            raise InputError(
                f"a {column} of the timeline",
                f"{unknown[column].iloc[0]!r}" + (f" and {len(unknown) - 1} more unknown" if len(unknown) > 1 else ""),
                f"{path}, row {int(unknown.index[0]) + 1}",
                "Use the split that belongs to this data, or remove the rows.",
            )
    owner = frame["sequence_id"].map(sequences.set_index("sequence_id")["patient_id"])
    wrong = frame[frame["patient_id"] != owner]
    if len(wrong):
        raise InputError(
            f"patient {owner[wrong.index[0]]!r} for sequence {wrong['sequence_id'].iloc[0]!r}",
            repr(wrong["patient_id"].iloc[0]),
            f"{path}, row {int(wrong.index[0]) + 1}",
            "Correct the row.",
        )


def _read_about(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError("a JSON object", str(error), str(path), "Remove the file or write it again.") from error
    if not isinstance(about, dict):
        raise InputError("a JSON object", type(about).__name__, str(path), "Remove the file or write it again.")
    return about


def _check_subset(subset: str) -> None:
    if subset not in SUBSETS:
        raise KeyError(f"no subset is called {subset!r}; there are {', '.join(SUBSETS)}")
