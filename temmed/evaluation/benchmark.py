"""The questions of one subset, what every model is compared with, and how each answer is judged."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temmed.errors import InputError
from temmed.evaluation.baselines import chance, majority_answers, prior_size_answers
from temmed.evaluation.ceiling import evidence_positions, oracle_accuracy
from temmed.evaluation.events import event_truths, judge_events
from temmed.evaluation.statements import judge_statements, statement_truths
from temmed.metrics.functional.classification import UNPARSABLE
from temmed.metrics.functional.evidence import evidence_exact, evidence_f1
from temmed.metrics.functional.measurement import ratio_error, relative_error
from temmed.predictions.tables import Predictions
from temmed.timelines.folder import Timeline
from temmed.timelines.schema import ABSENCE_BIN, HORIZON_BINS, horizon_bin
from temmed.timelines.splits import Split

#: Every label that a horizon slice may have, in the order in which they are shown.
HORIZONS = ("0", *(label for label, _, _ in HORIZON_BINS), ABSENCE_BIN)
#: The two values whose ratio is judged as a pair.
PAIRED_TEMPLATES = ("measurement_prior", "measurement_current")
#: Least evidence F1 for an answer to count as aligned with its evidence.
ALIGNED_F1 = 0.5


@dataclass(frozen=True)
class Judged:
    """One model's answers, judged.

    Attributes:
        answers: aligned with the questions of the benchmark.
        scores: one column per score, one row per question; NaN where a score does not apply.
        events: true events with their temporal IoU, or ``None`` for a model or a dataset without events.
        intervals: predicted intervals and whether they are false alarms, or ``None``.
        statements: statements and whether they were told right, or ``None``.
    """

    answers: pd.DataFrame
    scores: pd.DataFrame
    events: pd.DataFrame | None = None
    intervals: pd.DataFrame | None = None
    statements: pd.DataFrame | None = None

    @property
    def detected(self) -> tuple[pd.DataFrame, pd.DataFrame] | None:
        """True events and predicted intervals, as `judge_events` returns them, if there are both."""
        return None if self.events is None or self.intervals is None else (self.events, self.intervals)


@dataclass(frozen=True)
class Benchmark:
    """The questions of one subset.

    Attributes:
        timeline: where they are from.
        split: which questions belong to which subset.
        subset: ``train``, ``val`` or ``test``.
        questions: with ``patient_id`` and ``horizon``, and the index 0…n-1.
        references: for each question the score of the majority answer (of its task, and of its template), of chance,
            of the Bayes rule on the earliest size, and of the oracle; NaN where one does not apply.
        events: true events of the subset.
        statements: its statements, true and flipped.
    """

    timeline: Timeline
    split: Split
    subset: str
    questions: pd.DataFrame
    references: pd.DataFrame
    events: pd.DataFrame
    statements: pd.DataFrame
    _classes: dict[str, list[str] | None] = field(default_factory=dict)

    @classmethod
    def build(cls, timeline: Timeline, split: Split, subset: str) -> Benchmark:
        """Collect the questions of a subset.

        Raises:
            InputError: the subset has no question.
        """
        questions = split.questions(timeline, subset).reset_index(drop=True)
        if questions.empty:
            raise InputError(
                "at least one question",
                "none",
                f"{timeline.root}, split {split.name}, subset {subset}",
                "Choose another subset or split, or add questions to the timeline folder.",
            )
        train = questions if subset == "train" else split.questions(timeline, "train").reset_index(drop=True)
        patients = timeline.table("sequences").set_index("sequence_id")["patient_id"]
        questions["patient_id"] = questions["sequence_id"].map(patients)
        questions["horizon"] = [
            horizon_bin(None if pd.isna(steps) else steps, "positions" if pd.isna(kind) else kind)
            for steps, kind in zip(questions["horizon_steps"], questions["evidence_kind"], strict=True)
        ]
        references = _references(timeline, train, questions)
        events, statements = event_truths(timeline, split, subset), statement_truths(timeline, split, subset)
        return cls(timeline, split, subset, questions, references, events, statements)

    def tasks(self) -> list[str]:
        """The tasks that questions are asked in, most questions first."""
        return list(self.questions["task"].value_counts(sort=True).index)

    def classes(self, task: str) -> list[str] | None:
        """The answers of a task whose questions all offer the same choices, else ``None``.

        Only then do answers of different questions fall into the same classes, which macro F1 needs.
        """
        if task not in self._classes:
            offered = self.questions.loc[self.questions["task"] == task, "choices"]
            sets = {frozenset() if choices is None else frozenset(choices) for choices in offered}
            self._classes[task] = sorted(sets.pop()) or None if len(sets) == 1 else None
        return self._classes[task]

    def judge(self, predictions: Predictions, *, allow_missing: bool = False, allow_surplus: bool = False) -> Judged:
        """Judge a model's answers to these questions.

        Raises:
            InputError: the answers do not fit the questions; see `Predictions.check_against`.
        """
        sequences = self.split.sequences(self.subset)["sequence_id"]
        answers = predictions.check_against(
            self.questions, sequences=sequences, allow_missing=allow_missing, allow_surplus=allow_surplus
        )
        scores = pd.DataFrame(_answer_scores(self.questions, answers) | _evidence_scores(self.questions, answers))
        scores["evidence_aligned_exact"] = scores["accuracy"] * scores["evidence_exact"]
        scores["evidence_aligned_f1"] = scores["accuracy"] * (scores["evidence_f1"] >= ALIGNED_F1).where(
            scores["evidence_f1"].notna()
        )
        judged = Judged(answers, scores)
        if predictions.events is not None and not self.events.empty:
            events, intervals = judge_events(self.events, predictions.events)
            judged = replace(judged, events=events, intervals=intervals)
        if predictions.statements is not None and not self.statements.empty:
            judged = replace(judged, statements=judge_statements(self.statements, predictions, allow_missing))
        return judged

    def class_codes(self, task: str, answers: pd.Series) -> NDArray[np.int64]:
        """Class index of each answer, `UNPARSABLE` for one that is none of the task's classes."""
        codes = pd.Index(self.classes(task) or []).get_indexer(pd.Index(answers))
        return np.where(codes < 0, UNPARSABLE, codes)


