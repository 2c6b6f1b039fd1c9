"""Files in an object store or on a web server, through fsspec."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import fsspec

from temmed.data.streaming.layout import Blob, digest_of
from temmed.errors import InputError

_LOG = logging.getLogger(__name__)
R = TypeVar("R")

#: Drivers that are extras of ours.
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
#: How often something is tried, and the seconds before the second time; each further pause is twice as long.
ATTEMPTS = 5
FIRST_PAUSE = 0.5
#: Errors of drivers that are none of the system's: module and class.
_DRIVERS = (
    ("botocore.exceptions", "BotoCoreError"),
    ("gcsfs.retry", "HttpError"),
    ("google.auth.exceptions", "GoogleAuthError"),
)
#: What no second try makes good.
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


class DamagedError(OSError):
    """What arrived is not what was sent."""


def is_url(place: str | Path) -> bool:
    """Whether it is the address of a store, not a path of this machine."""
    return "://" in str(place)


class Remote:
    """The files below a URL.

    Args:
        url: of any protocol that fsspec has a driver for. Credentials come from where the driver looks for them.

    Raises:
        InputError: there is no driver, or it is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        protocol = url.partition("://")[0]
        try:
            self.fs, self._root = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            extra = _EXTRAS.get(protocol)
            remedy = f"Install it: `pip install 'temmed[{extra}]'`." if extra else "Install it with pip."
            raise InputError(f"the driver of {protocol}://", str(error), url, remedy) from error
        except ValueError as error:
            raise InputError("a URL that fsspec can open", str(error), url, "Correct the URL.") from error

    def __reduce__(self) -> tuple[type[Remote], tuple[str]]:
        """Connections stay in their process."""
        return type(self), (self.url,)

    def address(self, name: str) -> str:
        """URL of a file."""
        return f"{self.url}/{name}"

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        """Whether a file is there.

        Raises:
            InputError: the store cannot be reached.
        """
        return bool(self._persistently(name, lambda: self.fs.exists(self._path(name))))

    def read(self, name: str) -> bytes:
        """The content of a small file.

        Raises:
            InputError: it is not there, or cannot be reached.
        """
        return bytes(self._persistently(name, lambda: self.fs.cat_file(self._path(name))))

    def download(self, blob: Blob, target: Path) -> None:
        """Copy a file to this machine and check it.

        Args:
            blob: what is expected.
            target: a file that nobody else looks at.

        Raises:
            InputError: it is not there, cannot be reached, or is damaged, also after several attempts.
        """

        def attempt() -> None:
            self.fs.get_file(self._path(blob.name), str(target))
            if target.stat().st_size != blob.size or digest_of(target) != blob.digest:
                raise DamagedError(f"{target.stat().st_size:,} bytes with another checksum")

        self._persistently(blob.name, attempt, f"a file of {blob.size:,} bytes with checksum {blob.digest}")

    def upload(self, source: Path, name: str) -> None:
        """Copy a file of this machine to the store.

        Raises:
            InputError: it cannot be written.
        """
        path = self._path(name)

        def attempt() -> None:
            self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            self.fs.put_file(str(source), path)

        self._persistently(name, attempt, "a place to write to")

    def remove(self, name: str) -> None:
        """Remove a file, if it is there.

        Raises:
            InputError: it cannot be removed.
        """
        if self.exists(name):
            self._persistently(name, lambda: self.fs.rm_file(self._path(name)), "a file that may be removed")

    def size(self, name: str) -> int | None:
        """Bytes of a file; ``None`` if it is not there.

        Raises:
            InputError: the store cannot be reached.
        """
        return int(self._persistently(name, lambda: self.fs.size(self._path(name)))) if self.exists(name) else None

    def _persistently(self, name: str, action: Callable[[], R], expected: str = "a file that can be read") -> R:
        """Do something that may fail for a moment, several times if need be."""
        pause = FIRST_PAUSE
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return action()
            except _errors() as error:
                if attempt == ATTEMPTS or _is_final(error):
                    raise InputError(expected, _in_words(error), self.address(name), _remedy(error)) from error
                _LOG.warning("%s: %s; trying again in %g s.", self.address(name), _in_words(error), pause)
            time.sleep(pause)
            pause *= 2
        raise AssertionError("the last attempt returns or raises")


def _errors() -> tuple[type[Exception], ...]:
    """What may go wrong with the drivers that are loaded."""
    drivers = (getattr(sys.modules[module], name) for module, name in _DRIVERS if module in sys.modules)
    return OSError, EOFError, aiohttp.ClientError, *drivers


def _is_final(error: Any) -> bool:
    # A refused request stays refused; 408 and 429 ask for another try.
    status = getattr(error, "status", None)
    return isinstance(error, _FINAL) or (isinstance(status, int) and 400 <= status < 500 and status not in (408, 429))


def _in_words(error: Any) -> str:
    return "nothing" if isinstance(error, FileNotFoundError) else str(error) or type(error).__name__


def _remedy(error: Any) -> str:
    if isinstance(error, DamagedError):
        return "Write the shards again with `temmed data shard`: what lies there is not what was written."
    if isinstance(error, FileNotFoundError):
        return "Check the URL. `temmed data shard DIR URL` writes shards; they are complete when the command ends."
    return "Check the connection and the permissions."
