"""Numbers of bytes as people write them."""

from __future__ import annotations

import re

from temmed.errors import InputError

#: Bytes, of 1,000 and not 1,024 to the step.
UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


def read_size(text: str | int, where: str) -> int:
    """Bytes.

    Args:
        text: such as ``64MB`` or ``1.5 GB``, of 1,000 and not 1,024 to the step; or a number of bytes.
        where: the option that gave it, named in errors.

    Raises:
        InputError: it is none.

    >>> read_size("64MB", "--shard-size"), read_size("1.5 GB", "--shard-size")
    (64000000, 1500000000)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]*)", str(text).strip().lower())
    if match is None or match[2] not in ("", *UNITS) or not float(match[1]):
        raise InputError("a number of bytes, such as 64MB or 50GB", repr(text), where, "Correct it.")
    return round(float(match[1]) * UNITS.get(match[2], 1))
