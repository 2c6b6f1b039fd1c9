"""NLST: low-dose CT of up to three yearly screens, with what the comparison with earlier screens showed.

https://cdas.cancer.gov/nlst — tables of participants, CT abnormalities and CT comparison reads; CT series from TCIA or
IDC.

The study dates of the images are made up: 2 January of 1999, 2000 and 2001 stand for the three screens. Days between
screens are known only from the participant table (``scr_days0`` to ``scr_days2``); without it there is only an order.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from temmed.timelines.importers._dicom_header import Header
from temmed.timelines.importers._found import Images, copy, find_images, with_images
from temmed.timelines.importers._tables import LeftOut, Row, attributes, find_table, find_tables, table_rows
from temmed.timelines.importers.plan import Mapper, Options, Plan, slug, source_files
from temmed.timelines.importers.registry import Importer
from temmed.timelines.importers.rows import question_row
from temmed.timelines.importers.studies import Place, Study, plan_studies

_SCREENS = (0, 1, 2)
_FIRST_YEAR = 1999
_IMAGE = re.compile(r"(?:.*/)?(?P<patient>\d{4,6})/T?(?P<year>[012])/(?P<name>[^/]+)")
_COMPARED = ("pid", "study_yr", "sct_ab_num", "sct_ab_code", "sct_ab_preexist", "sct_ab_gwth", "sct_ab_attn")
#: Codes of the comparison read; 9 is "unable to determine".
_ANSWERS = {1: "no", 2: "yes"}
_NO_ANSWER = 9
_CHOICES = ("yes", "no")
_CODES = {
    51: "non-calcified nodule or mass of at least 4 mm",
    52: "non-calcified micronodule below 4 mm",
    53: "benign nodule with calcification",
    54: "atelectasis",
    55: "pleural thickening or effusion",
    56: "hilar or mediastinal adenopathy",
    57: "chest wall abnormality",
    58: "consolidation",
    59: "emphysema",
    60: "cardiovascular abnormality",
    61: "reticular opacity, fibrosis or scar",
    62: "group of six or more nodules",
    63: "abnormality above the diaphragm",
    64: "abnormality below the diaphragm",
    65: "minor abnormality",
}
_QUESTIONS = {
    "sct_ab_preexist": ("nlst_preexisting", "Was this {label} already there at an earlier screen?"),
    "sct_ab_gwth": ("nlst_growth", "Has this {label} grown since the earlier screen?"),
    "sct_ab_attn": ("nlst_attenuation", "Has the attenuation of this {label} changed suspiciously?"),
}


def plan(source: Path, options: Options, run: Mapper) -> Plan:
    """Find the screens of an NLST folder.

    Args:
        source: the folder with the tables, and the images below it.
        options: what the user asked for; ``images`` is the folder of the images if it lies elsewhere.
        run: calls a function on every image.

    Raises:
        InputError: the comparison table is missing, or a table lacks a column or holds a value that is none.
    """
    result, left_out = Plan(), LeftOut()
    files = source_files(source)
    compared = table_rows(find_table(files, "*ctabc*.csv", source), _COMPARED)
    people = [row for path in find_tables(files, "*prsn*.csv") for row in table_rows(path, ("pid",))]
    days = {_patient(row): _days(row) for row in people}
    attributes_of = _attributes(people)
    details = _details(files)
    read = [(row, _patient(row), _screen(row), dict(_answers(row))) for row in compared]
    root = options.images or source
    images = find_images(root, files if root == source else source_files(root), options, run, result, _place)
    studies = _studies(images, [(patient, screen) for _, patient, screen, _ in read], result)
    places = _plan_visits(studies, days, attributes_of, options, result)
    done: set[str] = set()
    for row, patient, screen, answers in read:
        place = places.get((patient, str(screen)))
        if place is None:
            left_out.add(row, "its patient has no image here, or is beyond --limit")
        else:
            _ask(row, answers, place, places, details, done, left_out, result)
    left_out.tell(result)
    return result


def _patient(row: Row) -> str:
    """A participant's number: the tables hold it as text, with leading zeros or as ``100012.0``."""
    number = row.number_in("pid")
    if number is None or number != int(number):
        raise row.wrong("pid", "a whole number")
    return str(int(number))


def _screen(row: Row) -> int:
    number = row.number_in("study_yr")
    if number not in _SCREENS:
        raise row.wrong("study_yr", "0, 1 or 2")
    return int(number)


def _place(path: str, header: Header | None) -> tuple[tuple[str, str], str] | str:
    """DICOM files say themselves whose they are and, by their made-up year, of which screen."""
    if header is not None:
        year = None if header.day is None else header.day.year - _FIRST_YEAR
        if not header.patient.isdecimal() or year not in _SCREENS:
            return "no participant number as PatientID, or a StudyDate outside of 1999 to 2001"
        return (header.patient.lstrip("0"), str(year)), header.channel
    match = _IMAGE.fullmatch(path)
    if match is None:
        return "not <pid>/T<study_yr>/<series>.nii.gz"
    return (match["patient"].lstrip("0"), match["year"]), slug(match["name"].split(".nii")[0])


def _days(row: Row) -> dict[int, float]:
    """Days from randomization to each screen."""
    found = {year: _number(row, f"scr_days{year}") for year in _SCREENS}
    return {year: day for year, day in found.items() if day is not None}


