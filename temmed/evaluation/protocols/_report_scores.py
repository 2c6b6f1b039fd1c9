"""BLEU-1, ROUGE-L and METEOR of reports, by the libraries and settings that TemMed-Bench uses.

Needs the extra ``reports`` (nltk, rouge_score). Nothing is downloaded: the tokenizer's and METEOR's data are what NLTK
finds on this machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from temmed.errors import InputError

Tokenizer = Callable[[str], list[str]]
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def report_scores(
    answers: Sequence[str], labels: Sequence[str], parser: str
) -> tuple[dict[str, NDArray[np.float64]], list[str]]:
    """Score reports one by one.

    Args:
        answers: what was written.
        labels: what should have been written.
        parser: ``official`` splits text with NLTK's punkt model, as the published script does; ``strict`` splits
            sentences at ``.``, ``!`` and ``?`` before white space, which needs no model.

    Returns:
        Of ``bleu1``, ``rouge_l``, ``meteor`` and ``average``, their mean, those that can be computed here: each from 0
        to 1, of shape ``(n,)``. And why others cannot.

    Raises:
        InputError: the extra ``reports`` is not installed.
    """
    try:
        from nltk.tokenize import word_tokenize
        from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
        from nltk.translate.meteor_score import meteor_score
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise InputError(
            "the packages that score reports", str(error), "temmed score", "Run pip install 'temmed[reports]'."
        ) from error
    tokenize: Tokenizer = word_tokenize if parser == "official" else _words
    try:
        pairs = [_tokens(answer, label, tokenize) for answer, label in zip(answers, labels, strict=True)]
    except LookupError:
        return {}, [
            "BLEU-1, ROUGE-L and METEOR could not be computed: NLTK finds no punkt_tab on this machine. Install it "
            "(python -m nltk.downloader punkt_tab), or score with --parser strict."
        ]
    smoothing, scorer = SmoothingFunction().method1, RougeScorer(["rougeL"], use_stemmer=True)
    bleu = [
        sentence_bleu([label], answer, weights=(1, 0, 0, 0), smoothing_function=smoothing) for answer, label in pairs
    ]
    rouge = [scorer.score(" ".join(label), " ".join(answer))["rougeL"].fmeasure for answer, label in pairs]
    scores = {"bleu1": np.array(bleu, dtype=float), "rouge_l": np.array(rouge, dtype=float)}
    try:
        scores["meteor"] = np.array([meteor_score([label], answer) for answer, label in pairs], dtype=float)
    except (LookupError, OSError):  # absent, or without some of its files
        return scores, [
            "METEOR, and with it the average, could not be computed: NLTK finds no whole WordNet here. Install it "
            "(python -m nltk.downloader wordnet)."
        ]
    scores["average"] = np.mean(list(scores.values()), axis=0)
    return scores, []


def _tokens(answer: str, label: str, tokenize: Tokenizer) -> tuple[list[str], list[str]]:
    answer, label = answer.strip().lower(), label.strip().lower()
    # An empty label, too, empties the answer: that is the published rule.
    return tokenize(answer if answer and label else " "), tokenize(label)


def _words(text: str) -> list[str]:
    from nltk.tokenize import word_tokenize

    return [token for sentence in _SENTENCE_END.split(text) for token in word_tokenize(sentence, preserve_line=True)]
