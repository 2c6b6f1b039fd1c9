"""Ask a trained model about any timeline folder: new questions in one's own words, or the folder's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytorch_lightning as pl

from temmed.data.batch import IGNORE
from temmed.data.batching import Budget
from temmed.data.caches.images import open_pixels
from temmed.data.collate import Collator
from temmed.data.dataset import Inputs, Reports, SequenceDataset
from temmed.data.loader import Caught, CaughtCollator, TimelineLoader
from temmed.data.records import Question, Record, build_records
from temmed.data.samplers import EpochBatchSampler
from temmed.data.settings import DataSettings
from temmed.data.streaming.opening import default_cache, open_timeline
from temmed.data.streaming.sizes import read_size
from temmed.data.tokenizer import TextTokenizer
from temmed.errors import InputError
from temmed.predictions.tables import write_predictions
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split
from temmed.training.checkpoint import load_module
from temmed.training.module import TimelineModule
from temmed.training.predict import predict, that_exist
from temmed.training.quiet import without_noise

#: Choices of a question that are not given.
VERDICTS = ("progressed", "stable", "regressed")
#: Sequences per batch.
_BATCH = 8
#: Splits need a subset; a folder that is only asked has one.
_SUBSET = "test"


@dataclass(frozen=True)
class Answer:
    """What the model says of one sequence.

    Attributes:
        sequence_id: the sequence.
        asked_at: the position asked at; nothing later was read.
        time: of that position, in ``unit``.
        unit: the sequence's time unit.
        answer: the likeliest choice.
        probability: of that choice.
        evidence: positions the answer rests on, by the model's own account.
        evidence_times: their times.
    """

    sequence_id: str
    asked_at: int
    time: float
    unit: str
    answer: str
    probability: float
    evidence: tuple[int, ...]
    evidence_times: tuple[float, ...]


@dataclass(frozen=True)
class Reply:
    """All answers to one prompt, and the words of it that the checkpoint never saw in training."""

    answers: list[Answer]
    unknown_words: list[str]


class Asker:
    """A trained model and a folder that it can read.

    Args:
        checkpoint: of a training run.
        root: a timeline folder, or the folder or URL of one in shards; it needs no questions.
        maps: whether tables that are written tell where the model looked, too.

    Raises:
        InputError: one of them cannot be used.
    """

    def __init__(self, checkpoint: Path, root: str | Path, maps: bool = False) -> None:
        self.module: TimelineModule = load_module(checkpoint)
        self.module.explain = maps
        limit = read_size(DataSettings.stream_cache, "data.stream_cache")
        self.timeline = open_timeline(root, default_cache(), limit)
        self.pixels = open_pixels(self.timeline, self.module.fitted, default_cache(), once=True)
        saved = self.module.hparams["provenance"]["data"]
        self.inputs, self.reports = cast(Inputs, saved["inputs"]), cast(Reports, saved["reports"])
        self.stride = int(saved.get("stride", 1))
        self.split = _whole(self.timeline)

    def ask(
        self,
        prompt: str,
        choices: Sequence[str] = VERDICTS,
        sequence: str | None = None,
        position: int | None = None,
        out: Path | None = None,
    ) -> Reply:
        """Ask one question of every sequence, or of one.

        Args:
            prompt: the question.
            choices: the possible answers.
            sequence: its id; all by default.
            position: asked there, with nothing later read; the last one with an image by default.
            out: also write the prediction table ``answers`` into this folder, and ``maps`` if the asker makes them.

        Raises:
            InputError: there is no such sequence or position, the position has no image, the model cannot tell the
                choices apart, or it was fitted to other images than the folder's.
        """
        tokenizer = self.module.fitted.tokenizer
        encoded = _encode_choices(tokenizer, choices)
        tokens = tokenizer.encode(prompt)
        question = Question(
            "ask", "ask", prompt, tokens, encoded, asked_at=0, answer=IGNORE, truth=None, value=math.nan, evidence=[]
        )
        records = [_asked(record, question, position) for record in self._records(sequence)]
        questions = pd.DataFrame(
            {
                "question_id": [record.questions[0].identity for record in records],
                "choices": [list(choices)] * len(records),
            }
        )
        tables = self._predict(records, questions)
        if out is not None:
            write_predictions(out, **{name: tables[name] for name in ("answers", "maps") if name in tables})
        rows = tables["answers"].set_index("question_id")
        answers = [self._answer(record, rows.loc[record.questions[0].identity]) for record in records]
        return Reply(answers, _unknown_words(tokenizer, prompt, choices))

    def answer_own(self, out: Path) -> int:
        """Answer the folder's own questions and write the prediction tables into ``out``.

        Returns:
            How many were answered.

        Raises:
            InputError: the folder has no questions, or other images than the model was fitted to.
        """
        questions = self.timeline.table("questions")
        if questions.empty:
            raise InputError(
                "questions to answer", "none in the folder", str(self.timeline.root), "Ask one with --ask TEXT."
            )
        records = build_records(self.timeline, self.split, _SUBSET, self.module.fitted)
        tables = self._predict(records, questions)
        write_predictions(out, **that_exist(tables, self.timeline))
        return len(tables["answers"])

    def _records(self, sequence: str | None) -> list[Record]:
        records = build_records(self.timeline, self.split, _SUBSET, self.module.fitted, needs_questions=False)
        if sequence is None:
            return [record for record in records if record.imaged.any()]
        chosen = [record for record in records if record.sequence_id == sequence]
        if not chosen:
            some = ", ".join(record.sequence_id for record in records[:5])
            raise InputError(
                "the id of a sequence of the folder",
                repr(sequence),
                str(self.timeline.root),
                f"It has {len(records)}, such as {some}.",
            )
        return chosen

    def _predict(self, records: list[Record], questions: pd.DataFrame) -> dict[str, pd.DataFrame]:
        sources = len(self.module.fitted.sources)
        dataset = SequenceDataset(
            records, self.pixels, sources, inputs=self.inputs, reports=self.reports, stride=self.stride
        )
        sampler = EpochBatchSampler(dataset.sizes, Budget(_BATCH), shuffle=False, groups=dataset.groups)
        loader = TimelineLoader(
            Caught(dataset), batch_sampler=sampler, collate_fn=CaughtCollator(Collator(self.reports))
        )
        with without_noise():
            trainer = pl.Trainer(
                devices=1,
                logger=False,
                enable_checkpointing=False,
                enable_model_summary=False,
                enable_progress_bar=False,
            )
            return predict(self.module, loader, self.timeline, questions, trainer)

    @cached_property
    def _clock(self) -> dict[str, tuple[list[float], str]]:
        """Times of the positions, and their unit, by sequence."""
        units = self.timeline.table("sequences").set_index("sequence_id")["time_unit"].to_dict()
        table = self.timeline.table("timepoints").sort_values("position")
        return {
            str(key): ([float(time) for time in group], str(units[key]))
            for key, group in table.groupby("sequence_id")["time"]
        }

    def _answer(self, record: Record, row: Any) -> Answer:
        asked_at = record.questions[0].asked_at
        times, unit = self._clock[record.sequence_id]
        # A probe is shown one position, which it calls its first, or none.
        evidence = {"all": tuple(row["evidence"] or ()), "text": ()}.get(self.inputs, (asked_at,))
        return Answer(
            sequence_id=record.sequence_id,
            asked_at=asked_at,
            time=times[asked_at],
            unit=unit,
            answer=str(row["answer"]),
            probability=float(row["confidence"]),
            evidence=evidence,
            evidence_times=tuple(times[position] for position in evidence),
        )


def _whole(timeline: Timeline) -> Split:
    """All sequences in one subset."""
    sequences = timeline.table("sequences")[["sequence_id", "patient_id"]]
    lengths = sequences["sequence_id"].map(timeline.table("timepoints").groupby("sequence_id").size())
    frame = sequences.assign(subset=_SUBSET, first_asked=0, last_asked=lengths - 1)
    return Split("whole", "file", 0, frame)


def _asked(record: Record, question: Question, position: int | None) -> Record:
    """The record up to the position asked at, with the question asked there and nothing to score."""
    asked_at = _position(record, position)
    return replace(
        record,
        times=record.times[: asked_at + 1],
        imaged=record.imaged[: asked_at + 1],
        positions=record.positions[: asked_at + 1],
        questions=[replace(question, identity=f"ask:{record.sequence_id}", asked_at=asked_at, evidence=[asked_at])],
        events=[],
        statements=[],
        reports=[report for report in record.reports if report[1] <= asked_at],
        report_targets=[],
        boxes=[],
    )


def _position(record: Record, position: int | None) -> int:
    imaged = np.flatnonzero(record.imaged)
    if position is None and len(imaged):
        return int(imaged[-1])
    where = f"sequence {record.sequence_id}"
    if position is not None and not 0 <= position < len(record.times):
        raise InputError(
            f"a position from 0 to {len(record.times) - 1}", str(position), where, "Choose one that it has."
        )
    if position is None or position not in imaged:
        there = ", ".join(map(str, imaged)) or "none"
        found = "no image at any position" if position is None else f"position {position}, which has none"
        raise InputError("a position with an image", found, where, f"Positions with one: {there}.")
    return position


def _encode_choices(tokenizer: TextTokenizer, choices: Sequence[str]) -> list[list[int]]:
    if len(choices) < 2:
        raise InputError("two or more choices", repr("|".join(choices)), "--choices", 'Write them as "yes|no".')
    encoded = [tokenizer.encode(choice) for choice in choices]
    for n, choice in enumerate(encoded):
        if choice in encoded[:n]:
            same = choices[encoded.index(choice)]
            raise InputError(
                "choices that the checkpoint can tell apart",
                f"{same!r} and {choices[n]!r}, which are the same to it",
                "--choices",
                "It knows the words that it was trained with; use those.",
            )
    return encoded


def _unknown_words(tokenizer: TextTokenizer, prompt: str, choices: Sequence[str]) -> list[str]:
    words = (word.strip(".,;:?!()\"'") for text in (prompt, *choices) for word in text.split())
    return list(dict.fromkeys(word for word in words if any(map(str.isalnum, word)) and not tokenizer.knows(word)))
