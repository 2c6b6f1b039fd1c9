"""How much of a question set can be answered without looking at an image.

Two guessers are cross-validated by patient, for each template. One reads the prompt and the choices; the other sees
what is known of the patient, the scanner and the visits. Both score every choice offered, so that questions whose
choices differ and those whose choices are always the same are treated alike. What they get right beyond the most
frequent answer is a shortcut that a model may take.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse, stats

from temmed.timelines.folder import Timeline
from temmed.timelines.progress import Progress, silent

#: What a guesser is called, and what it sees.
GUESSERS = ("text", "metadata")
FOLDS = 5
#: Smaller families say too little.
FEWEST_QUESTIONS, FEWEST_PATIENTS = 60, 20
#: Questions of a template that are looked at when none is asked for by name; patients are taken whole.
SAMPLE = 1500
#: A family is guessable when the interval of what is gained over the most frequent answer lies above this.
NOTABLE = 0.05
#: Answers of a template that are kept apart when questions offer no choices; numbers fall into so many classes.
_MOST_ANSWERS, _CLASSES = 30, 4
_LEVEL = 0.95
_FEATURES = 2**15
_WORD = re.compile(r"\w+(?:\.\w+)?")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Guesses:
    """What the guessers make of a question set.

    Attributes:
        families: one row per template and guesser: ``template, guesser, questions, patients, accuracy, majority``
            (the best constant guess: the most frequent answer, or chance where that is more), ``gain`` (accuracy
            less majority), ``low`` and ``high`` (95 % interval of the gain, clustered by patient), ``guessable``.
        items: one row per question: ``question_id, template, chance``, for each guesser ``NAME_guess``,
            ``NAME_right`` and ``NAME_probability`` (of the right answer, out of fold), and ``bias``: the larger of
            the probabilities less chance.
        skipped: templates with too few questions or patients, or a single answer, and how many they have.
    """

    families: pd.DataFrame
    items: pd.DataFrame
    skipped: dict[str, int]


def guess_questions(
    timeline: Timeline,
    question_ids: set[str] | None = None,
    sample: int | None = SAMPLE,
    progress: Progress = silent,
) -> Guesses:
    """Cross-validate the guessers on every template.

    Args:
        timeline: the folder, which may be broken.
        question_ids: only these questions.
        sample: at most about so many questions of a template, of patients chosen by a hash of their id; ``None``
            takes all.
        progress: told what is being done, how much of it is done and how much there is.
    """
    questions = _posed(timeline)
    if question_ids is not None:
        questions = questions[questions["question_id"].isin(question_ids)]
    families: list[dict[str, Any]] = []
    items: list[pd.DataFrame] = []
    skipped: dict[str, int] = {}
    groups = {template: _sampled(asked, sample) for template, asked in questions.groupby("template", sort=True)}
    facts = _Facts(timeline, pd.concat([part["sequence_id"] for part in groups.values()] or [questions["sequence_id"]]))
    for done, (template, asked) in enumerate(groups.items(), start=1):
        part = _with_options(asked)
        if (
            len(part) < FEWEST_QUESTIONS
            or part["patient_id"].nunique() < FEWEST_PATIENTS
            or part["options"].map(len).max() < 2
        ):
            skipped[str(template)] = int(questions["template"].eq(template).sum())
        else:
            rows, table = _family(str(template), part, facts)
            families += rows
            items.append(table)
        progress("Guessing answers", done, len(groups))
    empty = Guesses(pd.DataFrame(columns=_FAMILY_COLUMNS), pd.DataFrame(columns=_ITEM_COLUMNS), skipped)
    if not families:
        return empty
    return Guesses(pd.DataFrame(families), pd.concat(items, ignore_index=True), skipped)


_FAMILY_COLUMNS = [
    "template", "guesser", "questions", "patients", "accuracy", "majority", "gain", "low", "high", "guessable",
]  # fmt: skip
_ITEM_COLUMNS = [
    "question_id",
    "template",
    "chance",
    *[f"{name}_{what}" for name in GUESSERS for what in ("guess", "right", "probability")],
    "bias",
]


def _posed(timeline: Timeline) -> pd.DataFrame:
    """Questions with an answer or a value, and the patient each is about."""
    questions = timeline.table("questions")
    owners = timeline.table("sequences").drop_duplicates("sequence_id").set_index("sequence_id")["patient_id"]
    questions = questions.assign(patient_id=questions["sequence_id"].map(owners))
    posed = questions["answer"].notna() | questions["value"].notna()
    needed = ["question_id", "sequence_id", "patient_id", "template", "prompt", "asked_at"]
    return questions[posed].dropna(subset=needed).drop_duplicates("question_id")


def _sampled(questions: pd.DataFrame, sample: int | None) -> pd.DataFrame:
    """The questions of so many patients, in the order of a hash, that about ``sample`` questions come together."""
    if sample is None or len(questions) <= sample:
        return questions
    patient, names = pd.factorize(questions["patient_id"])
    hashes = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names.to_numpy(object)]
    order = np.array(sorted(range(len(hashes)), key=hashes.__getitem__))
    wanted = int(np.searchsorted(np.bincount(patient)[order].cumsum(), sample, side="right"))
    return questions[np.isin(patient, order[: max(wanted, 1)])]


def _with_options(questions: pd.DataFrame) -> pd.DataFrame:
    """Columns ``options`` (what could be answered) and ``truth`` (which of it is right); others are left out.

    Without choices the options are the template's answers; a number is answered by the quarter it lies in.
    """
    numeric = questions["answer"].isna()
    answers = questions["answer"].astype("object")
    if numeric.any():
        share = questions.loc[numeric, "value"].rank(method="average", pct=True)
        quarters = pd.Series(np.ceil(share * _CLASSES)).clip(1, _CLASSES)
        answers[numeric] = quarters.map(lambda quarter: f"quarter {quarter:.0f}")
    common = answers.value_counts().index[:_MOST_ANSWERS].tolist()
    options = [
        list(choices) if isinstance(choices, list) and choices and not number else sorted(common)
        for choices, number in zip(questions["choices"], numeric, strict=True)
    ]
    truth = [
        offered.index(answer) if answer in offered else -1 for offered, answer in zip(options, answers, strict=True)
    ]
    table = questions.assign(options=pd.Series(options, index=questions.index, dtype="object"), truth=truth)
    return table[table["truth"] >= 0].reset_index(drop=True)


class _Facts:
    """What is known of a question besides its words and its images."""

    def __init__(self, timeline: Timeline, sequence_ids: pd.Series) -> None:
        points = timeline.table("timepoints").dropna(subset=["sequence_id", "position"])
        points = points.merge(sequence_ids.drop_duplicates(), on="sequence_id")
        points = points.drop_duplicates(["sequence_id", "position"])
        before = points.groupby("sequence_id", sort=False)["time"].shift(1)
        self._points = pd.DataFrame(
            {
                "sequence_id": points["sequence_id"],
                "asked_at": points["position"].astype("int64"),
                "time": points["time"],
                "gap": points["time"] - before,
            }
        )
        grouped = points.groupby("sequence_id", sort=False)
        self._sequences = pd.DataFrame({"time_points": grouped.size(), "span": grouped["time"].max()})
        sequences = timeline.table("sequences").drop_duplicates("sequence_id").set_index("sequence_id")
        self._attributes = sequences[["modality", "scanner"]]
        self._patients = timeline.table("patients").drop_duplicates("patient_id").set_index("patient_id")

    def of(self, questions: pd.DataFrame) -> pd.DataFrame:
        """Numbers, a row per question; text becomes the rank of its frequency, and what is missing NaN."""
        asked = questions[["sequence_id", "patient_id", "asked_at"]].astype({"asked_at": "int64"})
        table = asked.merge(self._points, on=["sequence_id", "asked_at"], how="left")
        table = table.join(self._sequences, on="sequence_id").join(self._attributes, on="sequence_id")
        table = table.join(self._patients, on="patient_id")
        table["left"] = table["time_points"] - 1 - table["asked_at"]
        return table.drop(columns=["sequence_id", "patient_id"]).apply(_as_numbers)


def _as_numbers(column: pd.Series) -> pd.Series:
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return column.astype("float64")
    ranks = {value: rank for rank, value in enumerate(column.value_counts().index)}
    return column.map(ranks).astype("float64")


@dataclass(frozen=True)
class _Offers:
    """Every option of every question as a row of its own.

    Attributes:
        question: the question of each row, 0 … n − 1, sorted.
        option: which of its options.
        right: whether that is the answer.
        texts: the option's words.
        traits: numbers on the option alone: its place, its rank by number, by length.
    """

    question: NDArray[np.int64]
    option: NDArray[np.int64]
    right: NDArray[np.bool_]
    texts: list[str]
    traits: NDArray[np.float64]

    @classmethod
    def of(cls, questions: pd.DataFrame) -> _Offers:
        sizes = questions["options"].map(len).to_numpy(dtype=np.int64)
        question = np.repeat(np.arange(len(questions)), sizes)
        option = np.concatenate([np.arange(size) for size in sizes])
        texts = [text for offered in questions["options"] for text in offered]
        traits = [row for offered in questions["options"] for row in _traits(tuple(offered))]
        return cls(question, option, option == questions["truth"].to_numpy()[question], texts, np.array(traits))

    def best(self, scores: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The option with the highest score of each question, and the probability of the right one."""
        table = pd.DataFrame({"question": self.question, "score": scores})
        chosen = table.groupby("question")["score"].idxmax().to_numpy()
        total = table.groupby("question")["score"].transform("sum").to_numpy()
        return self.option[chosen], (scores / np.maximum(total, 1e-12))[self.right]