def _attributes(people: list[Row]) -> dict[str, dict[str, Any]]:
    if not people:
        return {}
    columns = [column for column in ("race", "cigsmok", "pkyr") if column in people[0].cells]
    told = attributes(people, "pid", age="age", sex="gender", columns=columns)
    by_number = {_patient(row): told[row.needed("pid")] for row in people}
    return {
        patient: {**row, "sex": {"1": "M", "2": "F"}.get(row["sex"], row["sex"])} for patient, row in by_number.items()
    }


def _studies(images: Images, read: list[tuple[str, int]], result: Plan) -> list[Study]:
    """The screens with images, and those that were read and whose images are not here."""
    screens = {(patient, int(year)) for patient, year in images.volumes} | set(read)
    return with_images(
        [Study(patient, str(year), year, images.of(patient, str(year))) for patient, year in sorted(screens)], result
    )


def _plan_visits(
    studies: list[Study],
    days: Mapping[str, Mapping[int, float]],
    people: Mapping[str, Mapping[str, Any]],
    options: Options,
    result: Plan,
) -> dict[tuple[str, str], Place]:
    """One sequence of each patient: in days where the days of all screens are known, else in order."""
    by_patient: dict[str, list[Study]] = defaultdict(list)
    for study in studies:
        by_patient[study.patient].append(study)
    groups: dict[str, list[Study]] = {"day": [], "ordinal": []}
    for patient in result.choose(by_patient, options):
        mine, known = by_patient[patient], days.get(patient, {})
        if all(int(study.key) in known for study in mine):
            groups["day"] += [replace(study, when=known[int(study.key)]) for study in mine]
        else:
            groups["ordinal"] += mine
    places: dict[tuple[str, str], Place] = {}
    for unit, group in groups.items():
        places |= plan_studies(
            group,
            result,
            replace(options, limit=None),
            modality="ct",
            timing="scr_days" if unit == "day" else "study_yr",
            time_unit=unit,
            spatial_dims=3,
            attributes=people,
        )
    if groups["ordinal"]:
        count = len({study.patient for study in groups["ordinal"]})
        result.notes.append(
            f"{count:,} patients have no days of their screens (scr_days0 to scr_days2 of the participant table): "
            "their time_unit is ordinal"
        )
    return places


def _details(files: list[Path]) -> dict[tuple[str, int, str], Row]:
    """Rows of the abnormality table by patient, screen and number of the abnormality."""
    tables = [path for path in find_tables(files, "*ctab*.csv") if "ctabc" not in path.name.lower()]
    rows = [row for path in tables for row in table_rows(path, ("pid", "study_yr", "sct_ab_num"))]
    return {(_patient(row), _screen(row), row.needed("sct_ab_num")): row for row in rows}


def _ask(
    row: Row,
    answers: Mapping[str, str],
    place: Place,
    places: Mapping[tuple[str, str], Place],
    details: Mapping[tuple[str, int, str], Row],
    done: set[str],
    left_out: LeftOut,
    result: Plan,
) -> None:
    """The questions of one abnormality; its number counts within one screen and links to no other."""
    patient, screen, number = _patient(row), _screen(row), row.needed("sct_ab_num")
    if not answers:
        left_out.add(row, "nothing was determined about a change")
        return
    sequence = place.sequence
    finding = f"{sequence.sequence_id}_t{screen}_{slug(number)}"
    label = _CODES.get(int(_number(row, "sct_ab_code") or 0), "abnormality")
    if finding in done:
        left_out.add(row, "a second row of the same abnormality")
        return
    done.add(finding)
    result.add("findings", finding_id=finding, sequence_id=sequence.sequence_id, label=label)
    detail = details.get((patient, screen, number))
    diameter = _number(detail, "sct_long_dia") if detail else None
    if diameter is not None:
        result.add(
            "measurements",
            finding_id=finding,
            position=place.position,
            quantity="longest_diameter",
            value=diameter,
            unit="mm",
        )
    before = [places[patient, str(year)].position for year in range(screen) if (patient, str(year)) in places]
    imaged = {picture.position for picture in sequence.pictures}
    # With two earlier screens it is not told which one was compared with.
    evidence = [*before, place.position] if len(before) == 1 and imaged.issuperset([*before, place.position]) else None
    for column, answer in answers.items():
        template, prompt = _QUESTIONS[column]
        result.add(
            "questions",
            **question_row(
                f"{finding}_{template}",
                sequence,
                place.position,
                task="choice",
                template=template,
                prompt=prompt.format(label=label),
                choices=_CHOICES,
                answer=answer,
                evidence=evidence,
                finding_id=finding,
            ),
        )


def _answers(row: Row) -> Iterator[tuple[str, str]]:
    for column in _QUESTIONS:
        code = _number(row, column)
        if code is not None and code not in {*_ANSWERS, _NO_ANSWER}:
            raise row.wrong(column, "1, 2 or 9")
        if code in _ANSWERS:
            yield column, _ANSWERS[int(code)]


def _number(row: Row, column: str) -> float | None:
    """A number; ``.M``, ``.N`` and the like say why there is none."""
    text = row.text(column)
    return None if text is not None and text.startswith(".") and text[1:].isalpha() else row.number_in(column)


IMPORTER = Importer(
    name="nlst",
    summary="NLST: yearly lung CT, growth and attenuation changes as questions.",
    needs="a folder with the comparison read table (*ctabc*.csv) and, below it or in --images, CT as DICOM or NIfTI",
    plan=plan,
    copy=copy,
)
