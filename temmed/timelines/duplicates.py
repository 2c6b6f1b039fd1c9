"""Patients who share a picture or a report: the same person under two ids, or material copied between them.

Such patients must be on one side of a split.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse import csgraph

from temmed.timelines.folder import Timeline
from temmed.timelines.image_scan import ImageScan, scan_images
from temmed.timelines.likeness import like_pictures, like_texts, normalised_texts, words_of
from temmed.timelines.progress import Progress, silent

#: Least correlation of pictures, and least share of three-word runs that texts have in common.
PICTURE_LIKENESS, TEXT_LIKENESS = 0.95, 0.8
#: Shorter texts, in words, are alike by chance.
FEWEST_WORDS = 30
#: A text or picture that more patients have is a standard phrase or a placeholder and says nothing of a leak.
MOST_PATIENTS = 5


def duplicate_groups(
    timeline: Timeline,
    images: bool = True,
    reports: bool = True,
    progress: Progress = silent,
) -> list[set[str]]:
    """Patients linked by images or reports that are nearly the same.

    Args:
        timeline: the folder.
        images: look for images; every image file is read.
        reports: look for reports.
        progress: told what is being done, how much of it is done and how much there is.

    Returns:
        Groups of two and more patient ids, disjoint, ordered by their least id. A split must keep each on one side.
    """
    scan = scan_images(timeline, progress) if images else None
    links = [] if scan is None else [like_images(scan)]
    links += [like_reports(timeline)] if reports else []
    return linked(row for pairs in links for row in zip(pairs["patient_a"], pairs["patient_b"], strict=True))


def linked(pairs: Iterable[tuple[str, str]]) -> list[set[str]]:
    """The connected groups of a graph given by its edges, ordered by their least member."""
    edges = list(pairs)
    codes, names = pd.factorize(np.array([name for edge in edges for name in edge], dtype=object), sort=True)
    ends = codes.reshape(-1, 2)
    graph = sparse.coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(names), len(names)))
    labels = csgraph.connected_components(graph, directed=False)[1] if edges else np.zeros(0, int)
    return [set(members) for _, members in pd.Series(names).groupby(labels)]


def like_images(scan: ImageScan, threshold: float = PICTURE_LIKENESS) -> pd.DataFrame:
    """Pairs of patients with the same or nearly the same picture.

    Args:
        scan: what the images hold.
        threshold: least correlation, 0 to 1.

    Returns:
        The most alike pair of pictures of each two patients: ``patient_a, patient_b, sequence_a, position_a,
        channel_a, path_a``, the same for b, and ``likeness`` (1 for equal pixels).
    """
    usable = ~scan.images["is_blank"] & ~scan.images["digest"].isin(placeholders(scan)["digest"])
    usable &= scan.images["patient_id"].notna()
    images = scan.images[usable].reset_index(drop=True)
    thumbnails = scan.thumbnails[usable.to_numpy(bool)]
    owners = images["patient_id"].to_numpy(object)
    groups = images["channel"].to_numpy(object)
    firsts, seconds, likeness = like_pictures(thumbnails, groups, owners, threshold)
    same_first, same_second = _equal(images["digest"], images["patient_id"])
    pairs = pd.concat(
        [
            _sides(images, same_first, same_second, np.ones(len(same_first))),
            _sides(images, firsts, seconds, np.minimum(likeness, 0.9999)),
        ],
        ignore_index=True,
    )
    return _without_common(_best(pairs))


def placeholders(scan: ImageScan) -> pd.DataFrame:
    """Equal pictures of more patients than can be one person: ``digest, patients, path``, most patients first."""
    images = scan.images[~scan.images["is_blank"]]
    shared = images.groupby("digest").agg(patients=("patient_id", "nunique"), path=("path", "first")).reset_index()
    return shared[shared["patients"] > MOST_PATIENTS].sort_values("patients", ascending=False, ignore_index=True)


def like_reports(timeline: Timeline, threshold: float = TEXT_LIKENESS, fewest: int = FEWEST_WORDS) -> pd.DataFrame:
    """Pairs of patients with the same or nearly the same report.

    Args:
        timeline: the folder.
        threshold: least share of the runs of three words that both have, of those that either has.
        fewest: shorter reports, in words, take no part.

    Returns:
        The most alike pair of reports of each two patients: ``patient_a, patient_b, report_a, report_b, likeness``.
    """
    reports = timeline.table("reports").dropna(subset=["patient_id", "text"])
    text = normalised_texts(reports["text"])
    long = words_of(text) >= fewest
    reports = reports[long].assign(text=text[long]).reset_index(drop=True)
    reports = reports.assign(wording=pd.factorize(reports["text"])[0])
    shared = reports["patient_id"].groupby(reports["wording"]).transform("nunique")
    reports = reports[shared <= MOST_PATIENTS].reset_index(drop=True)
    distinct = reports.drop_duplicates("wording")
    firsts, seconds, likeness = like_texts(distinct["text"], threshold, fewest)
    rows = distinct.index.to_numpy()
    same_first, same_second = _equal(reports["wording"], reports["patient_id"])
    columns = {"patient_id": "patient", "report_id": "report"}
    pairs = pd.concat(
        [
            _sides(reports, same_first, same_second, np.ones(len(same_first)), columns),
            _sides(reports, rows[firsts], rows[seconds], np.minimum(likeness, 0.9999), columns),
        ],
        ignore_index=True,
    )
    return _without_common(_best(pairs))


_IMAGE_COLUMNS = {
    "patient_id": "patient",
    "sequence_id": "sequence",
    "position": "position",
    "channel": "channel",
    "path": "path",
}


def _equal(content: pd.Series, patients: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Rows of equal content: the first of them beside the first of every other patient's."""
    table = pd.DataFrame({"content": content, "patient": patients}).drop_duplicates()
    first = table.index.to_series().groupby(table["content"]).transform("first")
    other = first.to_numpy() != table.index.to_numpy()
    return first.to_numpy()[other], table.index.to_numpy()[other]


def _sides(
    table: pd.DataFrame, first: Any, second: Any, likeness: np.ndarray, columns: dict[str, str] | None = None
) -> pd.DataFrame:
    """Rows beside each other, the patient with the lesser id as a."""
    columns = columns or _IMAGE_COLUMNS
    kept = table[list(columns)].rename(columns=columns)
    swap = kept["patient"].to_numpy(object)[first] > kept["patient"].to_numpy(object)[second]
    first, second = np.where(swap, second, first), np.where(swap, first, second)
    left, right = (
        kept.iloc[rows].reset_index(drop=True).add_suffix(end) for rows, end in ((first, "_a"), (second, "_b"))
    )
    return pd.concat([left, right], axis=1).assign(likeness=likeness)


def _best(pairs: pd.DataFrame) -> pd.DataFrame:
    pairs = pairs[pairs["patient_a"] != pairs["patient_b"]]
    pairs = pairs.sort_values("likeness", ascending=False, kind="stable")
    return pairs.drop_duplicates(["patient_a", "patient_b"], ignore_index=True)


def _without_common(pairs: pd.DataFrame) -> pd.DataFrame:
    """Leave out near pairs of patients who are like many: what they share is common. Equal ones stay."""
    partners = pd.concat([pairs["patient_a"], pairs["patient_b"]]).value_counts()
    many = pairs["patient_a"].map(partners).gt(MOST_PATIENTS) | pairs["patient_b"].map(partners).gt(MOST_PATIENTS)
    return pairs[~many | pairs["likeness"].ge(1.0)].reset_index(drop=True)
