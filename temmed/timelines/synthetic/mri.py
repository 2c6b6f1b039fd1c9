"""Pixels of a synthetic MRI sequence, with the nuisances of the real thing.

Per visit: small rigid motion, a smooth multiplicative bias field, a gain and contrast that belong to the scanner, and
Rician noise. The truth of the findings stays what it was.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from temmed.timelines.synthetic.anatomy import FIELD_OF_VIEW, grid, render_head
from temmed.timelines.synthetic.courses import Course, patient_rng
from temmed.timelines.synthetic.lesions import coverage, log_diameter_error

#: scanner -> (gamma of T1, gamma of FLAIR, noise standard deviation relative to white matter in T1).
SCANNER_TRAITS: dict[str, tuple[float, float, float]] = {
    "1.5T-A": (1.08, 0.94, 0.055),
    "3T-B": (1.00, 1.00, 0.040),
    "3T-C": (0.93, 1.07, 0.045),
}
#: How far around a finding, in mm, an image is touched by it and tells of the background.
SURROUNDINGS = 8.0
#: Stored value of relative intensity 1.
FULL_SCALE = 2000.0


def _rigid(images: NDArray[np.float32], shift: NDArray, angle: float, spacing: float) -> NDArray[np.float32]:
    """Move the image content by ``shift`` (mm along x, y) after turning it by ``angle`` (radians) in plane."""
    cosine, sine = np.cos(angle), np.sin(angle)
    # Index axes are (…, rows, columns) = (…, -y, x).
    turn = np.array([[cosine, sine], [-sine, cosine]])
    matrix = np.eye(images.ndim - 1)
    matrix[-2:, -2:] = turn.T
    centre = (np.array(images.shape[1:]) - 1) / 2
    moved = np.zeros(images.ndim - 1)
    moved[-2:] = np.array([-shift[1], shift[0]]) / spacing
    offset = centre - matrix @ (centre + moved)
    return np.stack([ndimage.affine_transform(image, matrix, offset, order=1, mode="nearest") for image in images])


def _bias_field(rng: np.random.Generator, points: list[NDArray]) -> NDArray[np.float64]:
    """A smooth field around 1, about ±15 %."""
    u = [p / (FIELD_OF_VIEW / 2) for p in points]
    terms = [*u, *(a * a for a in u), u[0] * u[1]]
    return np.exp(sum(w * t for w, t in zip(rng.normal(0, 0.08, len(terms)), terms, strict=True)))


def render_sequence(
    seed: int, course: Course, shape: tuple[int, ...]
) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    """Render all imaged visits of a patient.

    Args:
        seed: of the whole set.
        course: the patient.
        shape: ``(H, W)`` or ``(D, H, W)``.

    Returns:
        Pixels of shape ``(visits, 2, *shape)`` (T1 then FLAIR; imaged visits only, in order), and the least standard
        error of ln(longest diameter) of shape ``(findings, T)``, NaN where there is nothing to measure.
    """
    rng = patient_rng(seed, course.index, 1)
    base = render_head(course.anatomy, shape)
    points = grid(shape)
    spacing = FIELD_OF_VIEW / shape[-1]
    errors = np.full((len(course.findings), len(course.times)), np.nan)
    frames = []
    for position in np.flatnonzero(course.imaged):
        gamma_t1, gamma_flair, sigma = SCANNER_TRAITS[course.scanners[position]]
        shift, angle = rng.normal(0, 1.2, 2), rng.normal(0, np.deg2rad(1.2))
        images = _rigid(base, shift, angle, spacing)
        cosine, sine = np.cos(angle), np.sin(angle)
        x, y = points[0] - shift[0], points[1] - shift[1]
        # Findings are drawn in the head's own frame, so the pixels are turned back into it.
        own = [cosine * x + sine * y, -sine * x + cosine * y, *points[2:]]
        for number, finding in enumerate(course.findings):
            diameter = float(finding.diameters[position])
            if diameter <= 0:
                continue
            reach = diameter / 2 * 1.2 + SURROUNDINGS
            near = np.logical_and.reduce(
                [np.abs(p - c) < reach for p, c in zip(own, finding.look.centre, strict=False)]
            )
            local = [p[near] for p in own]
            cover = coverage(finding.look, diameter, local)
            for channel, contrast in enumerate(finding.look.contrast):
                images[channel][near] += contrast * cover
            errors[number, position] = log_diameter_error(finding.look, diameter, local, (sigma, sigma))
        images = np.clip(images, 0.02, None)
        images[0] **= gamma_t1
        images[1] **= gamma_flair
        gain = rng.uniform(0.85, 1.15)
        for channel in range(2):
            images[channel] *= _bias_field(rng, points)
        real, imaginary = sigma * rng.standard_normal((2, *images.shape), dtype=np.float32)
        frames.append(np.hypot(images + real, imaginary) * gain)
    pixels = np.stack(frames) * FULL_SCALE
    return np.clip(np.rint(pixels), 0, 4095).astype(np.uint16), errors
