"""A source full of planted identifiers, and reports whose clinical words are known, to judge de-identification by.

Everything is invented. About half of the identifiers come from Faker with a fixed seed, the others from lists and
rules here that look for trouble: names that are also words, accents, ids in odd places.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

#: Names that break simple rules: ordinary words, accents, particles, apostrophes, two letters.
HARD_NAMES = (
    ("Stone", "Grace"), ("Young", "Rose"), ("Müller-Lüders", "Jörg"), ("O'Connell", "Siobhán"), ("de la Cruz", "Inés"),
    ("Nguyen", "Thi Bich"), ("Long", "Hunter"), ("Al-Rashid", "Omar"), ("Brown", "Summer"), ("Li", "Xiaoming"),
    ("van der Berg", "Pieter"), ("McAllister", "Fiona"), ("Graves", "Faith"), ("Bell", "Dawn"), ("Kowalczyk", "Łucja"),
    ("Hand", "Joy"), ("Ferreira", "Conceição"), ("Wood", "April"), ("Small", "June"), ("Fox", "Jean-Luc"),
)  # fmt: skip
#: Sentences without any identifier. ``{a}`` and ``{b}`` are measurements.
CLINICAL = (
    "The {a} mm nodule in the right upper lobe has increased from {b} mm, 3 months after the previous examination.",
    "Stable mild cardiomegaly with a tortuous thoracic aorta.",
    "No pneumothorax or pleural effusion is seen on either side.",
    "Left lower lobe consolidation has resolved since the prior study 6 weeks ago.",
    "There is a T2 FLAIR hyperintense lesion in the left frontal lobe measuring {a} x {b} mm.",
    "Surrounding vasogenic edema with 4 mm of midline shift to the right, unchanged.",
    "The left ventricular ejection fraction is estimated at {a}-{b} %, previously 60 %.",
    "Mediastinal and hilar lymph nodes are not enlarged by size criteria.",
    "Interval development of bilateral ground-glass opacities, worse at the lung bases.",
    "Kerley B lines suggest interstitial edema, slightly improved.",
    "Mean attenuation of {a} Hounsfield units, consistent with a simple cyst.",
    "Degenerative changes at L4/5 with moderate canal stenosis.",
    "Target lesion 2 in hepatic segment VII decreased by 35 %, from {a} to {b} mm, partial response by RECIST 1.1.",
    "Post-operative cavity in the right temporal lobe without nodular enhancement.",
    "A 12 mL hematoma in the left basal ganglia is new since yesterday.",
    "Endotracheal tube tip 4.5 cm above the carina; nasogastric tube in the stomach.",
    "Lungs are clear. Heart size is normal. Bones are intact.",
    "Compared with 2 days ago, the right pleural effusion is larger and now moderate.",
    "Recommend follow-up CT in 12 months according to Fleischner guidelines.",
    "Contrast wash-in at 18 s and wash-out after 3 minutes in the arterial phase lesion.",
    "Series 4, image 57: 0.8 cm hypodense lesion in the pancreatic tail, stable for 2 years.",
    "Restricted diffusion in the left MCA territory, ADC {a}, in keeping with acute infarction.",
)
#: Parts of names that are no names.
_NO_NAMES = ("van", "der", "Mrs", "Miss", "Prof", "Prof.", "DDS", "DVM", "PhD", "Jr.", "III", "Herr", "Frau")
HEADINGS = ("FINDINGS:", "IMPRESSION:")


@dataclass(frozen=True)
class Planted:
    """One identifier.

    Attributes:
        kind: what it is.
        place: header, private, nested, text, name or table.
        value: as it was written.
        invented: whether Faker made it.
    """

    kind: str
    place: str
    value: str
    invented: bool

    @property
    def needles(self) -> list[str]:
        """What must not be found: of a name each part of three letters and more, else the whole."""
        if self.kind != "name":
            return [self.value]
        return [part for part in re.split(r"[\s^,_]+", self.value) if len(part) > 2 and part not in _NO_NAMES]


@dataclass
class Corpus:
    """The source and what is in it.

    Attributes:
        root: the folder.
        planted: the identifiers.
        clinical: the clinical sentences of each report, by its number as text.
        visits: the days of each patient's visits.
    """

    root: Path
    planted: list[Planted] = field(default_factory=list)
    clinical: dict[str, str] = field(default_factory=dict)
    visits: dict[str, list[date]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Person:
    name: str
    number: str
    invented: bool

    @property
    def spoken(self) -> str:
        family, given = self.name.split("^")
        return f"{given} {family}"


def plant(root: Path, patients: int = 20, seed: int = 0) -> Corpus:
    """Write the source.

    Args:
        root: the folder to make.
        patients: how many; every second has a name from Faker.
        seed: equal seeds give equal sources.
    """
    from faker import Faker

    fake = Faker(["en_US", "en_GB", "de_DE", "es_ES"])
    fake.seed_instance(seed)
    english = Faker("en_US")
    english.seed_instance(seed)
    rng = np.random.default_rng(seed)
    corpus = Corpus(root)
    rows: list[dict[str, str]] = []
    for index in range(patients):
        invented = index % 2 == 1
        family, given = HARD_NAMES[index // 2 % len(HARD_NAMES)]
        name = f"{fake.last_name()}^{fake.first_name()}" if invented else f"{family}^{given}"
        person = _Person(name, f"{84_000_000 + 7919 * index}" if index % 3 else f"HX-{40_000 + 77 * index}", invented)
        # All in one year: moved by more than a year, no date of one patient can fall on another's by chance.
        start = date(2019, 1, 1) + timedelta(days=index % 28)
        days = [start + timedelta(days=int(day)) for day in np.cumsum([0, *rng.integers(20, 165, 2)])]
        corpus.visits[person.number] = days
        corpus.planted.append(Planted("name", "header", name, invented))
        corpus.planted.append(Planted("id", "header", person.number, False))
        for visit, day in enumerate(days):
            header = _header(corpus, fake, english, person, day, index, visit)
            folder = root / "scans" / f"{person.spoken.replace(' ', '_')}" / f"{day:%Y%m%d}"
            _write_dicom(folder / f"{person.number}_{visit}.dcm", header, rng)
            _report(corpus, english, fake, person, day, index, visit, rng, rows)
        corpus.planted.append(Planted("name", "name", person.spoken, invented))
    with (root / "reports.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    _bids(corpus, english, rng)
    return corpus


def _header(
    corpus: Corpus, fake: Any, english: Any, person: _Person, day: date, index: int, visit: int
) -> dict[str, Any]:
    """Elements of one file's header; what identifies is noted in the corpus."""
    accession = f"AC{20_000_000 + 100 * index + visit}"
    doctor = f"{fake.last_name()}^{fake.first_name()}"
    address = english.street_address()
    secret = english.license_plate() + f"-{index}{visit}"
    hidden = f"{fake.last_name()}^{fake.first_name()}"
    note = f"ZX{index:03d}{visit}-PRIVATE"
    corpus.planted += [
        Planted("id", "header", accession, False),
        Planted("name", "header", doctor, True),
        Planted("address", "header", address, True),
        Planted("id", "private", secret, True),
        Planted("name", "nested", hidden, True),
        Planted("id", "private", note, False),
    ]
    return {
        "PatientID": person.number,
        "PatientName": person.name,
        "AccessionNumber": accession,
        "ReferringPhysicianName": doctor,
        "PatientAddress": address,
        "StudyDate": f"{day:%Y%m%d}",
        "private": (secret, note),
        "nested": hidden,
        "StudyInstanceUID": f"1.2.826.0.1.3680043.9.{index + 1}.{visit + 1}",
    }


