"""The Basic Application Level Confidentiality Profile of DICOM (PS3.15 Annex E) with three of its options.

:mod:`~temmed.timelines.privacy.dicom_table` says what is done with each attribute, at every depth of sequences.
Options:

- Retain Longitudinal Temporal Information with Modified Dates: dates move by their patient's shift.
- Clean Descriptors: descriptions of studies and series keep their ordinary words.
- Retain Patient Characteristics: sex, size, weight, and an age of at most 90.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from temmed.timelines.privacy import dates
from temmed.timelines.privacy.dicom_table import EDITION, Action, action_of
from temmed.timelines.privacy.patterns import OLDEST
from temmed.timelines.privacy.stand_ins import moved
from temmed.timelines.privacy.text import Scrubber
from temmed.timelines.privacy.vocabulary import is_ordinary

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

#: (code, meaning) of CID 7050 for DeidentificationMethodCodeSequence.
OPTIONS = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113105", "Clean Descriptors Option"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    ("113108", "Retain Patient Characteristics Option"),
)
_RETAINED = ("PatientSex", "PatientSize", "PatientWeight", "PatientAge")
DESCRIPTORS = (
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
#: Groups whose bytes are pixels, waveforms, spectra, or tables that pixels are shown with.
_PIXEL_GROUPS = (0x0028, 0x5400, 0x5600, 0x7FE0)
#: First groups of curves and of overlays, which repeat in the even groups behind them.
_DRAWN = (0x5000, 0x6000)
#: File meta information that the standard asks for.
_META = (
    "FileMetaInformationGroupLength", "FileMetaInformationVersion", "MediaStorageSOPClassUID",
    "MediaStorageSOPInstanceUID", "TransferSyntaxUID", "ImplementationClassUID",
)  # fmt: skip
#: Groups of the network protocol and of file meta information, which no data set may hold.
PROTOCOL_GROUPS = (0x0000, 0x0002)
_REMOVED = "REMOVED"
_STANDARD_UIDS = "1.2.840.10008."
_TOKEN = re.compile(r"[^\W\d_]+")


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
        self.clean(dataset)
        dataset.PatientID = dataset.PatientName = self.scrubber.stand_ins.patient(self.owner)
        dataset.PatientIdentityRemoved = "YES"
        dataset.LongitudinalTemporalInformationModified = "MODIFIED"
        dataset.DeidentificationMethod = f"TemMed: DICOM PS3.15 {EDITION} Annex E"
        dataset.DeidentificationMethodCodeSequence = [_code(*option) for option in OPTIONS]
        self._clean_meta(dataset)

    def clean(self, dataset: Dataset) -> None:
        """De-identify the elements of a data set, or of an item of a sequence, in place."""
        for tag in list(dataset.keys()):
            if tag.group in PROTOCOL_GROUPS or tag.is_private or tag.group & 0xFF00 in _DRAWN:
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
        if name in DESCRIPTORS:
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
        # The code of a person is that person's number and name.
        if action == "empty" or element.keyword == "PersonIdentificationCodeSequence":
            if not element.value:
                return None
            element.value = []
            return "emptied"
        for item in element.value:
            self.clean(item)
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
            return f"{OLDEST:03d}Y" if years and int(years[1]) > OLDEST else text

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
        from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, UID

        old, new = dataset.file_meta, FileMetaDataset()
        new.FileMetaInformationVersion = b"\0\1"
        new.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
        new.TransferSyntaxUID = old.TransferSyntaxUID
        new.MediaStorageSOPClassUID = dataset.get("SOPClassUID") or old.MediaStorageSOPClassUID
        instance = dataset.get("SOPInstanceUID") or self._uid(str(old.MediaStorageSOPInstanceUID))
        new.MediaStorageSOPInstanceUID = UID(str(instance))
        for element in old:
            if element.keyword not in _META:
                self._note(element.tag, "removed", element)
        dataset.file_meta = new
        # The preamble may hold anything.
        if (dataset.preamble or b"").strip(b"\0"):
            self.done["preamble", "removed"] += 1
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
