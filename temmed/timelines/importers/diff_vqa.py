"""Medical-Diff-VQA: questions about one chest X-ray of MIMIC-CXR-JPG, and about what differs from a reference.

In about half of its pairs the reference was made *after* the main study. "The main image has an additional finding"
then tells of something that went away, so such a pair is used only where its answer means the same both ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from temmed.timelines.importers._comparisons import comparison_row
from temmed.timelines.importers._items import check_images, check_used
from temmed.timelines.importers._mimic import REVERSED, Archive, RadiographStudy, archive_number
from temmed.timelines.importers._splits import add_split, subset_named
from temmed.timelines.importers._tables import LeftOut, Row, find_table, table_rows
from temmed.timelines.importers.plan import Mapper, Options, Plan, folder_of, slug
from temmed.timelines.importers.registry import Importer
from temmed.timelines.importers.rows import question_row
from temmed.timelines.importers.studies import Place

_TABLE = "mimic_pair_questions.csv"
_COLUMNS = ("study_id", "subject_id", "ref_id", "question_type", "question", "answer", "split")
_DIFFERENCE = "difference"
_CLOSED = ("yes", "no")
#: The one answer that is as true with the two studies exchanged.
_EITHER_WAY = "nothing has changed"


@dataclass(frozen=True)
class _Asked:
    """A usable row: the study it is asked at and, of a difference, the one before."""

    row: Row
    subset: str
    later: RadiographStudy
    earlier: RadiographStudy | None = None


def plan(source: Path, options: Options, run: Mapper) -> Plan:
    """Find the questions of Medical-Diff-VQA.

    Args:
        source: the table, or the folder it lies in.
        options: what the user asked for; ``images`` is the folder of MIMIC-CXR-JPG.
        run: of no use here.

    Raises:
        InputError: a table is missing or malformed, no row can be used, or no image is there.
    """
    result, left = Plan(), LeftOut()
    path = source if source.is_file() else find_table(sorted(folder_of(source).iterdir()), _TABLE, source)
    archive = Archive(source, options, left)
    reader = _Reader(archive, left)
    asked = [found for row in table_rows(path, _COLUMNS) if (found := reader.read(row))]
    studies = [study for entry in asked for study in (entry.earlier, entry.later) if study is not None]
    places = archive.plan({study.study: () for study in studies}, result, options)
    if reader.reversed:
        result.notes.append(
            f"{reader.reversed:,} of {reader.differences:,} questions about a difference have a reference that was "
            f"made after the main study: {reader.kept:,} are kept, as they mean the same both ways"
        )
    left.tell(result)
    check_used(result, path, "question")
    check_images(result, archive.root)
    asked = [entry for entry in asked if entry.later.study in places]
    for row in _questions(asked, places):
        result.add("questions", **row)
    add_split(result, ((places[entry.later.study].sequence, entry.subset) for entry in asked))
    return result


class _Reader:
    """Reads rows and counts the differences whose two studies are reversed in time."""

    def __init__(self, archive: Archive, left: LeftOut) -> None:
        self._archive, self._left = archive, left
        self.differences = self.reversed = self.kept = 0

    def read(self, row: Row) -> _Asked | None:
        """What a row asks; ``None`` if it cannot be used."""
        row.needed("question")
        _answer(row)
        subset = subset_named(row, "split")
        main = self._archive.studies.get(archive_number(row, "study_id"))
        if main is None or main.subject != archive_number(row, "subject_id"):
            self._left.add(row, "its study is not in the metadata table as one of its patient")
            return None
        if row.needed("question_type").lower() != _DIFFERENCE:
            return _Asked(row, subset, main)
        self.differences += 1
        reference = self._archive.studies.get(archive_number(row, "ref_id"))
        if reference is None:
            self._left.add(row, "its reference is not in the metadata table")
            return None
        reason = self._archive.order_of(reference, main)
        if reason == REVERSED:
            self.reversed += 1
            if _answer(row).strip(" .").lower() == _EITHER_WAY:
                self.kept += 1
                return _Asked(row, subset, reference, main)
            reason = "its reference was made after its main study, which turns the meaning of its answer round"
        if reason:
            self._left.add(row, reason)
            return None
        return _Asked(row, subset, main, reference)


def _answer(row: Row) -> str:
    """The answer; "none" is one, and no missing cell."""
    return row.cells["answer"] or row.needed("answer")


def _questions(asked: Iterable[_Asked], places: Mapping[str, Place]) -> Iterable[dict[str, Any]]:
    for entry in asked:
        row, later = entry.row, places[entry.later.study]
        kind, answer = slug(row.needed("question_type")), _answer(row)
        identifier, template = f"diff_vqa_{row.number}", f"diff_vqa_{kind}"
        if entry.earlier is not None:
            prompt = f"{row.needed('question')} The reference is {{moment}}."
            earlier = places[entry.earlier.study]
            yield comparison_row(
                identifier, earlier, later, task=_DIFFERENCE, template=template, prompt=prompt, answer=answer
            )
            continue
        closed = answer.lower() in _CLOSED
        yield question_row(
            identifier,
            later.sequence,
            later.position,
            task="choice" if closed else "open",
            template=template,
            prompt=row.needed("question"),
            choices=_CLOSED if closed else None,
            answer=answer.lower() if closed else answer,
            evidence=[later.position],
        )


IMPORTER = Importer(
    name="diff-vqa",
    summary="Medical-Diff-VQA: questions on chest X-rays of MIMIC-CXR-JPG and on what changed between two.",
    needs=f"{_TABLE} or its folder; with --images the folder of MIMIC-CXR-JPG with its metadata table",
    plan=plan,
)