@lru_cache(maxsize=1024)
def _traits(options: tuple[str, ...]) -> list[tuple[float, ...]]:
    numbers = [float(match[0]) if (match := _NUMBER.search(text)) else np.nan for text in options]
    lengths = stats.rankdata([len(text) for text in options])
    ranks = stats.rankdata(numbers, nan_policy="omit")
    return [
        (float(place), number, float(rank), float(length), float(len(options)))
        for place, (number, rank, length) in enumerate(zip(numbers, ranks, lengths, strict=True))
    ]


def _family(template: str, questions: pd.DataFrame, facts: _Facts) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Scores of both guessers on one template, and their guess at each of its questions."""
    from sklearn.model_selection import GroupKFold

    offers = _Offers.of(questions)
    codes, patients = pd.factorize(questions["patient_id"])
    truth = questions["truth"].to_numpy()
    chance = 1.0 / questions["options"].map(len).to_numpy(dtype=float)
    answers = pd.Series([options[right] for options, right in zip(questions["options"], truth, strict=True)])
    majority = max(float(answers.value_counts(normalize=True).iloc[0]), float(chance.mean()))
    folds = list(GroupKFold(FOLDS, shuffle=True, random_state=0).split(codes, groups=codes))
    table = pd.DataFrame({"question_id": questions["question_id"], "template": template, "chance": chance})
    rows = []
    for guesser, scores in (
        ("text", _text_scores(questions, offers, folds)),
        ("metadata", _metadata_scores(facts.of(questions), offers, folds)),
    ):
        guess, probability = offers.best(scores)
        right = guess == truth
        low, high = clustered_interval(right - majority, codes)
        table[f"{guesser}_guess"] = [options[place] for options, place in zip(questions["options"], guess, strict=True)]
        table[f"{guesser}_right"] = right
        table[f"{guesser}_probability"] = probability
        rows.append(
            {
                "template": template,
                "guesser": guesser,
                "questions": len(questions),
                "patients": len(patients),
                "accuracy": float(right.mean()),
                "majority": majority,
                "gain": float(right.mean()) - majority,
                "low": low,
                "high": high,
                "guessable": low > NOTABLE,
            }
        )
    table["bias"] = table[[f"{name}_probability" for name in GUESSERS]].max(axis=1) - table["chance"]
    return rows, table


def clustered_interval(values: NDArray[Any], clusters: NDArray[Any]) -> tuple[float, float]:
    """The 95 % interval of a mean whose items come in clusters, by linearisation of the ratio of sums.

    Args:
        values: (n,).
        clusters: (n,), numbers from 0.
    """
    mean, count = float(np.mean(values)), int(clusters.max()) + 1
    deviations = np.bincount(clusters, weights=values - mean, minlength=count)
    spread = np.sqrt(np.sum(deviations**2) * count / max(count - 1, 1)) / len(values)
    half = float(stats.t.ppf((1 + _LEVEL) / 2, max(count - 1, 1)) * spread)
    return mean - half, mean + half


Folds = list[tuple[NDArray[np.int64], NDArray[np.int64]]]


def _text_scores(questions: pd.DataFrame, offers: _Offers, folds: Folds) -> NDArray[np.float64]:
    """Logistic regression on words of the prompt together with the option, and on the option alone."""
    from sklearn.feature_extraction import FeatureHasher
    from sklearn.linear_model import LogisticRegression

    grams = [_grams(prompt) for prompt in questions["prompt"]]
    traits = offers.traits.astype(object)
    words = (
        [f"={text}", *[f"{name}={value}" for name, value in zip("pnrls", row, strict=True)]]
        + [f"{gram}>{text}" for gram in grams[question]]
        + [f"{gram}>r{row[2]}" for gram in grams[question]]
        for question, text, row in zip(offers.question, offers.texts, traits, strict=True)
    )
    features = sparse.csr_matrix(FeatureHasher(_FEATURES, input_type="string", alternate_sign=False).transform(words))

    def fit(rows: NDArray[np.bool_]) -> Callable[[NDArray[np.bool_]], NDArray[np.float64]]:
        model = LogisticRegression(C=1.0, solver="liblinear").fit(features[rows], offers.right[rows])
        return lambda wanted: model.predict_proba(features[wanted])[:, 1]

    return _out_of_fold(offers, folds, fit)


def _grams(text: str) -> list[str]:
    words = [match[0].lower() for match in _WORD.finditer(text)]
    return sorted({*words, *(f"{first} {second}" for first, second in pairwise(words))})


def _metadata_scores(facts: pd.DataFrame, offers: _Offers, folds: Folds) -> NDArray[np.float64]:
    """Boosted trees on what is known of the question, together with the option."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    names, counts = np.unique(np.array(offers.texts, dtype=object).astype(str), return_counts=True)
    rank = dict(zip(names[np.argsort(-counts, kind="stable")], range(len(names)), strict=True))
    which = np.array([rank[text] for text in offers.texts], dtype=float)
    features = np.column_stack([facts.to_numpy(dtype=float)[offers.question], which, offers.traits])
    # A column without a value in one fold could not be cut into bins.
    features = np.column_stack([features[:, ~np.isnan(features).all(axis=0)], np.isnan(features).any(axis=1)])
    features = np.nan_to_num(features, nan=-1e9)

    def fit(rows: NDArray[np.bool_]) -> Callable[[NDArray[np.bool_]], NDArray[np.float64]]:
        model = HistGradientBoostingClassifier(
            max_iter=40, learning_rate=0.15, max_leaf_nodes=8, min_samples_leaf=10, early_stopping=False, random_state=0
        ).fit(features[rows], offers.right[rows])
        return lambda wanted: model.predict_proba(features[wanted])[:, 1]

    return _out_of_fold(offers, folds, fit)


def _out_of_fold(
    offers: _Offers,
    folds: Folds,
    fit: Callable[[NDArray[np.bool_]], Callable[[NDArray[np.bool_]], NDArray[np.float64]]],
) -> NDArray[np.float64]:
    """The score of every option, by a model that has seen no question of the same patient."""
    scores = np.zeros(len(offers.question))
    for _, test in folds:
        held = np.isin(offers.question, test)
        scores[held] = fit(~held)(held)
    return scores
