"""What is learnt of the train subset before training: vocabulary, channels, normalisation, scale of values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from temmed.data.fitted import Fitted, Source, ValueScale, training_texts
from temmed.data.images import ImageSource, PreparedImages
from temmed.data.preparation import Preparation
from temmed.data.tokenizer import TextTokenizer, Tokenizer
from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split

#: Sequences from which the mean and deviation of the channels are estimated.
_SAMPLE = 200
#: Most slices of a volume that a model is given.
_MOST_SLICES = 32


def fit(
    timeline: Timeline,
    split: Split,
    size: int | Sequence[int] | None,
    windows: Mapping[str, Any] | None = None,
    steps: Preparation | None = None,
    motions: Path | None = None,
    tokenizer: TextTokenizer | None = None,
) -> Fitted:
    """Fit vocabulary, channels, normalisation and the scale of values to the train subset.

    Args:
        timeline: the data.
        split: whose train subset is used, and nothing else.
        size: of the images a model is given: along rows and columns, or along every axis; ``None`` leaves each
            sequence its own.
        windows: for a modality, the windows that become channels.
        steps: what else images go through; its own size is not looked at.
        motions: a folder that keeps how follow-ups are moved onto the first visit.
        tokenizer: what a pretrained text encoder comes with, in place of a vocabulary.

    Raises:
        InputError: the train subset has no images, or they do not allow the steps.
    """
    owned = split.sequences("train")
    last = dict(zip(owned["sequence_id"], owned["last_asked"], strict=True))
    texts = [timeline.table("statements"), timeline.table("reports")]
    # Comparison with the NaN of other subsets' sequences is false.
    of_train = [table[table["position"] <= table["sequence_id"].map(last).astype(float)]["text"] for table in texts]
    events = timeline.table("events")
    questions = split.questions(timeline, "train")
    if tokenizer is None:
        tokenizer = Tokenizer.fit(
            text
            for column in of_train
            for text in training_texts(questions, events[events["sequence_id"].isin(last)], column)
        )
    values = questions["value"].to_numpy(dtype=float, na_value=np.nan)
    source = ImageSource(timeline, windows)
    imaged = [key for key in sorted(last) if source.positions(key) and source.positions(key)[0] <= last[key]]
    if not imaged:
        raise InputError(
            "images in the train subset", "none", str(source.root), "Check the images table and the split."
        )
    steps = replace(steps or Preparation(), size=None)
    first = PreparedImages(source, steps, motions).size(imaged[0])
    if size is not None:
        steps = replace(steps, size=_given_size(size, first, steps))
    moments = _look_at_images(PreparedImages(source, steps, motions), {key: last[key] for key in imaged})
    sources = sorted(key for key in moments if isinstance(key, Source))
    mean, deviation = _normalisation([moments[name] for name in sorted({n for s in sources for n, _ in s.channels})])
    return Fitted(
        tokenizer,
        tuple(sources),
        mean,
        deviation,
        steps.size or first,
        ValueScale.fit(values),
        dict(windows or {}),
        steps,
        _normalisation([moments[kind] for kind in sources])[1],
    )


def _given_size(size: int | Sequence[int], first: tuple[int, ...], steps: Preparation) -> tuple[int, ...]:
    """The size that was asked for, along every axis."""
    if not isinstance(size, int):
        if len(size) != len(first):
            raise InputError(
                f"{len(first)} numbers for images of {len(first)} dimensions",
                str(len(size)),
                "data.size",
                "Give one number for each axis, or a single one.",
            )
        return tuple(size)
    if len(first) == 3 and steps.spacing is not None:
        raise InputError(
            "[slices, rows, columns]",
            str(size),
            "data.size",
            "With data.spacing volumes are cut or padded and not resized: say how many slices are kept, or set null.",
        )
    return (*(min(n, _MOST_SLICES) for n in first[:-2]), size, size)


def _look_at_images(images: PreparedImages, last: Mapping[str, int]) -> dict[str | Source, np.ndarray]:
    """Sum, sum of squares and number of the pixels in a sample of the sequences, by channel and by source."""
    moments: dict[str | Source, np.ndarray] = {}

    def add(key: str | Source, image: np.ndarray) -> None:
        flat = image.ravel().astype(np.float64)
        moments[key] = moments.get(key, 0) + np.array([flat.sum(), (flat**2).sum(), flat.size])

    for sequence in sorted(last)[:: max(1, len(last) // _SAMPLE)]:
        for pixels in images.read(sequence, range(last[sequence] + 1)).values():
            for kind, image in pixels.items():
                add(kind, image)
                for channel, window in kind.channels:
                    if window is not None:
                        add(channel, window.apply(image))
    for kind in [key for key in moments if isinstance(key, Source) and not key.windows]:
        moments[kind.channel] = moments[kind]
    return moments


def _normalisation(moments: Sequence[np.ndarray]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation from sums, sums of squares and numbers."""
    mean = tuple(float(total / n) for total, _, n in moments)
    deviation = tuple(float(np.sqrt(max(square / n - (total / n) ** 2, 0.0))) or 1.0 for total, square, n in moments)
    return mean, deviation
