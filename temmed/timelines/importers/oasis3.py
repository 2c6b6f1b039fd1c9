"""OASIS-3: MR sessions and clinical dementia ratings over days since entry.

https://www.oasis-brains.org — tables with ``OASISID`` and ``OASIS_session_label`` (``OAS30001_MR_d0129``), images in
folders named by the session's label or in BIDS names (``sub-OAS30001_ses-d0129_T1w.nii.gz``).

Clinical visits and MR sessions are on different days. Both are time points: a rating is asked for where it was given.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from temmed.errors import InputError
from temmed.timelines.importers._dicom_header import Header
from temmed.timelines.importers._found import Images, channel_of, copy, find_images, with_images
from temmed.timelines.importers._states import Scale, add_states
from temmed.timelines.importers._tables import LeftOut, Row, attributes, find_tables, header_of, table_rows
from temmed.timelines.importers.nifti import loop
from temmed.timelines.importers.plan import LENGTHS, Mapper, Options, Plan, source_files
from temmed.timelines.importers.registry import Importer
from temmed.timelines.importers.studies import Place, Study, plan_studies

_LABEL = re.compile(r"(?P<patient>OAS\d+)_(?P<kind>[A-Za-z0-9]+)_d(?P<day>\d{1,6})")
_IMAGE = re.compile(
    r"(?:.*/)?(?:(?P<patient>OAS\d+)_(?P<kind>[A-Za-z0-9]+)_d(?P<day>\d{1,6})/.*|"
    r"sub-(?P<bids_patient>OAS\d+)_ses-d(?P<bids_day>\d{1,6})_[^/]*)"
)
_ID, _SESSION, _DAYS, _RATING = "OASISID", "OASIS_session_label", "days_to_visit", "CDRTOT"
_AGE, _SEX = "AgeatEntry", "GENDER"
_SEXES = {"1": "M", "2": "F"}
_IN_TIME = "bold"
_CDR = Scale(
    name="oasis3_cdr",
    levels=("0", "0.5", "1", "2", "3"),
    state="What is the global clinical dementia rating (CDR) at this visit?",
    change="Compared with the clinical dementia rating before, is this one worse, unchanged or better?",
    event="clinical dementia rating above 0",
    threshold="0.5",
)


def plan(source: Path, options: Options, run: Mapper) -> Plan:
    """Find the MR sessions and clinical visits of an OASIS-3 folder.

    Args:
        source: the folder with the tables, and the images below it.
        options: what the user asked for; ``images`` is the folder of the images if it lies elsewhere.
        run: calls a function on every image.

    Raises:
        InputError: no table has ``OASISID``, or one holds a value that is none.
    """
    result, left_out = Plan(), LeftOut()
    files = source_files(source)
    tables = [path for path in find_tables(files, "*.csv", "*.tsv") if _ID in header_of(path)]
    if not tables:
        raise InputError(f"a table with the column {_ID}", "none", str(source), "Put the tables of OASIS-3 there.")
    days = _days(tables, left_out)
    ratings = _ratings(tables, days, left_out)
    people = _people(tables)
    root = options.images or source
    images = find_images(root, files if root == source else source_files(root), options, run, result, _place)
    studies = _studies(images, days, ratings)
    places = plan_studies(
        with_images(studies, result),
        result,
        options,
        modality="mri",
        timing=f"{_DAYS}, or the session's label",
        spatial_dims=3,
        attributes=people,
    )
    by_patient: dict[str, list[tuple[Place, str]]] = defaultdict(list)
    for (patient, visit), place in places.items():
        if (patient, float(visit)) in ratings:
            by_patient[patient].append((place, ratings[patient, float(visit)]))
    for seen in by_patient.values():
        add_states(_CDR, seen, result)
    _add_loops(images, days, places, options, result)
    left_out.tell(result)
    return result


def _place(path: str, header: Header | None) -> tuple[tuple[str, str], str] | str:
    match = _IMAGE.fullmatch(path)
    if match is None:
        return "no session in its path, such as OAS30001_MR_d0129 or sub-OAS30001_ses-d0129"
    if match["patient"] and match["kind"].upper() != "MR":
        return f"a session of the kind {match['kind']}: only MR is imported"
    patient, day = match["patient"] or match["bids_patient"], match["day"] or match["bids_day"]
    channel = channel_of(path.rsplit("/", 1)[-1]) if header is None else header.channel
    return (patient, f"{patient}_MR_d{day}"), channel


def _days(tables: Sequence[Path], left_out: LeftOut) -> dict[str, float]:
    """The day of every session that the tables name: ``days_to_visit``, else the end of its label."""
    days: dict[str, float] = {}
    for path in tables:
        if _SESSION in header_of(path):
            for row in table_rows(path, (_ID,)):
                day = _day(row)
                label = row.text(_SESSION)
                if day is None:
                    left_out.add(row, f"neither {_DAYS} nor a label that ends in _dNNNN")
                elif label is not None:
                    days[label] = day
    return days


def _day(row: Row) -> float | None:
    match = _LABEL.fullmatch(row.text(_SESSION) or "")
    day = row.number_in(_DAYS)
    return day if day is not None else float(match["day"]) if match else None


def _day_of(label: str, days: dict[str, float]) -> float:
    match = _LABEL.fullmatch(label)
    assert match is not None
    return days.get(label, float(match["day"]))


def _ratings(tables: Sequence[Path], days: dict[str, float], left_out: LeftOut) -> dict[tuple[str, float], str]:
    """The global clinical dementia rating by patient and day."""
    found: dict[tuple[str, float], str] = {}
    for path in tables:
        if _RATING not in header_of(path):
            continue
        for row in table_rows(path):
            rating, day = row.number_in(_RATING), _day(row)
            if rating is None or day is None:
                continue
            level = f"{rating:g}"
            if level not in _CDR.levels:
                raise row.wrong(_RATING, f"one of {', '.join(_CDR.levels)}")
            key = (row.needed(_ID), day)
            if found.setdefault(key, level) != level:
                left_out.add(row, "another rating of the same day")
    return found


def _studies(images: Images, days: dict[str, float], ratings: dict[tuple[str, float], str]) -> list[Study]:
    """MR sessions and clinical visits; what is on one day is one time point."""
    volumes: dict[tuple[str, float], list[tuple[str, tuple[Path, ...]]]] = defaultdict(list)
    for (patient, label), found in images.volumes.items():
        volumes[patient, _day_of(label, days)] += found
    return [
        Study(patient, str(day), day, tuple(sorted(volumes.get((patient, day), ()))))
        for patient, day in sorted({*volumes, *ratings})
    ]


def _people(tables: Sequence[Path]) -> dict[str, dict[str, Any]]:
    people: dict[str, dict[str, Any]] = {}
    for path in tables:
        if {_AGE, _SEX} <= set(header_of(path)):
            columns = [column for column in ("EDUC", "APOE") if column in header_of(path)]
            told = attributes(table_rows(path), _ID, age=_AGE, sex=_SEX, columns=columns, name=str.lower)
            people |= {patient: {**row, "sex": _SEXES.get(row["sex"], row["sex"])} for patient, row in told.items()}
    return people


def _add_loops(
    images: Images, days: dict[str, float], places: dict[tuple[str, str], Place], options: Options, result: Plan
) -> None:
    """Functional runs of the patients imported, as sequences of their own."""
    sequences = {patient: place.sequence for (patient, _), place in places.items()}
    first = {patient: min(float(visit) for name, visit in places if name == patient) for patient in sequences}
    for (patient, label), volume in images.loops:
        if not channel_of(volume.path.name).endswith(_IN_TIME):
            result.skip([volume.path], f"a fourth axis that is not time: only {_IN_TIME} runs are loops")
        elif patient not in sequences:
            result.skip([volume.path], "a loop of a patient without a volume, or beyond --limit")
        else:
            sequence = loop(sequences[patient].patient_id, volume, options, result)
            if sequence.time_unit in LENGTHS:
                since = (_day_of(label, days) - first[patient]) * LENGTHS["day"]
                sequence.clock_offset = since / LENGTHS[sequence.time_unit]
            result.sequences.append(sequence)


IMPORTER = Importer(
    name="oasis3",
    summary="OASIS-3: MR sessions over days, clinical dementia ratings as questions.",
    needs="a folder with the tables of OASIS-3 and, below it or in --images, sessions such as OAS30001_MR_d0129",
    plan=plan,
    copy=copy,
)
