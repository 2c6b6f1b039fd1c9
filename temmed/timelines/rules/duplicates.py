"""Rules on patients who share pictures or reports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from temmed.timelines.audit import Audit, Finding, View, found_rows, rule
from temmed.timelines.duplicates import like_images, like_reports
from temmed.timelines.rules.subsets import written_splits

#: Pictures as alike as this are one picture, whatever was done to it since.
_SAME = 0.975


def _across(audit: Audit, pairs: pd.DataFrame) -> pd.Series:
    """For each pair of patients, the first split that has them in two subsets and which; missing where none has."""
    told = pd.Series(None, index=pairs.index, dtype="object")
    for name, by, frame in written_splits(audit):
        if by == "time":
            continue
        subsets = frame.drop_duplicates("patient_id").set_index("patient_id")["subset"]
        a, b = pairs["patient_a"].map(subsets), pairs["patient_b"].map(subsets)
        apart = a.notna() & b.notna() & a.ne(b) & told.isna()
        told[apart] = f" ({name}: " + a[apart].astype("object") + " and " + b[apart].astype("object") + ")"
    return told


@rule
def near_duplicate_images(audit: Audit) -> Iterator[Finding]:
    """Two patients with one picture: the same person under two ids, or a copy."""
    audit.progress("Comparing images", 0, 1)
    pairs = like_images(audit.image_scan)
    audit.progress("Comparing images", 1, 1)
    pairs = pairs.assign(across=_across(audit, pairs))

    def text(row: Any) -> str:
        one = f"{row.sequence_a}, position {row.position_a} ({row.channel_a})"
        other = f"{row.sequence_b}, position {row.position_b} ({row.channel_b})"
        return f"{one} and {other}: {'equal' if row.likeness >= 1 else f'{row.likeness:.3f} alike'}{row.across or ''}"

    def view(row: Any, caption: str) -> View:
        return View(caption, ((row.sequence_a, int(row.position_a)), (row.sequence_b, int(row.position_b))))

    sure = pairs["likeness"] >= _SAME
    leaked = pairs[pairs["across"].notna() & sure]
    message = "patients in different subsets have the same image: scores would tell of memory and not of skill"
    yield from found_rows("near_duplicate_images", "error", message, leaked, text, view)
    rest = pairs[~pairs.index.isin(leaked.index)].astype({"across": "object"})
    rest = rest.assign(across=rest["across"].where(rest["across"].notna(), ""))
    message = "two patients have nearly the same image: keep them on one side of a split (--together duplicates)"
    yield from found_rows("near_duplicate_images", "warning", message, rest, text, view)


@rule
def near_duplicate_reports(audit: Audit) -> Iterator[Finding]:
    """Two patients with one report; standard phrases that many patients share are left out."""
    audit.progress("Comparing reports", 0, 1)
    pairs = like_reports(audit.timeline)
    audit.progress("Comparing reports", 1, 1)
    pairs = pairs.assign(across=_across(audit, pairs))
    pairs = pairs.assign(across=pairs["across"].where(pairs["across"].notna(), ""))

    def text(row: Any) -> str:
        alike = "equal" if row.likeness >= 1 else f"{row.likeness:.0%} in common"
        return f"{row.report_a} of {row.patient_a}, {row.report_b} of {row.patient_b}: {alike}{row.across}"

    apart = pairs["across"].ne("")
    message = "patients in different subsets have nearly the same long report: a leak, unless it is a standard text"
    yield from found_rows("near_duplicate_reports", "warning", message, pairs[apart], text)
    message = "two patients have nearly the same long report: keep them on one side of a split (--together duplicates)"
    yield from found_rows("near_duplicate_reports", "info", message, pairs[~apart], text)