def _write_dicom(path: Path, header: dict[str, Any], rng: np.random.Generator) -> None:
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = header["StudyInstanceUID"] + ".1.1"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID = header["StudyInstanceUID"] + ".1"
    dataset.Modality, dataset.SeriesDescription, dataset.PatientSex = "CT", "Chest axial 1.0 mm", "F"
    dataset.StudyTime, dataset.Manufacturer = "101500", "Acme Imaging"
    dataset.Rows = dataset.Columns = 16
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    dataset.PixelData = rng.integers(0, 1000, (16, 16)).astype(np.uint16).tobytes()
    for keyword, value in header.items():
        if keyword not in ("private", "nested"):
            setattr(dataset, keyword, value)
    block = dataset.private_block(0x0099, "ACME HOSPITAL", create=True)
    block.add_new(1, "LO", header["private"][0])
    inner, outer = Dataset(), Dataset()
    inner.PersonName = inner.RequestingPhysician = header["nested"]
    # Inside of a sequence that the profile keeps, two levels down, also a private element.
    inner.private_block(0x0099, "ACME HOSPITAL", create=True).add_new(2, "UN", header["private"][1].encode())
    outer.ReferencedImageSequence = [inner]
    dataset.SharedFunctionalGroupsSequence = [outer]
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path)


