"""The one exception class that users see as a message and not as a traceback."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message has four parts, so that it can be acted on without reading code.

    Args:
        expected: what TemMed needs.
        found: what was there instead.
        where: the file, row or option at fault.
        remedy: what to do about it.
    """

    def __init__(self, expected: str, found: str, where: str, remedy: str) -> None:
        self.expected = expected
        self.found = found
        self.where = where
        self.remedy = remedy
        super().__init__(f"{where}: expected {expected}, found {found}. {remedy}")

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str, str]]:
        """Pickle by the four parts, so that the error crosses process borders."""
        return type(self), (self.expected, self.found, self.where, self.remedy)
