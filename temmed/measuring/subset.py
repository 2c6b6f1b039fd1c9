"""Measure every finding that a subset of a timeline asks about, and answer its questions.

What is read: prompts and choices, the position a question is asked at, label and place of its finding, images and
times. What is not: answers, values, evidence, masks and stated measurements.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from temmed.errors import InputError
from temmed.measuring.answer import answer, interval
from temmed.measuring.prompts import Clock
from temmed.measuring.segment import Segmenter, Sizes, Target
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split
from temmed.timelines.tables import named_rows

_ANSWERS = ["question_id", "answer", "probabilities", "value", "confidence", "evidence"]
_EVENTS = ["sequence_id", "label", "onset", "offset", "score"]
_SHOWN = 3


def answer_subset(
    timeline: Timeline, split: Split, subset: str, segmenter: Segmenter, progress: bool = True
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Answer all questions of a subset from measured sizes alone.

    Args:
        timeline: the data.
        split: which questions belong to which subset.
        subset: ``train``, ``val`` or ``test``.
        segmenter: finds and measures.
        progress: show a progress bar over the sequences, on a terminal.

    Returns:
        The tables ``answers`` and ``events``, as `temmed.predictions.tables.write_predictions` takes them.

    Raises:
        InputError: a finding without a place in the atlas, or images that are not slices of one shape.
    """
    questions = split.questions(timeline, subset)
    questions = questions.assign(
        target=pd.Series(_targets(timeline, questions, "prompt", segmenter), questions.index, object)
    )
    owned = split.sequences(subset)
    events = timeline.table("events")
    events = events[events["sequence_id"].isin(owned["sequence_id"])]
    events = events.assign(target=pd.Series(_targets(timeline, events, "label", segmenter), events.index, object))
    _check_slices(timeline, owned["sequence_id"])
    last = owned.set_index("sequence_id")["last_asked"].astype(int).to_dict()
    clocks = _clocks(timeline)
    asked, labelled = ({str(key): rows for key, rows in table.groupby("sequence_id")} for table in (questions, events))
    answers: list[dict[str, Any]] = []
    intervals: list[dict[str, Any]] = []
    for sequence in tqdm(sorted({*asked, *labelled}), desc="Measuring", unit="seq", disable=None if progress else True):
        here, named = asked.get(sequence, questions[:0]), labelled.get(sequence, events[:0])
        targets = list(dict.fromkeys([*here["target"], *named["target"]]))
        sizes = _measure(timeline, sequence, last[sequence], targets, segmenter)
        for question in named_rows(here):
            answers.append(answer(question, sizes[question.target], clocks[sequence]))
        for event in named_rows(named):
            found = interval(sizes[event.target], clocks[sequence])
            intervals.append({"sequence_id": sequence, "label": event.label, **found})
    return (
        pd.DataFrame(answers, columns=_ANSWERS).sort_values("question_id", ignore_index=True),
        pd.DataFrame(intervals, columns=_EVENTS).sort_values(["sequence_id", "label"], ignore_index=True),
    )


def _targets(timeline: Timeline, rows: pd.DataFrame, text: str, segmenter: Segmenter) -> list[Target]:
    """What each row is about: its finding's label and location or, if these name no region, its own text."""
    findings = timeline.table("findings")
    described = findings["label"].fillna("") + " " + findings["location"].fillna("")
    words = dict(zip(findings["finding_id"], described, strict=True))
    found: list[Target] = []
    lacking: dict[str, None] = {}
    for finding, own in zip(rows["finding_id"], rows[text], strict=True):
        target = segmenter.target(words.get(finding, "")) or segmenter.target(own)
        if target is None:
            lacking[words.get(finding, "").strip() or own] = None
        else:
            found.append(target)
    if lacking:
        some = "; ".join(repr(name) for name in list(lacking)[:_SHOWN]) + ("; …" if len(lacking) > _SHOWN else "")
        raise InputError(
            "findings in regions of the atlas",
            f"{len(lacking)} elsewhere: {some}",
            "model.measure.regions",
            "Add the region and its centre: '+model.measure.regions={NAME: [ROW, COLUMN]}', or write a YAML.",
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
    timeline: Timeline, sequence: str, last: int, targets: list[Target], segmenter: Segmenter
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
    return segmenter.measure(images, targets)
