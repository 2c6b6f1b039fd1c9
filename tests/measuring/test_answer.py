"""From sizes to answers, and what is said where there is no size."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from temmed.measuring.answer import answer, interval
from temmed.measuring.prompts import Clock
from temmed.measuring.segment import Sizes

CLOCK = Clock([0.0, 10.0, 20.0, 30.0, 40.0, 50.0], "day")
CHOICES = ("stable", "regressed", "progressed")
Make = Callable[..., Sizes]


def ask(sizes: Sizes, prompt: str, choices: tuple[str, ...] | None = CHOICES, asked_at: int = 5) -> dict[str, Any]:
    offered = None if choices is None else np.array(choices, dtype=object)
    return answer(SimpleNamespace(question_id="q", prompt=prompt, choices=offered, asked_at=asked_at), sizes, CLOCK)


@pytest.mark.parametrize(
    ("prompt", "expected", "evidence"),
    [
        ("since the previous examination", "stable", [3, 5]),  # position 4 has no image
        ("since it was first seen", "progressed", [1, 5]),
        ("between time point 2 and time point 3", "regressed", [2, 3]),
        ("between time point 5 and time point 1", "progressed", [1, 5]),
        ("since 20 days", "regressed", [2, 5]),
    ],
)
def test_the_rule_is_applied_to_the_two_moments(sizes: Make, prompt: str, expected: str, evidence: list[int]) -> None:
    found = ask(sizes({0: 0.0, 1: 10.0, 2: 20.0, 3: 14.0, 5: 15.0}), prompt)
    assert found["answer"] == expected
    assert found["evidence"] == evidence
    assert sum(found["probabilities"]) == pytest.approx(1)
    assert CHOICES[int(np.argmax(found["probabilities"]))] == expected
    assert found["confidence"] == max(found["probabilities"])


def test_nothing_later_than_the_question_is_looked_at(sizes: Make) -> None:
    early = ask(sizes({0: 10.0, 1: 15.0}), "since the previous examination", asked_at=1)
    assert ask(sizes({0: 10.0, 1: 15.0, 2: 3.0, 3: 0.0}), "since the previous examination", asked_at=1) == early


@pytest.mark.parametrize(
    ("prompt", "diameters"),
    [
        ("between time point 0 and time point 4", {0: 10.0, 5: 20.0}),  # no image at 4
        ("since the previous examination", {3: 0.0, 5: 20.0}),  # not seen at 3
        ("since the previous examination", {5: 20.0}),
        ("since it was first seen", {0: 0.0, 5: 0.0}),
        ("between time point 0 and time point 9", {0: 10.0, 5: 20.0}),  # no such position
        ("since it was first seen", {}),
    ],
)
def test_what_cannot_be_measured_is_called_stable_with_equal_probabilities(
    sizes: Make, prompt: str, diameters: dict[int, float]
) -> None:
    found = ask(sizes(diameters), prompt)
    assert found["answer"] == "stable"
    assert found["probabilities"] == pytest.approx([1 / 3] * 3)
    assert found["evidence"] == []


def test_sizes_and_ratios(sizes: Make) -> None:
    seen = sizes({0: 0.0, 1: 10.0, 3: 14.0, 5: 20.0})
    # The elongation is 1.1 in all images.
    assert ask(seen, "the longest diameter now, in millimetres", None)["value"] == pytest.approx(22.0)
    assert ask(seen, "the diameter at time point 1", None)["value"] == pytest.approx(11.0)
    ratio = ask(seen, "the ratio of the diameter at time point 5 to that at time point 1", None)
    assert ratio["value"] == pytest.approx(2.0)
    assert ratio["answer"] is None
    assert ratio["evidence"] == [1, 5]


def test_sizes_that_cannot_be_measured(sizes: Make) -> None:
    seen = sizes({0: 0.0, 1: 10.0, 5: 0.0})
    assert ask(seen, "the diameter now", None) | {"question_id": ""} == {
        "question_id": "", "answer": None, "probabilities": None, "value": pytest.approx(11.0), "confidence": None,
        "evidence": [1],
    }  # fmt: skip
    assert ask(seen, "the ratio of time point 5 to time point 1", None)["value"] == 1.0
    assert ask(sizes({0: 0.0}), "the diameter now", None)["value"] is None


@pytest.mark.parametrize(
    ("prompt", "diameters", "expected", "evidence"),
    [
        ("When did it first appear?", {0: 0.0, 1: 9.0, 2: 9.0}, "time point 1", [0, 1]),
        ("When did it first appear?", {0: 9.0, 1: 9.0, 2: 9.0}, "time point 1", [0]),  # 0 is not offered
        ("When did it first appear?", {0: 0.0, 1: 0.0}, "never", []),
        ("When did it first appear?", {}, "never", []),
        ("When had it disappeared?", {0: 9.0, 1: 9.0, 3: 0.0}, "time point 3", [1, 3]),
        ("When had it disappeared?", {0: 9.0, 1: 0.0, 2: 9.0, 3: 9.0, 4: 0.0}, "time point 3", [3, 4]),
        ("When had it disappeared?", {0: 0.0, 1: 9.0, 3: 9.0}, "never", []),
    ],
)
def test_events(sizes: Make, prompt: str, diameters: dict[int, float], expected: str, evidence: list[int]) -> None:
    found = ask(sizes(diameters), prompt, ("time point 3", "never", "time point 1"))
    assert found["answer"] == expected
    assert found["evidence"] == evidence


def test_choices_that_cannot_be_read_or_met_leave_the_answer_empty(sizes: Make) -> None:
    seen = sizes({0: 0.0, 1: 0.0})
    assert ask(seen, "Is the valve open?", ("open", "closed"))["answer"] is None
    assert ask(seen, "When did it appear?", ("time point 0", "time point 1"))["answer"] is None


@pytest.mark.parametrize(
    ("diameters", "expected"),
    [
        ({0: 0, 1: 9, 3: 9, 5: 0}, (5.0, 40.0, 1.0)),
        ({0: 9, 1: 9, 2: 9}, (0.0, None, 1.0)),
        ({0: 0, 1: 0}, (None, None, 1.0)),
        ({0: 9, 1: 0, 2: 9, 3: 9, 4: 0, 5: 0}, (0.0, 35.0, 5 / 6)),
        ({0: 0, 1: 9, 2: 0, 3: 0}, (5.0, 15.0, 1.0)),
        ({}, (None, None, None)),
    ],
)
def test_the_stay_of_a_finding(sizes: Make, diameters: dict[int, float], expected: tuple[float | None, ...]) -> None:
    found = interval(sizes(diameters), CLOCK)
    assert (found["onset"], found["offset"], found["score"]) == pytest.approx(expected)
