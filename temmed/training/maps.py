"""Where and when a model looked, as rows of the prediction table ``maps``."""

from __future__ import annotations

from typing import Any

from temmed.data.batch import TimelineBatch
from temmed.models.readers.base import Reading


def map_rows(reading: Reading, batch: TimelineBatch) -> list[dict[str, Any]]:
    """One row for each question of a batch.

    Args:
        reading: with its maps.
        batch: whose questions were read.
    """
    assert reading.maps is not None
    maps = reading.maps.float().cpu().numpy()
    slots = None if reading.slots is None else reading.slots.float().cpu().numpy()
    named, asked_at = batch.positions.cpu().numpy(), batch.asked_at.cpu().numpy()
    rows: list[dict[str, Any]] = []
    for b, identities in enumerate(batch.question_ids):
        for q, identity in enumerate(identities):
            seen = slice(asked_at[b, q] + 1)
            row = {"question_id": identity, "places": maps[b, q], "positions": named[b, seen]}
            rows.append({**row, "shares": None if slots is None else slots[b, q, seen]})
    return rows