def _references(timeline: Timeline, train: pd.DataFrame, questions: pd.DataFrame) -> pd.DataFrame:
    def right(answers: pd.Series) -> NDArray[np.float64]:
        given, true = answers.to_numpy(dtype=object), questions["answer"].to_numpy(dtype=object)
        return np.where(judged & answers.notna().to_numpy(), (given == true).astype(float), np.nan)

    judged = _have_answers(questions)
    return pd.DataFrame(
        {
            "majority": right(majority_answers(train, questions, ["task"])),
            "majority_template": right(majority_answers(train, questions, ["task", "template"])),
            "chance": np.where(judged, chance(questions), np.nan),
            "prior_bayes": right(prior_size_answers(timeline, train, questions)),
            "ceiling": oracle_accuracy(timeline, questions),
        }
    )


def _have_answers(questions: pd.DataFrame) -> NDArray[np.bool_]:
    """Whether each question has choices and a right one among them is known."""
    return np.isfinite(chance(questions)) & questions["answer"].notna().to_numpy()


def _answer_scores(questions: pd.DataFrame, answers: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    judged = _have_answers(questions)
    right = (answers["answer"].to_numpy(dtype=object) == questions["answer"].to_numpy(dtype=object)).astype(float)
    unread = answers["answer"].isna().to_numpy(dtype=float)
    measured = questions["value"].notna().to_numpy() & ~judged
    error = relative_error(questions["value"], answers["value"])
    return {
        "accuracy": np.where(judged, right, np.nan),
        "unparsable": np.where(judged, unread, np.nan),
        "relative_error": np.where(measured, error, np.nan),
        "ratio_error": _ratio_errors(questions, answers),
    }


def _ratio_errors(questions: pd.DataFrame, answers: pd.DataFrame) -> NDArray[np.float64]:
    """Error of the ratio that two cited values imply, on the row of the earlier value; NaN on all others."""
    key = ["sequence_id", "finding_id", "asked_at"]
    rows = questions[[*key, "template", "value"]].assign(given=answers["value"], row=np.arange(len(questions)))
    prior, current = (rows[rows["template"] == template] for template in PAIRED_TEMPLATES)
    pairs = prior.merge(current.drop_duplicates(key), on=key, suffixes=("", "_current"))
    errors = np.full(len(questions), np.nan)
    errors[pairs["row"]] = ratio_error(pairs["value"], pairs["value_current"], pairs["given"], pairs["given_current"])
    return errors


def _evidence_scores(questions: pd.DataFrame, answers: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Evidence scores where the prompt names no position and there is evidence to cite.

    A model that cites nothing anywhere is not one that answers with evidence: it has no evidence scores.
    """
    names = ("evidence_exact", "evidence_f1", "evidence_f1_cite_all")
    scores = {name: np.full(len(questions), np.nan) for name in names}
    if answers["evidence"].isna().all():
        return scores
    hidden = questions["names_position"].eq(False).fillna(False).to_numpy(dtype=bool)
    present = questions["evidence_kind"].ne(ABSENCE_BIN).fillna(True).to_numpy(dtype=bool)
    truths, answered = evidence_positions(questions["evidence"]), evidence_positions(answers["evidence"])
    for row, asked_at in enumerate(questions["asked_at"]):
        if not (hidden[row] and present[row] and truths[row]):
            continue
        true, cited = truths[row], answered[row]
        scores["evidence_exact"][row] = evidence_exact(true, cited)
        scores["evidence_f1"][row] = evidence_f1(true, cited)
        scores["evidence_f1_cite_all"][row] = evidence_f1(true, range(asked_at + 1))
    return scores
