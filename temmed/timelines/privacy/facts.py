"""What headers and tables say about people: names, numbers and places that are to be looked for everywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from temmed.timelines.privacy import tables
from temmed.timelines.privacy.columns import MISSING, kinds_of, patient_id
from temmed.timelines.privacy.dicom_file import from_json
from temmed.timelines.privacy.dicom_profile import birth_date
from temmed.timelines.privacy.dicom_table import action_of
from temmed.timelines.privacy.json_files import load_json
from temmed.timelines.privacy.known import Known
from temmed.timelines.privacy.stand_ins import StandIns
from temmed.timelines.privacy.text import UID

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

#: What something is, and its text.
Fact = tuple[str, str]
#: A patient, if one is named, and a fact.
Told = list[tuple[str | None, Fact]]

_PHONES = ("Telephone", "Telecom")
_PLACES = ("Institution", "Residence", "Location")
_ID_ENDS = ("ID", "IDs", "Number", "Identifier")
#: Shorter texts of other elements that the profile removes tell too little to be looked for.
_LEAST = 5
#: What the name of a column says about the person's data in it; anything else is a person's name.
_REMOVED = (
    ("phone", "phone|mobile|fax"),
    ("address", "address|street|city|town|county"),
    ("place", "institution|hospital|station|employer"),
    ("id", "ssn|social|insurance|zip|postal|postcode|mail|nhs|medicare|passport|national|religion|occupation"),
)


def of_dicom(header: Dataset, name: str) -> Told:
    """The facts of a DICOM header; the first is the patient.

    Args:
        header: a data set.
        name: of its file.
    """
    owner = str(header.get("PatientID") or "").strip()
    if not owner and str(header.get("PatientName") or "").strip("^ "):
        owner = f"{header.PatientName} {header.get('PatientBirthDate') or ''}".strip()
    owner = owner or f"study {header.get('StudyInstanceUID') or name}"
    facts: dict[Fact, None] = {}
    for element in header.iterall():
        if element.VR == "SQ" or element.is_empty or isinstance(element.value, bytes):
            continue
        kind = _kind(element)
        if kind is not None:
            values = [str(value) for value in element.value] if element.VM > 1 else [str(element.value)]
            facts |= {(kind, value): None for value in values if value.strip()}
    return [(owner, ("owner", owner)), *((owner, fact) for fact in facts)]


def of_table(path: Path, kind: str) -> Told:
    """The facts of a table or JSON file.

    Raises:
        InputError: the file cannot be read.
    """
    if kind == "json":
        return list(dict.fromkeys(_of_json(load_json(path), None)))
    if kind == "table":
        header, cells = tables.read_rows(path)
        rows: Iterator[dict[str, str]] = (dict(zip(header, row, strict=False)) for row in cells)
    else:
        table = tables.read_parquet(path)
        rows = (
            {name: str(value) for name, value in row.items() if isinstance(value, (str, int))}
            for row in table.to_pylist()
        )
    return list(dict.fromkeys(fact for row in rows for fact in _of_row(row, None)))


def learn(known: Known, fact: Fact, owner: str | None, stand_ins: StandIns) -> None:
    """Add a fact to the identifiers that are looked for.

    Args:
        known: the identifiers.
        fact: what is known.
        owner: the patient it is about, if that is known.
        stand_ins: makes the pseudonyms.
    """
    kind, value = fact
    whose = owner or ""
    if kind == "name":
        known.add_name(value, whose)
    elif kind == "uid":
        known.uids.add(value)
    elif kind == "owner":
        known.add_id(value, stand_ins.patient(value), value)
    elif kind == "patient":
        known.add_id(value, stand_ins.patient(whose), whose)
    elif kind == "record":
        known.add_id(value, stand_ins.other(value), owner)
    elif kind == "phone":
        known.add_phone(value, whose)
    elif kind in ("address", "place"):
        known.add_words(value, kind, whose)
    elif kind == "birth":
        born = birth_date(value)
        if born is not None:
            known.births.setdefault(whose, set()).add(born)
    elif len(value) >= _LEAST:
        known.add_id(value, "[ID]", whose)


def _kind(element: DataElement) -> str | None:
    name = element.keyword
    if element.VR == "PN":
        return "name"
    if element.VR == "UI":
        return None if str(element.value).startswith("1.2.840.10008.") else "uid"
    if name == "PatientID":
        return "patient"
    if name == "PatientBirthDate":
        return "birth"
    timed = element.VR in ("DA", "DT", "TM", "AS")
    if element.tag.is_private or timed or action_of(int(element.tag)) is None:
        return None
    if any(part in name for part in _PHONES):
        return "phone"
    if "Address" in name:
        return "address"
    if any(part in name for part in _PLACES):
        return "place"
    return "id" if name.endswith(_ID_ENDS) else None


def _of_json(value: Any, owner: str | None) -> Iterator[tuple[str | None, Fact]]:
    if isinstance(value, list):
        for part in value:
            yield from _of_json(part, owner)
    elif isinstance(value, dict):
        dataset = from_json(value)
        if dataset is not None:
            yield from of_dicom(dataset, "")
            return
        row = {key: str(cell) for key, cell in value.items() if isinstance(cell, (str, int))}
        yield from _of_row(row, owner)
        own = next((fact for _, (kind, fact) in _of_row(row, owner) if kind == "owner"), owner)
        for cell in value.values():
            if isinstance(cell, (dict, list)):
                yield from _of_json(cell, own)


def _of_row(row: dict[str, str], owner: str | None) -> Iterator[tuple[str | None, Fact]]:
    cells = [
        (name, kind, row[name].strip())
        for name, kind in zip(row, kinds_of(tuple(row)), strict=True)
        if row[name].strip().lower() not in MISSING
    ]
    owner = next((patient_id(cell) for _, kind, cell in cells if kind == "patient"), owner)
    if owner is not None:
        yield owner, ("owner", owner)
    persons = {}
    for name, kind, cell in cells:
        if kind in ("record", "key", "path") and owner is not None:
            yield owner, ("link", cell)
        if kind == "patient":
            yield patient_id(cell), ("patient", patient_id(cell))
        elif kind == "record":
            yield owner, ("uid" if UID.fullmatch(cell) else "record", cell)
        elif kind == "birth":
            yield owner, ("birth", cell)
        elif kind == "remove":
            what = next((what for what, pattern in _REMOVED if re.search(pattern, name.lower())), "name")
            yield owner, (what, cell)
            if what == "name":
                persons[name.lower()] = cell
    family = next((cell for name, cell in persons.items() if re.search("last|family|sur", name)), None)
    given = next((cell for name, cell in persons.items() if re.search("first|given", name)), None)
    if family and given:
        yield owner, ("name", f"{family}^{given}")
