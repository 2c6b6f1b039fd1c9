"""Few-shot splits: the same val and test, and a train subset of few patients."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.recipe import Recipe
from temmed.timelines.splits.division import Basis, Split, fingerprint_of
from temmed.timelines.splits.hashing import in_order


def reduce_train(timeline: Timeline, base: Split, recipe: Recipe) -> Split:
    """Keep few of the train patients.

    The train patients stand in an order that the seed decides. The first ``few_shot`` of them are kept or, with
    ``few_shot_per``, for each class the first ``few_shot`` who have it. So who is kept for a smaller number is kept
    for a larger one too. An answer is a class of each patient who is asked a question with that answer; such a patient
    counts for all of their classes, and together they may be fewer than ``few_shot`` for each.

    Args:
        timeline: the data.
        base: the whole split.
        recipe: with ``few_shot``.

    Raises:
        InputError: a class, or the whole train subset, has too few patients.
    """
    wanted = recipe.few_shot
    assert wanted is not None
    train = base.frame["subset"] == "train"
    patients = base.frame.loc[train, "patient_id"].drop_duplicates()
    classes = _classes(timeline, base, recipe.few_shot_per, patients)
    counts = classes.groupby("label")["patient_id"].size()
    scarce = counts[counts < wanted].sort_values()
    if len(scarce) or not len(counts):
        which = f" with {recipe.few_shot_per} {scarce.index[0]!r}" if recipe.few_shot_per and len(scarce) else ""
        raise InputError(
            f"at least {wanted} train patients{which}",
            str(int(scarce.iloc[0]) if len(scarce) else 0),
            f"{base.name}, few_shot={wanted}",
            "Ask for fewer.",
        )
    rank = {patient: number for number, patient in enumerate(in_order(patients.tolist(), recipe.seed, "few"))}
    ordered = classes.assign(rank=classes["patient_id"].map(rank)).sort_values("rank")
    kept = ordered.loc[ordered.groupby("label").cumcount() < wanted, "patient_id"]
    frame = base.frame[~train | base.frame["patient_id"].isin(kept)]
    return replace(
        base,
        name=recipe.file_name,
        seed=recipe.seed,
        frame=frame,
        parameters={**base.parameters, **recipe.parameters, "part_of": base.name},
        basis=Basis(
            base.frame["patient_id"].nunique(),
            base.frame["sequence_id"].nunique(),
            base.fingerprint + fingerprint_of(classes),
        ),
        companions=(base, *base.companions),
    )


def _classes(timeline: Timeline, base: Split, per: str | None, patients: pd.Series) -> pd.DataFrame:
    """Columns ``patient_id, label``: the classes of each train patient, each once."""
    if per is None:
        return pd.DataFrame({"patient_id": patients, "label": "any"})
    table = timeline.table("patients")
    if per in table.columns and per != "patient_id":
        found = table.loc[table["patient_id"].isin(patients), ["patient_id", per]].set_axis(
            ["patient_id", "label"], axis=1
        )
    else:
        found = _answers(timeline, base, per)
    return found.dropna().astype("str").drop_duplicates(ignore_index=True)


def _answers(timeline: Timeline, base: Split, task: str) -> pd.DataFrame:
    questions = timeline.table("questions")
    tasks = sorted(questions["task"].unique())
    if task not in tasks:
        attributes = sorted(set(timeline.table("patients").columns) - {"patient_id"})
        raise InputError(
            "a column of the patients table or a task of the questions",
            repr(task),
            "few_shot_per",
            f"Choose one of {', '.join([*attributes, *tasks])}.",
        )
    questions = base.questions(timeline, "train")
    questions = questions.loc[questions["task"] == task, ["sequence_id", "answer"]]
    owners = timeline.table("sequences").set_index("sequence_id")["patient_id"]
    return pd.DataFrame({"patient_id": questions["sequence_id"].map(owners), "label": questions["answer"]})