def _report(
    corpus: Corpus, english: Any, fake: Any, person: _Person, day: date, index: int, visit: int,
    rng: np.random.Generator, rows: list[dict[str, str]],
) -> None:  # fmt: skip
    """A report as a file and another as a row of a table."""
    doctor, relative = fake.name_nonbinary(), english.first_name()
    phone, mail, street = english.numerify("(%##) %##-####"), english.email(), english.street_address()
    city = f"{english.city()}, {english.state_abbr()} {english.zipcode()}"
    birth = date(1930 + index, 1 + visit, 10 + index % 18)
    born = (f"{birth:%m/%d/%Y}", f"{birth:%d %B %Y}", f"{birth:%Y-%m-%d}")[visit]
    ssn = f"{500 + index}-{10 + visit:02d}-{4000 + 13 * index}"
    picked = [CLINICAL[number] for number in rng.choice(len(CLINICAL), 8, replace=False)]
    sentences = [text.format(a=int(rng.integers(6, 40)), b=int(rng.integers(6, 40))) for text in picked]
    prior = day - timedelta(days=90)
    corpus.planted += [
        Planted("name", "text", doctor, True),
        Planted("name", "text", relative, True),
        Planted("phone", "text", phone, True),
        Planted("email", "text", mail, True),
        Planted("address", "text", street, True),
        Planted("address", "text", city, True),
        Planted("date", "text", born, False),
        Planted("id", "text", ssn, False),
        Planted("name", "text", person.spoken, person.invented),
        Planted("date", "text", f"{day:%d-%b-%Y}", False),
    ]
    text = (
        f"CT CHEST\nPatient: {person.spoken}   MRN: {person.number}   DOB: {born}   SSN {ssn}\n"
        f"Address: {street}, {city}\nDate of examination: {day:%d-%b-%Y}. Comparison: {prior:%d-%b-%Y}.\n"
        f"Referred by {doctor}.\n\n{HEADINGS[0]}\n{' '.join(sentences[:5])}\n{HEADINGS[1]}\n{' '.join(sentences[5:])}\n"
        f"Discussed with the patient's daughter {relative}, phone {phone}, {mail}.\n"
        f"Electronically signed by {doctor}, MD\n"
    )
    path = corpus.root / "reports" / f"{person.name.split('^')[0].replace(' ', '_')}-{day:%Y-%m-%d}_{visit}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    corpus.clinical[f"file {index} {visit}"] = " ".join(sentences)
    rows.append(
        {
            "patient_id": person.number,
            "patient_name": person.spoken,
            "study_date": f"{day:%Y-%m-%d}",
            "age": str(40 + index),
            "report": f"{person.spoken} was seen on {day:%d-%b-%Y}. {' '.join(sentences)}",
        }
    )
    corpus.clinical[f"row {index} {visit}"] = " ".join(sentences)


def _bids(corpus: Corpus, english: Any, rng: np.random.Generator) -> None:
    """A small BIDS folder: names in NIfTI headers and side files."""
    import nibabel

    for index in range(5):
        label, operator = f"K{index}44{index}7", english.name()
        day = date(2019, 3, 1 + index)
        folder = corpus.root / "bids" / f"sub-{label}" / f"ses-{day:%Y%m%d}" / "anat"
        folder.mkdir(parents=True)
        image = nibabel.Nifti1Image(rng.normal(size=(4, 4, 4)).astype(np.float32), np.eye(4))
        image.header["descrip"] = operator.encode()[:79]
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension(6, f"scanned by {operator}".encode()))
        stem = f"sub-{label}_ses-{day:%Y%m%d}_T1w"
        nibabel.save(image, folder / f"{stem}.nii.gz")
        side = {"PatientName": operator, "InstitutionAddress": english.street_address(), "EchoTime": 0.003}
        (folder / f"{stem}.json").write_text(json.dumps(side))
        corpus.planted += [
            Planted("name", "nifti", operator, True),
            Planted("address", "json", str(side["InstitutionAddress"]), True),
            Planted("id", "name", label, False),
            Planted("date", "name", f"{day:%Y%m%d}", False),
        ]


def survivors(planted: list[Planted], texts: list[str]) -> list[Planted]:
    """The identifiers of which something is left.

    Names count when a part stands as a word of its own, in the case it was written in; anything else wherever its
    characters stand.

    Args:
        planted: the identifiers.
        texts: everything that was written: contents and names.
    """
    whole = "\n".join(texts)
    lower = whole.lower()
    # Names of files join words by underscores.
    words = set(re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", whole))
    left = []
    for entry in planted:
        if entry.kind == "name":
            found = any(part in words for part in entry.needles)
        else:
            found = any(part.lower() in lower for part in entry.needles)
        if found:
            left.append(entry)
    return left


def lost_tokens(before: str, after: str) -> tuple[int, int]:
    """How many clinical tokens a text lost, of how many."""
    tokens = [Counter(re.findall(r"[A-Za-z]+|\d+(?:\.\d+)?|%", text)) for text in (before, after)]
    return sum((tokens[0] - tokens[1]).values()), sum(tokens[0].values())
