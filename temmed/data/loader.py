"""A loader that brings a user error out of a worker process as it is.

PyTorch wraps what a worker raises in a new exception whose message is the worker's traceback. A truncated image is the
user's to know about in one line, so that here it travels as a value and is raised in the main process.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

from torch.utils.data import DataLoader, Dataset

from temmed.data.batch import TimelineBatch
from temmed.data.dataset import SequenceDataset, TimelineItem
from temmed.errors import InputError


class Caught(Dataset):
    """A data set whose items may be the errors of the user that stood in their way.

    Args:
        dataset: the data set.
    """

    def __init__(self, dataset: SequenceDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        """Number of items."""
        return len(self.dataset)

    def __getitem__(self, key: int | tuple[int, int]) -> TimelineItem | InputError:
        """An item, or the error."""
        try:
            return self.dataset[key]
        except InputError as error:
            return error


class CaughtCollator:
    """Joins items, or gives the first error among them.

    Args:
        collate: joins items.
    """

    def __init__(self, collate: Callable[[list[TimelineItem]], TimelineBatch]) -> None:
        self.collate = collate

    def __call__(self, items: list[TimelineItem | InputError]) -> TimelineBatch | InputError:
        """Join items."""
        whole: list[TimelineItem] = []
        for item in items:
            if isinstance(item, InputError):
                return item
            whole.append(item)
        return self.collate(whole)


class TimelineLoader(DataLoader):
    """A `DataLoader` of `Caught` items, which raises the errors among them."""

    def __iter__(self) -> Iterator[TimelineBatch]:  # type: ignore[override]
        """Batches.

        Raises:
            InputError: an item could not be read, or a worker process was killed.
        """
        batches = super().__iter__()
        try:
            for batch in batches:
                if isinstance(batch, InputError):
                    raise batch
                yield batch
        except RuntimeError as error:
            # What PyTorch says of it has no reason: its way to ask for that is lost when a trainer has run before.
            codes = [worker.exitcode for worker in getattr(batches, "_workers", ()) if not worker.is_alive()]
            if killed := [signal.Signals(-code).name for code in codes if code and code < 0]:
                raise InputError(
                    "loader processes that go on to the end",
                    f"ended by {', '.join(killed)}",
                    f"data.num_workers={self.num_workers}",
                    "If memory ran out, use fewer processes or smaller batches. Else start again.",
                ) from error
            raise
