"""DICOM files read, changed by a function, and written again."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from temmed.errors import InputError
from temmed.timelines.readers.dicom import broken, reason

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

R = TypeVar("R")
_TAG = re.compile("[0-9A-Fa-f]{8}")


def rewrite(source: Path, target: Path, change: Callable[[Dataset], R], purpose: str, remedy: str) -> R:
    """Read a file, change its data set, and write it to another place, usually in a staging folder.

    Args:
        source: a DICOM file.
        target: where to write.
        change: changes the data set in place.
        purpose: what the file is expected to be fit for, for the message.
        remedy: what to do when it is not.

    Returns:
        What ``change`` returned.

    Raises:
        InputError: the file cannot be read or written again.
    """
    from pydicom import dcmread

    with warnings.catch_warnings():
        # Values that break the standard are kept as they are.
        warnings.simplefilter("ignore")
        try:
            dataset = dcmread(source)
            result = change(dataset)
            dataset.save_as(target)
        except broken() as error:
            raise InputError(purpose, reason(error), str(source), remedy) from error
    return result


def from_json(value: dict[str, Any]) -> Dataset | None:
    """The data set that an object of JSON is in DICOM's own form (PS3.18 Annex F); ``None`` for any other object."""
    from pydicom.dataset import Dataset

    if not value or not all(
        _TAG.fullmatch(key) and isinstance(item, dict) and "vr" in item for key, item in value.items()
    ):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Dataset.from_json(value)
        except broken():
            return None


def read_header(path: Path) -> Dataset:
    """A file's data set without its pixels.

    Raises:
        InputError: the header cannot be read.
    """
    from pydicom import dcmread

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = dcmread(path, stop_before_pixels=True)
            # Elements are decoded when they are looked at; one that cannot be shows here and not later.
            for _ in header.iterall():
                pass
        except broken() as error:
            raise InputError(
                "a readable DICOM header", reason(error), str(path), "Copy the file again, or leave it out."
            ) from error
    return header
