"""Chest ImaGenome, gold: comparison relations that radiologists checked."""

from __future__ import annotations

from pathlib import Path

from temmed.timelines.importers._imagenome import plan_relations
from temmed.timelines.importers._items import needed_file
from temmed.timelines.importers._mimic import image_id
from temmed.timelines.importers._splits import add_split
from temmed.timelines.importers._tables import Row, table_rows
from temmed.timelines.importers.plan import Mapper, Options, Plan
from temmed.timelines.importers.registry import Importer

_TABLE = "gold_dataset/gold_object_comparison_with_coordinates.txt"
_COLUMNS = ("current_image_id", "previous_image_id", "bbox", "comparison")


def plan(source: Path, options: Options, run: Mapper) -> Plan:
    """Find the comparisons of the gold dataset; all of them are for testing.

    Args:
        source: the folder that holds ``gold_dataset``.
        options: what the user asked for; ``images`` is the folder of MIMIC-CXR-JPG.
        run: of no use here.

    Raises:
        InputError: a table is missing or malformed, no comparison can be used, or no image is there.
    """
    rows = table_rows(needed_file(source, _TABLE), _COLUMNS)
    result, sequences = plan_relations(source, rows, _pair, frozenset(), options, "imagenome_gold")
    add_split(result, ((sequence, "test") for sequence in sequences.values()))
    return result


def _pair(row: Row) -> tuple[str, str]:
    return image_id(row.needed("previous_image_id")), image_id(row.needed("current_image_id"))


IMPORTER = Importer(
    name="imagenome-gold",
    summary="Chest ImaGenome, gold: checked comparisons between chest X-rays of MIMIC-CXR-JPG, for testing.",
    needs=f"the folder with {_TABLE}; with --images the folder of MIMIC-CXR-JPG with its metadata table",
    plan=plan,
)
