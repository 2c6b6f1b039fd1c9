"""A subset of a timeline folder as a torch data set; one item is one sequence with its questions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from temmed.data.caches.features import FeatureStore
from temmed.data.pixels import Pixels, PixelStack, pack
from temmed.data.records import Event, Question, Record
from temmed.data.subsample import draw_window, fits_window, shown, strided, within

if TYPE_CHECKING:
    from temmed.data.augment import Augmentation

Inputs = Literal["all", "text", "asked_image", "prior_image"]
Reports = Literal["none", "past", "all"]


@dataclass
class TimelineItem:
    """One sequence before collating.

    Attributes:
        record: the sequence, with the questions and events that are asked here.
        pixels: of the positions that have an image; or features ``(n, K, D)`` of a frozen backbone.
        positions: which positions those are.
        sources: C, how many kinds of images there are.
    """

    record: Record
    pixels: PixelStack | Tensor
    positions: list[int]
    sources: int

    @property
    def images(self) -> Tensor:
        """``(n, C, *spatial)`` float32, values of the files, 0 where a source is absent; or the features."""
        return self.pixels if isinstance(self.pixels, Tensor) else pack([self.pixels], self.sources)[0].float()

    @property
    def image_sequence(self) -> Tensor:
        """``(T, C, *spatial)`` float32, values of the files; zeros where a position has no image."""
        images = self.images
        sequence = images.new_zeros(len(self.record.times), *images.shape[1:])
        sequence[self.positions] = images
        return sequence

    @property
    def time_aligned_prompts(self) -> list[list[str]]:
        """The prompts asked at each position."""
        return [[q.text for q in self.record.questions if q.asked_at == t] for t in range(len(self.record.times))]

    @property
    def ground_truth(self) -> list[list[str | float]]:
        """The answers in words, or the values on the fitted scale, in the order of `time_aligned_prompts`."""
        return [
            [q.value if q.truth is None else q.truth for q in self.record.questions if q.asked_at == t]
            for t in range(len(self.record.times))
        ]


@dataclass(frozen=True)
class View:
    """Which part of a sequence one item shows: all of it, or for a probe one position alone.

    Attributes:
        record: index of the sequence.
        position: the only position shown; ``None`` for all.
        questions: indices of the questions asked.
    """

    record: int
    position: int | None = None
    questions: tuple[int, ...] = field(default=())


class SequenceDataset(Dataset):
    """Items of a subset.

    Args:
        records: from `temmed.data.records.build_records`.
        pixels: where images come from: the files, a cache of them, or stored features of a frozen backbone.
        sources: C, how many kinds of images there are.
        inputs: ``all``; or what a probe may see: ``text``, ``asked_image``, ``prior_image`` (the earliest evidence).
        reports: which reports are input: ``none``, those before the asked position (``past``), or its own too.
        position_dropout: share of positions whose image is hidden, for training; questions that need it are left out.
        max_questions: at the most so many per item, drawn at random, for training.
        seed: of all draws.
        augmentation: random changes of the images, for training.
        stride: show every so many-th position, and those asked at. A probe shows one position, whatever the stride.
        window: show so many consecutive ones of them, drawn anew each epoch, for training; questions that need others
            are left out.
    """

    def __init__(
        self,
        records: list[Record],
        pixels: Pixels | FeatureStore,
        sources: int,
        inputs: Inputs = "all",
        reports: Reports = "none",
        position_dropout: float = 0.0,
        max_questions: int | None = None,
        seed: int = 0,
        augmentation: Augmentation | None = None,
        stride: int = 1,
        window: int | None = None,
    ) -> None:
        self.records, self.pixels, self.sources = records, pixels, sources
        self.inputs, self.reports = inputs, reports
        self.position_dropout, self.max_questions, self.seed = position_dropout, max_questions, seed
        self.augmentation = augmentation
        self.window = window
        #: Whether items are drawn anew each epoch: a generator takes longer to make than all else of an item.
        self._random = position_dropout > 0 or max_questions is not None or window is not None
        self.views = _views(records, inputs)
        self._kept = [strided(len(r.times), stride, [q.asked_at for q in r.questions]) for r in records]

    def __len__(self) -> int:
        """Number of items."""
        return len(self.views)

    @property
    def sizes(self) -> list[tuple[int, int, int]]:
        """The most positions, questions and images that each item may have."""
        return [self._size(view) for view in self.views]

    @property
    def whole_sizes(self) -> list[tuple[int, int, int]]:
        """What `sizes` would be if each item were all that is shown of a sequence, as with ``inputs="all"``."""
        return [self._size(View(number)) for number in range(len(self.records))]

    @property
    def groups(self) -> list[int]:
        """Items of one number have images of one size, and may share a batch."""
        if isinstance(self.pixels, FeatureStore):
            return [0] * len(self)
        sizes = [self.pixels.size(record.sequence_id) for record in self.records]
        numbers = {size: number for number, size in enumerate(sorted(set(sizes)))}
        return [numbers[sizes[view.record]] for view in self.views]

    def _size(self, view: View) -> tuple[int, int, int]:
        record = self.records[view.record]
        if view.position is not None:
            return 1, len(view.questions), 1
        kept = self._kept[view.record]
        most = self.window or len(kept)
        asked = len(record.questions) if self.max_questions is None else min(self.max_questions, len(record.questions))
        return min(most, len(kept)), asked, min(most, int(record.imaged[kept].sum()))

    def questions_in_windows(self) -> tuple[int, int]:
        """How many questions can be asked within a window, and how many there are."""
        fits = [
            fits_window(record, kept, self.window or len(kept))
            for record, kept in zip(self.records, self._kept, strict=True)
        ]
        return sum(map(sum, fits)), sum(map(len, fits))

    def __getitem__(self, key: int | tuple[int, int]) -> TimelineItem:
        """An item by its index, or by (epoch, index): all randomness depends on seed, epoch and index alone."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        view = self.views[index]
        record = self.records[view.record]
        if view.position is None:
            record = self._drawn(record, self._kept[view.record], (self.seed, epoch, index))
        else:
            record = _alone(record, view, self.inputs)
        if self.reports == "none" and record.reports:
            record = replace(record, reports=[])
        places = np.flatnonzero(record.imaged)
        original = record.positions[places].tolist() if view.position is None else [view.position] * len(places)
        pixels = self.pixels.stack(record.sequence_id, original)
        if self.augmentation is not None and isinstance(pixels, PixelStack):
            pixels = self.augmentation(pixels, original, (self.seed, epoch, index))
        return TimelineItem(record, pixels, places.tolist(), self.sources)

    def _drawn(self, record: Record, kept: NDArray[np.int64], key: tuple[int, int, int]) -> Record:
        """The record with what is left out of it, at random by ``key``, and by the stride."""
        rng = np.random.default_rng(key) if self._random else None
        if rng is not None and self.window is not None and self.window < len(kept):
            kept = draw_window(record, kept, self.window, rng)
            record = within(record, kept)
        record = shown(record, kept, report_delay=1 if self.reports == "past" else 0)
        return record if rng is None else self._thinned(record, rng)

    def _thinned(self, record: Record, rng: np.random.Generator) -> Record:
        imaged, questions = record.imaged, record.questions
        events = record.events
        if self.position_dropout > 0:
            hidden = rng.random(len(imaged)) < self.position_dropout
            if not (imaged & ~hidden).any():
                hidden[:] = False
            imaged = imaged & ~hidden
            questions = [q for q in questions if not hidden[[*q.evidence, q.asked_at]].any()]
            events = [replace(e, targets=np.where(imaged, e.targets, -100)) for e in events]
        if self.max_questions is not None and len(questions) > self.max_questions:
            picked = np.sort(rng.choice(len(questions), self.max_questions, replace=False))
            questions = [questions[k] for k in picked]
        return replace(record, imaged=imaged, questions=questions, events=events)


