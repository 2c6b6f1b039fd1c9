"""Beats of courses of known phases."""

from __future__ import annotations

import numpy as np
import pytest

from temmed.measuring.beats import ejection_fraction, find_beats
from temmed.timelines.synthetic.loops import draw_loop


def test_beats_are_those_of_drawn_loops() -> None:
    """The generator knows the phase of every frame; here there is the diameter alone."""
    same, first, fractions = [], [], []
    for index in range(400):
        loop = draw_loop(3, index)
        found = find_beats(loop.diameters)
        told = [(beat.diastole, beat.systole) for beat in loop.beats]
        same.append([tuple(beat) for beat in found] == told)
        if told and found:
            first.append(tuple(found[0]) == told[0])
            full, empty = loop.diameters[[found[0].diastole, found[0].systole]]
            fractions.append(ejection_fraction(full, empty) - loop.ejection_fraction)
    assert np.mean(same) > 0.85
    assert np.mean(first) > 0.9
    # The generator takes the length from the fullest of all beats.
    assert np.median(np.abs(fractions)) < 0.5


@pytest.mark.parametrize("diameter", [np.zeros(0), np.full(30, 40.0), np.linspace(50.0, 40.0, 20), np.ones(2)])
def test_without_a_beat_there_is_none(diameter: np.ndarray) -> None:
    assert find_beats(diameter) == []


def test_small_wobbles_are_no_beats() -> None:
    frames = np.arange(48)
    beating = 50 + 5 * np.cos(frames * np.pi / 8)
    wobbling = beating + 0.5 * np.cos(2.5 * frames)
    assert len(find_beats(wobbling)) == len(find_beats(beating)) == 2


def test_the_ejection_fraction_of_an_ellipsoid() -> None:
    assert ejection_fraction(50.0, 50.0) == 0.0
    # Diameter to a half, length to 1 - 0.45 / 2: a volume of 0.25 × 0.775.
    assert ejection_fraction(60.0, 30.0) == pytest.approx(80.625)
