"""The Basic Application Level Confidentiality Profile of DICOM (PS3.15 Annex E) with four of its options.

What is done with each attribute is read from the table that ``dicom-anonymizer`` makes from the standard; that package
applies it to the outermost data set only, so that the walk through sequences is here. Options:

- Retain Longitudinal Temporal Information with Modified Dates: dates move by their patient's shift.
- Clean Descriptors: descriptions of studies and series keep their ordinary words.
- Retain Patient Characteristics: sex, size, weight, and an age of at most 90.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from temmed.timelines.privacy import dates
from temmed.timelines.privacy.stand_ins import moved
from temmed.timelines.privacy.text import Scrubber
from temmed.timelines.privacy.vocabulary import is_ordinary

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

Action = Literal["remove", "empty", "replace", "uid"]

#: The edition of the standard that the table was made from.
EDITION = "2026c"
_TABLE = f"dicomfields_{EDITION}"
_ACTIONS: dict[str, Action] = {
    "X_TAGS": "remove",
    "Z_TAGS": "empty",
    "X_Z_TAGS": "empty",
    "D_TAGS": "replace",
    "Z_D_TAGS": "replace",
    "X_D_TAGS": "replace",
    "X_Z_D_TAGS": "replace",
    "U_TAGS": "uid",
    "X_Z_U_STAR_TAGS": "uid",
}
#: (code, meaning) of CID 7050 for DeidentificationMethodCodeSequence.
OPTIONS = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113105", "Clean Descriptors Option"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    ("113108", "Retain Patient Characteristics Option"),
)
_RETAINED = ("PatientSex", "PatientSize", "PatientWeight", "PatientAge")
_DESCRIPTORS = (
    "AcquisitionDeviceProcessingDescription",
    "AcquisitionProtocolDescription",
    "ContrastBolusAgent",
    "DerivationDescription",
    "PerformedProcedureStepDescription",
    "ProtocolName",
    "RequestedProcedureDescription",
    "SeriesDescription",
    "StudyDescription",
)
_BIRTH = re.compile("Birth|Death")
_TEXTS = frozenset(("AE", "CS", "LO", "LT", "SH", "ST", "UC", "UR", "UT"))
_LONG_TEXTS = frozenset(("LT", "ST", "UT"))
_NUMBERS = frozenset(("DS", "IS", "FD", "FL", "SS", "US", "SL", "UL", "SV", "UV"))
_BYTES = frozenset(("OB", "OW", "OF", "OD", "OL", "OV", "UN"))
#: Groups whose bytes are pixels, waveforms, or tables that pixels are shown with.
_PIXEL_GROUPS = (0x0028, 0x5400, 0x7FE0)
#: Groups of the network protocol and of file meta information, which no data set may hold.
PROTOCOL_GROUPS = (0x0000, 0x0002)
_REMOVED = "REMOVED"
_OLDEST = 90
_STANDARD_UIDS = "1.2.840.10008."
_TOKEN = re.compile(r"[^\W\d_]+")


@cache
def _table() -> tuple[dict[int, Action], tuple[tuple[int, int, Action], ...]]:
    """Actions by tag, and (tag, mask, action) of the groups that repeat."""
    from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector

    single: dict[int, Action] = {}
    repeated: list[tuple[int, int, Action]] = []
    listed = dicom_anonymization_database_selector(_TABLE)
    for column, action in _ACTIONS.items():
        for group, element, *mask in listed[column]:
            if mask:
                repeated.append((group << 16 | element, mask[0] << 16 | mask[1], action))
            else:
                single[group << 16 | element] = action
    return single, tuple(repeated)


def action_of(tag: int) -> Action | None:
    """What the profile does with an attribute; ``None`` where it is not in the table."""
    single, repeated = _table()
    if tag in single:
        return single[tag]
    return next((action for start, mask, action in repeated if tag & mask == start & mask), None)


@dataclass
class Profile:
    """The profile, applied to the data sets of one patient.

    Attributes:
        scrubber: cleans the text that stays.
        owner: the source's id of the patient.
        done: how many elements of each (name, action) were changed; never what they held.
    """

    scrubber: Scrubber
    owner: str
    done: Counter[tuple[str, str]] = field(default_factory=Counter)

    def apply(self, dataset: Dataset) -> None:
        """De-identify a data set with its file meta information, in place; pixels stay as they are."""
        self._clean(dataset)
        dataset.PatientID = dataset.PatientName = self.scrubber.stand_ins.patient(self.owner)
        dataset.PatientIdentityRemoved = "YES"
        dataset.LongitudinalTemporalInformationModified = "MODIFIED"
        dataset.DeidentificationMethod = f"TemMed: DICOM PS3.15 {EDITION} Annex E"
        dataset.DeidentificationMethodCodeSequence = [_code(*option) for option in OPTIONS]
        self._clean_meta(dataset)

    def _clean(self, dataset: Dataset) -> None:
        for tag in list(dataset.keys()):
            if tag.group in PROTOCOL_GROUPS or tag.is_private:
                self._note(tag, "private" if tag.is_private else "removed")
                del dataset[tag]
                continue
            element = dataset[tag]
            if element.is_empty and element.VR != "SQ":
                continue
            before = element.value if element.VR != "SQ" else None
            change = self._change(element)
            if change == "removed":
                del dataset[tag]
            if change == "removed" or (change is not None and (element.VR == "SQ" or element.value != before)):
                self._note(tag, change, element)

    def _change(self, element: DataElement) -> str | None:
        """Change one element; what was done, ``None`` for nothing, ``removed`` for what is still to be done."""
        action = action_of(int(element.tag))
        name, kind = element.keyword, element.VR
        if kind == "SQ":
            return self._sequence(element, action)
        if kind == "UI":
            return self._uids(element)
        if kind == "PN":
            return self._person(element)
        if kind in ("DA", "DT"):
            return self._dates(element)
        if kind == "TM" and not _BIRTH.search(name):
            return None
        if name in _RETAINED:
            return self._age(element) if kind == "AS" else None
        if name in _DESCRIPTORS:
            return self._describe(element)
        if action is not None or kind == "AS":
            return self._by_table(element, action or "remove")
        if kind in _BYTES:
            return None if element.tag.group in _PIXEL_GROUPS and kind != "UN" else "removed"
        if kind not in _TEXTS:
            return None
        # Short ones name makers and settings, which are no ordinary words.
        return self._each(
            element, lambda text: self.scrubber.scrub(text, self.owner, kind in _LONG_TEXTS).text, "cleaned"
        )

    def _person(self, element: DataElement) -> str | None:
        stand_ins = self.scrubber.stand_ins
        if element.keyword == "PatientName" and str(element.value) == stand_ins.patient(self.owner):
            return None
        element.value = None
        return "emptied"

    def _sequence(self, element: DataElement, action: Action | None) -> str | None:
        if action == "remove":
            return "removed"
        if action == "empty":
            if not element.value:
                return None
            element.value = []
            return "emptied"
        for item in element.value:
            self._clean(item)
        return None

    def _uids(self, element: DataElement) -> str | None:
        return self._each(element, self._uid, "replaced")

    def _uid(self, uid: str) -> str:
        if not uid or uid.startswith(_STANDARD_UIDS):
            return uid
        return self.scrubber.stand_ins.uid(uid)

    def _dates(self, element: DataElement) -> str | None:
        if _BIRTH.search(element.keyword):
            element.value = None
            return "emptied"
        days = self.scrubber.stand_ins.days(self.owner)

        def shift(text: str) -> str:
            # Before DICOM 3, and in files that break it, dates have dots or hyphens.
            match = re.match(r"(\d{4})[-.]?(\d\d)?[-.]?(\d\d)?", text)
            if match is None or match[3] is None:
                return ""
            found = dates.parse("-".join(match.groups()))
            later = moved(found.day, days) if found is not None and found.day is not None else None
            return "" if later is None else f"{later:%Y%m%d}".zfill(8) + text[match.end() :]

        return self._each(element, shift, "shifted")

    def _age(self, element: DataElement) -> str | None:
        def capped(text: str) -> str:
            years = re.fullmatch(r"(\d{1,3})Y", text.strip().upper())
            return f"{_OLDEST:03d}Y" if years and int(years[1]) > _OLDEST else text

        return self._each(element, capped, "capped")

    def _describe(self, element: DataElement) -> str | None:
        return self._each(element, lambda text: described(text, self.scrubber, self.owner), "cleaned")

    def _each(self, element: DataElement, function: Any, change: str) -> str | None:
        """Apply a function to each value; ``change`` when that made a difference."""
        many = element.VM > 1
        before = [str(value) for value in element.value] if many else [str(element.value)]
        after = [function(value) for value in before]
        if after == before:
            return None
        element.value = after if many else after[0]
        return change

    def _by_table(self, element: DataElement, action: Action) -> str:
        if element.keyword == "PatientID":
            element.value = self.scrubber.stand_ins.patient(str(element.value))
            return "pseudonym"
        if action == "remove" or element.VR in _BYTES:
            return "removed"
        if action == "empty":
            element.value = None
            return "emptied"
        element.value = 0 if element.VR in _NUMBERS else None if element.VR in ("TM", "AS") else _REMOVED
        return "replaced"

    def _clean_meta(self, dataset: Dataset) -> None:
        """Keep only what the standard asks for; the ids follow those of the data set."""
        from pydicom.dataset import FileMetaDataset
        from pydicom.uid import UID

        old = dataset.file_meta
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = old.TransferSyntaxUID
        dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID") or old.MediaStorageSOPClassUID
        instance = dataset.get("SOPInstanceUID") or self._uid(str(old.MediaStorageSOPInstanceUID))
        dataset.file_meta.MediaStorageSOPInstanceUID = UID(str(instance))
        # The preamble may hold anything.
        dataset.preamble = b"\0" * 128

    def _note(self, tag: Any, change: str, element: DataElement | None = None) -> None:
        name = (element.keyword if element is not None else "") or f"({tag.group:04X},{tag.element:04X})"
        self.done[name, change] += 1


def described(text: str, scrubber: Scrubber, owner: str | None) -> str:
    """A short description with only its ordinary words; what stands between them stays.

    Args:
        text: such as ``T2 FLAIR axial``.
        scrubber: removes known identifiers first, and numbers that may be any.
        owner: the patient's id in the source.
    """
    clean = scrubber.scrub(text, owner).text
    kept = _TOKEN.sub(lambda word: word.group() if len(word.group()) < 3 or is_ordinary(word.group()) else "", clean)
    return re.sub(r"\[\w*\]", "", kept).strip(" _^-") if kept != text else text


def birth_date(text: str) -> date | None:
    """A ``DA`` value as a date."""
    found = dates.parse(text.strip().replace(".", "-"))
    return found.day if found is not None else None


def _code(value: str, meaning: str) -> Dataset:
    from pydicom.dataset import Dataset

    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code
