"""Prompts are read as they are written by the templates, and in other words."""

from __future__ import annotations

from typing import Any

import pytest

from temmed.measuring.prompts import (
    Clock,
    asks_for_ejection,
    asks_for_end,
    asks_for_extreme,
    asks_for_ratio,
    compared,
    offered_moments,
    verdicts,
)
from temmed.prompts.questions import PHRASINGS, elapsed, frame, render, time_point

CLOCK = Clock([0.0, 93.0, 184.0, 400.0, 1234567.0], "day")
FINDING = "white matter lesion in the left frontal lobe"
EXPECTED = {
    "progression_timepoint": (1, 3),
    "progression_elapsed": (1, 3),
    "progression_previous": ("previous", 3),
    "progression_first": ("first_seen", 3),
    "progression_frame": (1, 3),
    "measurement_ratio": (1, 3),
}


@pytest.mark.parametrize("template", list(EXPECTED))
@pytest.mark.parametrize("phrasing", [0, 1])
def test_every_phrasing_of_a_comparison_is_understood(template: str, phrasing: int) -> None:
    if template == "progression_elapsed":
        first, last = (elapsed(CLOCK.times[k], "day") for k in (1, 3))
    else:
        first, last = ((frame if template == "progression_frame" else time_point)(k) for k in (1, 3))
    prompt = render(template, phrasing, finding=FINDING, first=first, last=last)
    assert compared(prompt, CLOCK, 3) == EXPECTED[template]


def test_events_sizes_and_ratios_are_told_apart_in_every_phrasing() -> None:
    for template, phrasings in PHRASINGS.items():
        for number in range(len(phrasings)):
            prompt = render(template, number, finding=FINDING, first="time point 1", last="time point 2")
            assert asks_for_end(prompt) == (template in ("event_disappear", "event_washout"))
            assert asks_for_ejection(prompt) == (template == "measurement_ejection")
            if template.startswith("event_"):
                extremes = {"event_systole": "smallest", "event_diastole": "largest"}
                assert asks_for_extreme(prompt) == extremes.get(template)
            assert asks_for_ratio(prompt) == (template == "measurement_ratio")


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Has it grown?", ("previous", 3)),
        ("Has it grown since baseline?", ("baseline", 3)),
        ("Has it grown since the first visit?", ("baseline", 3)),
        ("Has it grown since time point 2?", (2, 3)),
        ("Has it grown between 184 days and 93 days?", (1, 2)),
        ("Has it grown between 0 days and time point 1?", (0, 1)),
        ("Has it grown since 1.23457e+06 days?", (3, 4)),
        ("Has it grown since time point 3?", None),
        ("Has it grown since time point 9?", None),
        ("Has it grown since 185 days?", None),
    ],
)
def test_other_words(prompt: str, expected: Any) -> None:
    assert compared(prompt, CLOCK, 3) == expected


def test_times_are_read_in_the_unit_of_the_sequence_only() -> None:
    assert Clock([0.0, 3.0], "week").moments("Compare 3 weeks with 0 weeks") == [1, 0]
    assert Clock([0.0, 3.0], "week").moments("after 3 days") == []


def test_choices() -> None:
    assert verdicts(["smaller", "Unchanged", "larger"]) == ["regressed", "stable", "progressed"]
    assert verdicts(["progressed", "stable"]) is None
    assert verdicts(["progressed", "larger", "stable"]) is None
    assert offered_moments(["time point 2", "never", "93 days"], CLOCK) == [2, None, 1]
    assert offered_moments(["open", "closed"], CLOCK) is None
    assert offered_moments(["time point 7", "never"], CLOCK) is None
