"""Fit a soft-edged ellipse on a sloping background to many small windows of images at once.

In each channel a window is taken to be ``level + slope · p + contrast · cover(p)`` plus noise. Only ``cover``, how much
of a pixel the finding covers, is shared by the channels: 1 inside an ellipse, 0 outside, with an edge that fades. Its
five parameters are found by damped Gauss-Newton steps, the linear ones are solved for at each of them (variable
projection). Pixels far from the finding count nothing, and pixels that fit badly little (Huber's weights), so that
other structures do not pull at the outline. What comes out is below the size of a pixel, as the edge is not counted
but fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Number of parameters of the outline: centre x and y, ln of the equivalent radius, and two of the elongation.
_SHAPE = 5
#: Edge widths that the fit goes through, in multiples of the given one: a wide edge feels the outline from afar.
_STAGES = (2.7, 1.8, 1.0)
_STEPS = 5
_REWEIGHTINGS = 2
#: Largest step in each parameter (mm, mm, ln, 1, 1), and bound of the elongation parameters' length.
_LARGEST_STEP = np.array([2.0, 2.0, 0.3, 0.2, 0.2])
_MOST_ELONGATED = 0.6
#: Standard deviation of the elongation parameters around a circle, which steadies the fit of the smallest findings.
_ROUNDNESS = 0.12
#: Huber's constant, in robust standard deviations.
_HUBER = 2.5
#: The least noise taken to be there, relative to the range of a window: images without any noise can be fitted too.
_LEAST_NOISE = 1e-3


@dataclass(frozen=True)
class Fit:
    """Fitted ellipses, one per window.

    Attributes:
        offset: of the centre from the place it was looked for at, in mm, (B, 2).
        diameter: of the circle of the same area, in mm, (B,).
        elongation: longest axis over the diameter, (B,).
        log_diameter_sd: standard error of ln(diameter) by the scatter of the residuals, (B,).
        contrast: finding minus background in each channel, in robust standard deviations of the residuals, (B, C).
        residual: mean over the channels of ln(robust standard deviation of the residuals), (B,).
    """

    offset: Floats
    diameter: Floats
    elongation: Floats
    log_diameter_sd: Floats
    contrast: Floats
    residual: Floats


def fit_ellipses(
    windows: Floats,
    points: Floats,
    places: Floats,
    *,
    start: float,
    sizes: Sequence[float],
    edge: float,
    place_sd: float,
    surroundings: float,
) -> Fit:
    """Fit one ellipse per window.

    Args:
        windows: intensities (B, C, P); NaN where there is no pixel or no such channel.
        points: of the pixels, in mm, (P, 2).
        places: where the finding is expected, in mm, (B, 2).
        start: diameter in mm that the fit starts from.
        sizes: least and largest equivalent diameter in mm.
        edge: width in mm over which the margin fades (of a logistic curve).
        place_sd: how far from its place a finding usually lies, in mm.
        surroundings: how far around the outline, in mm, the background is looked at.
    """
    there = np.isfinite(windows)
    # Around its own mean, so that the tiny ridge of the linear fit does not depend on the zero of the intensities.
    mean = np.where(there, windows, 0.0).sum(axis=2) / np.maximum(there.sum(axis=2), 1)
    values = np.where(there, windows - mean[..., None], 0.0)
    centred = np.concatenate([places, np.zeros((len(places), 3))], axis=1)
    precision = np.array([1 / place_sd**2, 1 / place_sd**2, 0.0, 1 / _ROUNDNESS**2, 1 / _ROUNDNESS**2])
    bounds = np.log(np.asarray(sizes, dtype=float) / 2)
    span = np.where(there, windows, -np.inf).max(axis=2) - np.where(there, windows, np.inf).min(axis=2)
    floor = np.maximum(_LEAST_NOISE * np.where(np.isfinite(span), span, 0.0), np.finfo(float).tiny ** 0.25)
    shape = centred.copy()
    shape[:, 2] = np.log(start / 2)
    damping = np.full(len(shape), 1e-2)
    for stage in _STAGES:
        width = stage * edge
        near = _nearness(shape, points, surroundings)[:, None] * there
        weights = near
        for _ in range(_REWEIGHTINGS):
            cover = _cover(shape, points, width)
            *_, contrast, residuals = _solve(cover, points, values, weights)
            noise = np.maximum(1.4826 * _weighted_median(np.abs(residuals), near), floor)
            weights = near * np.minimum(1.0, _HUBER * noise[..., None] / np.maximum(np.abs(residuals), 1e-300))
        weights = weights / noise[..., None] ** 2

        def cost(trial: Floats, width: float = width, weights: Floats = weights) -> Floats:
            residuals = _solve(_cover(trial, points, width), points, values, weights)[-1]
            return (weights * residuals**2).sum((1, 2)) + (precision * (trial - centred) ** 2).sum(1)

        now = cost(shape)
        for _ in range(_STEPS):
            information, gradient = _normal_equations(shape, points, values, weights, width)
            information += np.diag(precision)
            gradient -= precision * (shape - centred)
            diagonal = np.einsum("bkk->bk", information)
            damped = information + (damping[:, None] * diagonal + 1e-9)[:, :, None] * np.eye(_SHAPE)
            step = np.linalg.solve(damped, gradient[..., None])[..., 0]
            trial = _bounded(shape + np.clip(step, -_LARGEST_STEP, _LARGEST_STEP), bounds)
            then = cost(trial)
            better = then < now
            shape, now = np.where(better[:, None], trial, shape), np.where(better, then, now)
            damping = np.where(better, 0.3, 5.0) * damping
    information, _ = _normal_equations(shape, points, values, weights, edge)
    covariance = np.linalg.inv(information + np.diag(precision) + 1e-9 * np.eye(_SHAPE))
    length = np.hypot(shape[:, 3], shape[:, 4])
    seen = there.any(axis=2)
    return Fit(
        offset=shape[:, :2] - places,
        diameter=2 * np.exp(shape[:, 2]),
        elongation=np.sqrt((1 + length) / (1 - length)),
        log_diameter_sd=np.sqrt(covariance[:, 2, 2]),
        contrast=np.where(seen, contrast / noise, np.nan),
        residual=np.where(seen, np.log(noise), 0.0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1),
    )


def _bounded(shape: Floats, bounds: Floats) -> Floats:
    length = np.hypot(shape[:, 3], shape[:, 4])
    shrink = np.minimum(1.0, _MOST_ELONGATED / np.maximum(length, 1e-12))
    size = np.clip(shape[:, 2], *bounds)
    return np.stack([shape[:, 0], shape[:, 1], size, shape[:, 3] * shrink, shape[:, 4] * shrink], axis=1)


def _nearness(shape: Floats, points: Floats, surroundings: float) -> Floats:
    """1 in and around the finding, 0 beyond ``surroundings``, with a soft bound; (B, P)."""
    distance = np.hypot(*np.moveaxis(points[None] - shape[:, None, :2], -1, 0))
    reach = 1.1 * np.exp(shape[:, 2]) + surroundings
    return np.clip((reach[:, None] - distance) / 3 + 0.5, 0.0, 1.0)


def _cover(shape: Floats, points: Floats, width: float) -> Floats:
    return _logistic(_signed_distance(shape, points)[0] / width)


def _logistic(depth: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(np.clip(depth, -40.0, 40.0)))


def _signed_distance(shape: Floats, points: Floats) -> tuple[Floats, ...]:
    """Distance from the outline along the ray from the centre, negative inside, and what its derivative is made of.

    The ellipse is the set where |M d| is the equivalent radius, d from the centre, M = ((1 + u, v), (v, 1 - u)) / n and
    n = √(1 - u² - v²), so that M has determinant 1: u and v change the shape and never the area.
    """
    dx, dy = np.moveaxis(points[None] - shape[:, None, :2], -1, 0)
    radius, u, v = np.exp(shape[:, 2])[:, None], shape[:, 3][:, None], shape[:, 4][:, None]
    n = np.sqrt(1 - u**2 - v**2)
    qx, qy = ((1 + u) * dx + v * dy) / n, (v * dx + (1 - u) * dy) / n
    rho = np.hypot(qx, qy) + 1e-9
    r = np.hypot(dx, dy) + 1e-9
    return r * (1 - radius / rho), dx, dy, qx, qy, rho, r, radius, u, v, n


def _derivatives(shape: Floats, points: Floats, width: float) -> tuple[Floats, Floats]:
    """The cover (B, P) and its derivatives by the parameters (B, P, 5)."""
    distance, dx, dy, qx, qy, rho, r, radius, u, v, n = _signed_distance(shape, points)
    along, outward = radius * r / rho**3, (1 - radius / rho) / r
    by_x = outward * dx + along * ((1 + u) * qx + v * qy) / n
    by_y = outward * dy + along * (v * qx + (1 - u) * qy) / n
    by_size = -radius * r / rho
    by_u = along * ((qx * dx - qy * dy) / n + rho**2 * u / n**2)
    by_v = along * ((qx * dy + qy * dx) / n + rho**2 * v / n**2)
    cover = _logistic(distance / width)
    slope = -cover * (1 - cover) / width
    return cover, np.stack([-by_x, -by_y, by_size, by_u, by_v], axis=-1) * slope[..., None]


def _solve(cover: Floats, points: Floats, values: Floats, weights: Floats) -> tuple[Floats, ...]:
    """Weighted least squares for level, slopes and contrast in each channel.

    Returns:
        The design (B, P, 4), itself times the weights (B, C, P, 4), the normal matrix (B, C, 4, 4), the contrast
        (B, C) and the residuals (B, C, P).
    """
    ones = np.ones_like(cover)
    design = np.stack([ones, ones * points[:, 0] / 10, ones * points[:, 1] / 10, cover], axis=-1)
    weighted = design[:, None] * weights[..., None]
    normal = np.swapaxes(weighted, -1, -2) @ design[:, None]
    ridge = 1e-6 * np.trace(normal, axis1=-2, axis2=-1) + 1e-300
    normal = normal + ridge[..., None, None] * np.eye(4)
    linear = np.linalg.solve(normal, np.swapaxes(weighted, -1, -2) @ values[..., None])
    residuals = values - (design[:, None] @ linear)[..., 0]
    return design, weighted, normal, linear[..., 3, 0], residuals


def _normal_equations(
    shape: Floats, points: Floats, values: Floats, weights: Floats, width: float
) -> tuple[Floats, Floats]:
    """Information matrix (B, 5, 5) and gradient (B, 5) of the outline, the linear parameters projected out."""
    cover, derivatives = _derivatives(shape, points, width)
    design, weighted, normal, contrast, residuals = _solve(cover, points, values, weights)
    information, gradient = np.zeros((len(shape), _SHAPE, _SHAPE)), np.zeros((len(shape), _SHAPE))
    for channel in range(values.shape[1]):
        explained = np.linalg.solve(normal[:, channel], np.swapaxes(weighted[:, channel], -1, -2) @ derivatives)
        jacobian = contrast[:, channel, None, None] * (derivatives - design @ explained)
        scaled = np.swapaxes(jacobian * weights[:, channel, :, None], -1, -2)
        information += scaled @ jacobian
        gradient += (scaled @ residuals[:, channel, :, None])[..., 0]
    return information, gradient


def _weighted_median(values: Floats, weights: Floats) -> Floats:
    """Over the last axis."""
    order = np.argsort(values, axis=-1)
    cumulated = np.take_along_axis(weights, order, -1).cumsum(axis=-1)
    middle = (cumulated >= cumulated[..., -1:] / 2).argmax(axis=-1)
    return np.take_along_axis(np.take_along_axis(values, order, -1), middle[..., None], -1)[..., 0]
