"""LUMIERE: glioblastoma patients, MRI week by week, with expert RANO ratings.

Suter et al., "The LUMIERE dataset", Scientific Data 9, 768 (2022).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from temmed.errors import InputError
from temmed.timelines.importers._found import copy, find_images, with_images
from temmed.timelines.importers._states import add_spells
from temmed.timelines.importers._tables import LeftOut, Row, attributes, find_table, header_of, table_rows
from temmed.timelines.importers.plan import Mapper, Options, Plan, slug, source_files
from temmed.timelines.importers.registry import Importer
from temmed.timelines.importers.rows import question_row
from temmed.timelines.importers.studies import Place, Study, plan_studies

RESPONSES = ("CR", "PR", "SD", "PD")
_SURGICAL = {"pre-op": "Pre-Op", "post-op": "Post-Op"}
_RATINGS = _SURGICAL | {response.lower(): response for response in RESPONSES}
_WEEK = re.compile(r"week-(?P<week>\d{1,4})(?:-(?P<scan>\d{1,3}))?")
_IMAGE = re.compile(
    r"(?:.*/)?(?P<patient>Patient-\d+)/(?P<visit>week-\d{1,4}(?:-\d{1,3})?)/(?P<channel>T1|CT1|T2|FLAIR)\.nii\.gz"
)
_RATING = "Rating ("
_RATIONALE = "Rating rationale"
_AGE = "Age at surgery (years)"
_PROMPT = (
    "By the RANO criteria, what is the response at this examination: complete response (CR), partial response (PR), "
    "stable disease (SD) or progressive disease (PD)?"
)


def plan(source: Path, options: Options, run: Mapper) -> Plan:
    """Find the visits of a LUMIERE folder.

    Args:
        source: the folder with the ratings, and the images below it.
        options: what the user asked for; ``images`` is the folder of ``Patient-…`` folders if it lies elsewhere.
        run: calls a function on every image.

    Raises:
        InputError: a table is missing, lacks a column or holds a value that is none.
    """
    result, left_out = Plan(), LeftOut()
    files = source_files(source)
    rated = _ratings(find_table(files, "LUMIERE-ExpertRating*.csv", source), left_out)
    people = _people(find_table(files, "LUMIERE-Demographics_Pathology*.csv", source))
    root = options.images or source
    images = find_images(root, files if root == source else source_files(root), options, run, result, _place)
    studies = [
        Study(patient, visit, _when(visit), images.of(patient, visit), _rationale(rated.get((patient, visit))))
        for patient, visit in sorted({*rated, *((key[0], key[1]) for key in images.volumes)})
    ]
    places = plan_studies(
        with_images(studies, result),
        result,
        options,
        modality="mri",
        timing="the week",
        time_unit="week",
        spatial_dims=3,
        attributes=people,
    )
    by_patient: dict[str, list[tuple[str, Place]]] = defaultdict(list)
    for (patient, visit), place in places.items():
        by_patient[patient].append((visit, place))
    for patient, visits in by_patient.items():
        _spread(visits)
        _ask([(place, rated.get((patient, visit))) for visit, place in visits], left_out, result)
    times = {place.report_id: place.sequence.times[place.position] for place in places.values()}
    for report in result.tables.get("reports", []):
        report["time"] = times[report["report_id"]]
    left_out.tell(result)
    return result


def _place(path: str, header: object) -> tuple[tuple[str, str], str] | str:
    match = _IMAGE.fullmatch(path)
    if match is None:
        return "not <patient>/<week>/{T1,CT1,T2,FLAIR}.nii.gz"
    return (match["patient"], match["visit"]), slug(match["channel"])


def _ratings(path: Path, left_out: LeftOut) -> dict[tuple[str, str], Row]:
    """The row of each visit."""
    rows, columns = table_rows(path, ("Patient", "Date")), header_of(path)
    if not any(column.startswith(_RATING) for column in columns):
        raise InputError(f"a column that begins with {_RATING!r}", ", ".join(columns), str(path), "Take it again.")
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        if _WEEK.fullmatch(row.needed("Date")) is None:
            raise row.wrong("Date", "week-044 or week-000-1")
        key = (row.needed("Patient"), row.needed("Date"))
        if key in found:
            left_out.add(row, "a second rating of the same visit")
        else:
            found[key] = row
    return found


def _people(path: Path) -> dict[str, dict[str, Any]]:
    rows = table_rows(path, ("Patient",))
    return attributes(rows, "Patient", age=_AGE, sex="Sex", name=slug)


def _cell(row: Row, prefix: str) -> str | None:
    """The cell of the column whose name begins so: the rest explains codes, and differs between releases."""
    return next((row.text(column) for column in row.cells if column.startswith(prefix)), None)


def _rationale(row: Row | None) -> str | None:
    return None if row is None else _cell(row, _RATIONALE)


def _when(visit: str) -> float:
    """A number that grows with the order: the week, and inside the week the number of the scan."""
    match = _WEEK.fullmatch(visit)
    assert match is not None
    return float(match["week"]) + float(match["scan"] or 0) / 1000


def _spread(visits: Sequence[tuple[str, Place]]) -> None:
    """Give the scans of one week times that only keep their order, with the week as bounds."""
    weeks: dict[int, list[int]] = defaultdict(list)
    for visit, place in visits:
        weeks[int(_when(visit))].append(place.position)
    sequence = visits[0][1].sequence
    first = min(weeks)
    shared = any(len(positions) > 1 for positions in weeks.values())
    bounds = [(time, time) for time in sequence.times]
    for week, positions in weeks.items():
        start = float(week - first)
        for rank, position in enumerate(sorted(positions)):
            sequence.times[position] = start + rank / len(positions)
            bounds[position] = (start, start + 1) if len(positions) > 1 else (start, start)
    sequence.bounds = bounds if shared else None


def _ask(rated: Sequence[tuple[Place, Row | None]], left_out: LeftOut, result: Plan) -> None:
    """A question at each visit with a response, and the spells of progression."""
    ordered = sorted(rated, key=lambda pair: pair[0].position)
    states = [(place, row, _state(row, left_out)) for place, row in ordered]
    sequence = ordered[0][0].sequence
    imaged = {picture.position for picture in sequence.pictures}
    surgery = None
    for place, row, state in states:
        if state == "Post-Op":
            surgery = place.position
        if row is None or state not in RESPONSES:
            continue
        # RANO compares with the baseline after surgery and with the smallest tumour since. Which visits these were is
        # not told, so that it is known only where there is one visit between surgery and this one.
        compared = None if surgery is None or place.position - surgery != 1 else [surgery, place.position]
        early = "_within_3_months" if row.text("LessThan3Months") else ""
        result.add(
            "questions",
            **question_row(
                f"{sequence.sequence_id}_rano_{place.position}",
                sequence,
                place.position,
                task="choice",
                template=f"lumiere_rano{early}",
                prompt=_PROMPT,
                choices=RESPONSES,
                answer=state,
                evidence=compared if compared and imaged.issuperset(compared) else None,
                evidence_report_id=place.report_id if _rationale(row) else None,
            ),
        )
    seen = [(place.position, state == "PD") for place, _, state in states if state is not None]
    if any(state in RESPONSES for _, _, state in states):
        add_spells(sequence, "progressive disease", seen, result)


def _state(row: Row | None, left_out: LeftOut) -> str | None:
    """The rating of a visit: written with blanks, in either case, and at times with a second one behind a slash."""
    cell = None if row is None else _cell(row, _RATING)
    if row is None or cell is None:
        return None
    parts: Mapping[str, None] = dict.fromkeys(part.strip().lower() for part in cell.split("/"))
    if not all(part in _RATINGS for part in parts):
        left_out.add(
            row, "its rating is none of CR, PR, SD, PD, Pre-Op and Post-Op; the visit stays without a question"
        )
        return None
    if len(parts) > 1:
        left_out.add(row, "it has two ratings; the visit stays without a question")
        return None
    return _RATINGS[next(iter(parts))]


IMPORTER = Importer(
    name="lumiere",
    summary="LUMIERE: glioblastoma MRI by week, with expert RANO ratings as questions.",
    needs="a folder with LUMIERE-ExpertRating-*.csv, LUMIERE-Demographics_Pathology.csv and Imaging/<Patient>/<week>",
    plan=plan,
    copy=copy,
)
