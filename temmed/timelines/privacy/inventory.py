"""What a source holds: its files by kind, whose they are, and the identifiers that its headers and tables give away."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from temmed.errors import InputError
from temmed.timelines.importers.plan import Mapper, folder_of, relative, source_files
from temmed.timelines.privacy import tables
from temmed.timelines.privacy.columns import kind_of
from temmed.timelines.privacy.dicom_file import Fact, facts, learn, read_header
from temmed.timelines.privacy.known import Known
from temmed.timelines.privacy.paths import subject
from temmed.timelines.privacy.stand_ins import StandIns
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
    kinds: dict[str, Kind] = {}
    root = folder_of(source)
    for file in source_files(source):
        path = relative(file, root)
        kind = _kind_of(file)
        reason = "excluded" if any(fnmatch(path, pattern) for pattern in exclude) else "not a kind that can be cleaned"
        if kind is None or reason == "excluded":
            result.left_out.append((path, reason))
        else:
            kinds[path] = kind
    read = partial(_read, root=root, skip=skip_unreadable)
    looked = [path for path, kind in kinds.items() if kind in ("dicom", "table", "parquet", "json")]
    found = dict(
        zip(looked, run("Reading headers and tables", read, [(path, kinds[path]) for path in looked]), strict=True)
    )
    for path, told in found.items():
        if isinstance(told, str):
            result.left_out.append((path, told))
            del kinds[path]
    _learn(result, {path: told for path, told in found.items() if not isinstance(told, str)}, stand_ins)
    folders = _folders({path: told[0][0] for path, told in found.items() if kinds.get(path) == "dicom"})
    for path, kind in kinds.items():
        if kind == "nifti":
            _learn_layout(result, path, stand_ins)
    for path, kind in kinds.items():
        own = found[path][0][0] if kind == "dicom" else _owner(result, path, folders)
        if own is None and kind == "text":
            own = _spoken_of(result, tables.read_text(root / path))
        result.items.append(Item(path, kind, own))
    return result


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


#: (patient, fact) of a file, the patient of each of its ids and paths; or why it is left out.
_Told = list[tuple[str | None, Fact]]


def _read(task: tuple[str, Kind], root: Path, skip: bool) -> _Told | str:
    path, kind = task
    try:
        if kind == "dicom":
            return _read_dicom(root / path)
        return list(dict.fromkeys(_read_table(root / path, kind)))
    except InputError as error:
        if skip:
            return f"expected {error.expected}, found {error.found}"
        raise


def _read_dicom(path: Path) -> _Told | str:
    header = read_header(path)
    if "EncapsulatedDocument" in header:
        return "a document inside of a DICOM file, which cannot be looked through"
    owner = str(header.get("PatientID") or "").strip() or f"study {header.get('StudyInstanceUID') or path.name}"
    told: _Told = [(owner, ("owner", owner))]
    return told + [(owner, fact) for fact in dict.fromkeys(facts(header))]


def _read_table(path: Path, kind: Kind) -> Iterator[tuple[str | None, Fact]]:
    if kind == "json":
        yield from _rows_of_json(tables.load_json(path), None)
        return
    if kind == "table":
        header, cells = tables.read_rows(path)
        rows: Iterator[dict[str, str]] = (dict(zip(header, row, strict=False)) for row in cells)
    else:
        table = tables.read_parquet(path)
        rows = (
            {name: str(value) for name, value in row.items() if isinstance(value, (str, int))}
            for row in table.to_pylist()
        )
    for row in rows:
        yield from _facts_of_row(row, None)


def _rows_of_json(value: Any, owner: str | None) -> Iterator[tuple[str | None, Fact]]:
    if isinstance(value, list):
        for part in value:
            yield from _rows_of_json(part, owner)
    elif isinstance(value, dict):
        row = {key: str(cell) for key, cell in value.items() if isinstance(cell, (str, int))}
        yield from _facts_of_row(row, owner)
        own = next((tables.patient_id(cell) for key, cell in row.items() if kind_of(key) == "patient"), owner)
        for cell in value.values():
            if isinstance(cell, (dict, list)):
                yield from _rows_of_json(cell, own)


def _facts_of_row(row: dict[str, str], owner: str | None) -> Iterator[tuple[str | None, Fact]]:
    cells = {name: cell.strip() for name, cell in row.items() if cell.strip().lower() not in tables.MISSING}
    owner = next((tables.patient_id(cell) for name, cell in cells.items() if kind_of(name) == "patient"), owner)
    if owner is not None:
        yield owner, ("owner", owner)
    persons = {}
    for name, cell in cells.items():
        kind = kind_of(name)
        if kind in ("record", "key", "path") and owner is not None:
            yield owner, ("link", cell)
        if kind == "patient":
            yield tables.patient_id(cell), ("patient", tables.patient_id(cell))
        elif kind == "record":
            yield owner, ("uid" if cell.count(".") > _LAYOUT_PARTS else "record", cell)
        elif kind == "birth":
            yield owner, ("birth", cell)
        elif kind == "remove":
            what = _removed_kind(name.lower())
            yield owner, (what, cell)
            if what == "name":
                persons[name.lower()] = cell
    family = next((cell for name, cell in persons.items() if re.search("last|family|sur", name)), None)
    given = next((cell for name, cell in persons.items() if re.search("first|given", name)), None)
    if family and given:
        yield owner, ("name", f"{family}^{given}")


def _removed_kind(name: str) -> str:
    for kind, pattern in (
        ("phone", "phone|mobile|fax"),
        ("address", "address|street|city|town|county"),
        ("place", "institution|hospital|station|employer"),
        ("id", "ssn|insurance|zip|postal|postcode|mail"),
    ):
        if re.search(pattern, name):
            return kind
    return "name"


def _learn(result: Inventory, found: dict[str, _Told], stand_ins: StandIns) -> None:
    """Add every fact once."""
    for owner, fact in dict.fromkeys(entry for told in found.values() for entry in told):
        kind, value = fact
        if kind == "owner":
            result.patients.add(value)
            result.known.add_id(value, stand_ins.patient(value), value)
        elif kind == "link":
            result.owners.setdefault(value, owner or "")
        elif kind == "record":
            result.known.add_id(value, stand_ins.other(value), owner)
        else:
            learn(result.known, fact, owner or "", stand_ins)


def _folders(owners: dict[str, str | None]) -> dict[str, str]:
    """The patient of each folder whose DICOM files are all of one."""
    found: dict[str, set[str]] = {}
    for path, owner in owners.items():
        for folder in PurePosixPath(path).parents:
            found.setdefault(str(folder), set()).add(owner or "")
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
