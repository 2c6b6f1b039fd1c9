"""What is written instead of an identifier: the same for the same identifier and key, in every file and every run."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import ClassVar

from temmed.timelines.importers.plan import pseudonym

#: Dates move back by at least a year and at most ten, in whole days, so that times of day stay as they are.
_FEWEST_DAYS, _MOST_DAYS = 366, 3653
#: Hexadecimal digits of a stand-in for something that is no patient: a study, a report, a word in a file's name.
_DIGITS = 10
UID_ROOT = "2.25."
_STAND_IN = r"p[0-9a-f]{12}|x[0-9a-f]{10}"
_PLACEHOLDER = r"\[(?:NAME|ID|PLACE|ADDRESS|PHONE|DATE|EMAIL|URL)\]"
#: Everything that de-identification writes, as a part of a text.
WRITTEN = re.compile(
    rf"{_PLACEHOLDER}|(?<![0-9A-Za-z])(?:{_STAND_IN})(?![0-9A-Za-z])|(?<![\d.])2\.25\.\d{{20,39}}(?![\d.]*\d)"
)
#: A number that was counted up, and says nothing: ``p00041``, ``sub-01``, ``q0000012``. Initials before a number do.
COUNTED = re.compile(
    r"\d{1,4}|(?:q|st)\d{7}"
    r"|(?i:[a-z]|sub|subj|subject|pat|patient|pt|case|mri|ct|us|cxr|cine)[-_]?(?:\d{1,4}|0\d{4}|00\d{3,5})"
)


@dataclass(frozen=True)
class StandIns:
    """Makes stand-ins with a key.

    Attributes:
        key: the secret. Whoever has it can link stand-ins to identifiers and undo the shift of dates.
    """

    key: str
    #: What a text may hold already and keeps.
    accepted: ClassVar[re.Pattern[str]] = re.compile(_PLACEHOLDER)

    def patient(self, identifier: str) -> str:
        """The pseudonym of a patient; the one that an import with this key writes."""
        return pseudonym(identifier, self.key)

    def other(self, identifier: str) -> str:
        """A stand-in for an identifier of something else: ``x`` and hexadecimal digits."""
        return "x" + self._digest("other", identifier).hex()[:_DIGITS]

    def uid(self, uid: str) -> str:
        """A unique id under ``2.25``, the root for ids made from 128 random bits (PS3.5 B.2)."""
        return f"{UID_ROOT}{int.from_bytes(self._digest('uid', uid)[:16], 'big')}"

    def days(self, identifier: str) -> int:
        """By how many days the dates of a patient are moved; negative.

        Examples:
            >>> StandIns("secret").days("204") == StandIns("secret").days("204")
            True
        """
        number = int.from_bytes(self._digest("days", identifier)[:8], "big")
        return -(_FEWEST_DAYS + number % (_MOST_DAYS - _FEWEST_DAYS + 1))

    def _digest(self, purpose: str, identifier: str) -> bytes:
        # A purpose of its own keeps, say, a date shift from being read off a pseudonym.
        return hmac.new(self.key.encode(), f"{purpose}\0{identifier}".encode(), hashlib.sha256).digest()


@dataclass(frozen=True)
class Recognising(StandIns):
    """Leaves stand-ins as they are and moves no date, so that cleaning changes only what was not cleaned before.

    Ids that were counted up are as good as stand-ins: published and synthetic sets have them.

    Attributes:
        dated: whether the dates were moved before; else they are found to be dates.
    """

    dated: bool = False
    accepted = WRITTEN

    def patient(self, identifier: str) -> str:
        """The identifier, if it tells nothing."""
        return identifier if _tells_nothing(identifier) else super().patient(identifier)

    def other(self, identifier: str) -> str:
        """The identifier, if it tells nothing."""
        return identifier if _tells_nothing(identifier) else super().other(identifier)

    def uid(self, uid: str) -> str:
        """The unique id, if it is under the root that stand-ins are made with."""
        return uid if uid.startswith(UID_ROOT) else super().uid(uid)

    def days(self, identifier: str) -> int:
        """No days where dates were moved before."""
        return 0 if self.dated else super().days(identifier)


def _tells_nothing(identifier: str) -> bool:
    return bool(WRITTEN.fullmatch(identifier) or COUNTED.fullmatch(identifier))


def moved(day: date, days: int | None) -> date | None:
    """A date moved by days; ``None`` where the shift is unknown or leads out of the calendar."""
    if days is None:
        return None
    try:
        return day + timedelta(days=days)
    except OverflowError:
        return None
