"""DICOM files of synthetic images: valid for readers, equal for equal content.

Identifiers are derived from what they identify, and dates count from a day that is obviously nobody's.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The day of the first examination of every patient.
FIRST_DAY = datetime.date(2000, 1, 1)
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
DIGITAL_X_RAY = "1.2.840.10008.5.1.4.1.1.1.1"
ULTRASOUND_MULTIFRAME = "1.2.840.10008.5.1.4.1.1.3.1"
_EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
#: Under the arc for identifiers that are made from a UUID.
_IMPLEMENTATION = "2.25.302043790172249692526321623266752743501"


@dataclass(frozen=True)
class Study:
    """Whose images they are, and when they were made.

    Attributes:
        seed: of the set, so that two sets share no identifier.
        patient: pseudonymous id.
        sex: ``F`` or ``M``.
        age: in years.
        day: days since the first examination.
        number: position of the examination.
        scanner: its name.
        description: of the series.
    """

    seed: int
    patient: str
    sex: str
    age: float
    day: float
    number: int
    scanner: str
    description: str


def uid(*words: object) -> str:
    """A unique identifier that follows from words: a number of 128 bits under the arc for such."""
    digest = hashlib.blake2b("\0".join(["temmed synthetic", *map(str, words)]).encode(), digest_size=16).digest()
    return f"2.25.{int.from_bytes(digest, 'big')}"


def write_dicom(
    path: Path, stored: NDArray[Any], sop_class: str, study: Study, elements: Mapping[str, Any], instance: int = 1
) -> None:
    """Write one grey file, uncompressed.

    Args:
        path: the file.
        stored: ``(rows, columns)`` or ``(frames, rows, columns)``, unsigned, 8 or 16 bits.
        sop_class: of the object.
        study: whose it is.
        elements: further elements by keyword.
        instance: number of the file in its series.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID

    origin = (study.seed, study.patient, study.number)
    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 192"
    data.ImageType = ["ORIGINAL", "PRIMARY"]
    data.SOPClassUID = sop_class
    data.SOPInstanceUID = uid(*origin, study.description, instance)
    day = FIRST_DAY + datetime.timedelta(days=int(study.day))
    for moment in ("Study", "Series", "Acquisition", "Content"):
        setattr(data, f"{moment}Date", day.strftime("%Y%m%d"))
        setattr(data, f"{moment}Time", "120000")
    data.AccessionNumber = ""
    data.Manufacturer = "TemMed"
    data.ManufacturerModelName = study.scanner
    data.ReferringPhysicianName = ""
    data.StudyDescription = "Synthetic"
    data.SeriesDescription = study.description
    data.PatientName = ""
    data.PatientID = study.patient
    data.PatientBirthDate = ""
    data.PatientSex = study.sex
    data.PatientAge = f"{int(study.age + study.day / 365.25):03d}Y"
    data.StudyInstanceUID = uid(*origin)
    data.SeriesInstanceUID = uid(*origin, study.description)
    data.FrameOfReferenceUID = uid(*origin, "frame of reference")
    data.StudyID = ""
    data.SeriesNumber = 1
    data.InstanceNumber = instance
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    if stored.ndim == 3:
        data.NumberOfFrames = len(stored)
    data.Rows, data.Columns = stored.shape[-2:]
    bits = 8 if stored.dtype == np.uint8 else 12
    data.BitsAllocated = 8 * stored.dtype.itemsize
    data.BitsStored, data.HighBit, data.PixelRepresentation = bits, bits - 1, 0
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    content = np.ascontiguousarray(stored.astype(stored.dtype.newbyteorder("<"))).tobytes()
    data.PixelData = content + b"\0" * (len(content) % 2)
    data["PixelData"].VR = "OB" if bits == 8 else "OW"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(sop_class), data.SOPInstanceUID
    meta.TransferSyntaxUID = UID(_EXPLICIT_LITTLE_ENDIAN)
    meta.ImplementationClassUID = UID(_IMPLEMENTATION)
    meta.ImplementationVersionName = "TEMMED"
    data.file_meta = meta
    data.save_as(path, enforce_file_format=True)
