"""Open and write timeline folders."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from temmed.errors import InputError
from temmed.files import atomic_write
from temmed.timelines import tables as table_io
from temmed.timelines.image_files import ImageFiles
from temmed.timelines.pixels import read_frames
from temmed.timelines.privacy.access import record_opening
from temmed.timelines.problems import Problems
from temmed.timelines.schema import FORMAT, SCHEMA
from temmed.timelines.validate import check_tables, image_path, referenced_paths

META_FILE = "dataset.json"
#: In a folder whose images lie in shards: the list of these.
SHARD_LIST = "shards.json"
_BLOCK = 1 << 20
_THREADS = 8
_NO_FILE = "absent"


@dataclass(frozen=True)
class DatasetMeta:
    """What ``dataset.json`` says.

    Attributes:
        name: a short name.
        version: the data's version.
        licence: the terms the data are under.
        provenance: where the data came from: source, importer, versions, parameters.
        fingerprint: a hash of what the tables and the image files hold.
    """

    name: str
    version: str
    licence: str
    provenance: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = ""


@dataclass(frozen=True)
class _Digests:
    """The parts of a fingerprint.

    The images' part is costly, so that opening a folder takes it from ``dataset.json`` as long as the paths and sizes
    of the image files are the ones it was made from. The tables' part is always made anew: an edited table is another
    dataset, whatever ``dataset.json`` says.
    """

    tables: str
    files: str
    images: str

    @property
    def fingerprint(self) -> str:
        return _hash(self.tables, self.images)


class Timeline:
    """A timeline folder, opened.

    Attributes:
        root: the folder.
        meta: what ``dataset.json`` says.
        problems: the broken rules of form; none in a folder opened with validation.
        recorded_fingerprint: the fingerprint written in ``dataset.json``; another than ``meta.fingerprint`` when the
            folder was changed since.
        files: where the pixels come from.
    """

    def __init__(
        self,
        root: Path,
        meta: DatasetMeta,
        tables: dict[str, pd.DataFrame],
        problems: Problems,
        recorded_fingerprint: str,
    ) -> None:
        self.root = root
        self.meta = meta
        self.files = ImageFiles(root)
        self.problems = problems
        self.recorded_fingerprint = recorded_fingerprint
        self._tables = tables
        self._absent: dict[str, pd.DataFrame] = {}

    @classmethod
    def open(cls, root: str | PathLike[str], validate: bool = True, files: bool = True) -> Timeline:
        """Open a folder.

        Args:
            root: the folder that holds ``dataset.json``.
            validate: refuse tables that break a rule of the format. Without it, broken rules are only noted in
                ``problems``, and what cannot be read as its column's type is a missing value. That is for the audit.
            files: look whether the image files are there and as large as they were. Without it, or where the images
                lie in shards, they are taken to be as ``dataset.json`` says.

        Raises:
            InputError: there is no timeline folder, or a file in it cannot be read.
            ValidationError: a table breaks the format.
        """
        root = Path(root)
        raw = _read_meta(root)
        files = files and not (root / SHARD_LIST).is_file()
        problems = Problems()
        tables = {}
        for name in SCHEMA:
            path = table_io.find_table(root, name)
            if path is not None:
                tables[name] = table_io.read_table(path, name, problems)
        check_tables(tables, root, problems, files=files)
        if validate:
            problems.check(str(root))
        tables = {name: _sorted(frame, name) for name, frame in tables.items()}
        recorded = raw.get("digests") if isinstance(raw.get("digests"), dict) else {}
        digests = _digests(tables, root, recorded or {}, files=files)
        meta = DatasetMeta(
            name=str(raw["name"]),
            version=str(raw.get("version", "")),
            licence=str(raw.get("licence", "")),
            provenance=raw.get("provenance") or {},
            fingerprint=digests.fingerprint,
        )
        record_opening(root, meta.fingerprint)
        return cls(root, meta, tables, problems, str(raw.get("fingerprint", "")))

    def table(self, name: str) -> pd.DataFrame:
        """A table by its name in the schema; one without rows when the folder has none. Not a copy: do not change it.

        Rows are sorted by the table's key, so that time points and images come in order.
        """
        if name not in SCHEMA:
            raise KeyError(f"no table is called {name!r}; there are {', '.join(SCHEMA)}")
        if name in self._tables:
            return self._tables[name]
        # Not among the tables there are: a look at a table must not change the fingerprint.
        if name not in self._absent:
            self._absent[name] = table_io.empty_table(name)
        return self._absent[name]

    def has(self, name: str) -> bool:
        """Whether the folder holds rows of a table."""
        return not self.table(name).empty

    def read_images(
        self, sequence_id: str, positions: Collection[int] | None = None
    ) -> list[tuple[int, str, np.ndarray]]:
        """The images of a sequence; every file is read once.

        Args:
            sequence_id: the sequence.
            positions: leave out those of other positions.

        Returns:
            (position, channel, pixels) by position and channel; pixels are ``(*spatial,)`` or ``(*spatial, 3)``.

        Raises:
            InputError: a file cannot be read.
        """
        images = self.table("images")
        images = images[images["sequence_id"] == sequence_id]
        if positions is not None:
            images = images[images["position"].isin(list(positions))]
        return read_rows(self.root, images)

    def recompute_fingerprint(self) -> str:
        """The fingerprint from the image files as they are now, whatever ``dataset.json`` says."""
        return _digests(self._tables, self.root, {}).fingerprint

    def record_fingerprint(self) -> str:
        """Read all image files and write the fingerprint of the folder as it is now into ``dataset.json``."""
        digests = _digests(self._tables, self.root, {})
        raw = _read_meta(self.root) | {"fingerprint": digests.fingerprint, "digests": asdict(digests)}
        _write_meta(self.root, raw)
        self.meta = replace(self.meta, fingerprint=digests.fingerprint)
        self.recorded_fingerprint = digests.fingerprint
        return digests.fingerprint


def read_rows(root: Path, images: pd.DataFrame) -> list[tuple[int, str, np.ndarray]]:
    """The images of some rows of the images table, of one sequence; every file is read once.

    Args:
        root: the folder that relative paths start from.
        images: the rows: ``position, channel, path, frame``.

    Returns:
        (position, channel, pixels) by position and channel; pixels are ``(*spatial,)`` or ``(*spatial, 3)``.

    Raises:
        InputError: a file cannot be read.
    """
    found: list[tuple[int, str, np.ndarray]] = []
    for path, rows in images.groupby("path", sort=False):
        file = image_path(root, str(path))
        for part in (rows[rows["frame"].isna()], rows[rows["frame"].notna()]):
            if part.empty:
                continue
            frames = None if part["frame"].isna().all() else part["frame"].astype("int64").tolist()
            pixels = read_frames(file, frames)
            # A file that is one image may serve several rows.
            pixels = np.broadcast_to(pixels, (len(part), *pixels.shape[1:]))
            found += zip(part["position"].tolist(), part["channel"].tolist(), pixels, strict=True)
    return sorted(found, key=lambda item: item[:2])


def write_timeline(
    staging: Path,
    tables: Mapping[str, pd.DataFrame],
    *,
    name: str,
    version: str,
    licence: str,
    provenance: Mapping[str, Any],
    suffix: str = ".parquet",
) -> str:
    """Write tables and ``dataset.json`` into a folder whose image files are already there.

    Args:
        staging: the folder, usually from :func:`temmed.files.staged_folder`.
        tables: frames by table name; tables without rows are left out, but for the required ones.
        name: a short name of the dataset.
        version: its version.
        licence: the terms it is under.
        provenance: where it came from.
        suffix: ``.parquet`` or ``.csv``.

    Returns:
        The content fingerprint.

    Raises:
        ValidationError: the tables break the format.
    """
    unknown = sorted(set(tables) - set(SCHEMA))
    if unknown:
        raise KeyError(f"no table is called {unknown[0]!r}; there are {', '.join(SCHEMA)}")
    problems = Problems()
    conformed = {key: table_io.conform(frame, key, f"{key}{suffix}", problems) for key, frame in tables.items()}
    check_tables(conformed, staging, problems)
    problems.check(str(staging))
    staging.mkdir(parents=True, exist_ok=True)
    for key, frame in conformed.items():
        if len(frame) or key == "images":
            table_io.write_table(frame, staging / f"{key}{suffix}", key)
    digests = _digests(conformed, staging, {})
    meta = {
        "format": FORMAT,
        "name": name,
        "version": version,
        "licence": licence,
        "provenance": dict(provenance),
        "fingerprint": digests.fingerprint,
        "digests": asdict(digests),
    }
    _write_meta(staging, meta)
    return digests.fingerprint


def _read_meta(root: Path) -> dict[str, Any]:
    remedy = "Give a folder made by `temmed data synth` or `temmed data import`."
    if not root.is_dir():
        raise InputError("a timeline folder", "a file" if root.exists() else "nothing", str(root), remedy)
    path = root / META_FILE
    if not path.is_file():
        content = "other content" if any(root.iterdir()) else "an empty folder"
        raise InputError(f"a timeline folder with a {META_FILE}", content, str(root), remedy)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError("a JSON object", str(error), str(path), "Write the file again.") from error
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        found = repr(raw.get("format")) if isinstance(raw, dict) else type(raw).__name__
        raise InputError(f"format {FORMAT!r}", found, str(path), "Import the data again with this version of TemMed.")
    if not isinstance(raw.get("name"), str) or not isinstance(raw.get("provenance", {}), dict):
        raise InputError("a text as name and an object as provenance", "something else", str(path), "Correct the file.")
    return raw


def _write_meta(root: Path, raw: Mapping[str, Any]) -> None:
    atomic_write(root / META_FILE, json.dumps(raw, indent=2, ensure_ascii=False) + "\n")


def _sorted(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    return table_io.in_order(frame, SCHEMA[name].key).reset_index(drop=True)


def _digests(
    tables: Mapping[str, pd.DataFrame], root: Path, recorded: Mapping[str, Any], files: bool = True
) -> _Digests:
    """Hash the content; take the images' part from ``recorded`` when its files are the same by path and size.

    Without ``files`` it is taken from there in any case.
    """
    parts = []
    for name in sorted(tables):
        if len(tables[name]):
            leave_out = ("path",) if name in ("images", "masks") else ()
            parts += [name, table_io.digest(tables[name], name, leave_out).hex()]
    if not files:
        return _Digests(_hash(*parts), str(recorded.get("files", "")), str(recorded.get("images", "")))
    paths = sorted(referenced_paths(tables))
    listing = _hash(*[f"{path}\0{_size(image_path(root, path))}" for path in paths])
    if recorded.get("files") == listing and isinstance(recorded.get("images"), str):
        return _Digests(_hash(*parts), listing, recorded["images"])
    with ThreadPoolExecutor(_THREADS) as pool:
        contents = dict(zip(paths, pool.map(lambda path: _file_digest(image_path(root, path)), paths), strict=True))
    images = []
    for name in ("images", "masks"):
        if name in tables:
            frame = tables[name].assign(path=tables[name]["path"].map(contents).astype("str"))
            images += [name, table_io.digest(frame, name).hex()]
    return _Digests(_hash(*parts), listing, _hash(*images))


def _hash(*parts: str) -> str:
    result = hashlib.blake2b(digest_size=16)
    for part in parts:
        result.update(part.encode() + b"\0")
    return result.hexdigest()


def _size(path: Path) -> str:
    try:
        return str(path.stat().st_size)
    except OSError:
        return _NO_FILE


def _file_digest(path: Path) -> str:
    """Hash a file's bytes, or the names and bytes of all files in a folder (a volume kept as single slices)."""
    if path.is_dir():
        inside = sorted(entry for entry in path.rglob("*") if entry.is_file())
        return _hash(*[f"{entry.relative_to(path)}\0{_file_digest(entry)}" for entry in inside])
    result = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                result.update(block)
    except OSError:
        return _NO_FILE
    return result.hexdigest()
