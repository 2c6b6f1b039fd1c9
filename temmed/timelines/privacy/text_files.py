"""Text files read and written, packed or not."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from temmed.errors import InputError


def read_text(path: Path) -> str:
    """A text file in UTF-8, else in the encoding of older Windows programs; packed or not.

    Raises:
        InputError: it holds zero bytes, or its packing is damaged.
    """
    try:
        content = path.read_bytes()
        if path.name.lower().endswith(".gz"):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError("a readable file", str(error), str(path), "Copy it again, or leave it out.") from error
    if b"\0" in content:
        raise InputError("text", "bytes that are no text", str(path), "Save it as UTF-8, or leave it out.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def write_text(target: Path, text: str) -> None:
    """Write a text file, packed if its name says so; the packed form names nothing."""
    content = text.encode()
    target.write_bytes(gzip.compress(content, mtime=0) if target.name.lower().endswith(".gz") else content)
