"""MedSG-Bench: find something in a series of medical images and say where it is, as a box."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from temmed.errors import InputError
from temmed.timelines.importers._comparisons import Findings
from temmed.timelines.importers._items import (
    Box,
    Item,
    box_of,
    check_images,
    check_used,
    find_image,
    read_items,
)
from temmed.timelines.importers._series import Series, plan_series
from temmed.timelines.importers._splits import add_split
from temmed.timelines.importers._tables import LeftOut
from temmed.timelines.importers.plan import Mapper, Options, Plan, folder_of, relative, slug
from temmed.timelines.importers.registry import Importer
from temmed.timelines.importers.rows import question_row
from temmed.timelines.importers.studies import Place

_FIELDS = ("task", "images", "question", "answer")
_TASKS = (
    *("Registered_Diff", "Non_Registered_Diff", "multi_view", "object_tracking"),
    *("concept", "patch", "crossmodal", "referring"),
)
#: Width and height that boxes refer to where an item does not say.
_SIDE = 336
_WITH_SIZE = "multi_view"
_ORDINALS = {"first": 0, "second": 1, "third": 2, "fourth": 3, "fifth": 4, "sixth": 5, "last": -1}
_WHERE = re.compile(rf"\b({'|'.join(_ORDINALS)}) (?:image|frame|picture|slice)\b", re.IGNORECASE)


def plan(source: Path, options: Options, run: Mapper) -> Plan:
    """Find the items of MedSG-Bench; all of them are for testing.

    Args:
        source: a JSON file of items, or a folder of such files, one per task.
        options: what the user asked for; ``images`` is the folder of images.
        run: of no use here.

    Raises:
        InputError: a file is missing or malformed, no item can be used, or no image is there.
    """
    result, left = Plan(), LeftOut()
    root = options.images or folder_of(source)
    read = [item for path in _files(source) for item in read_items(path, _FIELDS)]
    boxed = [(item, box) for item in read if (box := _box(item, left))]
    images = [tuple(find_image(path, root) for path in item.texts("images")) for item, _ in boxed]
    series = [Series(owner, files, "other") for owner, files in zip(_owners(images, root), images, strict=True)]
    planned = plan_series(series, result, options, "the order of the images in the source")
    left.tell(result)
    check_used(result, source, "item")
    check_images(result, root)
    findings = Findings(result)
    for (item, box), shown in zip(boxed, series, strict=True):
        if shown in planned:
            position = _target(item.needed("question"), len(shown.images))
            _ask(item, box, Place(planned[shown], position), findings, result)
    add_split(result, ((sequence, "test") for sequence in planned.values()))
    return result


def _files(source: Path) -> list[Path]:
    files = [source] if source.is_file() else sorted(source.glob("*.json"))
    if not files:
        raise InputError("a JSON file of items", "none", str(source), "Check the path.")
    return files


def _box(item: Item, left: LeftOut) -> Box | None:
    if item.needed("task") not in _TASKS:
        raise item.wrong("task", " or ".join(_TASKS))
    box = box_of(item, "answer", item.fields["answer"])
    if box is None:
        left.add(item, "its box has no area")
    return box


def _owners(images: Sequence[Sequence[Path]], folder: Path) -> list[str]:
    """Who each item belongs to: items that share an image, even through others, belong together."""
    parent: dict[Path, Path] = {}

    def root(name: Path) -> Path:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for files in images:
        for file in files:
            parent[root(file)] = root(files[0])
    return [relative(root(files[0]), folder) for files in images]


def _target(question: str, count: int) -> int:
    """The position that is asked for: the image that the question names last, else the last image."""
    named = _WHERE.findall(question)
    position = _ORDINALS[named[-1].lower()] if named else -1
    return count - 1 if position == -1 or position >= count else position


def _size(item: Item) -> tuple[float, float]:
    """Width and height that the box refers to."""
    found: Any = item.fields.get("size")
    if item.needed("task") != _WITH_SIZE or found is None:
        return _SIDE, _SIDE
    if not isinstance(found, list) or len(found) != 2 or not all(isinstance(n, int | float) and n > 0 for n in found):
        raise item.wrong("size", "a width and a height")
    return found[0], found[1]


def _ask(item: Item, box: Box, place: Place, findings: Findings, result: Plan) -> None:
    task = item.needed("task")
    identifier = f"{item.path.stem}_{item.number - 1}"
    label = f"target of {identifier}"
    width, height = _size(item)
    row = question_row(
        identifier,
        place.sequence,
        len(place.sequence.times) - 1,
        task="grounding",
        template=f"medsg_{slug(task)}",
        prompt=item.needed("question"),
        answer=json.dumps([int(number) if number.is_integer() else number for number in box]),
        evidence=[place.position],
        names_position=bool(_WHERE.search(item.needed("question"))),
        finding_id=findings.add(place.sequence, label),
    )
    result.add("questions", **row)
    findings.box(place, "image", box, label)
    record = {"question_id": identifier, "task": task, "size": [width, height], "answer": list(box)}
    result.records.setdefault("items", []).append(record | {"position": place.position})


IMPORTER = Importer(
    name="medsg-bench",
    summary="MedSG-Bench: grounding in series of medical images; answers are boxes.",
    needs="a JSON file of items or a folder of them; with --images the folder of images",
    plan=plan,
)
