"""Everything fitted to data, fitted on the train subset alone and kept with the checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temmed.data.preparation import Preparation
from temmed.data.pretrained_tokenizer import PretrainedTokenizer
from temmed.data.report_vocabulary import ReportVocabulary
from temmed.data.tokenizer import TextTokenizer, Tokenizer
from temmed.errors import InputError
from temmed.timelines.windows import Window


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


@dataclass(frozen=True, order=True)
class Source:
    """One kind of image as the files hold it, and what becomes of it.

    Attributes:
        channel: of the images table; a colour image has one source for each component, such as ``photo.red``.
        windows: those that become channels in its place; none if it is a channel as it is.
    """

    channel: str
    windows: tuple[Window, ...] = ()

    @property
    def channels(self) -> list[tuple[str, Window | None]]:
        """Names of the channels it becomes, and their windows."""
        return [(f"{self.channel}.{window.name}", window) for window in self.windows] or [(self.channel, None)]


@dataclass(frozen=True)
class Fitted:
    """What a model must know of its training data to read other data.

    Attributes:
        tokenizer: how texts become ids: a vocabulary, or what a pretrained text encoder comes with.
        sources: kinds of images, in the order in which batches hold them.
        mean: of each channel.
        deviation: of each channel.
        spatial: size of the images, ``(H, W)`` or ``(D, H, W)``; that of the first image if each keeps its own.
        values: the scale of numeric answers.
        windows: for a modality, the windows that became channels.
        preparation: what every image goes through before the model.
        units: deviation of the pixels of each source, before any window: what random changes in training go by.
        reports: the vocabulary of reports that are written; ``None`` if none are.
        boxes: whether findings are located by boxes.
    """

    tokenizer: TextTokenizer
    sources: tuple[Source, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    spatial: tuple[int, ...]
    values: ValueScale
    windows: dict[str, list[Any]] = field(default_factory=dict)
    preparation: Preparation = field(default_factory=Preparation)
    units: tuple[float, ...] = field(default=(), compare=False)
    reports: ReportVocabulary | None = None
    boxes: bool = False

    @property
    def native(self) -> bool:
        """Whether the images of each sequence keep a size of their own, in place of ``spatial``."""
        return self.preparation.size is None

    @property
    def channels(self) -> tuple[str, ...]:
        """Channels of the images that a model is given, in their order."""
        return tuple(sorted({name for source in self.sources for name, _ in source.channels}))

    @property
    def plan(self) -> tuple[tuple[int, int, Window | None], ...]:
        """Which channel is made from which source, through which window."""
        number = {name: n for n, name in enumerate(self.channels)}
        return tuple((number[name], n, w) for n, source in enumerate(self.sources) for name, w in source.channels)

    def after(self, former: Fitted) -> Fitted:
        """The same for a model that was trained on other data before, so that what it has learned keeps its meaning.

        Words keep the ids they had, new ones come after them, and values keep their scale. Channels, their mean and
        deviation are those of these data.

        Raises:
            InputError: texts become ids in different ways.
        """
        tokenizer = self.tokenizer
        if isinstance(tokenizer, Tokenizer) and isinstance(former.tokenizer, Tokenizer):
            tokenizer = former.tokenizer.extended(tokenizer.words)
        elif tokenizer != former.tokenizer:
            raise InputError(
                "the text encoder of the checkpoint to start from", "another", "model.text", "Choose the same one."
            )
        return replace(self, tokenizer=tokenizer, values=former.values, reports=former.reports or self.reports)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for a checkpoint."""
        sources = [
            {"channel": source.channel, "windows": [list(window) for window in source.windows]}
            for source in self.sources
        ]
        return {
            **asdict(replace(self, tokenizer=Tokenizer(()))),
            "tokenizer": self.tokenizer.to_state(),
            "sources": sources,
            "preparation": self.preparation.to_dict(),
        }

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Fitted:
        """The inverse of `to_dict`."""
        return cls(
            tokenizer=_tokenizer(saved["tokenizer"]),
            sources=tuple(
                Source(source["channel"], tuple(Window(*window) for window in source["windows"]))
                for source in saved["sources"]
            ),
            mean=tuple(saved["mean"]),
            deviation=tuple(saved["deviation"]),
            spatial=tuple(saved["spatial"]),
            values=ValueScale(**saved["values"]),
            windows=saved["windows"],
            preparation=Preparation.from_dict(saved["preparation"]),
            units=tuple(saved["units"]),
            reports=None if saved["reports"] is None else ReportVocabulary(**saved["reports"]),
            boxes=saved["boxes"],
        )


def _tokenizer(state: Any) -> TextTokenizer:
    """The inverse of `TextTokenizer.to_state`."""
    return PretrainedTokenizer(**state) if isinstance(state, dict) else Tokenizer(tuple(state))


def training_texts(questions: pd.DataFrame, events: pd.DataFrame, texts: pd.Series) -> list[str]:
    """All texts a tokenizer is fitted on: prompts, choices, event labels, reports and statements."""
    found = questions["prompt"].tolist() + events["label"].dropna().tolist() + texts.dropna().tolist()
    for choices in questions["choices"]:
        if choices is not None and not isinstance(choices, float):
            found.extend(choices)
    return found
