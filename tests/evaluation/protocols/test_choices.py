"""Benchmarks with choices and classes: hand-computed scores, slices, and what is done with answers that fit nothing."""

from __future__ import annotations

import pytest

from temmed.errors import InputError
from temmed.evaluation.protocols.registry import protocol, protocols

from .conftest import Bench, rows, value

CHOICES = ["T1", "T2", "T3", "T1, T5", "Never"]


def mi_cxr(bench: Bench) -> None:
    for number, (group, kind) in enumerate([("TEL", "onset"), ("TEL", "peak"), ("ICR", "onset")]):
        bench.ask(f"q{number}", f"mi_cxr_{group.lower()}_{kind}", CHOICES[number], CHOICES)
        record = {"qid": f"q{number}", "group_type": group, "qtype": kind, "answer": "ABC"[number]}
        bench.records.setdefault("items", []).append(record)


def test_every_protocol_is_found_by_its_name() -> None:
    assert list(protocols()) == ["chextemporal", "medframeqa", "medsg_bench", "mi_cxr", "ms_cxr_t", "temmed_bench"]
    with pytest.raises(InputError, match="Did you mean mi_cxr"):
        protocol("mi_cx")


def test_mi_cxr_by_group_and_kind(bench: Bench) -> None:
    mi_cxr(bench)
    outcome = bench.score("mi_cxr", rows({"q0": "T1", "q1": "(b)", "q2": "at T3, I think"}))
    found = {key.removeprefix("mi_cxr/choice/"): entry["value"] for key, entry in outcome.metrics.items()}
    assert {key: share for key, share in found.items() if key.startswith("accuracy")} == pytest.approx(
        {
            "accuracy": 2 / 3,
            "accuracy/group_type=TEL": 1,
            "accuracy/group_type=ICR": 0,
            "accuracy/qtype=onset": 1 / 2,
            "accuracy/qtype=peak": 1,
        }
    )
    assert found["unparsable"] == pytest.approx(1 / 3)
    assert outcome.malformed == {"q2": "at T3, I think"}


def test_rows_that_are_missing_or_too_many_are_refused_unless_allowed(bench: Bench) -> None:
    mi_cxr(bench)
    given = {"q0": "T1", "other": "T1"}
    with pytest.raises(InputError, match="an answer to every question"):
        bench.score("mi_cxr", rows(given))


def test_rows_that_may_be_missing_count_as_wrong_by_name(bench: Bench) -> None:
    mi_cxr(bench)
    outcome = bench.score("mi_cxr", rows({"q0": "T1", "other": "x"}), allow_missing=True, allow_surplus=True)
    assert value(outcome, "mi_cxr/choice/accuracy") == pytest.approx(1 / 3)
    assert outcome.malformed == {"q1": "no row", "q2": "no row"}


def test_another_dataset_is_refused(bench: Bench) -> None:
    bench.ask("q0", "ms_cxr_t_edema", "stable", ["improving", "stable", "worsening"])
    with pytest.raises(InputError, match="questions of the template mi_cxr_"):
        bench.score("mi_cxr", rows({"q0": "stable"}))


def test_medframeqa_by_system_organ_and_frames(bench: Bench) -> None:
    items = [("q0", "nervous", "brain", 1), ("q1", "nervous", "spine", 1), ("q2", None, "liver", 0)]
    for question, system, organ, last in items:
        bench.ask(question, "medframeqa_x", "cyst", ["tumour", "cyst"], asked_at=last)
        bench.records.setdefault("items", []).append({"question_id": question, "system": system, "organ": organ})
    outcome = bench.score("medframeqa", rows({"q0": "B", "q1": "tumour", "q2": "CYST"}))
    prefix = "medframeqa/choice/accuracy"
    expected = {"": 2 / 3, "/system=nervous": 1 / 2, "/organ=brain": 1, "/organ=liver": 1, "/frames=2": 1 / 2}
    assert {key: value(outcome, prefix + key) for key in expected} == pytest.approx(expected)
    assert f"{prefix}/system=None" not in outcome.metrics


def test_ms_cxr_t_is_the_mean_over_findings_of_the_mean_recall(bench: Bench) -> None:
    classes = ["improving", "stable", "worsening"]
    told = [
        ("edema", "stable", "stable"),
        ("edema", "stable", "stable"),
        ("edema", "stable", "improving"),
        ("edema", "worsening", "worsening"),
        ("pneumonia", "improving", "stable"),
        ("pneumonia", "worsening", "worsening"),
    ]
    for number, (finding, truth, _) in enumerate(told):
        bench.ask(f"q{number}", f"ms_cxr_t_{finding}", truth, classes)
    outcome = bench.score("ms_cxr_t", rows({f"q{number}": said for number, (_, _, said) in enumerate(told)}))
    prefix = "ms_cxr_t/progression/macro_accuracy"
    edema, pneumonia = (2 / 3 + 1) / 2, 1 / 2
    assert value(outcome, f"{prefix}/finding=edema") == pytest.approx(edema)
    assert value(outcome, f"{prefix}/finding=pneumonia") == pytest.approx(pneumonia)
    assert value(outcome, prefix) == pytest.approx((edema + pneumonia) / 2)
    assert value(outcome, "ms_cxr_t/progression/accuracy") == pytest.approx(4 / 6)


def test_chextemporal_reads_classes_without_case_or_tense(bench: Bench) -> None:
    classes = ["stable", "worse", "improved", "new", "resolved"]
    said = {"q0": "Stable", "q1": "worsening.", "q2": "IMPROVES", "q3": "newly", "q4": "not resolved"}
    for number, truth in enumerate(classes):
        bench.ask(f"q{number}", "chextemporal_edema", truth, classes)
    outcome = bench.score("chextemporal", rows(dict(said)))
    assert value(outcome, "chextemporal/progression/accuracy") == pytest.approx(4 / 5)
    assert value(outcome, "chextemporal/progression/macro_f1") == pytest.approx(4 / 5)
    assert value(outcome, "chextemporal/progression/accuracy/class=resolved") == 0
    assert outcome.malformed == {"q4": "not resolved"}
    assert list(outcome.notes) == ["No boxes are predicted: their overlap is not scored."]
