"""Comparison relations of Chest ImaGenome, silver and gold: how a place in the chest changed between two X-rays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from temmed.timelines.importers._comparisons import Findings, comparison_row, moment
from temmed.timelines.importers._items import Box, box_of, check_images, check_used, note_flat_boxes
from temmed.timelines.importers._mimic import Archive, RadiographStudy, channel_of
from temmed.timelines.importers._tables import LeftOut, Row
from temmed.timelines.importers.plan import Options, Plan, PlannedSequence, slug
from temmed.timelines.importers.studies import Place

#: The source's classes, and how to say that something has changed so.
CLASSES = {"improved": "improved", "no change": "not changed", "worsened": "worsened"}
_OPPOSITE = {"improved": "worsened", "worsened": "improved"}
_JOINED = ";;"
#: Columns of the boxes in pixels of the original image, now and before.
_BOXES = ("bbox_coord_original_subject", "bbox_coord_original_object")
#: An attribute of this kind names no finding: the region as a whole is compared.
_NO_FINDING = "nlp"


@dataclass(frozen=True)
class _Relation:
    """One usable row, for one finding.

    Attributes:
        row: the row.
        earlier: the study compared with.
        later: the study of the comparison.
        images: the image of each, earlier first.
        location: the place in the chest.
        finding: what is compared there; ``None`` for the place as a whole.
        verdict: one of :data:`CLASSES`.
        boxes: of the place in each image, earlier first.
    """

    row: Row
    earlier: RadiographStudy
    later: RadiographStudy
    images: tuple[str, str]
    location: str
    finding: str | None
    verdict: str
    boxes: tuple[Box | None, Box | None]

    @property
    def name(self) -> str:
        """The finding and its place in words."""
        return f"{self.finding} in the {self.location}" if self.finding else self.location

    @property
    def key(self) -> tuple[str, str, str, str | None]:
        """What is the same for all relations about one thing and pair."""
        return self.earlier.study, self.later.study, self.location, self.finding


def plan_relations(
    source: Path,
    rows: Iterable[Row],
    images_of: Callable[[Row], tuple[str, str]],
    avoid: frozenset[str],
    options: Options,
    template: str,
) -> tuple[Plan, dict[str, PlannedSequence]]:
    """Make questions, statements and boxes of comparison relations.

    Args:
        source: the folder of Chest ImaGenome.
        rows: of the table of relations.
        images_of: the ids of the earlier and the later image of a row.
        avoid: images that must not be used.
        options: what the user asked for; ``images`` is the folder of MIMIC-CXR-JPG.
        template: the first part of the questions' templates and ids.

    Returns:
        The plan, and the sequence of each image compared.

    Raises:
        InputError: a table is malformed, no relation can be used, or no image is there.
    """
    result, left = Plan(), LeftOut()
    archive = Archive(source, options, left)
    flat: list[Row] = []
    relations = [found for row in rows for found in _relations(row, images_of(row), archive, avoid, left, flat)]
    agreed = _agreed(relations, left)
    wanted: dict[str, list[str]] = defaultdict(list)
    studies: dict[str, str] = {}
    for relation in agreed:
        for study, image in zip((relation.earlier, relation.later), relation.images, strict=True):
            wanted[study.study].append(image)
            studies[image] = study.study
    places = archive.plan(wanted, result, options)
    left.tell(result)
    note_flat_boxes(result, flat)
    check_used(result, source, "comparison")
    check_images(result, archive.root)
    _ask([relation for relation in agreed if relation.later.study in places], places, result, template)
    return result, {image: places[study].sequence for image, study in studies.items() if study in places}


def _relations(
    row: Row, images: tuple[str, str], archive: Archive, avoid: frozenset[str], left: LeftOut, flat: list[Row]
) -> list[_Relation]:
    """What a row says, by finding; nothing if it cannot be used."""
    earlier, later = (archive.study_of(image) for image in images)
    verdict = _verdict(row)
    reason: str | None
    if avoid & set(images):
        reason = "one of its images is listed in images_to_avoid"
    elif earlier is None or later is None:
        reason = "one of its images is not in the metadata table"
    elif verdict is None:
        reason = "it compares in contrary words"
    else:
        reason = archive.order_of(earlier, later)
    if reason or earlier is None or later is None or verdict is None:
        left.add(row, str(reason))
        return []
    boxes = tuple(_box(row, column, flat) for column in reversed(_BOXES))
    location = row.needed("bbox")
    return [
        _Relation(row, earlier, later, images, location, finding, verdict, (boxes[0], boxes[1]))
        for finding in _findings(row)
    ]


def _verdict(row: Row) -> str | None:
    """The class that all of a row's comparisons agree on; ``None`` if they do not."""
    found = {_last(word) for word in row.needed("comparison").split(_JOINED)}
    for word in found:
        if word not in CLASSES:
            raise row.wrong("comparison", " or ".join(CLASSES))
    return found.pop() if len(found) == 1 else None


