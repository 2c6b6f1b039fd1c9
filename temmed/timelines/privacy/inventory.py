"""What a source holds: its files by kind, whose they are, and the identifiers that its headers and tables give away."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

from temmed.errors import InputError
from temmed.timelines.importers.plan import Mapper, relative, source_files
from temmed.timelines.privacy.dicom_file import read_header
from temmed.timelines.privacy.facts import Told, learn, of_dicom, of_table
from temmed.timelines.privacy.known import Known
from temmed.timelines.privacy.paths import subject
from temmed.timelines.privacy.stand_ins import StandIns
from temmed.timelines.privacy.text_files import read_text
from temmed.timelines.readers.dicom import sniff

Kind = Literal["dicom", "nifti", "png", "jpeg", "numpy", "video", "table", "parquet", "json", "text", "numbers"]

#: What is written at the end, and read from a folder that was de-identified before.
MANIFEST, LOG = "deidentification.json", "deidentification.jsonl"
_SUFFIXES: dict[str, Kind] = {
    ".dcm": "dicom", ".dicom": "dicom", ".ima": "dicom",
    ".nii": "nifti", ".nii.gz": "nifti",
    ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".npy": "numpy",
    ".avi": "video", ".mp4": "video", ".m4v": "video", ".mov": "video",
    ".csv": "table", ".tsv": "table", ".csv.gz": "table", ".tsv.gz": "table", ".parquet": "parquet",
    ".json": "json", ".jsonl": "json", ".json.gz": "json",
    ".txt": "text", ".md": "text", ".rst": "text", ".bval": "numbers", ".bvec": "numbers",
}  # fmt: skip
_PLAIN_NAMES = ("README", "CHANGES", "LICENSE", "LICENCE", "CITATION")
_FLAT = re.compile(r"(?P<patient>.+?)_\d{8}_.+")
_LAYOUT_PARTS = 3


@dataclass(frozen=True)
class Item:
    """One file of a source.

    Attributes:
        path: below the source, with forward slashes.
        kind: how it is read.
        owner: the source's id of its patient, if that is known.
    """

    path: str
    kind: Kind
    owner: str | None


@dataclass
class Inventory:
    """A source, looked through.

    Attributes:
        items: the files that can be de-identified.
        left_out: the others, with the reason.
        known: the identifiers found.
        owners: the patient of every id that a table links to one, and of every path.
        patients: the ids of all patients.
    """

    items: list[Item] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    known: Known = field(default_factory=Known)
    owners: dict[str, str] = field(default_factory=dict)
    patients: set[str] = field(default_factory=set)


def take_inventory(
    source: Path, stand_ins: StandIns, run: Mapper, exclude: tuple[str, ...] = (), skip_unreadable: bool = False
) -> Inventory:
    """Look through a source.

    Args:
        source: a file or a folder.
        stand_ins: makes the pseudonyms.
        run: calls a function on every file.
        exclude: patterns of paths to leave out.
        skip_unreadable: leave damaged files out and do not refuse the source.

    Raises:
        InputError: there is nothing, or a file is damaged.
    """
    result = Inventory()
    kinds = _by_kind(source, exclude, result)
    root = source.parent if source.is_file() else source
    told: dict[str, Told] = {}
    read = partial(_read, root=root, skip=skip_unreadable)
    looked = [(path, kind) for path, kind in kinds.items() if kind in ("dicom", "table", "parquet", "json", "text")]
    for (path, _), found in zip(looked, run("Reading headers and tables", read, looked), strict=True):
        if isinstance(found, str):
            result.left_out.append((path, found))
            del kinds[path]
        else:
            told[path] = found
    _learn(result, told, stand_ins)
    owners = {path: told[path][0][0] or path for path, kind in kinds.items() if kind == "dicom"}
    folders = _folders(owners)
    for path, kind in kinds.items():
        if kind == "nifti":
            _learn_layout(result, path, stand_ins)
    for path, kind in kinds.items():
        own = owners.get(path) or _owner(result, path, folders)
        if own is None and kind == "text":
            own = _spoken_of(result, read_text(root / path))
        result.items.append(Item(path, kind, own))
    return result


def _by_kind(source: Path, exclude: tuple[str, ...], result: Inventory) -> dict[str, Kind]:
    """The kind of each file that can be cleaned, by its path; the others are noted."""
    kinds: dict[str, Kind] = {}
    for file in source_files(source):
        path = relative(file, source)
        if any(fnmatch(path, pattern) for pattern in exclude):
            result.left_out.append((path, "excluded"))
        elif not file.is_file():
            result.left_out.append((path, "no file: a link to nothing, a pipe or a socket"))
        elif (kind := _kind_of(file)) is None:
            result.left_out.append((path, "not a kind that can be cleaned"))
        else:
            kinds[path] = kind
    for folder, names, _ in os.walk(source):
        for name in names:
            if Path(folder, name).is_symlink():
                result.left_out.append((relative(Path(folder, name), source), "a link to another folder"))
    return kinds


def _kind_of(file: Path) -> Kind | None:
    name = file.name.lower()
    if name in ("dicomdir", LOG, MANIFEST):
        return None
    packed = "".join(file.suffixes[-2:]).lower()
    kind = _SUFFIXES.get(packed) or _SUFFIXES.get(file.suffix.lower())
    if kind is not None:
        return kind
    if file.name.upper() in _PLAIN_NAMES:
        return "text"
    return "dicom" if sniff(file) else None


def _read(task: tuple[str, Kind], root: Path, skip: bool) -> Told | str:
    """What a file says about people; or why it is left out."""
    path, kind = task
    try:
        if kind == "text":
            read_text(root / path)
            return []
        if kind != "dicom":
            return of_table(root / path, kind)
        header = read_header(root / path)
        if "EncapsulatedDocument" in header:
            return "a document inside of a DICOM file, which cannot be looked through"
        return of_dicom(header, path)
    except InputError as error:
        if skip:
            return f"expected {error.expected}, found {error.found}"
        raise


def _learn(result: Inventory, found: dict[str, Told], stand_ins: StandIns) -> None:
    """Add every fact once; an id that two patients have in common tells nothing about either."""
    links: dict[str, set[str]] = {}
    for owner, fact in dict.fromkeys(entry for told in found.values() for entry in told):
        kind, value = fact
        if kind == "link":
            links.setdefault(value, set()).add(owner or "")
            continue
        if kind == "owner":
            result.patients.add(value)
        learn(result.known, fact, owner, stand_ins)
    result.owners = {value: next(iter(owners)) for value, owners in links.items() if len(owners) == 1}


def _folders(owners: dict[str, str]) -> dict[str, str]:
    """The patient of each folder whose DICOM files are all of one."""
    found: dict[str, set[str]] = {}
    for path, owner in owners.items():
        for folder in PurePosixPath(path).parents:
            found.setdefault(str(folder), set()).add(owner)
    return {folder: next(iter(own)) for folder, own in found.items() if len(own) == 1 and folder != "."}


def _learn_layout(result: Inventory, path: str, stand_ins: StandIns) -> None:
    """Take the patient's id from a NIfTI file's path, in the layouts that are imported."""
    parts = path.split("/")
    if subject(path) is None:
        if path in result.owners or any(part in result.patients for part in parts):
            return
        flat = _FLAT.fullmatch(parts[-1])
        patient = flat["patient"] if flat else parts[0] if len(parts) >= _LAYOUT_PARTS else None
    else:
        patient = subject(path)
    if patient is not None:
        result.patients.add(patient)
        result.known.add_id(patient, stand_ins.patient(patient), patient)
        result.owners.setdefault(path, patient)
        if re.fullmatch(r"[^\W\d_]+(?:[ _^-][^\W\d_]+)+", patient):
            result.known.add_name(re.sub(r"[_-]", " ", patient), patient)


def _owner(result: Inventory, path: str, folders: dict[str, str]) -> str | None:
    """The patient that a path names, or that a table or the neighbours of the file name."""
    parts = PurePosixPath(path)
    label = subject(path)
    if label is not None:
        return label
    for part in (path, *map(str, list(parts.parents)[:-1]), parts.name, parts.stem):
        if part in result.owners:
            return result.owners[part]
    words = [word for part in parts.parts for word in (part, *re.split(r"[_\-. ]", part))]
    named = {word for word in words if word in result.patients}
    if len(named) == 1:
        return named.pop()
    return _spoken_of(result, path) or folders.get(str(parts.parent))


def _spoken_of(result: Inventory, text: str) -> str | None:
    """The only patient whose id or name a text holds; the one named most often where there are several."""
    owners = Counter(span.owner for span in result.known.find(text) if span.owner in result.patients)
    ranked = owners.most_common(2)
    if not ranked or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]
