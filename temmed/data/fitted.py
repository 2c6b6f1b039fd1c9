"""Everything fitted to data, fitted on the train subset alone and kept with the checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temmed.data.tokenizer import Tokenizer


@dataclass(frozen=True)
class ValueScale:
    """Maps values to about unit variance, through the logarithm where all training values are positive.

    Attributes:
        logarithm: whether the logarithm is taken first.
        mean: of the training values, after it.
        deviation: their standard deviation.
    """

    logarithm: bool
    mean: float
    deviation: float

    @classmethod
    def fit(cls, values: NDArray[np.float64]) -> ValueScale:
        """Fit to values, which may hold NaN for "no value"."""
        values = values[np.isfinite(values)]
        if not len(values):
            return cls(False, 0.0, 1.0)
        logarithm = bool((values > 0).all())
        used = np.log(values) if logarithm else values
        return cls(logarithm, float(used.mean()), float(used.std()) or 1.0)

    def forward(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """From the unit of the data to the fitted scale; NaN stays NaN, as do values ≤ 0 under a logarithm."""
        if self.logarithm:
            values = np.log(np.where(values > 0, values, np.nan))
        return (values - self.mean) / self.deviation

    def inverse(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Back to the unit of the data."""
        values = values * self.deviation + self.mean
        return np.exp(values) if self.logarithm else values


@dataclass(frozen=True)
class Fitted:
    """What a model must know of its training data to read other data.

    Attributes:
        tokenizer: the vocabulary.
        channels: image channels, in the order of the tensor; a colour channel is given as its components.
        mean: of each channel.
        deviation: of each channel.
        spatial: size of the images, ``(H, W)`` or ``(D, H, W)``.
        values: the scale of numeric answers.
        windows: for a modality, the windows that became channels.
    """

    tokenizer: Tokenizer
    channels: tuple[str, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    spatial: tuple[int, ...]
    values: ValueScale
    windows: dict[str, list[Any]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for a checkpoint."""
        return {**asdict(self), "tokenizer": list(self.tokenizer.words)}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Fitted:
        """The inverse of `to_dict`."""
        return cls(
            tokenizer=Tokenizer(tuple(saved["tokenizer"])),
            channels=tuple(saved["channels"]),
            mean=tuple(saved["mean"]),
            deviation=tuple(saved["deviation"]),
            spatial=tuple(saved["spatial"]),
            values=ValueScale(**saved["values"]),
            windows=saved.get("windows", {}),
        )


def training_texts(questions: pd.DataFrame, events: pd.DataFrame, texts: pd.Series) -> list[str]:
    """All texts a tokenizer is fitted on: prompts, choices, event labels, reports and statements."""
    found = questions["prompt"].tolist() + events["label"].dropna().tolist() + texts.dropna().tolist()
    for choices in questions["choices"]:
        if choices is not None and not isinstance(choices, float):
            found.extend(choices)
    return found
