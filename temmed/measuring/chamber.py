"""Fit the outline of the left ventricle to many frames of the apical four-chamber view at once.

A frame is taken to show five tissues with one grey value each: the cavities of the left heart, those of the right
heart, muscle, pericardium, and what lies around. Greys are those of log-compressed echoes. The left ventricle is a
bullet, half an ellipse at the apex with sides that run in a little towards the valves; the other structures follow
from it. Its parameters are found by damped Gauss-Newton steps, near to what is usual; the greys are solved for at each
step (variable projection). Pixels that fit badly, such as valves, count little (Huber's weights).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]  # single precision where there is one value for each pixel, else double

#: Parameters of an outline, in this order: ln of the short diameter in mm, ln of the length in mm, thickness of the
#: wall in mm, depth of the apex in mm, tilt of the axis in radians, and width of the right ventricle in mm.
PARAMETERS = ("diameter", "length", "wall", "apex", "tilt", "right")
LEFT, RIGHT, MUSCLE, PERICARDIUM, AROUND = range(5)
#: The step of the numerical derivatives, and the largest step of the fit, in each parameter.
_DELTA = np.array([0.01, 0.01, 0.3, 0.5, 0.01, 0.5])
_LARGEST = np.array([0.15, 0.08, 2.0, 4.0, 0.08, 5.0])
#: Where the half ellipse ends, as a share of the length, and how much the sides run in from there.
_WIDEST, _RUN_IN = 0.62, 1.14
_REWEIGHTINGS, _STEPS = 2, 5
_HUBER = 2.0
_LEAST_NOISE = 1e-3


class Outlines(NamedTuple):
    """Fitted outlines, one per frame.

    Attributes:
        parameters: in the order of `PARAMETERS`, (B, 6).
        sd: their standard errors by the scatter of the residuals, (B, 6).
        greys: of the tissues `LEFT` … `AROUND`, (B, 5).
    """

    parameters: Floats
    sd: Floats
    greys: Floats


def fit_outlines(
    frames: Floats, points: Floats, *, usual: Floats, spread: Floats, origin: float, edge: float, grain: float
) -> Outlines:
    """Fit one outline per frame, every frame by itself.

    Args:
        frames: grey values, (B, P).
        points: of the pixels, in mm from the probe: to the right, and depth; (P, 2).
        usual: parameters that the fit starts from and stays near to, (6,).
        spread: their usual standard deviation, (6,).
        origin: how far to the right of the probe the apex lies, in mm.
        edge: width in mm over which the margin of a tissue fades.
        grain: pixels that one grain of speckle covers: so many tell no more than one.
    """
    values, places = frames.astype(np.float32), points.astype(np.float32)
    precision = grain / spread**2
    shape = np.tile(usual, (len(frames), 1)).astype(float)
    damping = np.full(len(shape), 1e-2)
    weights = np.ones_like(values)
    information: Floats = np.zeros((len(shape), len(usual), len(usual)))

    def cost(trial: Floats) -> Floats:
        residuals = _solve(tissues(trial, places, origin, edge), values, weights)[1]
        return (weights * residuals**2).sum(axis=1) + (precision * (trial - usual) ** 2).sum(axis=1)

    for _ in range(_REWEIGHTINGS):
        residuals = _solve(tissues(shape, places, origin, edge), values, weights)[1]
        size = np.abs(residuals)
        noise = np.maximum(1.4826 * np.median(size, axis=1, keepdims=True), _LEAST_NOISE)
        weights = np.minimum(1.0, _HUBER * noise / np.maximum(size, _LEAST_NOISE)) / noise**2
        now = cost(shape)
        for _ in range(_STEPS):
            information, gradient = _normal_equations(shape, places, values, weights, origin, edge)
            information += np.diag(precision)
            gradient -= precision * (shape - usual)
            damped = information + (damping[:, None] * np.einsum("bkk->bk", information))[:, :, None] * np.eye(6)
            step = np.linalg.solve(damped, gradient[..., None])[..., 0]
            trial = shape + np.clip(step, -_LARGEST, _LARGEST)
            then = cost(trial)
            better = then < now
            shape, now = np.where(better[:, None], trial, shape), np.where(better, then, now)
            damping = np.where(better, 0.3, 5.0) * damping
    variance = np.einsum("bkk->bk", np.linalg.inv(information)) * grain
    greys = _solve(tissues(shape, places, origin, edge), values, weights)[0]
    return Outlines(shape, np.sqrt(variance), greys)


def tissues(shape: Floats, points: Floats, origin: float, edge: float) -> Floats:
    """The share of each tissue in each pixel, (B, P, 5), summing to 1; arguments as of `fit_outlines`."""
    diameter, length, wall, apex, tilt, right = (column[:, None].astype(points.dtype) for column in shape.T)
    half, length = np.exp(diameter) / 2, np.exp(length)
    x, depth = points[:, 0] - points.dtype.type(origin), points[:, 1] - apex
    across, along = np.cos(tilt) * x - np.sin(tilt) * depth, np.sin(tilt) * x + np.cos(tilt) * depth
    middle = -half - wall - right / 2 + 3  # of the right ventricle
    outer = _bullet(across, along + 0.8 * wall, half + wall, length + 1.6 * wall, edge)
    rim = _bullet(across, along + wall + 2.5, half + wall + 3, length + 2 * wall + 2.5, edge) - outer
    rim = np.clip(rim, 0, 1) * _within(-across, 8.0) * _within(along - length - 10, 8.0)
    shares = np.zeros((*across.shape, 5), points.dtype)
    shares[..., AROUND] = 1.0
    for tissue, cover in (
        (MUSCLE, _ellipse(across + 16, along - length - 24, 50.0, 32.0, edge)),  # around the atria
        (MUSCLE, _ellipse(across - middle, along - 0.6 * length, right / 2 + 5, 0.42 * length + 5, edge)),
        (MUSCLE, outer),
        (PERICARDIUM, rim),
        (RIGHT, _ellipse(across - middle, along - 0.6 * length, right / 2, 0.42 * length, edge)),
        (LEFT, _ellipse(across - 2, along - length - 26, 21.0, 24.0, edge)),  # atria
        (RIGHT, _ellipse(across + half + wall + 16, along - length - 24, 20.0, 22.0, edge)),
        (LEFT, _bullet(across, along, half, length, edge)),
    ):
        shares *= 1 - cover[..., None]
        shares[..., tissue] += cover
    return shares


def _within(distance: Floats, edge: float) -> Floats:
    """1 where the signed distance is well below 0, 0 well above."""
    return 0.5 - 0.5 * np.tanh(distance * np.float32(2 / edge))


def _bullet(across: Floats, along: Floats, half: Floats, length: Floats, edge: float) -> Floats:
    share = along / length
    rounded = np.sqrt(np.clip(1 - np.clip(1 - share / _WIDEST, 0, 1) ** 2, 0, 1))
    width = half * rounded * (1 - _RUN_IN * np.clip(share - _WIDEST, 0, None) ** 2)
    return _within(np.abs(across) - width, edge) * _within(np.abs(along - length / 2) - length / 2, edge)


def _ellipse(x: Floats, y: Floats, wide: Floats | float, high: Floats | float, edge: float) -> Floats:
    return _within((np.hypot(x / wide, y / high) - 1) * np.minimum(wide, high), edge)


def _normal_matrix(shares: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """The weighted shares, turned (B, 5, P), and the normal matrix of the greys (B, 5, 5) with a tiny ridge."""
    weighted = np.swapaxes(shares * weights[..., None], 1, 2)
    normal = (weighted @ shares).astype(float)
    ridge = 1e-5 * np.trace(normal, axis1=1, axis2=2) + 1e-12
    return weighted, normal + ridge[:, None, None] * np.eye(5)


def _solve(shares: Floats, values: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Greys (B, 5) by weighted least squares, and the residuals (B, P)."""
    weighted, normal = _normal_matrix(shares, weights)
    greys = np.linalg.solve(normal, weighted @ values[..., None])[..., 0]
    return greys, values - (shares @ greys[..., None].astype(values.dtype))[..., 0]


def _normal_equations(
    shape: Floats, points: Floats, values: Floats, weights: Floats, origin: float, edge: float
) -> tuple[Floats, Floats]:
    """Information matrix (B, 6, 6) and gradient (B, 6) of the outline, the greys projected out."""
    shares = tissues(shape, points, origin, edge)
    greys, residuals = _solve(shares, values, weights)
    moved = []
    for number, delta in enumerate(_DELTA):
        step = delta * np.eye(len(_DELTA))[number]
        change = tissues(shape + step, points, origin, edge) - shares
        moved.append((change @ greys[..., None].astype(values.dtype))[..., 0] / delta)
    jacobian = np.stack(moved, axis=-1).astype(values.dtype)
    weighted, normal = _normal_matrix(shares, weights)
    jacobian -= shares @ np.linalg.solve(normal, weighted @ jacobian).astype(values.dtype)
    scaled = np.swapaxes(jacobian * weights[..., None], 1, 2)
    return (scaled @ jacobian).astype(float), (scaled @ residuals[..., None])[..., 0].astype(float)
