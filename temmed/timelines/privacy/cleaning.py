"""One file of a source made into one without identifiers, by its kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from temmed.errors import InputError
from temmed.timelines.privacy import burned_in, containers, tables
from temmed.timelines.privacy.cells import CellCleaner
from temmed.timelines.privacy.dicom_file import read_header, rewrite
from temmed.timelines.privacy.dicom_profile import Profile
from temmed.timelines.privacy.inventory import Item
from temmed.timelines.privacy.json_files import clean_json, dump_json, load_json
from temmed.timelines.privacy.paths import Names
from temmed.timelines.privacy.text import Scrubber
from temmed.timelines.privacy.text_files import read_text, write_text
from temmed.timelines.readers.dicom import frame_count

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_NUMBERS = re.compile(r"[\s\d.eE+-]*")
_COPIES: dict[str, Callable[[Path, Path], list[str]]] = {
    "nifti": containers.copy_nifti,
    "png": containers.copy_png,
    "jpeg": containers.copy_jpeg,
    "numpy": containers.copy_numpy,
    "video": containers.copy_video,
}
#: What a container's writer says of itself whenever it writes.
_OWN_MARKS = frozenset(
    ("encoder", "handler_name", "major_brand", "minor_version", "compatible_brands", "language", "vendor_id")
)


@dataclass(frozen=True)
class Cleaned:
    """What was done to a file.

    Attributes:
        path: its new path.
        actions: how many of each (element, column or kind; action); never a value.
        pixels: why there may be text in its pixels.
    """

    path: str
    actions: Mapping[tuple[str, str], int]
    pixels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cleaner:
    """Cleans the files of a source.

    Attributes:
        scrubber: cleans text.
        patients: the source's ids of all patients.
        owners: the patient of ids and paths.
        look: look for text in pixels.
    """

    scrubber: Scrubber
    patients: frozenset[str]
    owners: Mapping[str, str] = field(default_factory=dict)
    look: bool = True

    @cached_property
    def names(self) -> Names:
        """Cleans the names of files."""
        return Names(self.scrubber, self.patients)

    def clean(self, item: Item, source: Path, target: Path) -> Cleaned:
        """Clean one file.

        Args:
            item: the file.
            source: the folder it is below.
            target: the folder to write below.

        Raises:
            InputError: the file is damaged.
        """
        path = self.names.path(item.path, item.owner)
        out = target / path
        out.parent.mkdir(parents=True, exist_ok=True)
        actions = self.write(item, source / item.path, out)
        return Cleaned(path, actions, self.pixels(item, source / item.path))

    def write(self, item: Item, source: Path, out: Path) -> Mapping[tuple[str, str], int]:
        """Write the cleaned file; how many of each (element, column or kind; action) were changed."""
        if item.kind == "dicom":
            return rewrite(
                source,
                out,
                lambda dataset: self.apply_profile(dataset, item.owner),
                "a DICOM file that can be cleaned",
                "Copy it again, leave it out with --exclude, or leave out all such files with --skip-unreadable.",
            )
        if item.kind in _COPIES:
            removed = [name for name in _COPIES[item.kind](source, out) if name.lower() not in _OWN_MARKS]
            return dict.fromkeys(((name, "removed") for name in removed), 1)
        if item.kind == "text":
            scrubbed = self.scrubber.scrub(read_text(source), item.owner)
            write_text(out, scrubbed.text)
            return {
                (kind.removeprefix("shifted "), "shifted" if kind.startswith("shifted") else "removed"): count
                for kind, count in scrubbed.counts.items()
            }
        if item.kind == "numbers":
            text = read_text(source)
            if not _NUMBERS.fullmatch(text):
                raise InputError("nothing but numbers", "other text", str(source), "Correct it, or --exclude it.")
            write_text(out, text)
            return {}
        return self._write_table(item, source, out)

    def apply_profile(self, dataset: Dataset, owner: str | None) -> Mapping[tuple[str, str], int]:
        """De-identify a DICOM data set in place."""
        profile = Profile(self.scrubber, owner or "")
        profile.apply(dataset)
        return profile.done

    def _write_table(self, item: Item, source: Path, out: Path) -> Mapping[tuple[str, str], int]:
        cells = CellCleaner(self.scrubber, self.names, self.owners)
        if item.kind == "table":
            tables.clean_rows(source, out, cells, self.scrubber.order, item.owner)
        elif item.kind == "parquet":
            tables.clean_parquet(source, out, cells, self.scrubber.order)
        else:
            write_text(out, dump_json(clean_json(load_json(source), cells, item.owner), item.path))
        return cells.counts

    def pixels(self, item: Item, source: Path) -> tuple[str, ...]:
        """Why there may be text in a file's pixels; empty when nothing says so."""
        if item.kind not in ("dicom", "png", "jpeg", "video"):
            return ()
        reasons: list[str] = []
        count: int | None = None
        if item.kind == "dicom":
            header = read_header(source)
            if "Rows" not in header:
                return ()
            reasons += burned_in.by_header(header)
            frames = frame_count(header)
            count = frames if frames > 1 else None
        if item.kind == "video":
            reasons.append("a video, of which only the first frame is looked at")
            count = 1
        if self.look:
            try:
                seen = burned_in.by_looking(source, count)
            except InputError as error:
                return (*reasons, f"pixels that cannot be looked at: expected {error.expected}, found {error.found}")
            if seen:
                reasons.append(f"{seen} {'line' if seen == 1 else 'lines'} of text seen")
        return tuple(reasons)
