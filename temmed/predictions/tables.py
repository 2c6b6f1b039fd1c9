"""Write, read and check prediction tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from temmed.errors import InputError
from temmed.files import staged_folder
from temmed.predictions.schema import SCHEMAS

_KEYS = {
    "answers": ["question_id"],
    "events": [],
    "statements": ["statement_id"],
    "maps": ["question_id"],
    "reports": ["sequence_id", "position"],
    "boxes": ["finding_id", "position", "channel"],
}
#: Probabilities are often written as rounded decimals.
_SUM_TOLERANCE = 1e-2
_SHOWN = 5


@dataclass(frozen=True)
class Predictions:
    """What a model answered.

    Attributes:
        answers: one row per question, with every column of `temmed.predictions.schema.ANSWERS`.
        events: one row per predicted interval, or ``None`` for a model that predicts no events.
        statements: one row per statement, or ``None`` for a model that judges none.
        maps: one row per question, or ``None`` if where the model looked was not written.
        reports: one row per position, or ``None`` for a model that writes none.
        boxes: one row per finding and image, or ``None`` for a model that locates none.
        source: where the tables came from, for messages.
    """

    answers: pd.DataFrame
    events: pd.DataFrame | None = None
    statements: pd.DataFrame | None = None
    maps: pd.DataFrame | None = None
    reports: pd.DataFrame | None = None
    boxes: pd.DataFrame | None = None
    source: str = "predictions"

    def check_against(
        self,
        questions: pd.DataFrame,
        *,
        sequences: Iterable[str] | None = None,
        allow_missing: bool = False,
        allow_surplus: bool = False,
    ) -> pd.DataFrame:
        """Line the answers up with the questions.

        Args:
            questions: rows of a timeline's ``questions`` table.
            sequences: those that events may be predicted for; the ones with questions when left out.
            allow_missing: accept questions without a row; they come back with null answers, which are scored as wrong.
            allow_surplus: accept, and drop, rows for other questions and events of other sequences.

        Returns:
            The answers in the order of ``questions``, one row each, with the index 0…n-1.

        Raises:
            InputError: a question without a row, a row without a question, an answer that is none of the choices,
                probabilities that do not fit them, or evidence after the question.
        """
        asked, given = questions["question_id"].tolist(), self.answers["question_id"].tolist()
        row_of = {question: row for row, question in enumerate(given)}
        if not allow_missing:
            self._refuse(
                [question for question in asked if question not in row_of],
                "an answer to every question",
                "without one",
                "Predict them too, or allow missing answers: each then counts as wrong.",
            )
        if not allow_surplus:
            known_questions = set(asked)
            self._refuse(
                [question for question in given if question not in known_questions],
                "answers to the questions asked",
                "to others",
                "Is this the right dataset, split and subset? Surplus rows can also be allowed and are then ignored.",
            )
        rows = [row_of.get(question, -1) for question in asked]
        aligned = self.answers.reset_index(drop=True).reindex(rows).reset_index(drop=True)
        aligned["question_id"] = asked
        for name in ("probabilities", "evidence"):
            # Rows that were missing have NaN here, the others an array or None.
            cells = [cell if np.iterable(cell) else None for cell in aligned[name]]
            aligned[name] = pd.Series(cells, dtype="object")
        self._check_answers(aligned, questions)
        if self.events is not None and not allow_surplus:
            known = set(questions["sequence_id"] if sequences is None else sequences)
            self._refuse(
                [name for name in self.events["sequence_id"].unique() if name not in known],
                "events of the sequences asked about",
                "other sequences",
                "Is this the right dataset, split and subset? Surplus rows can also be allowed and are then ignored.",
            )
        return aligned

    def align_statements(self, statements: pd.Series, allow_missing: bool = False) -> pd.Series:
        """The probability of each statement, NaN for one without a row.

        Args:
            statements: their ids.
            allow_missing: accept statements without a row.

        Raises:
            InputError: a statement has no row.
        """
        assert self.statements is not None
        found = self.statements.set_index("statement_id")["probability"].reindex(statements)
        if not allow_missing:
            self._refuse(
                found.index[found.isna()],
                "a probability of every statement",
                "without one",
                "Predict them too, or allow missing ones: each then counts as wrong.",
            )
        return found

    def _check_answers(self, aligned: pd.DataFrame, questions: pd.DataFrame) -> None:
        bad_answer: list[str] = []
        bad_probabilities: list[str] = []
        bad_evidence: list[str] = []
        columns = [questions[name] for name in ("question_id", "choices", "asked_at")]
        columns += [aligned[name] for name in ("answer", "probabilities", "evidence")]
        # As lists, which are an order of magnitude faster to go through than columns of text.
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for question, choices, asked_at, answer, probabilities, evidence in rows:
            has_choices = choices is not None and len(choices) > 0
            if has_choices and isinstance(answer, str) and answer not in choices:
                bad_answer.append(f"{question} ({answer!r}, choices {list(choices)})")
            if probabilities is not None and not _fits(probabilities, len(choices) if has_choices else 0):
                bad_probabilities.append(f"{question} ({np.round(probabilities, 4).tolist()})")
            if evidence is not None and any(not 0 <= position <= asked_at for position in evidence):
                bad_evidence.append(f"{question} ({list(evidence)}, asked at {asked_at})")
        self._refuse(
            bad_answer,
            "one of the question's choices",
            "with another answer",
            "Write an empty (null) answer where none of the choices could be read.",
        )
        self._refuse(
            bad_probabilities,
            "one probability per choice, between 0 and 1, with the sum 1",
            "where that is not so",
            "Give them in the order of the question's choices, or leave the cell empty.",
        )
        self._refuse(
            bad_evidence,
            "evidence at positions from 0 to the one the question is asked at",
            "that cite others",
            "Positions count from 0.",
        )

    def _refuse(self, rows: Iterable[str], expected: str, found: str, remedy: str) -> None:
        if names := list(rows):
            raise InputError(expected, f"{len(names)} {found}: {_listed(names)}", self.source, remedy)


def write_predictions(
    folder: str | Path, answers: pd.DataFrame, events: pd.DataFrame | None = None, **others: pd.DataFrame
) -> None:
    """Write the tables as Parquet; tables that were in the folder are replaced as a whole.

    Args:
        folder: for instance ``predictions/test`` of a run.
        answers: columns of `temmed.predictions.schema.ANSWERS`; those that are left out are written as null.
        events: columns of `temmed.predictions.schema.EVENTS`, or ``None`` for a model that predicts no events.
        others: further tables of `temmed.predictions.schema.SCHEMAS` by name.

    Raises:
        InputError: an unknown column, a value of the wrong type, a duplicate question or an impossible interval.
    """
    frames = {"answers": answers, **({} if events is None else {"events": events}), **others}
    tables = {name: _typed(frame, name, f"{folder}/{name}") for name, frame in frames.items()}
    for name, table in tables.items():
        _check_rows(table.to_pandas(), name, f"{folder}/{name}")
    with staged_folder(folder, overwrite=True, marker="answers.parquet") as staging:
        for name, table in tables.items():
            pq.write_table(table, staging / f"{name}.parquet")


def read_predictions(folder: str | Path) -> Predictions:
    """Read ``answers`` and the other tables that are there, each from ``.parquet`` or ``.jsonl``.

    Raises:
        InputError: the folder or its ``answers`` is missing, or a table breaks a rule of the schema.
    """
    folder = Path(folder)
    answers = _read(folder, "answers")
    if answers is None:
        raise InputError(
            "answers.parquet or answers.jsonl",
            "neither" if folder.is_dir() else "no such folder",
            str(folder),
            "Give the folder that holds the prediction tables, for instance RUN/predictions/test.",
        )
    others = {name: _read(folder, name) for name in SCHEMAS if name != "answers"}
    return Predictions(answers, **others, source=str(folder))


def _read(folder: Path, name: str) -> pd.DataFrame | None:
    paths = [path for suffix in ("parquet", "jsonl") if (path := folder / f"{name}.{suffix}").is_file()]
    if not paths:
        return None
    if len(paths) > 1:
        raise InputError(f"one {name} table", "a .parquet and a .jsonl", str(folder), "Remove one of them.")
    path = paths[0]
    try:
        raw = pq.read_table(path).to_pandas() if path.suffix == ".parquet" else _read_lines(path)
    except (pa.ArrowInvalid, ValueError, OSError) as error:
        raise InputError(f"a readable {path.suffix} table", str(error), str(path), "Write the table again.") from error
    frame: pd.DataFrame = _typed(raw, name, str(path)).to_pandas()
    _check_rows(frame, name, str(path))
    return frame


def _read_lines(path: Path) -> pd.DataFrame:
    # Ids such as "007" stay text and evidence stays integers: pandas is kept from guessing types.
    return pd.read_json(path, lines=True, dtype=False)


def _typed(frame: pd.DataFrame, name: str, where: str) -> pa.Table:
    schema = SCHEMAS[name]
    if unknown := [str(column) for column in frame.columns if column not in schema.names]:
        raise InputError(f"the columns {', '.join(schema.names)}", _listed(unknown), where, "Remove or rename them.")
    columns = []
    for field in schema:
        if field.name not in frame.columns:
            if not field.nullable:
                raise InputError(f"a column {field.name}", "none", where, "Add it.")
            columns.append(pa.nulls(len(frame), field.type))
            continue
        try:
            column = pa.Array.from_pandas(frame[field.name], type=field.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise InputError(
                f"values of type {field.type}", str(error), f"{where}, column {field.name}", "Convert them."
            ) from error
        if not field.nullable and column.null_count:
            raise InputError(
                "a value in every row", f"{column.null_count} empty", f"{where}, column {field.name}", "Fill them."
            )
        columns.append(column)
    return pa.table(columns, schema=schema)


def _check_rows(frame: pd.DataFrame, name: str, where: str) -> None:
    if key := _KEYS[name]:
        twice = frame.loc[frame.duplicated(key), key[0]]
        if len(twice):
            raise InputError(
                f"one row per {' and '.join(key)}",
                f"{len(twice)} surplus: {_listed(twice)}",
                where,
                "Keep one answer each.",
            )
    if name == "answers":
        _refuse_rows(np.isinf(frame["value"]), frame["question_id"], "finite values", "infinite", where)
        outside = ~frame["confidence"].between(0, 1) & frame["confidence"].notna()
        _refuse_rows(outside, frame["question_id"], "confidences between 0 and 1", "outside", where)
    elif name == "statements":
        outside = ~frame["probability"].between(0, 1)
        _refuse_rows(outside, frame["statement_id"], "probabilities between 0 and 1", "outside", where)
    elif name == "boxes":
        turned = ~((frame["x1"] <= frame["x2"]) & (frame["y1"] <= frame["y2"]))
        _refuse_rows(turned, frame["finding_id"], "x1 ≤ x2 and y1 ≤ y2", "otherwise", where)
    elif name == "events":
        headless = frame["onset"].isna() & frame["offset"].notna()
        _refuse_rows(headless, frame["sequence_id"], "an onset for every offset", "without one", where)
        reversed_ = frame["offset"] < frame["onset"]
        _refuse_rows(reversed_, frame["sequence_id"], "onset ≤ offset", "reversed", where)


def _refuse_rows(broken: pd.Series, names: pd.Series, expected: str, found: str, where: str) -> None:
    if broken.any():
        raise InputError(expected, f"{int(broken.sum())} {found}: {_listed(names[broken])}", where, "Mend these rows.")


def _fits(probabilities: np.ndarray, choices: int) -> bool:
    values = np.asarray(probabilities, dtype=float)
    inside = len(values) == choices and bool(np.all((values >= 0) & (values <= 1)))
    return inside and abs(float(values.sum()) - 1) <= _SUM_TOLERANCE


def _listed(names: Iterable[str]) -> str:
    rows = [str(name) for name in names]
    return ", ".join(rows[:_SHOWN]) + (", …" if len(rows) > _SHOWN else "")
