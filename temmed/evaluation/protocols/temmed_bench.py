"""TemMed-Bench (arXiv 2509.25143): questions, selection of image pairs, and reports, by its published scripts."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import pandas as pd
from sklearn.metrics import f1_score

from temmed.errors import InputError
from temmed.evaluation.protocols._items import (
    answered,
    check_label,
    keyed,
    means,
    patients_of,
    point,
    questions_of,
    read_lines,
    records_of,
    shorten,
)
from temmed.evaluation.protocols._report_scores import report_scores
from temmed.evaluation.protocols._temmed_bench_text import SELECTIONS, VERDICTS
from temmed.evaluation.protocols.registry import Outcome, Protocol, Request
from temmed.predictions.tables import read_predictions

_VERDICTS = ("Yes", "No")
#: The field that tells which task a file answers.
_FIELDS = {"answer_vqa": "vqa", "answer_report": "reports", "data_idx": "pair_selection"}
#: Stands for an answer that could not be read; no item has it as its label.
_UNREAD = ""


def score(request: Request) -> Outcome:
    """Score one task's file of the benchmark, or a folder of prediction tables; see docs/protocols.md.

    Raises:
        InputError: the dataset is another one, or the predictions do not fit it.
    """
    if not request.predictions.is_file():
        return _tables(request)
    rows = read_lines(request.predictions)
    tasks = {task for field, task in _FIELDS.items() if rows and all(field in row for row in rows)}
    if len(tasks) != 1:
        raise InputError(
            f"lines that all have {', '.join(_FIELDS)}, one of them",
            "other lines" if rows else "no lines",
            str(request.predictions),
            "Give one task's file, as the benchmark's scripts write it, or a folder of prediction tables.",
        )
    return {"vqa": _vqa, "reports": _reports, "pair_selection": _selection}[tasks.pop()](request, rows)


def _tables(request: Request) -> Outcome:
    read = VERDICTS[request.parser]
    judged, unread = answered(request, questions_of(request, "temmed_bench_vqa"), lambda said, _: read(said))
    given = [choice or _UNREAD for choice in judged["given"]]
    outcome = _judge(request, "vqa", judged["patient_id"].tolist(), judged["answer"].tolist(), given, unread)
    written = read_predictions(request.predictions).reports
    if written is None:
        return outcome
    reports = _reports_of(request)
    texts = {
        (sequence, position): text
        for sequence, position, text in written[["sequence_id", "position", "text"]].itertuples(index=False)
    }
    rows = [
        {"id": record, "answer_report": texts.pop((report["sequence_id"], report["position"]))}
        for record, report in reports.items()
        if (report["sequence_id"], report["position"]) in texts
    ]
    if texts and not request.allow_surplus:
        raise InputError(
            "reports of the benchmark's items",
            f"{len(texts)} at other positions",
            str(request.predictions),
            "Remove them, or see --allow-surplus.",
        )
    more = _reports(request, rows)
    return Outcome(
        outcome.metrics | more.metrics, {**outcome.malformed, **more.malformed}, [*outcome.notes, *more.notes]
    )


def _vqa(request: Request, rows: Sequence[dict[str, Any]]) -> Outcome:
    questions = questions_of(request, "temmed_bench_vqa")
    owners = dict(zip(questions["question_id"], questions["patient_id"], strict=True))
    truth = dict(zip(questions["question_id"], questions["answer"], strict=True))
    items = {(item["img_id"], item["question_id"]): item["temmed_question_id"] for item in records_of(request, "vqa")}
    found = keyed(request, rows, ("img_id", "question_id"), items)
    given: list[str] = []
    unread: dict[str, str] = {}
    for key, question in items.items():
        row = found.get(key, {})
        check_label(request, row, "label_answer_vqa", truth[question])
        given.append(_read(row.get("answer_vqa"), VERDICTS[request.parser], f"{key[0]}_{key[1]}", unread))
    return _judge(
        request, "vqa", [owners[q] for q in items.values()], [truth[q] for q in items.values()], given, unread
    )


def _selection(request: Request, rows: Sequence[dict[str, Any]]) -> Outcome:
    items = {(item["data_idx"],): item for item in records_of(request, "pair_selection")}
    found = keyed(request, rows, ("data_idx",), items)
    given: list[str] = []
    unread: dict[str, str] = {}
    for key, item in items.items():
        row = found.get(key, {})
        check_label(request, row, "label", item["right_option"])
        given.append(_read(row.get("answer"), SELECTIONS[request.parser], str(key[0]), unread))
    truth = [item["right_option"] for item in items.values()]
    # An item shows pairs of several patients; the right one's stands for it.
    owners = patients_of(request, (item["sequences"][item["right_option"]] for item in items.values()))
    return _judge(request, "pair_selection", owners, truth, given, unread)


def _read(said: Any, read: Any, item: str, unread: dict[str, str]) -> str:
    choice = read(said) if isinstance(said, str) else None
    if choice is None:
        unread[item] = shorten(said) if isinstance(said, str) else "no answer"
    return choice or _UNREAD


def _judge(
    request: Request,
    task: str,
    patients: Sequence[str],
    truth: Sequence[str],
    given: Sequence[str],
    unread: dict[str, str],
) -> Outcome:
    prefix = f"temmed_bench/{task}"
    values = {
        "accuracy": [float(said == right) for said, right in zip(given, truth, strict=True)],
        "unparsable": [float(said == _UNREAD) for said in given],
    }
    metrics = means(request, prefix, patients, values, pd.DataFrame())
    # What could not be read is a miss for its true class and no class of its own.
    classes = sorted({*truth, *given} - {_UNREAD})
    kind = "macro" if task == "vqa" else "weighted"
    f1 = f1_score(truth, given, labels=classes, average=kind, zero_division=0)
    metrics[f"{prefix}/{kind}_f1"] = point(f1, len(truth))
    return Outcome(metrics, unread)


def _reports_of(request: Request) -> dict[int, dict[Hashable, Any]]:
    """The report of each of the benchmark's numbers."""
    reports = {row["report_id"]: row for row in request.timeline.table("reports").to_dict("records")}
    return {record["id"]: reports[record["report_id"]] for record in records_of(request, "reports")}


def _reports(request: Request, rows: Sequence[dict[str, Any]]) -> Outcome:
    reports = _reports_of(request)
    found = keyed(request, rows, ("id",), [(number,) for number in reports])
    answers, unread = [], {}
    for number, report in reports.items():
        row = found.get((number,), {})
        check_label(request, row, "label_report", report["text"])
        said = row.get("answer_report")
        if not isinstance(said, str) or not said.strip():
            unread[f"report {number}"] = "no text"
        answers.append(said if isinstance(said, str) else "")
    labels = [report["text"] for report in reports.values()]
    scores, notes = report_scores(answers, labels, request.parser)
    owners = patients_of(request, (report["sequence_id"] for report in reports.values()))
    return Outcome(means(request, "temmed_bench/report", owners, scores, pd.DataFrame()), unread, notes)


PROTOCOL = Protocol("temmed_bench", "TemMed-Bench, arXiv 2509.25143", score)
