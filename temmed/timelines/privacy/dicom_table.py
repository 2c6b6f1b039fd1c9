"""What the standard asks to be done with each DICOM attribute, read from the table of ``dicom-anonymizer``."""

from __future__ import annotations

from functools import cache
from typing import Literal

Action = Literal["remove", "empty", "replace", "uid"]

#: The edition of the standard that the table was made from.
EDITION = "2026c"
_TABLE = f"dicomfields_{EDITION}"
_ACTIONS: dict[str, Action] = {
    "X_TAGS": "remove",
    "Z_TAGS": "empty",
    "X_Z_TAGS": "empty",
    "D_TAGS": "replace",
    "Z_D_TAGS": "replace",
    "X_D_TAGS": "replace",
    "X_Z_D_TAGS": "replace",
    "U_TAGS": "uid",
    "X_Z_U_STAR_TAGS": "uid",
}


@cache
def _table() -> tuple[dict[int, Action], tuple[tuple[int, int, Action], ...]]:
    """Actions by tag, and (tag, mask, action) of the groups that repeat."""
    from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector

    single: dict[int, Action] = {}
    repeated: list[tuple[int, int, Action]] = []
    listed = dicom_anonymization_database_selector(_TABLE)
    for column, action in _ACTIONS.items():
        for group, element, *mask in listed[column]:
            if mask:
                repeated.append((group << 16 | element, mask[0] << 16 | mask[1], action))
            else:
                single[group << 16 | element] = action
    return single, tuple(repeated)


def action_of(tag: int) -> Action | None:
    """What the profile does with an attribute; ``None`` where it is not in the table."""
    single, repeated = _table()
    if tag in single:
        return single[tag]
    return next((action for start, mask, action in repeated if tag & mask == start & mask), None)
