"""Reports that a model is to write: which, at which positions, and the report before each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temmed.data.fitted import Fitted
from temmed.data.report_vocabulary import ReportVocabulary
from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split
from temmed.timelines.tables import named_rows


@dataclass
class TargetReport:
    """The report of a position.

    Attributes:
        tokens: of a `ReportVocabulary`, the end included.
        position: of its images.
        wanted: whether it is to be written, rather than known from before.
    """

    tokens: list[int]
    position: int
    wanted: bool


def _reports(timeline: Timeline) -> pd.DataFrame:
    """The first report of each position, in order; notes are none."""
    table = timeline.table("reports")
    table = table[table["kind"] == "report"].dropna(subset=["sequence_id", "position"])
    ordered = table.sort_values(["sequence_id", "position", "report_id"])
    return ordered.drop_duplicates(["sequence_id", "position"])


def target_reports(
    timeline: Timeline, vocabulary: ReportVocabulary, first: Mapping[str, int], last: Mapping[str, int]
) -> dict[str, list[TargetReport]]:
    """Reports by sequence, in order of their positions.

    Args:
        timeline: the data.
        vocabulary: of the reports.
        first: of each sequence, the first position whose report is to be written; earlier ones are known.
        last: the last position of each sequence.
    """
    found: dict[str, list[TargetReport]] = {}
    for row in named_rows(_reports(timeline)):
        if row.sequence_id in last and row.position <= last[row.sequence_id]:
            told = vocabulary.target(row.text), int(row.position), bool(row.position >= first[row.sequence_id])
            found.setdefault(row.sequence_id, []).append(TargetReport(*told))
    return found


def shown_reports(written: Sequence[TargetReport], kept: NDArray[np.int64]) -> list[TargetReport]:
    """Reports where some positions alone are shown, at indices of these.

    A report of a position that is not shown is not to be written; it is known from the next position on.
    """
    moved = []
    for report in written:
        index = int(np.searchsorted(kept, report.position, side="right")) - 1
        if index >= 0 and report.position <= kept[-1]:
            wanted = report.wanted and int(kept[index]) == report.position
            moved.append(replace(report, position=index, wanted=wanted))
    return moved


def reports_before(written: Sequence[TargetReport]) -> list[int]:
    """For each report the index of the latest of an earlier position, −1 where there is none.

    Examples:
        >>> reports_before([TargetReport([2], 0, False), TargetReport([3], 0, True), TargetReport([4], 2, True)])
        [-1, -1, 1]
    """
    places = [report.position for report in written]
    return [max((n for n in range(k) if places[n] < place), default=-1) for k, place in enumerate(places)]


def fit_reports(fitted: Fitted, timeline: Timeline, split: Split, name: str | None, size: int, longest: int) -> Fitted:
    """Add the vocabulary that reports are written in.

    Args:
        fitted: what else is fitted.
        timeline: the data.
        split: whose train subset is used, and nothing else.
        name: of a pretrained language model, whose vocabulary is taken; ``None`` fits one.
        size: most tokens of one that is fitted.
        longest: most tokens of a report.

    Raises:
        InputError: the train subset has no reports, or there is no such model.
    """
    owned = split.sequences("train")
    last = owned.set_index("sequence_id")["last_asked"]
    reports = _reports(timeline)
    # Comparison with the NaN of other subsets' sequences is false.
    texts = reports.loc[reports["position"] <= reports["sequence_id"].map(last).astype(float), "text"].tolist()
    if not texts:
        raise InputError(
            "reports of the train subset, to learn to write them",
            "none",
            str(timeline.root),
            "Set model.heads.report.weight=0, or import the data with its reports.",
        )
    known = ReportVocabulary.fit(texts, size, longest) if name is None else ReportVocabulary.load(name, longest)
    return replace(fitted, reports=known)
