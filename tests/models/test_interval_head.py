"""The probabilities of what may become of an event, against going through all of it."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from temmed.data.batch import IGNORE
from temmed.models.heads.base import Encoded, Sizes
from temmed.models.heads.interval import IntervalHead, best_run, log_total

NEVER = (-1, -1)


def _courses(scores: list[float], never: float, imaged: list[bool]) -> dict[tuple[int, int], float]:
    """Score of "never" and of every run that begins and ends at an image."""
    places = [t for t, there in enumerate(imaged) if there]
    runs = {(i, j): sum(scores[i : j + 1]) for i in places for j in places if i <= j}
    return {NEVER: never, **runs}


def _agrees(course: tuple[int, int], targets: list[int], imaged: list[bool]) -> bool:
    first, last = course
    on = [first <= t <= last and course != NEVER for t in range(len(targets))]
    return all(target in (IGNORE, now) or not there for target, there, now in zip(targets, imaged, on, strict=True))


@st.composite
def events(draw: st.DrawFn) -> tuple[list[float], float, list[bool], list[int]]:
    """Scores, "never", images, and the targets that a run or its absence gives, some unknown."""
    length = draw(st.integers(1, 7))
    numbers = st.floats(-8, 8)
    imaged = draw(st.lists(st.booleans(), min_size=length, max_size=length))
    scores = [draw(numbers) if there else 0.0 for there in imaged]
    course = draw(st.sampled_from(list(_courses(scores, 0.0, imaged))))
    targets = [int(course[0] <= t <= course[1] and course != NEVER) for t in range(length)]
    hidden = draw(st.lists(st.booleans(), min_size=length, max_size=length))
    return scores, draw(numbers), imaged, [IGNORE if gone else t for gone, t in zip(hidden, targets, strict=True)]


@given(events())
@settings(deadline=None)
def test_totals_are_those_of_all_courses(event: tuple[list[float], float, list[bool], list[int]]) -> None:
    scores, never, imaged, targets = event
    courses = _courses(scores, never, imaged)
    agreeing = {course: s for course, s in courses.items() if _agrees(course, targets, imaged)}
    for possible, known in ((courses, None), (agreeing, torch.tensor(targets))):
        given = torch.tensor(scores, dtype=torch.double, requires_grad=True)
        total = log_total(given, torch.tensor(never, dtype=torch.double), torch.tensor(imaged), known)
        expected = math.log(sum(map(math.exp, possible.values())))
        assert total.item() == pytest.approx(expected, abs=1e-8)
        # The gradient is the probability of being on.
        total.backward()
        on = [
            sum(math.exp(s - expected) for (first, last), s in possible.items() if first <= t <= last)
            for t in range(len(scores))
        ]
        assert given.grad is not None
        assert given.grad.tolist() == pytest.approx(on, abs=1e-8)


@given(st.lists(st.floats(-8, 8), min_size=1, max_size=8))
@settings(deadline=None)
def test_the_best_run_has_the_largest_sum(scores: list[float]) -> None:
    first, last = best_run(torch.tensor(scores).double())
    sums = _courses(scores, 0.0, [True] * len(scores))
    del sums[NEVER]
    assert sum(scores[first : last + 1]) == pytest.approx(max(sums.values()), abs=1e-9)


@pytest.mark.parametrize("images", [1, 4, 60])
def test_never_is_as_likely_in_a_long_sequence_as_in_a_short_one(images: int) -> None:
    imaged = torch.ones(1, images + 2, dtype=torch.bool)
    imaged[:, [0, -1]] = False
    head = IntervalHead(Sizes(dim=4, read=3), 1.0)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        said = head(
            cast(
                Encoded,
                SimpleNamespace(
                    texts={"event_prompts": torch.ones(1, 1, 4)},
                    look=lambda labels: torch.ones(1, 1, images + 2, 3),
                    batch=SimpleNamespace(image_mask=imaged),
                ),
            )
        )
    assert float((said.never - log_total(said.scores, said.never, imaged)).exp()) == pytest.approx(0.5)


def _fitted(targets: Tensor) -> Tensor:
    """The probability of "never" after learning one score for all from events."""
    scores = torch.zeros(4, requires_grad=True)
    never = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([scores, never], max_iter=100, line_search_fn="strong_wolfe")
    imaged = torch.ones_like(targets, dtype=torch.bool)

    def closure() -> Tensor:
        optimizer.zero_grad()
        s, n = scores.expand(targets.shape), never.expand(len(targets))
        loss = (log_total(s, n, imaged) - log_total(s, n, imaged, targets)).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        return (never - log_total(scores, never, imaged[0])).exp()


def test_never_is_calibrated() -> None:
    """Without anything to tell events apart, the probability of "never" becomes its share, however short the others."""
    short, open_ended = [0, 1, 0, 0], [0, 0, 1, IGNORE]
    targets = torch.tensor([[0, 0, 0, 0]] * 3 + [short] * 4 + [open_ended] * 3)
    assert float(_fitted(targets)) == pytest.approx(0.3, abs=0.01)
