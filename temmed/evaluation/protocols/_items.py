"""What protocols share: the items of an imported benchmark, answers to them, and means over them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from temmed.errors import InputError
from temmed.evaluation.protocols.registry import Request
from temmed.evaluation.scoring import Metrics
from temmed.evaluation.statistics import PatientResampler
from temmed.predictions.tables import read_predictions

#: Reads what a model said as one of the choices; ``None`` where it is none.
Reader = Callable[[str, Sequence[str]], str | None]

_LETTER = re.compile(r"\W*([A-Z])\W*", re.IGNORECASE)
_SHOWN = 60


def questions_of(request: Request, prefix: str) -> pd.DataFrame:
    """The questions whose template begins with ``prefix``, with ``patient_id``, and the index 0…n-1.

    Raises:
        InputError: there is none.
    """
    questions = request.timeline.table("questions")
    asked = questions[questions["template"].str.startswith(prefix)].reset_index(drop=True)
    if asked.empty:
        raise InputError(
            f"questions of the template {prefix}…",
            "none",
            str(request.timeline.root),
            "Import the benchmark first (`temmed data import`), or choose the protocol that fits the dataset.",
        )
    return asked.assign(patient_id=patients_of(request, asked["sequence_id"]))


def patients_of(request: Request, sequences: Iterable[str]) -> list[str]:
    """The patient of each sequence."""
    patients = request.timeline.table("sequences").set_index("sequence_id")["patient_id"]
    return [patients[sequence] for sequence in sequences]


def records_of(request: Request, name: str) -> list[dict[str, Any]]:
    """The lines that the importer kept for the benchmark's own scoring.

    Raises:
        InputError: there are none.
    """
    path = Path(request.timeline.root) / "source" / f"{name}.jsonl"
    if not path.is_file():
        raise InputError("what the importer kept for scoring", "no such file", str(path), "Import the source again.")
    return read_lines(path)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file.

    Raises:
        InputError: a line is none.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if not isinstance(row, dict):
            raise InputError("a JSON object in each line", "another text", f"{path}, line {number}", "Mend the line.")
        rows.append(row)
    return rows


def read_choice(said: str, choices: Sequence[str]) -> str | None:
    """The choice that an answer names: by its text, whatever its case, or by its letter alone.

    Examples:
        >>> read_choice("(b)", ["T1", "T2"]), read_choice("t1 ", ["T1", "T2"]), read_choice("Not T1", ["T1", "T2"])
        ('T2', 'T1', None)
    """
    if said in choices:
        return said
    same = [choice for choice in choices if choice.casefold() == said.strip().casefold()]
    if len(same) == 1:
        return same[0]
    letter = _LETTER.fullmatch(said)
    number = ascii_uppercase.index(letter[1].upper()) if letter else len(choices)
    return choices[number] if number < len(choices) else None


def answered(
    request: Request, questions: pd.DataFrame, read: Reader = read_choice
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The questions with what was answered.

    Args:
        request: which predictions.
        questions: of `questions_of`.
        read: finds the choice in an answer.

    Returns:
        The questions with ``given`` (a choice, or ``None``) and ``right`` (0 or 1), and the answers that were not read,
        by question.

    Raises:
        InputError: the predictions do not fit the questions.
    """
    predictions = read_predictions(request.predictions)
    offered = {
        question: list(choices)
        for question, choices in zip(questions["question_id"], questions["choices"], strict=True)
    }
    given, unread = [], {}
    for question, said in zip(predictions.answers["question_id"], predictions.answers["answer"], strict=True):
        choice = read(said, offered[question]) if isinstance(said, str) and question in offered else None
        if choice is None and question in offered:
            unread[question] = shorten(said if isinstance(said, str) else "no answer")
        given.append(choice)
    # Probabilities and evidence play no part in any protocol, so that only the answers need to fit.
    answers = predictions.answers.assign(answer=pd.Series(given, dtype="object"), probabilities=None, evidence=None)
    aligned = replace(predictions, answers=answers, events=None).check_against(
        questions, allow_missing=request.allow_missing, allow_surplus=request.allow_surplus
    )
    said_to = set(predictions.answers["question_id"])
    unread |= {question: "no row" for question in questions["question_id"] if question not in said_to}
    found = [choice if isinstance(choice, str) else None for choice in aligned["answer"]]
    right = [float(choice == truth) for choice, truth in zip(found, questions["answer"], strict=True)]
    return questions.assign(given=pd.Series(found, dtype="object"), right=right), unread


def keyed(
    request: Request, rows: Sequence[Mapping[str, Any]], keys: Sequence[str], truth: Iterable[tuple[Any, ...]]
) -> dict[tuple[Any, ...], Mapping[str, Any]]:
    """Lines of a prediction file by the item they are about.

    Raises:
        InputError: a key is missing, an item occurs twice, has no line though it must, or is none of the benchmark's.
    """
    where, wanted = str(request.predictions), set(truth)
    found: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for row in rows:
        key = tuple(row.get(name) for name in keys)
        if key in found:
            raise InputError("one line per item", f"a second one for {key}", where, "Keep one answer each.")
        if key in wanted:
            found[key] = row
        elif not request.allow_surplus:
            raise InputError(
                f"{' and '.join(keys)} of an item", str(key), where, "Is this the right dataset? See --allow-surplus."
            )
    missing = sorted(wanted - set(found), key=str)
    if missing and not request.allow_missing:
        some = ", ".join(map(str, missing[:5]))
        raise InputError(
            "a line for every item", f"none for {len(missing)}: {some}", where, "Predict them, or see --allow-missing."
        )
    return found


def check_label(request: Request, row: Mapping[str, Any], name: str, truth: str) -> None:
    """Refuse a line whose copy of the truth is not the dataset's; capitals, spaces and a last full stop do not count.

    Raises:
        InputError: it is not.
    """
    said = row.get(name)
    if said is not None and _plain(str(said)) != _plain(truth):
        raise InputError(
            f"{name} as in the dataset ({shorten(truth)!r})",
            repr(shorten(str(said))),
            str(request.predictions),
            "Predict on the files that the dataset was imported from.",
        )


def means(
    request: Request, prefix: str, patients: Sequence[str], values: Mapping[str, ArrayLike], slices: pd.DataFrame
) -> Metrics:
    """Means over items with intervals over patients, whole and by slice.

    Args:
        request: how many resamples.
        prefix: what keys begin with, such as ``mi_cxr/choice``.
        patients: of each item.
        values: scores of each item by name.
        slices: a column per kind of slice; items without a name in it are in no slice of it.
    """
    resampler = PatientResampler(pd.Series(patients), request.resamples, request.seed)
    masks = {"": np.ones(len(patients), dtype=bool)}
    for kind in slices:
        named = slices[kind].dropna()
        masks |= {f"/{kind}={name}": (slices[kind] == name).to_numpy(dtype=bool) for name in sorted(set(named))}
    metrics: Metrics = {}
    for name, scores in values.items():
        column = np.asarray(scores, dtype=float)
        stacked = np.stack([np.where(mask, column, np.nan) for mask in masks.values()], axis=1)
        for mask, estimate in zip(masks, resampler.means(stacked).estimates(), strict=True):
            metrics[f"{prefix}/{name}{mask}"] = estimate.as_dict()
    return metrics


def point(value: float, n: int) -> dict[str, float | int]:
    """A score without an interval."""
    return {"value": float(value), "low": float("nan"), "high": float("nan"), "n": n}


def shorten(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…"


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).removesuffix(".")
