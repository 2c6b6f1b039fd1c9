"""MS-CXR-T: the progression of five findings between two studies of MIMIC-CXR-JPG, as radiologists saw it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from temmed.timelines.importers._comparisons import Findings, comparison_row, either
from temmed.timelines.importers._items import check_images, check_used
from temmed.timelines.importers._mimic import Archive, RadiographStudy, image_id
from temmed.timelines.importers._splits import add_split
from temmed.timelines.importers._tables import LeftOut, Row, find_table, table_rows
from temmed.timelines.importers.plan import Mapper, Options, Plan, folder_of
from temmed.timelines.importers.registry import Importer
from temmed.timelines.importers.studies import Place

_TABLE = "MS_CXR_T_temporal_image_classification*.csv"
_FINDINGS = ("consolidation", "pleural_effusion", "pneumonia", "pneumothorax", "edema")
_CLASSES = ("improving", "stable", "worsening")
_COLUMNS = ("dicom_id", "previous_dicom_id", *(f"{finding}_progression" for finding in _FINDINGS))


class _Pair(NamedTuple):
    """A usable row: its labels and the two studies with the image it names in each."""

    row: Row
    labels: dict[str, str]
    earlier: RadiographStudy
    later: RadiographStudy


def plan(source: Path, options: Options, run: Mapper) -> Plan:
    """Find the pairs of MS-CXR-T.

    Args:
        source: the table, or the folder it lies in.
        options: what the user asked for; ``images`` is the folder of MIMIC-CXR-JPG.
        run: of no use here.

    Raises:
        InputError: a table is missing or malformed, no row can be used, or no image is there.
    """
    result, left = Plan(), LeftOut()
    path = source if source.is_file() else find_table(sorted(folder_of(source).iterdir()), _TABLE, source)
    archive = Archive(source, options, left)
    pairs = [pair for row in table_rows(path, _COLUMNS) if (pair := _pair(row, archive, left))]
    wanted: dict[str, list[str]] = {}
    for pair in pairs:
        wanted.setdefault(pair.earlier.study, []).append(image_id(pair.row.needed("previous_dicom_id")))
        wanted.setdefault(pair.later.study, []).append(image_id(pair.row.needed("dicom_id")))
    places = archive.plan(wanted, result, options)
    left.tell(result)
    check_used(result, path, "labelled pair")
    check_images(result, archive.root)
    _ask([pair for pair in pairs if pair.later.study in places], places, result)
    add_split(result, archive.split_of(places), "mimic")
    return result


def _pair(row: Row, archive: Archive, left: LeftOut) -> _Pair | None:
    labels = {finding: label for finding in _FINDINGS if (label := _label(row, finding))}
    if not labels:
        left.add(row, "no finding is labelled")
        return None
    later = archive.study_of(image_id(row.needed("dicom_id")))
    earlier = archive.study_of(image_id(row.needed("previous_dicom_id")))
    if earlier is None or later is None:
        left.add(row, "one of its images is not in the metadata table")
        return None
    reason = archive.order_of(earlier, later)
    if reason:
        left.add(row, reason)
        return None
    return _Pair(row, labels, earlier, later)


def _ask(pairs: list[_Pair], places: Mapping[str, Place], result: Plan) -> None:
    findings = Findings(result)
    for pair in pairs:
        earlier, later = (places[study.study] for study in (pair.earlier, pair.later))
        for finding, label in pair.labels.items():
            name = finding.replace("_", " ")
            row = comparison_row(
                f"ms_cxr_t_{pair.row.number}_{finding}",
                earlier,
                later,
                task="progression",
                template=f"ms_cxr_t_{finding}",
                prompt=f"Compared with {{moment}}, is the {name} {either(_CLASSES)}?",
                choices=_CLASSES,
                answer=label,
                finding_id=findings.add(later.sequence, name),
            )
            result.add("questions", **row)


def _label(row: Row, finding: str) -> str | None:
    column = f"{finding}_progression"
    label = row.text(column)
    if label is not None and label.lower() not in _CLASSES:
        raise row.wrong(column, f"{', '.join(_CLASSES)} or nothing")
    return label.lower() if label else None


IMPORTER = Importer(
    name="ms-cxr-t",
    summary="MS-CXR-T: progression of five findings between two chest X-rays of MIMIC-CXR-JPG.",
    needs=f"{_TABLE} or its folder; with --images the folder of MIMIC-CXR-JPG with its metadata table",
    plan=plan,
)