def _findings(row: Row) -> list[str | None]:
    words = [word for word in (row.text("attribute") or "").split(_JOINED) if word.strip()]
    named = [None if word.strip().lower().startswith(f"{_NO_FINDING}|") else _last(word) for word in words]
    return list(dict.fromkeys(named)) or [None]


def _last(word: str) -> str:
    """The name in ``category|yes|name``, or in a name alone."""
    return word.rsplit("|", 1)[-1].strip().lower()


def _box(row: Row, column: str, flat: list[Row]) -> Box | None:
    text = row.text(column)
    if text is None or text == "[]":
        return None
    box = box_of(row, column, text)
    if box is None:
        flat.append(row)
    return box


def _agreed(relations: Iterable[_Relation], left: LeftOut) -> list[_Relation]:
    """Each comparison once, without those that the source makes in contrary ways."""
    by_key: dict[tuple[str, str, str, str | None], list[_Relation]] = defaultdict(list)
    for relation in relations:
        by_key[relation.key].append(relation)
    agreed = []
    for same in by_key.values():
        if len({relation.verdict for relation in same}) == 1:
            agreed.append(same[0])
            for relation in same[1:]:
                left.add(relation.row, "an earlier row says the same of the same pair")
        else:
            for relation in same:
                left.add(relation.row, "another row says the contrary of the same pair")
    return agreed


def _ask(relations: Iterable[_Relation], places: Mapping[str, Place], result: Plan, template: str) -> None:
    findings = Findings(result)
    reported = {row["report_id"] for row in result.tables.get("reports", [])}
    for relation in relations:
        earlier, later = places[relation.earlier.study], places[relation.later.study]
        label = relation.finding or "appearance"
        identifier = f"{template}_{relation.row.number}_{slug(label)}"
        finding = findings.add(later.sequence, label, relation.location)
        report = later.report_id if later.report_id in reported else None
        question = comparison_row(
            identifier,
            earlier,
            later,
            task="progression",
            template=f"{template}_{slug(label)}",
            prompt=f"Compared with {{moment}}, has the {relation.name} improved, not changed or worsened?",
            choices=list(CLASSES),
            answer=relation.verdict,
            finding_id=finding,
            evidence_report_id=report,
            evidence_sentence=relation.row.text("sentence"),
        )
        result.add("questions", **question)
        _state(result, identifier, relation, earlier, later, finding, report)
        for place, image, box in zip((earlier, later), relation.images, relation.boxes, strict=True):
            channel = channel_of(place, image)
            if box is not None and channel is not None:
                findings.box(place, channel, box, label, relation.location)


def _state(
    result: Plan, identifier: str, relation: _Relation, earlier: Place, later: Place, finding: str, report: str | None
) -> None:
    """A true statement, and one with another direction; what did not change is said to be either in turn."""
    otherwise = _OPPOSITE.get(relation.verdict) or ("improved", "worsened")[relation.row.number % 2]
    for direction, flip in ((relation.verdict, None), (otherwise, "direction")):
        result.add(
            "statements",
            statement_id=f"{identifier}_{flip or 'true'}",
            report_id=report,
            sequence_id=later.sequence.sequence_id,
            position=later.position,
            finding_id=finding,
            text=f"Compared with {moment(earlier, later)}, the {relation.name} has {CLASSES[direction]}.",
            direction=direction,
            location=relation.location,
            consistent=flip is None,
            flip=flip,
        )
