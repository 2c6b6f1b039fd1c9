"""Make a question set without the questions that give a shortcut away.

Only families that the guessers beat are touched. There, questions that a guesser got right are dropped, the most
guessable first, until it is right no more often than the best constant guess; then the guessers are trained anew on
what is left, and so on. What is left may be smaller and harder, and its answers may be distributed otherwise; it is
never changed.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from temmed.errors import InputError
from temmed.files import atomic_write, staged_folder
from temmed.timelines.folder import Timeline, write_timeline
from temmed.timelines.progress import Progress, silent
from temmed.timelines.schema import SCHEMA
from temmed.timelines.shortcuts import GUESSERS, Guesses, guess_questions
from temmed.timelines.splits import FOLDER
from temmed.timelines.validate import image_path

#: Times the guessers are trained anew.
ROUNDS = 4
#: Most of a family that is dropped; one that is still guessable then is told about.
MOST_DROPPED = 0.5
DROPPED_FILE, REPORT_FILE = "dropped_questions.csv", "debias.json"


@dataclass(frozen=True)
class Debiased:
    """What was dropped.

    Attributes:
        dropped: ``question_id, template, guesser, guess, probability, bias, round``, a row per question.
        before: the families as they were.
        after: the families as they are without the dropped questions.
    """

    dropped: pd.DataFrame
    before: pd.DataFrame
    after: pd.DataFrame


def debias(timeline: Timeline, progress: Progress = silent) -> Debiased:
    """Choose the questions to drop.

    Args:
        timeline: the folder.
        progress: told what is being done, how much of it is done and how much there is.
    """
    kept = set(timeline.table("questions")["question_id"].dropna())
    sizes = timeline.table("questions")["template"].value_counts()
    first = guesses = guess_questions(timeline, kept, sample=None, progress=progress)
    parts: list[pd.DataFrame] = []
    for turn in range(1, ROUNDS + 1):
        allowed = (sizes * MOST_DROPPED).astype(int)
        for part in parts:
            allowed = allowed.sub(part["template"].value_counts(), fill_value=0).astype(int)
        chosen = _worst(guesses, allowed)
        if chosen.empty:
            break
        parts.append(chosen.assign(round=turn))
        kept -= set(chosen["question_id"])
        guesses = guess_questions(timeline, kept, sample=None, progress=progress)
    dropped = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=_DROPPED_COLUMNS)
    return Debiased(dropped, first.families, guesses.families)


_DROPPED_COLUMNS = ["question_id", "template", "guesser", "guess", "probability", "bias", "round"]


def _worst(guesses: Guesses, allowed: pd.Series) -> pd.DataFrame:
    """The questions to drop of every guessable family, by the guesser that gains most there."""
    notable = guesses.families[guesses.families["guessable"].astype(bool)]
    notable = notable.sort_values("gain", ascending=False).drop_duplicates("template")
    chosen = []
    for family in notable.to_dict("records"):
        items = guesses.items[guesses.items["template"] == family["template"]]
        name = family["guesser"]
        right = items[items[f"{name}_right"].astype(bool)].sort_values(
            [f"{name}_probability", "question_id"], ascending=[False, True]
        )
        # (right − dropped) ÷ (all − dropped) = majority
        surplus = math.ceil(len(items) * family["gain"] / (1.0 - family["majority"] + 1e-9))
        worst = right.head(min(surplus, int(allowed.get(family["template"], 0))))
        chosen.append(
            pd.DataFrame(
                {
                    "question_id": worst["question_id"],
                    "template": worst["template"],
                    "guesser": name,
                    "guess": worst[f"{name}_guess"],
                    "probability": worst[f"{name}_probability"],
                    "bias": worst["bias"],
                }
            )
        )
    return pd.concat(chosen, ignore_index=True) if chosen else pd.DataFrame(columns=_DROPPED_COLUMNS[:-1])


def write_debiased(
    timeline: Timeline,
    out: Path,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Debiased:
    """Write a timeline folder that is the same but for its questions.

    Image files are not copied: the new folder's paths point to the old one's. Written splits are kept, as no patient
    moves. ``dropped_questions.csv`` lists each question that was dropped and why, ``debias.json`` the families before
    and after.

    Args:
        timeline: the folder.
        out: the folder to make.
        overwrite: replace a timeline folder that is there.
        progress: told what is being done, how much of it is done and how much there is.

    Raises:
        InputError: there are no questions, or the target has content.
    """
    if not timeline.has("questions"):
        raise InputError("a folder with questions", "none", str(timeline.root), "Debias a folder that has some.")
    with staged_folder(out, overwrite) as staging:
        result = debias(timeline, progress)
        tables = {name: timeline.table(name) for name in SCHEMA if timeline.has(name) or name == "images"}
        for name in ("images", "masks"):
            if name in tables:
                paths = {
                    path: os.path.abspath(image_path(timeline.root, path)) for path in tables[name]["path"].unique()
                }
                tables[name] = tables[name].assign(path=tables[name]["path"].map(paths).astype("str"))
        questions = tables["questions"]
        tables["questions"] = questions[~questions["question_id"].isin(result.dropped["question_id"])]
        meta = timeline.meta
        changes = {"from": meta.fingerprint, "rounds": ROUNDS, "dropped_questions": len(result.dropped)}
        write_timeline(
            staging,
            tables,
            name=meta.name,
            version=f"{meta.version}+debiased",
            licence=meta.licence,
            provenance={**meta.provenance, "debiased": changes},
        )
        atomic_write(staging / DROPPED_FILE, result.dropped.to_csv(index=False, lineterminator="\n"))
        atomic_write(staging / REPORT_FILE, _report(result))
        for path in sorted((timeline.root / FOLDER).glob("*")):
            if path.is_file():
                atomic_write(staging / FOLDER / path.name, path.read_bytes())
    return result


def _report(result: Debiased) -> str:
    counts = result.dropped.groupby(["template", "guesser"]).size().reset_index(name="questions")
    report = {
        "rule": "questions answered right by a guesser, the most probable first, until it gains nothing",
        "guessers": list(GUESSERS),
        "dropped": counts.astype("object").to_dict("records"),
        "before": result.before.astype("object").to_dict("records"),
        "after": result.after.astype("object").to_dict("records"),
    }
    return json.dumps(report, indent=2, ensure_ascii=False) + "\n"
