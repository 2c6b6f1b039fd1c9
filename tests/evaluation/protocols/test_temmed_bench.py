"""TemMed-Bench: the published reading with its defects, the strict one without, and the scores by hand."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from temmed.cli import app
from temmed.errors import InputError
from temmed.evaluation.protocols._report_scores import report_scores
from temmed.evaluation.protocols._temmed_bench_text import (
    official_selection,
    official_verdict,
    strict_selection,
    strict_verdict,
)
from temmed.predictions.tables import write_predictions

from .conftest import Bench, rows, value


@pytest.mark.parametrize(
    ("said", "official", "strict"),
    [
        ("Yes", "Yes", "Yes"),
        ("Yes, it has.", "Yes", "Yes"),
        ("no.", "No", "No"),
        ("NO change", "No", "No"),
        ("**Yes**", None, "Yes"),
        ("Answer: **No**.", None, "No"),
        ("yEs", None, "Yes"),
        (" Yes", None, "Yes"),
        ("Not sure", "No", None),
        ("Nodules are new", "No", None),
        ("Yesterday's image", "Yes", None),
        ("No idea.", "No", None),
        ("Yes or no", "Yes", None),
        ("No new effusion; yes is wrong.", "No", "No"),
        ("It has.", None, None),
        ("", None, None),
    ],
)
def test_verdicts(said: str, official: str | None, strict: str | None) -> None:
    assert (official_verdict(said), strict_verdict(said)) == (official, strict)


@pytest.mark.parametrize(
    ("said", "official", "strict"),
    [
        ("My answer is A", "A", "A"),
        ("… so my answer is **B**.", "B", "B"),
        ("My answer is **c.**", "C", "C"),
        ("My answer is **Option B**", None, "B"),
        ("My answer is (a)", None, "A"),
        ("My answer is: C", None, "C"),
        ("B.", None, "B"),
        ("My answer is ambiguous", "A", None),
        ("My answer is a guess", "A", None),
        ("My answer is B. No, my answer is A.", "A", None),
        ("My answer is d", "D", None),
        ("My answer is C because it grew", "C", "C"),
        ("Pair A", None, None),
        ("", None, None),
    ],
)
def test_selections(said: str, official: str | None, strict: str | None) -> None:
    assert (official_selection(said), strict_selection(said)) == (official, strict)


def f1_by_loops(truth: list[str], given: list[str], weighted: bool) -> float:
    total = weight = 0.0
    for label in sorted({*truth, *given} - {""}):
        hits = sum(t == g == label for t, g in zip(truth, given, strict=True))
        share = truth.count(label) if weighted else 1
        total += share * 2 * hits / (truth.count(label) + given.count(label))
        weight += share
    return total / weight


def ask(bench: Bench, labels: list[str]) -> None:
    for number, label in enumerate(labels):
        bench.ask(f"{number}_0", "temmed_bench_vqa", label, ["Yes", "No"])
        record = {"temmed_question_id": f"{number}_0", "img_id": number, "question_id": 0, "label_answer_vqa": label}
        bench.records.setdefault("vqa", []).append(record)


def line(number: int, said: str | None, label: str) -> dict[str, Any]:
    return {"img_id": number, "question_id": 0, "answer_vqa": said, "label_answer_vqa": label}


SAID = ["Yes", "no", "Not sure", "**Yes**", "?"]
LABELS = ["Yes", "No", "Yes", "Yes", "No"]


@pytest.mark.parametrize(
    ("parser", "accuracy", "given"),
    [("official", 2 / 5, ["Yes", "No", "No", "", ""]), ("strict", 3 / 5, ["Yes", "No", "", "Yes", ""])],
)
def test_questions_in_the_benchmarks_own_file(bench: Bench, parser: str, accuracy: float, given: list[str]) -> None:
    ask(bench, LABELS)
    file = [line(n, said, f"{label}.") for n, (said, label) in enumerate(zip(SAID, LABELS, strict=True))]
    outcome = bench.score("temmed_bench", file=file, parser=parser)
    assert value(outcome, "temmed_bench/vqa/accuracy") == pytest.approx(accuracy)
    assert value(outcome, "temmed_bench/vqa/macro_f1") == pytest.approx(f1_by_loops(LABELS, given, False))
    unread = [f"{number}_0" for number, choice in enumerate(given) if not choice]
    assert sorted(outcome.malformed) == unread
    assert value(outcome, "temmed_bench/vqa/unparsable") == pytest.approx(len(unread) / 5)


def test_tables_and_own_file_score_alike(bench: Bench) -> None:
    ask(bench, LABELS)
    outcome = bench.score("temmed_bench", rows({f"{n}_0": said for n, said in enumerate(SAID)}))
    assert value(outcome, "temmed_bench/vqa/accuracy") == pytest.approx(2 / 5)
    assert outcome.malformed == {"3_0": "**Yes**", "4_0": "?"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"img_id": 7}, "of an item"),
        ({"label_answer_vqa": "No"}, "label_answer_vqa as in the dataset"),
        ({"answer_report": "x"}, "lines that all have"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(bench: Bench, change: dict[str, Any], message: str) -> None:
    ask(bench, ["Yes"])
    with pytest.raises(InputError, match=message):
        bench.score("temmed_bench", file=[line(0, "Yes", "Yes") | change])


@pytest.mark.parametrize(("lines", "message"), [([0], "a line for every item"), ([0, 1, 1], "one line per item")])
def test_items_without_a_line_or_with_two_are_refused(bench: Bench, lines: list[int], message: str) -> None:
    ask(bench, ["Yes", "No"])
    with pytest.raises(InputError, match=message):
        bench.score("temmed_bench", file=[line(number, "No", "Yes" if number == 0 else "No") for number in lines])


def test_an_item_without_a_line_counts_as_wrong_where_allowed(bench: Bench) -> None:
    ask(bench, ["Yes", "No"])
    outcome = bench.score("temmed_bench", file=[line(0, "Yes", "Yes")], allow_missing=True)
    assert value(outcome, "temmed_bench/vqa/accuracy") == pytest.approx(1 / 2)
    assert outcome.malformed == {"1_0": "no answer"}


def test_pair_selection_with_weighted_f1(bench: Bench) -> None:
    ask(bench, ["Yes"])
    labels = ["A", "A", "B", "C"]
    shown = {"A": "s0", "B": "s1", "C": "s0"}
    bench.records["pair_selection"] = [
        {"data_idx": n, "right_option": label, "sequences": shown} for n, label in enumerate(labels)
    ]
    said = ["My answer is **A**.", "My answer is B", "my answer is b.", "I cannot say"]
    file = [{"data_idx": n, "label": labels[n], "answer": text} for n, text in enumerate(said)]
    outcome = bench.score("temmed_bench", file=file)
    prefix = "temmed_bench/pair_selection"
    assert value(outcome, f"{prefix}/accuracy") == pytest.approx(1 / 2)
    # A: 2 of weight 2/3; B: 1 of weight 2/3; C: 1 of weight 0.
    assert value(outcome, f"{prefix}/weighted_f1") == pytest.approx((2 * 2 / 3 + 2 / 3 + 0) / 4)
    assert value(outcome, f"{prefix}/weighted_f1") == pytest.approx(f1_by_loops(labels, ["A", "B", "B", ""], True))
    assert outcome.malformed == {"3": "I cannot say"}


def lcs(first: list[str], second: list[str]) -> int:
    lengths = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
    for i, j in itertools.product(range(len(first)), range(len(second))):
        same = first[i] == second[j]
        lengths[i + 1, j + 1] = lengths[i, j] + 1 if same else max(lengths[i, j + 1], lengths[i + 1, j])
    return int(lengths[-1, -1])


def bleu1_by_loops(answer: list[str], label: list[str]) -> float:
    clipped = sum(min(answer.count(word), label.count(word)) for word in set(answer))
    if not clipped:
        return 0.0
    return clipped / len(answer) * np.exp(min(0.0, 1 - len(label) / len(answer)))


def test_report_scores_are_those_of_loops() -> None:
    pytest.importorskip("nltk")
    pytest.importorskip("rouge_score")
    # Words that stemming leaves alone.
    words = ["no", "new", "lung", "left", "mass", "acute", "right", "small"]
    rng = np.random.default_rng(0)
    pairs = [[list(rng.choice(words, rng.integers(1, 9))) for _ in range(2)] for _ in range(300)]
    scores, _ = report_scores([" ".join(a).upper() for a, _ in pairs], [" ".join(b) for _, b in pairs], "strict")
    np.testing.assert_allclose(scores["bleu1"], [bleu1_by_loops(a, b) for a, b in pairs], rtol=0, atol=1e-12)
    expected = [2 * lcs(a, b) / (len(a) + len(b)) for a, b in pairs]
    np.testing.assert_allclose(scores["rouge_l"], expected, rtol=0, atol=1e-12)


def test_reports_by_hand_and_what_could_not_be_computed(bench: Bench) -> None:
    pytest.importorskip("nltk")
    pytest.importorskip("rouge_score")
    ask(bench, ["Yes"])
    texts = ["New left effusion. No edema.", "Stable."]
    bench.tables["reports"] = [
        {"report_id": f"r{n}", "patient_id": f"p{n}", "sequence_id": f"s{n}", "position": 1, "time": 1.0}
        | {"kind": "report", "text": text}
        for n, text in enumerate(texts)
    ]
    bench.records["reports"] = [{"id": n, "report_id": f"r{n}"} for n in range(2)]
    said = ["new left effusion . no edema .", " "]
    file = [{"id": n, "answer_report": text, "label_report": texts[n]} for n, text in enumerate(said)]
    outcome = bench.score("temmed_bench", file=file, parser="strict")
    assert value(outcome, "temmed_bench/report/bleu1") == pytest.approx(1 / 2)
    assert value(outcome, "temmed_bench/report/rouge_l") == pytest.approx(1 / 2)
    assert outcome.malformed == {"report 1": "no text"}
    has_meteor = "temmed_bench/report/meteor" in outcome.metrics
    assert has_meteor != any("METEOR" in note and "could not be computed" in note for note in outcome.notes)
    assert has_meteor == ("temmed_bench/report/average" in outcome.metrics)


def test_meteor_by_hand() -> None:
    pytest.importorskip("nltk")
    pytest.importorskip("rouge_score")
    scores, notes = report_scores(["new effusion"], ["new effusions"], "strict")
    if notes:
        pytest.skip(notes[0])
    # Both words match, the second by its stem, in one chunk: 1 - 0.5 (1/2)^3.
    assert scores["meteor"] == pytest.approx([0.9375])
    assert scores["average"] == pytest.approx([(0.5 + 1 + 0.9375) / 3])


def test_without_the_tokenizers_data_no_figure_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rouge_score")
    data = pytest.importorskip("nltk.data")
    monkeypatch.setattr(data, "path", [])
    scores, [note] = report_scores(["a"], ["a"], "official")
    assert scores == {}
    assert "punkt_tab" in note


def test_the_command_scores_names_and_writes(bench: Bench) -> None:
    ask(bench, LABELS)
    bench.score("temmed_bench", rows({f"{n}_0": said for n, said in enumerate(SAID)}))
    out = bench.root / "out" / "metrics.json"
    arguments = ["score", str(bench.root / "dataset"), str(bench.root / "predictions"), "--protocol", "temmed_bench"]
    result = CliRunner().invoke(app, [*arguments, "--resamples", "20", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "temmed_bench/vqa/macro_f1" in result.output
    assert "2 predictions could not be read and count as wrong" in result.output
    assert json.loads(out.read_text())["temmed_bench/vqa/accuracy"]["value"] == pytest.approx(2 / 5)
    assert out.with_suffix(".malformed.txt").read_text() == "3_0: **Yes**\n4_0: ?\n"


@pytest.mark.parametrize(
    "option", [["--subset", "val"], ["--split", "other"], ["--validation", "val"], ["--calibrate", "platt"]]
)
def test_what_a_protocol_does_not_do_is_refused(option: list[str], bench: Bench) -> None:
    ask(bench, LABELS)
    bench.score("temmed_bench", rows({f"{n}_0": said for n, said in enumerate(SAID)}))
    arguments = ["score", str(bench.root / "dataset"), str(bench.root / "predictions"), "--protocol", "temmed_bench"]
    result = CliRunner().invoke(app, [*arguments, *option])
    assert result.exit_code == 2
    assert f"{option[0]} with --protocol" in result.output


def test_predicted_reports_come_from_tables_too(bench: Bench) -> None:
    pytest.importorskip("nltk")
    pytest.importorskip("rouge_score")
    ask(bench, ["Yes"])
    report = {"report_id": "r0", "patient_id": "p0", "sequence_id": "s0", "position": 1, "time": 1.0, "kind": "report"}
    bench.tables["reports"] = [report | {"text": "Stable."}]
    bench.records["reports"] = [{"id": 0, "report_id": "r0"}]
    reports = pd.DataFrame([{"sequence_id": "s0", "position": 1, "text": "stable."}])
    write_predictions(bench.root / "predictions", pd.DataFrame(rows({"0_0": "Yes"})), reports=reports)
    outcome = bench.score("temmed_bench", parser="strict")
    assert value(outcome, "temmed_bench/vqa/accuracy") == 1
    assert value(outcome, "temmed_bench/report/bleu1") == 1
