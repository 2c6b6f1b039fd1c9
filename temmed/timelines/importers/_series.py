"""Series of images that a source puts together itself: each is a sequence of its own, in the source's order."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from temmed.timelines.importers._items import Item
from temmed.timelines.importers.plan import Options, Picture, Plan, PlannedSequence, slug

_LETTER = re.compile(r"\(?([A-Za-z])\)?[.:)]?")


@dataclass(frozen=True)
class Series:
    """The images of one item, one per position.

    Attributes:
        patient: the source's id of the patient; of several series the same where they must not be divided.
        images: their files, in order.
        modality: unless the user named one.
        channel: of the images.
        days: since the first, if dates are known; otherwise the order is all there is.
    """

    patient: str
    images: tuple[Path, ...]
    modality: str
    channel: str = "image"
    days: tuple[float, ...] | None = None


def plan_series(series: Iterable[Series], result: Plan, options: Options, timing: str) -> dict[Series, PlannedSequence]:
    """Make a sequence of each distinct series.

    Files that are not there are skipped, as in :func:`~temmed.timelines.importers.studies.plan_studies`; patients
    beyond ``options.limit`` are left out.

    Args:
        series: in the order of the source; the same one may come several times.
        result: the plan to add to.
        options: what the user asked for.
        timing: what the order or the times were taken from.

    Returns:
        The sequence of each series within the limit.
    """
    by_patient: dict[str, list[Series]] = defaultdict(list)
    for entry in dict.fromkeys(series):
        by_patient[entry.patient].append(entry)
    written = result.choose(by_patient, options)
    result.patients += [{"patient_id": patient_id} for patient_id in written.values()]
    planned: dict[Series, PlannedSequence] = {}
    absent: set[Path] = set()
    for patient, patient_id in written.items():
        for number, entry in enumerate(by_patient[patient]):
            modality = options.modality or entry.modality
            there = [(position, file) for position, file in enumerate(entry.images) if os.path.isfile(file)]
            absent |= set(entry.images) - {file for _, file in there}
            planned[entry] = PlannedSequence(
                sequence_id=f"{patient_id}_{slug(modality)}_{number}",
                patient_id=patient_id,
                modality=modality,
                time_unit="ordinal" if entry.days is None else "day",
                spatial_dims=2,
                times=[float(rank) for rank in range(len(entry.images))] if entry.days is None else list(entry.days),
                pictures=[Picture(position, entry.channel, (file,)) for position, file in there],
                timing=timing,
            )
    result.sequences += planned.values()
    result.skip_absent(sorted(absent))
    return planned


def choices_of(item: Item, choices: str, answer: str) -> tuple[list[str], str]:
    """The choices of an item in the order of their letters, and the right one.

    Args:
        item: the item.
        choices: the field that holds them: a list, or texts by letter in any order.
        answer: the field that holds the right one: its letter or its text.

    Raises:
        InputError: there are none, or the answer is none of them.
    """
    found = item.fields.get(choices)
    by_letter = _by_letter(found)
    if len(by_letter) < 2:
        raise item.wrong(choices, "two or more choices")
    texts = list(by_letter.values())
    if len(set(texts)) < len(texts):
        # The same text twice: only the letters tell them apart.
        texts = [f"{letter}. {text}" for letter, text in by_letter.items()]
    right = item.needed(answer)
    letter = _LETTER.fullmatch(right)
    if letter and letter[1].upper() in by_letter:
        return texts, texts[list(by_letter).index(letter[1].upper())]
    if right in by_letter.values():
        return texts, texts[list(by_letter.values()).index(right)]
    raise item.wrong(answer, f"one of {', '.join(by_letter)}, or the text of a choice")


def _by_letter(found: object) -> dict[str, str]:
    if isinstance(found, dict):
        # A table of Arrow has every key in every row; those that an item lacks are empty.
        by_key = {str(key).strip().upper(): str(text).strip() for key, text in found.items() if text is not None}
        return dict(sorted(by_key.items()))
    if isinstance(found, Sequence) and not isinstance(found, str):
        return {chr(ord("A") + number): str(text).strip() for number, text in enumerate(found)}
    return {}
