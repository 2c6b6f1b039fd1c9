"""Measure every finding that a subset of a timeline asks about, and answer its questions.

What is read: prompts and choices, the position a question is asked at, label and place of its finding, images and
times. What is not: answers, values, evidence, masks and stated measurements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from temmed.errors import InputError
from temmed.measuring.answer import answer, interval
from temmed.measuring.prompts import Clock
from temmed.measuring.segment import Sizes, Target
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split
from temmed.timelines.tables import named_rows

_ANSWERS = ["question_id", "answer", "probabilities", "value", "confidence", "evidence"]
_EVENTS = ["sequence_id", "label", "onset", "offset", "score"]
_SHOWN = 3


class Measurer(Protocol):
    """What finds and measures in the images of one modality."""

    def target(self, *texts: str) -> Target | None:
        """What some texts are about: those of the finding, and then that of the row itself; ``None`` if unknown."""

    def measure(self, images: Mapping[int, Mapping[str, NDArray]], targets: Sequence[Target]) -> dict[Target, Sizes]:
        """Sizes of every target in the images, (H, W) by position and channel, of one sequence."""


def answer_subset(
    timeline: Timeline, split: Split, subset: str, measurers: Mapping[str, Measurer], progress: bool = True
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Answer all questions of a subset from measured sizes alone.

    Args:
        timeline: the data.
        split: which questions belong to which subset.
        subset: ``train``, ``val`` or ``test``.
        measurers: what finds and measures, by modality.
        progress: show a progress bar over the sequences, on a terminal.

    Returns:
        The tables ``answers`` and ``events``, as `temmed.predictions.tables.write_predictions` takes them.

    Raises:
        InputError: a modality without an atlas, a finding without a place in it, or images that are not slices of one
            shape.
    """
    questions = split.questions(timeline, subset)
    owned = split.sequences(subset)
    used = _measurers(timeline, owned["sequence_id"], measurers)
    questions = questions.assign(
        target=pd.Series(_targets(timeline, questions, "prompt", used), questions.index, object)
    )
    events = timeline.table("events")
    events = events[events["sequence_id"].isin(owned["sequence_id"])]
    events = events.assign(target=pd.Series(_targets(timeline, events, "label", used), events.index, object))
    _check_slices(timeline, owned["sequence_id"])
    last = owned.set_index("sequence_id")["last_asked"].astype(int).to_dict()
    clocks = _clocks(timeline)
    asked, labelled = ({str(key): rows for key, rows in table.groupby("sequence_id")} for table in (questions, events))
    answers: list[dict[str, Any]] = []
    intervals: list[dict[str, Any]] = []
    for sequence in tqdm(sorted({*asked, *labelled}), desc="Measuring", unit="seq", disable=None if progress else True):
        here, named = asked.get(sequence, questions[:0]), labelled.get(sequence, events[:0])
        targets = [one for one in dict.fromkeys([*here["target"], *named["target"]]) if one is not None]
        sizes = _measure(timeline, sequence, last[sequence], targets, used[sequence])
        for question in named_rows(here):
            answers.append(answer(question, sizes.get(question.target, Sizes.of_nothing()), clocks[sequence]))
        for event in named_rows(named):
            found = interval(sizes[event.target], clocks[sequence])
            intervals.append({"sequence_id": sequence, "label": event.label, **found})
    return (
        pd.DataFrame(answers, columns=_ANSWERS).sort_values("question_id", ignore_index=True),
        pd.DataFrame(intervals, columns=_EVENTS).sort_values(["sequence_id", "label"], ignore_index=True),
    )


def _measurers(timeline: Timeline, sequences: pd.Series, measurers: Mapping[str, Measurer]) -> dict[str, Measurer]:
    """The measurer of each sequence."""
    table = timeline.table("sequences")
    modalities = dict(zip(table["sequence_id"], table["modality"], strict=True))
    unknown = sorted({str(modalities[sequence]) for sequence in sequences} - set(measurers))
    if unknown:
        raise InputError(
            f"images of {', '.join(sorted(measurers))}, which there is an atlas of",
            f"{', '.join(unknown)} in {timeline.root}",
            "model.measure",
            "Choose another model, or write a YAML with an atlas of it.",
        )
    return {str(sequence): measurers[modalities[sequence]] for sequence in sequences}


def _targets(
    timeline: Timeline, rows: pd.DataFrame, text: str, measurers: Mapping[str, Measurer]
) -> list[Target | None]:
    """What each row is about, by label and location of its finding and by its own text.

    ``None`` for a row without a finding whose text names no place either: it is about the patient as a whole.
    """
    findings = timeline.table("findings")
    described = findings["label"].fillna("") + " " + findings["location"].fillna("")
    words = dict(zip(findings["finding_id"], described, strict=True))
    found: list[Target | None] = []
    lacking: dict[str, None] = {}
    for sequence, finding, own in zip(rows["sequence_id"], rows["finding_id"], rows[text], strict=True):
        target = measurers[str(sequence)].target(words.get(finding, ""), own)
        if target is None and finding in words:
            lacking[words[finding].strip() or own] = None
        found.append(target)
    if lacking:
        some = "; ".join(repr(name) for name in list(lacking)[:_SHOWN]) + ("; …" if len(lacking) > _SHOWN else "")
        raise InputError(
            "findings in regions of the atlas",
            f"{len(lacking)} elsewhere: {some}",
            "model.measure.MODALITY.regions",
            "Add the region and its centre: '+model.measure.MODALITY.regions={NAME: [ROW, COLUMN]}', or write a YAML.",
        )
    return found


def _check_slices(timeline: Timeline, sequences: pd.Series) -> None:
    table = timeline.table("sequences")
    volumes = table[table["sequence_id"].isin(sequences) & (table["spatial_dims"] != 2)]
    if len(volumes):
        raise InputError(
            "images of 2 dimensions",
            f"{len(volumes)} sequences of other ones, such as {volumes['sequence_id'].iloc[0]}",
            str(timeline.root),
            "This baseline measures in slices; choose another model for volumes.",
        )


def _clocks(timeline: Timeline) -> dict[str, Clock]:
    sequences = timeline.table("sequences")
    units = dict(zip(sequences["sequence_id"], sequences["time_unit"], strict=True))
    times = timeline.table("timepoints").groupby("sequence_id")["time"]
    return {str(key): Clock([float(time) for time in group], str(units[key])) for key, group in times}


def _measure(
    timeline: Timeline, sequence: str, last: int, targets: list[Target], measurer: Measurer
) -> dict[Target, Sizes]:
    """Measure in the images up to the last position that the subset may see."""
    images: dict[int, dict[str, NDArray[np.float64]]] = {}
    for position, channel, pixels in timeline.read_images(sequence, range(last + 1)):
        # Colour images have a third axis.
        images.setdefault(position, {})[channel] = pixels.mean(axis=-1) if pixels.ndim == 3 else pixels
    shapes = {image.shape for channels in images.values() for image in channels.values()}
    if len(shapes) > 1:
        raise InputError(
            "images of one shape",
            " and ".join(str(shape) for shape in sorted(shapes)),
            f"sequence {sequence} of {timeline.root}",
            "Resample them to one grid, or choose another model.",
        )
    return measurer.measure(images, targets)
