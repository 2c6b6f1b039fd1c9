"""Shapes of findings and the precision with which their size can be known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares

from temmed.timelines.synthetic.lesions import Look, coverage, log_diameter_error, longest_chord

_LOOK = Look((2.0, -3.0, 0.0), 0.8, 0.6, 0.05, 1.0, (-0.25, 0.35))


def _patch(side: int = 15, spacing: float = 3.0) -> list[np.ndarray]:
    line = (np.arange(side) - (side - 1) / 2) * spacing
    return [_LOOK.centre[0] + np.tile(line, (side, 1)), _LOOK.centre[1] + np.tile(line[:, None], (1, side))]


def test_longest_diameter_is_what_was_asked_for() -> None:
    line = np.linspace(-20, 20, 801)
    points = [_LOOK.centre[0] + np.tile(line, (801, 1)), _LOOK.centre[1] + np.tile(line[:, None], (1, 801))]
    inside = coverage(_LOOK, 18.0, points) > 0.5
    x, y = points[0][inside] - _LOOK.centre[0], points[1][inside] - _LOOK.centre[1]
    angle = np.rad2deg(np.arctan2(y, x)) % 360
    profile = np.zeros(360)
    np.maximum.at(profile, angle.astype(int), np.hypot(x, y))
    radius = profile[:180] + profile[180:]
    assert radius.max() == pytest.approx(18.0, rel=0.02)


def test_plain_ellipse_has_chord_two() -> None:
    assert longest_chord(Look((0, 0, 0), 0.7, 0.3, 0.0, 0.0, (0.1, 0.1))) == pytest.approx(2.0)


def test_absent_finding_covers_nothing() -> None:
    assert not coverage(_LOOK, 0.0, _patch()).any()


def test_volume_shrinks_towards_its_poles() -> None:
    flat = _patch()
    middle, off = (coverage(_LOOK, 20.0, [*flat, np.full_like(flat[0], z)]).sum() for z in (0.0, 6.0))
    assert 0 < off < middle


@pytest.mark.parametrize("diameter", [7.0, 15.0, 30.0])
def test_error_is_positive_and_falls_with_less_noise(diameter: float) -> None:
    coarse, fine = (log_diameter_error(_LOOK, diameter, _patch(), (sigma, sigma)) for sigma in (0.05, 0.025))
    assert fine > 0
    assert fine == pytest.approx(coarse / 2, rel=1e-6)


def test_error_falls_with_size_and_contrast() -> None:
    noise = (0.05, 0.05)
    faint = Look(_LOOK.centre, _LOOK.aspect, _LOOK.angle, _LOOK.lobes, _LOOK.phase, (-0.1, 0.1))
    assert log_diameter_error(_LOOK, 20.0, _patch(), noise) < log_diameter_error(_LOOK, 8.0, _patch(), noise)
    assert log_diameter_error(_LOOK, 12.0, _patch(), noise) < log_diameter_error(faint, 12.0, _patch(), noise)


def test_error_agrees_with_maximum_likelihood_on_simulated_images() -> None:
    diameter, sigma = 14.0, 0.05
    points = _patch()
    clean = [c * coverage(_LOOK, diameter, points) for c in _LOOK.contrast]
    rng = np.random.default_rng(0)

    def residuals(theta: np.ndarray, images: list[np.ndarray]) -> np.ndarray:
        cover = coverage(_LOOK, float(np.exp(theta[0])), points, float(np.exp(theta[1])))
        parts = [theta[2 + c] * cover + theta[4 + c] - image for c, image in enumerate(images)]
        return np.concatenate([part.ravel() for part in parts]) / sigma

    start = np.array([np.log(diameter), 0.0, *_LOOK.contrast, 0.0, 0.0])
    found = []
    for _ in range(80):
        images = [image + rng.normal(0, sigma, image.shape) for image in clean]
        found.append(least_squares(residuals, start, args=(images,), method="lm").x[0])
    bound = log_diameter_error(_LOOK, diameter, points, (sigma, sigma))
    # The deviation of 80 draws is known to 8 %.
    assert np.std(found) == pytest.approx(bound, rel=0.3)
    assert np.mean(found) == pytest.approx(np.log(diameter), abs=0.4 * bound)


def test_nothing_is_drawn_beyond_the_poles_of_a_spheroid() -> None:
    look = Look((0.0, 0.0, 0.0), aspect=0.8, angle=0.0, lobes=0.0, phase=0.0, contrast=(1.0,))
    height = np.array([0.0, 4.0, 8.0, 12.0])
    inside = coverage(look, 10.0, [np.zeros(4), np.zeros(4), height])
    # The poles are at 4 mm.
    assert inside[0] > 0.99
    assert inside[1] == pytest.approx(0.5)
    assert inside[2:].max() < 0.01
