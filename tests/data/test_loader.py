"""A loader whose processes do not live."""

from __future__ import annotations

import os
import signal

import pytest
from torch.utils.data import Dataset

from temmed.data.loader import TimelineLoader
from temmed.errors import InputError


class _Fatal(Dataset):
    """Kills the process that wants an item."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, number: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_is_told_in_one_line() -> None:
    loader = TimelineLoader(_Fatal(), num_workers=1, multiprocessing_context="fork")
    with pytest.raises(InputError, match=r"num_workers=1: .*ended by SIGKILL"):
        list(loader)