def _views(records: list[Record], inputs: Inputs) -> list[View]:
    if inputs == "all":
        return [View(n) for n in range(len(records))]
    views: list[View] = []
    for n, record in enumerate(records):
        groups: dict[int, list[int]] = {}
        for k, question in enumerate(record.questions):
            shown = min(question.evidence, default=0) if inputs == "prior_image" else question.asked_at
            groups.setdefault(0 if inputs == "text" else shown, []).append(k)
        views.extend(View(n, position, tuple(questions)) for position, questions in sorted(groups.items()))
    return views


def _alone(record: Record, view: View, inputs: Inputs) -> Record:
    """The record as a probe sees it: one position, which all its questions are asked at."""
    position = view.position or 0

    def moved(question: Question) -> Question:
        evidence = [0] if position in question.evidence else []
        return replace(question, asked_at=0, evidence=evidence)

    def cut(event: Event) -> Event:
        return replace(event, targets=event.targets[position : position + 1])

    return replace(
        record,
        times=record.times[position : position + 1],
        imaged=record.imaged[position : position + 1] & (inputs != "text"),
        positions=np.zeros(1, np.int64),
        questions=[moved(record.questions[k]) for k in view.questions],
        events=[cut(event) for event in record.events] if inputs == "asked_image" else [],
        statements=[],
        reports=[],
        written=[],
        report_targets=[],
        boxes=[],
    )
