"""ADNI: MRI of visits with diagnoses, from the merged table and downloaded images.

https://adni.loni.usc.edu — ``ADNIMERGE*.csv``; images in files or folders that are named by their id (``…_I35475.nii``,
``I35475/*.dcm``), which the table calls ``IMAGEUID``.

Visits are in the order of their dates. The codes of visits (``bl``, ``m06``, ``m108``) do not sort as text.
"""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import datetime
from pathlib import Path

from temmed.timelines.importers._dicom_header import Header
from temmed.timelines.importers._found import copy, find_images, with_images
from temmed.timelines.importers._states import Scale, add_states
from temmed.timelines.importers._tables import LeftOut, Row, attributes, find_table, table_rows
from temmed.timelines.importers.plan import Mapper, Options, Plan, source_files
from temmed.timelines.importers.registry import Importer
from temmed.timelines.importers.studies import Place, Study, plan_studies

_COLUMNS = ("RID", "PTID", "VISCODE", "EXAMDATE", "DX")
_IMAGE_ID = re.compile(r"(?:^|[_/])I(\d+)(?=[._/]|$)")
_PATIENT = re.compile(r"(?:^|[_/])(\d{3}_S_\d{4,5})(?=[_/])")
#: Older tables write NL and AD, and the change since the visit before: `MCI to Dementia`.
_DIAGNOSES = {"cn": "CN", "nl": "CN", "smc": "CN", "mci": "MCI", "emci": "MCI", "lmci": "MCI"}
_DIAGNOSES |= {"dementia": "Dementia", "ad": "Dementia"}
_DX = Scale(
    name="adni_diagnosis",
    levels=("CN", "MCI", "Dementia"),
    state="What is the diagnosis at this visit: cognitively normal (CN), mild cognitive impairment (MCI) or dementia?",
    change="Compared with the diagnosis before, is this one worse, unchanged or better?",
    event="dementia",
    threshold="Dementia",
)
_FURTHER = ("SITE", "DX_bl", "PTEDUCAT", "APOE4")


def plan(source: Path, options: Options, run: Mapper) -> Plan:
    """Find the visits of an ADNI folder.

    Args:
        source: the folder with the merged table, and the images below it.
        options: what the user asked for; ``images`` is the folder of the images if it lies elsewhere.
        run: calls a function on every image.

    Raises:
        InputError: the table is missing, lacks a column or holds a value that is none.
    """
    result, left_out = Plan(), LeftOut()
    files = source_files(source)
    rows = table_rows(find_table(files, "ADNIMERGE*.csv", source), _COLUMNS)
    visits = _visits(rows, left_out)
    levels = {key: level for key, row in visits.items() if (level := _diagnosis(row)) is not None}
    further = [column for column in _FURTHER if rows and column in rows[0].cells]
    people = attributes(rows, "PTID", age="AGE", sex="PTGENDER", columns=further, name=str.lower)
    owners = {image: row for row in visits.values() if (image := _image_id(row)) is not None}
    root = options.images or source

    def place(path: str, header: Header | None) -> tuple[tuple[str, str], str] | str:
        ids = _IMAGE_ID.findall(path)
        row = owners.get(ids[-1].lstrip("0")) if ids else None
        if row is None:
            return "no image id (I and digits) in its path" if not ids else "its image id is in no row of ADNIMERGE"
        named = _PATIENT.findall(path)
        if named and named[-1] != row.needed("PTID"):
            return "its path names another patient than the row with its image id"
        # The images of IMAGEUID are the T1-weighted ones that FreeSurfer was run on.
        return (row.needed("PTID"), row.needed("VISCODE")), "t1"

    images = find_images(root, files if root == source else source_files(root), options, run, result, place)
    for _, volume in images.loops:
        result.skip([volume.path], "a fourth axis, where a T1-weighted volume is expected")
    studies = [
        Study(patient, code, moment, images.of(patient, code))
        for (patient, code), row in visits.items()
        if (moment := _date(row)) is not None
    ]
    places = plan_studies(
        with_images(studies, result),
        result,
        options,
        modality="mri",
        timing="EXAMDATE",
        spatial_dims=3,
        attributes=people,
    )
    by_patient: dict[str, list[tuple[Place, str]]] = defaultdict(list)
    for (patient, code), at in places.items():
        if (patient, code) in levels:
            by_patient[patient].append((at, levels[patient, code]))
    for seen in by_patient.values():
        add_states(_DX, seen, result)
    left_out.tell(result)
    return result


def _visits(rows: list[Row], left_out: LeftOut) -> dict[tuple[str, str], Row]:
    """The rows that can be used, by patient and code of the visit."""
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        patient, code = row.needed("PTID"), row.needed("VISCODE")
        number = row.needed("RID")
        ending = patient.rsplit("_", 1)[-1]
        if not number.isdecimal() or not ending.isdecimal():
            raise row.wrong("RID", "a whole number, and a PTID such as 011_S_0002")
        if ending.lstrip("0") != number.lstrip("0"):
            left_out.add(row, "its PTID does not end in its RID")
        elif _date(row) is None:
            left_out.add(row, "no EXAMDATE")
        elif (patient, code) in found:
            left_out.add(row, "a second row of the same visit")
        else:
            found[patient, code] = row
    return found


def _date(row: Row) -> datetime | None:
    return row.date_in("EXAMDATE", "%m/%d/%Y")


def _image_id(row: Row) -> str | None:
    """The id of the visit's image; after a spreadsheet it reads ``35475.0``."""
    number = row.number_in("IMAGEUID")
    return None if number is None else str(int(number))


def _diagnosis(row: Row) -> str | None:
    text = row.text("DX")
    if text is None:
        return None
    level = _DIAGNOSES.get(text.lower().rsplit(" to ", 1)[-1].strip())
    if level is None:
        raise row.wrong("DX", "CN, MCI or Dementia")
    return level


IMPORTER = Importer(
    name="adni",
    summary="ADNI: MRI of dated visits, diagnoses as questions, conversion as an event.",
    needs="a folder with ADNIMERGE*.csv and, below it or in --images, files or folders named by image id (I35475)",
    plan=plan,
    copy=copy,
)
