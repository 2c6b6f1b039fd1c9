"""JSON files without identifiers: BIDS side files, records, lines of records."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from temmed.errors import InputError
from temmed.timelines.privacy.cells import CellCleaner
from temmed.timelines.privacy.columns import Kind, kind_of, kinds_of
from temmed.timelines.privacy.dicom_file import from_json
from temmed.timelines.privacy.dicom_profile import DESCRIPTORS, Profile, described
from temmed.timelines.privacy.dicom_table import action_of
from temmed.timelines.privacy.text_files import read_text

#: Terms of use, hashes, and what an earlier de-identification said of itself are carried over as they are.
_CARRIED = ("licence", "license", "consent", "deidentification", "digests", "fingerprint", "source_fingerprint")
#: Kinds of numbers that are not left as they are.
_NUMBERS: tuple[Kind, ...] = ("patient", "record", "birth", "age", "date", "remove")
_PLURAL = re.compile(r"(?i)(patient|subject|participant)s")


def load_json(path: Path) -> Any:
    """What a JSON file holds, or the list of what the lines of a ``.jsonl`` file hold.

    Raises:
        InputError: it is no JSON.
    """
    text = read_text(path)
    try:
        if ".jsonl" in path.name.lower():
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError("a JSON file", str(error), str(path), "Correct it, or leave it out.") from error


def dump_json(value: Any, name: str) -> str:
    """The text of a JSON file of that name, or the lines of a ``.jsonl`` file."""
    if ".jsonl" in name.lower():
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in value)
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def clean_json(value: Any, cleaner: CellCleaner, owner: str | None, key: str = "", kind: Kind = "text") -> Any:
    """Clean what a JSON file holds; a key that is an attribute of DICOM is treated as the profile says.

    Args:
        value: what it holds, or a part of that.
        cleaner: cleans values.
        owner: the patient it is about.
        key: what the part is called.
        kind: what a part of that name holds.
    """
    if key.lower() in _CARRIED:
        return value
    if isinstance(value, dict):
        dataset = from_json(value)
        if dataset is not None:
            profile = Profile(cleaner.scrubber, str(dataset.get("PatientID") or owner or ""))
            profile.clean(dataset)
            cleaner.counts.update(profile.done)
            return dataset.to_json_dict(suppress_invalid_tags=True)
        own = cleaner.owner_of({name: str(cell) for name, cell in value.items() if isinstance(cell, (str, int))})
        own = own or owner
        kinds = kinds_of(tuple(value))
        return {
            cleaner.clean_key(name, own): clean_json(
                cell, cleaner, name if name in cleaner.names.patients else own, name, kind
            )
            for (name, cell), kind in zip(value.items(), kinds, strict=True)
        }
    if isinstance(value, list):
        plural = _PLURAL.fullmatch(key)
        return [clean_json(part, cleaner, owner, key, kind_of(plural[1]) if plural else kind) for part in value]
    if isinstance(value, bool) or value is None or (isinstance(value, (int, float)) and kind not in _NUMBERS):
        return value
    if kind == "text" and value != "" and _profile_removes(key):
        cleaner.count(key, "removed")
        return ""
    if key in DESCRIPTORS:
        return described(str(value), cleaner.scrubber, owner)
    cleaned = cleaner.clean(key, str(value), owner, kind=kind)
    if isinstance(value, (int, float)):
        return value if cleaned == str(value) else type(value)(float(cleaned)) if kind == "age" else cleaned
    return cleaned


def _profile_removes(key: str) -> bool:
    """Whether a key is a DICOM attribute that the profile takes out and that is no date, description or unique id."""
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    tag = tag_for_keyword(key)
    if tag is None or action_of(tag) is None or dictionary_VR(tag) in ("DA", "DT", "TM", "UI", "AS"):
        return False
    return not key.endswith(("Description", "ProtocolName", "Sex", "Size", "Weight"))
