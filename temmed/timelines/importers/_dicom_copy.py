"""Copies of DICOM files that name nobody.

Person names, patient ids, birth date, address and telephone, and the accession number are taken out of the copy's
header. That keeps names out of a dataset; it is not de-identification, which also shifts dates, replaces unique ids and
looks for text in pixels: see :mod:`temmed.timelines.privacy`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from temmed.timelines.privacy.dicom_file import rewrite
from temmed.timelines.privacy.dicom_profile import PROTOCOL_GROUPS

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

#: What identifies a patient beside elements that hold a person's name, which are found by their type.
_IDENTIFYING = (
    "AccessionNumber",
    "AdmissionID",
    "CountryOfResidence",
    "IssuerOfPatientID",
    "MilitaryRank",
    "MedicalRecordLocator",
    "OtherPatientIDs",
    "OtherPatientIDsSequence",
    "PatientAddress",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientInsurancePlanCodeSequence",
    "PatientTelecomInformation",
    "PatientTelephoneNumbers",
    "RegionOfResidence",
)


def copy(source: Path, target: Path, patient_id: str) -> list[str]:
    """Copy a DICOM file without what names its patient; the pixels stay as they are, byte by byte.

    Args:
        source: the file.
        target: where to.
        patient_id: written as ``PatientID`` and ``PatientName``.

    Returns:
        The names of the elements that held something and were removed or replaced.

    Raises:
        InputError: the file cannot be read or written again.
    """

    def change(dataset: Dataset) -> list[str]:
        # Some archives leave elements of the network protocol in their files, which no file may hold.
        for tag in list(dataset.keys()):
            if tag.group in PROTOCOL_GROUPS:
                del dataset[tag]
        removed = _clean(dataset)
        dataset.PatientID = dataset.PatientName = patient_id
        return removed

    return rewrite(
        source,
        target,
        change,
        "a DICOM file that can be copied without its names",
        "Leave it out, or use --reference, which leaves files where they are.",
    )


def _clean(dataset: Dataset) -> list[str]:
    """Remove names and ids at any depth."""
    removed: list[str] = []
    for element in list(dataset):
        if element.VR == "SQ":
            if element.keyword in _IDENTIFYING:
                _remove(dataset, element, removed)
            else:
                removed += [name for item in element.value for name in _clean(item)]
        elif element.VR == "PN" or element.keyword in _IDENTIFYING or element.keyword == "PatientID":
            _remove(dataset, element, removed)
    return list(dict.fromkeys(removed))


def _remove(dataset: Dataset, element: DataElement, removed: list[str]) -> None:
    if element.value not in (None, "", []):
        removed.append(element.keyword or str(element.tag))
    del dataset[element.tag]
