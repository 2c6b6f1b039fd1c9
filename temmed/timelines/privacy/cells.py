"""Cells of tables and values of JSON files without identifiers, by what their column or key holds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from temmed.timelines.privacy import dates
from temmed.timelines.privacy.columns import MISSING, Kind, kind_of, kinds_of, patient_id
from temmed.timelines.privacy.dates import Order
from temmed.timelines.privacy.paths import Names
from temmed.timelines.privacy.patterns import OLDEST
from temmed.timelines.privacy.stand_ins import moved
from temmed.timelines.privacy.text import Scrubber

Counts = Counter[tuple[str, str]]
_PLAIN = re.compile(r"[-+]?\d{0,6}(?:\.\d+)?(?:[eE][-+]?\d+)?")
#: Days since 1900 from 1954 to 2091, as spreadsheets write dates.
_SERIAL = re.compile(r"[2-6]\d{4}(?:\.\d+)?")
#: What these columns hold is made of names that are no persons'.
_SETTING = re.compile(r"(?i)manufacturer|model|software|coil|scanner|pulse_?sequence")
#: A path from the root of a disk, whatever its column is called.
_PATH = re.compile(r"(?:[A-Za-z]:[\\/]|\\\\|~?/)[^\n]*[\\/][^\n]*")
#: Columns that link a row to a patient.
_LINKS: tuple[Kind, ...] = ("record", "key", "path")


@dataclass
class CellCleaner:
    """Cleans cells and counts what it did.

    Attributes:
        scrubber: cleans text.
        names: cleans paths.
        owners: the patient of every id of a sequence, study or report that a table gives.
        counts: (column, action); never a value.
    """

    scrubber: Scrubber
    names: Names
    owners: Mapping[str, str]
    counts: Counts = field(default_factory=Counter)
    _keys: dict[tuple[str, str | None], str] = field(default_factory=dict)

    def clean(
        self, column: str, value: str, owner: str | None, order: Order | None = None, kind: Kind | None = None
    ) -> str:
        """Clean one cell.

        Args:
            column: its column's name.
            value: its text.
            owner: the patient of its row.
            order: of day and month in this column.
            kind: what the column holds; ``None`` for what its name says.
        """
        if value.strip().lower() in MISSING:
            return value
        cleaned, action = self._by_kind(kind or kind_of(column), value, owner, order, _is_prose(column, value))
        if cleaned != value:
            self.count(column, action)
        return cleaned

    def clean_key(self, name: str, owner: str | None) -> str:
        """Clean the name of a column or of a part of a JSON file, which may be an id or a day."""
        if (name, owner) not in self._keys:
            is_id = name in self.owners or name in self.names.patients
            self._keys[name, owner] = (
                self.names.name(name, owner) if is_id else self.scrubber.scrub(name, owner, strange=False).text
            )
            if self._keys[name, owner] != name:
                self.counts["name of a column or key", "cleaned"] += 1
        return self._keys[name, owner]

    def count(self, column: str, action: str) -> None:
        """Note that something was done, under the column's name without identifiers."""
        self.counts[self.clean_key(column, None), action] += 1

    def owner_of(self, row: Mapping[str, str]) -> str | None:
        """The patient of a row: by its own column, else by another id that a table links to a patient."""
        kinds = list(zip(row.values(), kinds_of(tuple(row)), strict=True))
        named = (value for value, kind in kinds if kind == "patient" and value.strip().lower() not in MISSING)
        linked = (self.owners[value] for value, kind in kinds if kind in _LINKS and value in self.owners)
        own = next(named, None)
        return patient_id(own) if own is not None else next(linked, None)

    def _by_kind(self, kind: Kind, value: str, owner: str | None, order: Order | None, prose: bool) -> tuple[str, str]:
        stand_ins = self.scrubber.stand_ins
        if kind == "patient":
            return _patient(value, stand_ins.patient), "pseudonym"
        if kind in ("remove", "birth"):
            return "", "removed"
        if kind == "record":
            return self._record(value), "stand-in"
        if kind in ("key", "path") or _PATH.fullmatch(value.strip()):
            return self.names.path(value.replace("\\", "/"), owner), "stand-in" if kind == "key" else "renamed"
        if kind == "age":
            return _capped(value), "capped"
        if kind == "date" and _SERIAL.fullmatch(value.strip()):
            return "", "removed"
        if _PLAIN.fullmatch(value.strip()):
            # A number, unless it is a patient's in a column that does not say so.
            whole = (span for span in self.scrubber.known.find(value, owner) if span.end - span.start == len(value))
            return next((span.replacement for span in whole), value), "stand-in"
        found = dates.parse(value, order)
        if found is not None:
            return self._date(value, found, owner)
        scrubbed = self.scrubber.scrub(value, owner, strange=prose)
        return scrubbed.text, "shifted" if set(scrubbed.counts) == {"shifted date"} else "cleaned"

    def _record(self, value: str) -> str:
        known = (span for span in self.scrubber.known.find(value) if span.end - span.start == len(value))
        stand_in = next((span.replacement for span in known if span.replacement[0] != "["), None)
        if stand_in is not None:
            return stand_in
        text = self.scrubber.scrub(value, None, strange=False).text
        return text if text.startswith("2.25.") else self.scrubber.stand_ins.other(value)

    def _date(self, value: str, found: dates.Found, owner: str | None) -> tuple[str, str]:
        if found.day is None or owner is None or found.day in self.scrubber.known.births.get(owner, ()):
            return "", "removed"
        day = moved(found.day, self.scrubber.stand_ins.days(owner))
        if day is None:
            return "", "removed"
        return found.written(day) + value.strip()[found.end :], "shifted"


def _patient(value: str, pseudonym: Callable[[str], str]) -> str:
    """The pseudonym of an id, with the prefix that BIDS gives it where it had one."""
    prefix = "sub-" if value.strip().startswith("sub-") else ""
    return prefix + pseudonym(patient_id(value))


def _is_prose(column: str, value: str) -> bool:
    """Whether capitalised words may be names; what DICOM calls short text names makers and settings."""
    return " " in value.strip() and not _is_setting(column)


@lru_cache
def _is_setting(column: str) -> bool:
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    tag = tag_for_keyword(column)
    return bool(_SETTING.search(column)) or (tag is not None and dictionary_VR(tag) in ("CS", "LO", "SH"))


def _capped(value: str) -> str:
    try:
        age = float(value.strip().rstrip("Yy+"))
    except ValueError:
        return value
    return str(OLDEST) if age > OLDEST else value
