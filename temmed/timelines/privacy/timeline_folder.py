"""What a timeline folder says about itself, brought in line after its files were cleaned."""

from __future__ import annotations

import json
from pathlib import Path, PureWindowsPath
from typing import Any

from temmed.errors import InputError
from temmed.timelines.folder import META_FILE, Timeline
from temmed.timelines.privacy.paths import Names
from temmed.timelines.splits import FOLDER, load_split, save_split


def bring_in_line(source: Path, staging: Path, manifest: dict[str, Any], names: Names) -> None:
    """Write fingerprints anew, add what was done to the provenance, and carry the terms over.

    Args:
        source: the folder that was de-identified.
        staging: the cleaned folder.
        manifest: what was done.
        names: cleans the name of the source.

    Raises:
        InputError: the cleaned tables break the format.
    """
    old = json.loads((source / META_FILE).read_text(encoding="utf-8"))
    path = staging / META_FILE
    meta = json.loads(path.read_text(encoding="utf-8"))
    provenance, before = meta.get("provenance") or {}, old.get("provenance") or {}
    # Where it lay says who worked on it; this kind of path knows both slashes.
    place = PureWindowsPath(str(before.get("source", "")))
    if len(place.parts) > 1:
        provenance["source"] = names.name(place.name, None)
    provenance |= {name: before[name] for name in ("licence", "license", "consent") if name in before}
    meta["licence"] = old.get("licence", "unknown") if manifest.get("licence") is None else manifest["licence"]
    for name in ("importer", "versions", "source_fingerprint"):
        if name in before:
            provenance[name] = before[name]
    meta["provenance"] = provenance | {"deidentification": manifest}
    path.write_text(json.dumps(meta, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    timeline = Timeline.open(staging)
    timeline.record_fingerprint()
    _splits(staging, timeline)


def refuse_outside(source: Path) -> None:
    """Refuse a timeline folder whose images lie elsewhere.

    Raises:
        InputError: at least one does.
    """
    timeline = Timeline.open(source)
    for name in ("images", "masks"):
        outside = [
            path for path in timeline.table(name)["path"] if Path(path).is_absolute() or ".." in Path(path).parts
        ]
        if outside:
            raise InputError(
                "images inside of the folder",
                f"{len(outside)} outside of it",
                f"{source}, {name}",
                "Import the source again without --reference, or de-identify the source itself.",
            )


def _splits(staging: Path, timeline: Timeline) -> None:
    """Write the fingerprints of splits anew: their ids are others now."""
    for path in sorted((staging / FOLDER).glob("*.csv")):
        about = path.with_suffix(".json")
        if about.is_file():
            told = json.loads(about.read_text(encoding="utf-8"))
            told.pop("fingerprint", None)
            about.write_text(json.dumps(told), encoding="utf-8")
        save_split(load_split(staging, path.stem, timeline), staging)
