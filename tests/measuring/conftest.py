"""The measurers of the YAML, and pictures of known truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from omegaconf import OmegaConf

from temmed.config.paths import conf_dir
from temmed.measuring.segment import Segmenter, Sizes, Target
from temmed.measuring.ventricle import Ventricle

#: Pixels along each side, and their size in mm for a field of view of 192 mm.
SIDE, SPACING = 64, 3.0


@pytest.fixture(scope="session")
def segmenter() -> Segmenter:
    """As `model=measure` has it for MRI."""
    return Segmenter(**_arguments("mri"))


@pytest.fixture(scope="session")
def ventricle() -> Ventricle:
    """As it has it for ultrasound."""
    return Ventricle(**_arguments("ultrasound"))


def _arguments(modality: str) -> dict[str, Any]:
    loaded = OmegaConf.to_container(OmegaConf.load(Path(conf_dir()) / "model" / "measure.yaml"))
    assert isinstance(loaded, dict)
    return {key: value for key, value in loaded["measure"][modality].items() if key != "_target_"}


@pytest.fixture(scope="session")
def nodule() -> Target:
    """Bright in both channels."""
    return Target("enhancing nodule", "left frontal lobe")


@pytest.fixture(scope="session")
def picture(segmenter: Segmenter, nodule: Target) -> Callable[..., dict[str, NDArray[np.float64]]]:
    """``picture(diameter, aspect=, angle=, shift=, noise=, seed=)``: an ellipse, by area, on a slope, in two channels.

    Pixels are means over 15 × 15 points in them, which is how the drawing differs from the fitted model.
    """
    row, column = segmenter.regions[nodule.location]

    def draw(
        diameter: float,
        *,
        aspect: float = 1.0,
        angle: float = 0.0,
        shift: tuple[float, float] = (0.0, 0.0),
        noise: float = 0.0,
        seed: int = 0,
        contrast: tuple[float, float] = (0.4, 0.3),
        side: int = SIDE,
    ) -> dict[str, NDArray[np.float64]]:
        fine = side * 15
        line = (np.arange(fine) + 0.5) * SIDE * SPACING / fine
        x = line[None, :] - column * SIDE * SPACING - shift[0]
        y = line[:, None] - row * SIDE * SPACING - shift[1]
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        inside = np.hypot(along * np.sqrt(aspect), across / np.sqrt(aspect)) < diameter / 2
        cover = inside.reshape(side, 15, side, 15).mean(axis=(1, 3))
        slope = np.linspace(-0.2, 0.2, side)[None, :]
        rng = np.random.default_rng(seed)
        return {
            channel: 0.6 + slope + strength * cover + noise * rng.standard_normal((side, side))
            for channel, strength in zip(("t1", "flair"), contrast, strict=True)
        }

    return draw


@pytest.fixture
def sizes() -> Callable[..., Sizes]:
    """``sizes({position: diameter})``; 0 for an image without the finding."""

    def make(diameters: dict[int, float], sd: float = 0.02) -> Sizes:
        diameter = np.array(list(diameters.values()), dtype=float)
        return Sizes(
            np.array(list(diameters)), diameter > 0, diameter, np.full(len(diameter), 1.1), np.full(len(diameter), sd)
        )

    return make
