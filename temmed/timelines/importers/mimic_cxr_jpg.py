"""MIMIC-CXR-JPG: every chest X-ray study of a patient is a visit, its views are channels.

Reports are read where they lie beside the images (``files/p10/p10000032/s50414267.txt``), or below
``mimic-cxr-reports``. Where the table of CheXpert labels is there, two studies in a row become a question for each
finding that both reports are definite about: new, resolved, still present or still absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from temmed.timelines.importers._comparisons import Findings, comparison_row
from temmed.timelines.importers._items import check_images, check_used
from temmed.timelines.importers._mimic import Archive, archive_number
from temmed.timelines.importers._splits import add_split
from temmed.timelines.importers._tables import LeftOut, Row, find_tables, table_rows
from temmed.timelines.importers.plan import Mapper, Options, Plan, folder_of, slug
from temmed.timelines.importers.registry import Importer
from temmed.timelines.importers.studies import Place

_LABELS = "mimic-cxr-*-chexpert.csv"
#: Columns of the label table that name no single finding.
_NO_FINDING = ("subject_id", "study_id", "No Finding")
_PRESENT, _ABSENT = "1.0", "0.0"
#: (before, now) → answer; what a report is unsure of (-1.0) or silent about is not asked.
_CHANGES = {
    (_ABSENT, _PRESENT): "new",
    (_PRESENT, _ABSENT): "resolved",
    (_PRESENT, _PRESENT): "still present",
    (_ABSENT, _ABSENT): "still absent",
}
_PROMPT = "Compared with {{moment}}, is the {finding} new, resolved, still present or still absent?"


def plan(source: Path, options: Options, run: Mapper) -> Plan:
    """Find the sequences of a MIMIC-CXR-JPG folder.

    Args:
        source: the folder with the metadata table and ``files``.
        options: what the user asked for.
        run: of no use here.

    Raises:
        InputError: a table is missing or malformed, or no image is there.
    """
    result, left = Plan(), LeftOut()
    archive = Archive(source, options, left)
    wanted: dict[str, tuple[str, ...]] = dict.fromkeys(archive.studies, ())
    by_study = archive.plan(wanted, result, options)
    add_split(result, archive.split_of(by_study))
    labels = find_tables(sorted(folder_of(source).iterdir()), _LABELS)
    if labels:
        _ask(_read_labels(labels[0], archive, left), by_study, result)
    left.tell(result)
    check_used(result, source, "study")
    check_images(result, archive.root)
    return result


def _read_labels(path: Path, archive: Archive, left: LeftOut) -> dict[str, dict[str, str]]:
    """The findings each report is definite about, by study."""
    labels = {}
    for row in table_rows(path, ("subject_id", "study_id")):
        study = archive_number(row, "study_id")
        if study in archive.studies:
            labels[study] = {name: value for name in row.cells if (value := _definite(row, name))}
        else:
            left.add(row, "its study is not in the metadata table")
    return labels


def _definite(row: Row, name: str) -> str | None:
    if name in _NO_FINDING:
        return None
    value = row.number_in(name)
    if value not in (None, -1.0, 0.0, 1.0):
        raise row.wrong(name, "1, 0, -1 or nothing")
    return str(value) if value in (0.0, 1.0) else None


def _ask(labels: Mapping[str, Mapping[str, str]], by_study: Mapping[str, Place], result: Plan) -> None:
    """A question for each finding that two studies in a row are definite about."""
    findings = Findings(result)
    tied = 0
    labelled: dict[str, list[tuple[Place, Mapping[str, str]]]] = {}
    for study, place in by_study.items():
        labelled.setdefault(place.sequence.sequence_id, []).append((place, labels.get(study, {})))
    for visits in labelled.values():
        visits.sort(key=lambda visit: visit[0].position)
        for (earlier, before), (later, now) in pairwise(visits):
            if earlier.sequence.times[earlier.position] == later.sequence.times[later.position]:
                tied += 1
                continue
            for name in before:
                if name in now:
                    finding = name.lower()
                    row = comparison_row(
                        f"{later.sequence.sequence_id}_{later.position}_{slug(finding)}",
                        earlier,
                        later,
                        task="progression",
                        template=f"mimic_cxr_{slug(finding)}",
                        prompt=_PROMPT.format(finding=finding),
                        choices=list(_CHANGES.values()),
                        answer=_CHANGES[before[name], now[name]],
                        finding_id=findings.add(later.sequence, finding),
                    )
                    result.add("questions", **row)
    if tied:
        result.notes.append(f"{tied:,} pairs of studies have the same date and time: nothing is asked about them")


IMPORTER = Importer(
    name="mimic-cxr-jpg",
    summary="MIMIC-CXR-JPG: chest X-ray studies in days, with views, reports, the official split and labels.",
    needs="the folder with mimic-cxr-*-metadata.csv[.gz] and files/; reports, split and CheXpert tables if there",
    plan=plan,
)
