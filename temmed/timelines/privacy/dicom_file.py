"""DICOM files read, changed by a function, and written again."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from temmed.errors import InputError
from temmed.timelines.privacy.dicom_profile import action_of, birth_date
from temmed.timelines.privacy.known import Known
from temmed.timelines.privacy.stand_ins import StandIns
from temmed.timelines.readers.dicom import broken, reason

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

R = TypeVar("R")
#: What something is, and its text.
Fact = tuple[str, str]

_PHONES = ("Telephone", "Telecom")
_PLACES = ("Institution", "Residence", "Location")
_ID_ENDS = ("ID", "IDs", "Number", "Identifier")
#: Shorter texts of other elements that the profile removes tell too little to be looked for.
_LEAST = 5


def rewrite(source: Path, target: Path, change: Callable[[Dataset], R], purpose: str, remedy: str) -> R:
    """Read a file, change its data set, and write it to another place, usually in a staging folder.

    Args:
        source: a DICOM file.
        target: where to write.
        change: changes the data set in place.
        purpose: what the file is expected to be fit for, for the message.
        remedy: what to do when it is not.

    Returns:
        What ``change`` returned.

    Raises:
        InputError: the file cannot be read or written again.
    """
    from pydicom import dcmread

    with warnings.catch_warnings():
        # Values that break the standard are kept as they are.
        warnings.simplefilter("ignore")
        try:
            dataset = dcmread(source)
            result = change(dataset)
            dataset.save_as(target)
        except broken() as error:
            raise InputError(purpose, reason(error), str(source), remedy) from error
    return result


def read_header(path: Path) -> Dataset:
    """A file's data set without its pixels.

    Raises:
        InputError: the header cannot be read.
    """
    from pydicom import dcmread

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = dcmread(path, stop_before_pixels=True)
            # Elements are decoded when they are looked at; one that cannot be shows here and not later.
            for _ in header.iterall():
                pass
        except broken() as error:
            raise InputError(
                "a readable DICOM header", reason(error), str(path), "Copy the file again, or leave it out."
            ) from error
    return header


def facts(header: Dataset) -> Iterator[Fact]:
    """What a header says about persons, places and numbers that is to be looked for everywhere.

    Args:
        header: a data set.

    Yields:
        (what it is, its text), for :func:`learn`.
    """
    for element in header.iterall():
        if element.VR == "SQ" or element.is_empty or isinstance(element.value, bytes):
            continue
        kind = _kind(element)
        if kind is not None:
            values = [str(value) for value in element.value] if element.VM > 1 else [str(element.value)]
            yield from ((kind, value) for value in values if value.strip())


def learn(known: Known, fact: Fact, owner: str, stand_ins: StandIns) -> None:
    """Add a fact about a patient to the identifiers that are looked for."""
    kind, value = fact
    if kind == "name":
        known.add_name(value, owner)
    elif kind == "uid":
        known.uids.add(value)
    elif kind == "patient":
        known.add_id(value, stand_ins.patient(owner), owner)
    elif kind == "phone":
        known.add_phone(value, owner)
    elif kind in ("address", "place"):
        known.add_words(value, kind, owner)
    elif kind == "birth":
        born = birth_date(value)
        if born is not None:
            known.births.setdefault(owner, set()).add(born)
    elif len(value) >= _LEAST:
        known.add_id(value, "[ID]", owner)


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
