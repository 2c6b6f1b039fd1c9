"""Chest ImaGenome, silver: comparison relations read from the reports of MIMIC-CXR by a program."""

from __future__ import annotations

from pathlib import Path

from temmed.timelines.importers._imagenome import plan_relations
from temmed.timelines.importers._items import needed_file
from temmed.timelines.importers._mimic import image_id
from temmed.timelines.importers._splits import add_split
from temmed.timelines.importers._tables import Row, table_rows
from temmed.timelines.importers.plan import Mapper, Options, Plan
from temmed.timelines.importers.registry import Importer

_TABLE = "silver_dataset/scene_tabular/comparison_relations_tabular.txt"
_SPLITS = "silver_dataset/splits"
_SUBSETS = {"train": "train", "valid": "val", "test": "test"}
_COLUMNS = ("subject_id", "object_id", "bbox", "comparison", "attribute", "sentence")


def plan(source: Path, options: Options, run: Mapper) -> Plan:
    """Find the comparisons of the silver dataset.

    Args:
        source: the folder that holds ``silver_dataset``.
        options: what the user asked for; ``images`` is the folder of MIMIC-CXR-JPG.
        run: of no use here.

    Raises:
        InputError: a table is missing or malformed, no comparison can be used, or no image is there.
    """
    path = needed_file(source, _TABLE, f"{_TABLE}.gz")
    splits = source / _SPLITS
    named: dict[str, str] = {}
    avoid = frozenset(_images(splits / "images_to_avoid.csv"))
    rows = table_rows(path, _COLUMNS)
    result, sequences = plan_relations(source, rows, _pair, avoid, options, "imagenome")
    for name, subset in _SUBSETS.items():
        named |= dict.fromkeys(_images(splits / f"{name}.csv"), subset)
    add_split(result, ((sequence, named[image]) for image, sequence in sequences.items() if image in named))
    return result


def _images(path: Path) -> list[str]:
    """The images that a table of the splits lists; none if it is not there."""
    return [image_id(row.needed("dicom_id")) for row in table_rows(path, ("dicom_id",))] if path.is_file() else []


def _pair(row: Row) -> tuple[str, str]:
    """The earlier and the later image; the table calls them object and subject."""
    earlier, later = (row.needed(column).split("_")[0] for column in ("object_id", "subject_id"))
    return image_id(earlier), image_id(later)


IMPORTER = Importer(
    name="imagenome",
    summary="Chest ImaGenome, silver: comparisons between chest X-rays of MIMIC-CXR-JPG, read from reports.",
    needs=f"the folder with {_TABLE}; with --images the folder of MIMIC-CXR-JPG with its metadata table",
    plan=plan,
)
