"""CheXTemporal: the progression of findings between a prior and a current chest X-ray, with boxes drawn by experts.

Its images come from three archives and only those of MIMIC-CXR have dates, so each pair is a sequence of its own with
the order that the source gives it. Where the metadata table of MIMIC-CXR-JPG is at hand, its pairs are checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from temmed.timelines.importers._comparisons import Findings, comparison_row, either
from temmed.timelines.importers._items import (
    Box,
    Item,
    box_of,
    check_images,
    check_used,
    find_image,
    needed_file,
    note_flat_boxes,
    read_items,
)
from temmed.timelines.importers._mimic import MODALITY, Archive, image_id, open_archive
from temmed.timelines.importers._series import Series, plan_series
from temmed.timelines.importers._splits import add_split
from temmed.timelines.importers._tables import LeftOut
from temmed.timelines.importers.plan import Mapper, Options, Plan, folder_of, slug
from temmed.timelines.importers.registry import Importer
from temmed.timelines.importers.studies import Place

_PAIRS, _BOXES = "gold_progression_pairs.parquet", "gold_bboxes.parquet"
_KEY = ("dataset", "patient_id", "study_id_prev", "study_id_curr", "disease_name")
_PATHS = ("img_path_prev", "img_path_curr")
_BOX_FIELDS = ("prior_bboxes", "current_bboxes")
_CLASSES = ("stable", "worse", "improved", "new", "resolved")
#: Other forms of the words, by how they begin.
_STEMS = {"stable": "stable", "worse": "worse", "improv": "improved", "new": "new", "resolv": "resolved"}
_MIMIC, _CHANNEL = "mimic", "frontal"


def plan(source: Path, options: Options, run: Mapper) -> Plan:
    """Find the pairs of CheXTemporal's gold set; all of them are for testing.

    Args:
        source: the folder of its Parquet files, or the file of pairs.
        options: what the user asked for; ``images`` is the folder above ``chexpert``, ``mimic`` and ``rexgradient``.
        run: of no use here.

    Raises:
        InputError: a file is missing or malformed, no pair can be used, or no image is there.
    """
    result, left = Plan(), LeftOut()
    path = source if source.is_file() else needed_file(source, _PAIRS)
    root = options.images or path.parent
    archive = open_archive(source, options, left)
    pairs = _agreed(
        [item for item in read_items(path, (*_KEY, *_PATHS, "progression")) if _in_order(item, archive, left)], left
    )
    series = [_series(item, root) for item in pairs]
    planned = plan_series(series, result, options, "the source's own order of each pair")
    left.tell(result)
    check_used(result, path, "pair")
    check_images(result, root)
    findings = Findings(result)
    asked: dict[tuple[str, ...], tuple[Place, Place]] = {}
    for item, images in zip(pairs, series, strict=True):
        if images in planned:
            earlier, later = Place(planned[images], 0), Place(planned[images], 1)
            asked[_key(item)] = earlier, later
            _ask(item, earlier, later, findings, result)
    boxes = folder_of(source) / _BOXES
    if boxes.is_file():
        _add_boxes(read_items(boxes, (*_KEY, *_BOX_FIELDS)), asked, findings, result, options.limit is not None)
    add_split(result, ((sequence, "test") for sequence in planned.values()))
    return result


def _key(item: Item) -> tuple[str, ...]:
    return tuple(item.needed(field).lower() for field in _KEY)


def _in_order(item: Item, archive: Archive | None, left: LeftOut) -> bool:
    """Whether a pair is in the order of time, as far as that can be known."""
    if archive is None or not item.needed("dataset").lower().startswith(_MIMIC):
        return True
    earlier, later = (archive.study_of(image_id(item.needed(path))) for path in _PATHS)
    if earlier is None or later is None:
        return True
    reason = archive.order_of(earlier, later)
    if reason:
        left.add(item, reason)
    return reason is None


def _agreed(items: Iterable[Item], left: LeftOut) -> list[Item]:
    """Each pair and finding once, without those that have two labels."""
    by_key: dict[tuple[str, ...], list[Item]] = {}
    for item in items:
        by_key.setdefault(_key(item), []).append(item)
    agreed = []
    for same in by_key.values():
        contrary = len({_label(item) for item in same}) > 1
        agreed += [] if contrary else same[:1]
        for item in same if contrary else same[1:]:
            left.add(item, "another row labels the same pair " + ("otherwise" if contrary else "likewise"))
    return agreed


def _label(item: Item) -> str:
    text = item.needed("progression").lower()
    found = next((label for stem, label in _STEMS.items() if text.startswith(stem)), None)
    if found is None:
        raise item.wrong("progression", " or ".join(_CLASSES))
    return found


def _series(item: Item, root: Path) -> Series:
    dataset = item.needed("dataset").lower()
    files = tuple(find_image(item.needed(path), root / dataset, root) for path in _PATHS)
    # Two archives may give the same number to two patients.
    return Series(f"{dataset}/{item.needed('patient_id')}", files, MODALITY, _CHANNEL)


def _ask(item: Item, earlier: Place, later: Place, findings: Findings, result: Plan) -> None:
    disease = item.needed("disease_name").lower()
    row = comparison_row(
        f"chextemporal_{item.number}",
        earlier,
        later,
        task="progression",
        template=f"chextemporal_{slug(disease)}",
        prompt=f"Compared with {{moment}}, is the {disease} {either(_CLASSES)}?",
        choices=_CLASSES,
        answer=_label(item),
        finding_id=findings.add(later.sequence, disease),
    )
    result.add("questions", **row)


def _add_boxes(
    items: Sequence[Item],
    asked: Mapping[tuple[str, ...], tuple[Place, Place]],
    findings: Findings,
    result: Plan,
    limited: bool,
) -> None:
    """Add the boxes of the pairs that are asked about."""
    flat: list[Item] = []
    without = 0
    for item in items:
        places = asked.get(_key(item))
        without += places is None
        for place, field in zip(places or (), _BOX_FIELDS, strict=False):
            boxes = _boxes(item, field, flat)
            if any(picture.position == place.position for picture in place.sequence.pictures):
                for box in boxes:
                    findings.box(place, _CHANNEL, box, item.needed("disease_name").lower())
    if without and not limited:
        result.notes.append(f"{without:,} rows of {_BOXES} are left out: their pair has no label that is used")
    note_flat_boxes(result, flat)


def _boxes(item: Item, field: str, flat: list[Item]) -> list[Box]:
    found: Any = item.fields[field]
    if found is None:
        return []
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise item.wrong(field, "a list of boxes")
    boxes = [box_of(item, field, entry) for entry in found]
    flat += [item] * boxes.count(None)
    return [box for box in boxes if box is not None]


IMPORTER = Importer(
    name="chextemporal",
    summary="CheXTemporal, gold: progression of findings between two chest X-rays, with boxes.",
    needs=f"the folder with {_PAIRS} and {_BOXES}; with --images the folder above chexpert, mimic and rexgradient",
    plan=plan,
)
