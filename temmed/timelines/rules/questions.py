"""Rules on questions: each has one answer, which its words do not tell and its measurements do not deny."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from temmed.timelines.audit import EXAMPLES, Audit, Finding, View, found_rows, rule
from temmed.timelines.rules.evidence import exploded
from temmed.timelines.schema import ABSENCE_BIN, PROGRESSION_BOUND
from temmed.timelines.summary import horizon_bins
from temmed.timelines.tables import named_rows

#: Questions from which the share of an answer is worth a look.
_LARGE = 30
_VERDICTS = ("progressed", "stable", "regressed")
_QUANTITY = "longest_diameter"
#: Measurements are rounded: closer to a bound than this, in ln units, nothing is held against an answer.
_MARGIN = 0.02
_NAMES_POSITION = re.compile(r"(?i)\b(?:time ?point|position|frame|visit|scan|study)s?\s*#?\d")


@rule
def contradicting_questions(audit: Audit) -> Iterator[Finding]:
    """The same question about the same time points with the same choices has one answer, and is asked once."""
    questions = audit.timeline.table("questions").dropna(subset=["sequence_id", "prompt", "asked_at"])
    key = ["sequence_id", "finding_id", "prompt", "asked_at"]
    twice = questions[questions.duplicated(key, keep=False)]
    if twice.empty:
        return
    # Of other choices another one may be right: benchmarks ask one question with several sets of them.
    offered = twice["choices"].map(lambda choices: "|".join(sorted(choices)) if isinstance(choices, list) else "")
    twice, key = twice.assign(choices=offered), [*key, "choices"]
    again, told_again = twice.duplicated(key), twice.duplicated([*key, "answer", "value"])
    message = "the same question has several answers"
    yield from found_rows(
        "contradicting_questions", "error", message, twice[again & ~told_again], lambda row: str(row.question_id)
    )
    message = "the same question is asked more than once: it counts several times in every score"
    yield from found_rows(
        "contradicting_questions", "info", message, twice[again & told_again], lambda row: str(row.question_id)
    )


@rule
def answer_measured(audit: Audit) -> Iterator[Finding]:
    """A verdict on progression must be the one that follows from the measurements, where there are some."""
    questions = audit.timeline.table("questions")
    asked = questions[questions["answer"].isin(_VERDICTS)].dropna(subset=["finding_id"])
    measured = audit.timeline.table("measurements")
    measured = measured[measured["quantity"].eq(_QUANTITY) & (measured["value"] > 0)]
    if asked.empty or measured.empty:
        return
    places = exploded(asked)
    pair = places.groupby(level=0)["evidence"].agg(["min", "max", "nunique"])
    pair = pair[pair["nunique"].eq(2)]
    asked = asked.loc[pair.index].assign(first=pair["min"], last=pair["max"])
    sizes = measured.drop_duplicates(["finding_id", "position"])[["finding_id", "position", "value"]]
    sizes = sizes.astype({"position": "int64"})
    for column in ("first", "last"):
        asked = asked.merge(
            sizes.rename(columns={"position": column, "value": f"{column}_size"}), on=["finding_id", column]
        )
    change = pd.Series(np.log(asked["last_size"] / asked["first_size"]))
    sure = (change.abs() - PROGRESSION_BOUND).abs() > _MARGIN
    verdict = np.where(change.abs() < PROGRESSION_BOUND, "stable", np.where(change > 0, "progressed", "regressed"))
    wrong = asked.assign(verdict=verdict)[sure & (verdict != asked["answer"])]
    turned = wrong["verdict"].ne("stable") & wrong["answer"].ne("stable")

    def text(row: Any) -> str:
        measured = f"{row.first_size:g} at {row.first}, {row.last_size:g} at {row.last}"
        return f"{row.question_id}: {row.answer}, measured {measured}"

    def view(row: Any, caption: str) -> View:
        return View(caption, ((row.sequence_id, row.first), (row.sequence_id, row.last)))

    message = "the answer says the opposite of the measurements, as if the two time points were swapped"
    yield from found_rows("answer_measured", "warning", message, wrong[turned], text, view)
    message = "the answer is not the one that the progression rule gives for the measurements"
    yield from found_rows("answer_measured", "warning", message, wrong[~turned], text, view)


@rule
def names_position(audit: Audit) -> Iterator[Finding]:
    """A prompt that says which time point to look at must be marked so: citing it proves nothing."""
    questions = audit.timeline.table("questions").dropna(subset=["prompt"])
    unmarked = questions[questions["names_position"].eq(False).fillna(False).astype(bool)]
    # Each wording is looked at once: many questions have the same.
    wording, prompts = pd.factorize(unmarked["prompt"])
    unmarked = unmarked[prompts.str.contains(_NAMES_POSITION.pattern, regex=True).astype(bool)[wording]]
    message = "the prompt names a time point and names_position is false: scores of evidence would be too high"
    yield from found_rows(
        "names_position", "warning", message, unmarked, lambda row: f"{row.question_id}: {row.prompt}"
    )


@rule
def answer_in_prompt(audit: Audit) -> Iterator[Finding]:
    """A prompt must not hold the right choice and none of the others."""
    questions = audit.timeline.table("questions").dropna(subset=["prompt", "answer", "choices"])
    rows = zip(*(questions[name].to_numpy(object) for name in ("prompt", "answer", "choices")), strict=True)
    told = np.array([_tells(prompt, answer, choices) for prompt, answer, choices in rows], bool)
    message = "of all choices the prompt holds the right one alone: it can be answered by reading it"
    yield from found_rows(
        "answer_in_prompt",
        "warning",
        message,
        questions[told],
        lambda row: f"{row.question_id}: {row.answer!r} in {row.prompt!r}",
    )


def _tells(prompt: str, answer: str, choices: list[str]) -> bool:
    if answer not in prompt or len(choices) < 2:
        return False
    if not re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", prompt):
        return False
    # The others may stand there in another form: "progress" for "progressed".
    return not any(choice[: max(4, len(choice) - 3)] in prompt for choice in choices if choice != answer)


@rule
def single_choice(audit: Audit) -> Iterator[Finding]:
    """A question with one choice asks nothing."""
    questions = audit.timeline.table("questions")
    single = questions[questions["choices"].map(lambda choices: isinstance(choices, list) and len(choices) == 1)]
    message = "there is only one choice: every model is right"
    yield from found_rows("single_choice", "warning", message, single, lambda row: str(row.question_id))


@rule
def balance(audit: Audit) -> Iterator[Finding]:
    """How far the most frequent answer gets, per template and per template and horizon."""
    questions = audit.timeline.table("questions").dropna(subset=["answer", "template"])
    if questions.empty:
        return
    questions = questions[["template", "answer"]].assign(horizon=horizon_bins(questions))
    counts = questions.groupby(["template", "horizon", "answer"]).size().reset_index(name="count")
    groups = [(f"{name}, all horizons", part) for name, part in counts.groupby("template")]
    # Where the evidence is absence the answer follows from the bin: only the template as a whole says something.
    shown = counts.assign(group=counts["template"] + ", horizon " + counts["horizon"])
    shown = shown[shown["horizon"] != ABSENCE_BIN]
    groups += [(str(name), part) for name, part in shown.groupby("group")]
    rows = sorted((_majority(group, part) for group, part in groups), reverse=True)
    message = "groups by template and horizon; the most frequent answer of the least balanced ones, large groups first"
    data = tuple(row._asdict() for row in named_rows(counts))
    yield Finding("balance", "info", len(rows), message, tuple(text for _, _, text in rows[:EXAMPLES]), data)


def _majority(group: str, counts: pd.DataFrame) -> tuple[bool, float, str]:
    by_answer = counts.groupby("answer")["count"].sum().sort_values(ascending=False, kind="stable")
    total, share = int(by_answer.sum()), float(by_answer.iloc[0] / by_answer.sum())
    return total >= _LARGE, share, f"{group}: {by_answer.index[0]!r} is {share:.0%} of {total:,} answers"
