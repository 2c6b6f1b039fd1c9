"""Identifiers that a source's own headers and tables give away, found again in text, names and bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise

from temmed.timelines.privacy.vocabulary import PARTICLES, folded, is_ordinary, plain

_TOKEN = re.compile(r"[^\W\d_]+|\d+")
_FAMILY_GIVEN = re.compile(r"[\^,]")
#: Characters that may stand between two parts of one identifier.
_GAP = 3
#: A name needs this many letters, and a number this many digits, to be told from other words and measurements.
_LETTERS, _FEW_DIGITS = 3, 5
_TELEPHONE_DIGITS = 7


@dataclass(frozen=True)
class Span:
    """Where an identifier stands in a text, and what is to be written there.

    Attributes:
        start, end: its place.
        kind: name, id, place, address, phone, date, email, url, uid or age.
        replacement: what to write.
        owner: the patient whose it is, where that is known.
    """

    start: int
    end: int
    kind: str
    replacement: str
    owner: str | None = None


@dataclass(frozen=True)
class _Entry:
    tokens: tuple[str, ...]
    kind: str
    replacement: str
    owner: str | None
    # Of ordinary words, such as Stone: counts only where its patient is spoken of, and one word only with a capital.
    weak: bool


@dataclass
class Known:
    """The identifiers of a source.

    Attributes:
        births: birth dates by patient.
        uids: unique ids of the source.
    """

    births: dict[str, set[date]] = field(default_factory=dict)
    uids: set[str] = field(default_factory=set)
    _entries: dict[str, dict[_Entry, None]] = field(default_factory=dict)
    _numbers: dict[str, _Entry] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many identifiers there are, each way of writing one counted."""
        return sum(map(len, self._entries.values())) + len(self._numbers) + len(self.uids)

    def add_name(self, name: str, owner: str | None) -> None:
        """Add a person's name: ``Family^Given^Middle``, ``Family, Given`` or ``Given Family``."""
        for group in name.split("="):
            parts = [_tokens(part) for part in _FAMILY_GIVEN.split(group)]
            parts = [part for part in parts if part]
            if len(parts) == 1 and len(parts[0]) > 1 and "^" not in group:
                parts = [parts[0][-1:], parts[0][:-1]]
            letters = [tuple(token for token in part if token.isalpha()) for part in parts]
            letters = [part for part in letters if part]
            if not letters:
                continue
            for token in {token for part in letters for token in part}:
                if len(token) >= _LETTERS and token not in PARTICLES:
                    self._put((token,), "name", "[NAME]", owner)
            if len(letters) > 1:
                family, given = letters[0], letters[1]
                for order in (family + given, given + family, (*given, *(word[0] for word in letters[-1]), *family)):
                    self._put(order, "name", "[NAME]", owner)
                initial = (given[0][0],)
                for order in (family + initial, initial + family):
                    self._put(order, "name", "[NAME]", owner)
                for joined in ("".join(family + given), "".join(given + family), initial[0] + "".join(family)):
                    if len(joined) >= _FEW_DIGITS:
                        self._put((joined,), "name", "[NAME]", owner)

    def add_id(self, identifier: str, replacement: str, owner: str | None, kind: str = "id") -> None:
        """Add an identifier of letters and digits, whatever stands between them."""
        tokens = _tokens(identifier)
        whole = "".join(tokens)
        if whole.isdigit():
            self._put_number(whole, kind, replacement, owner)
        elif len(whole) >= _LETTERS:
            self._put(tokens, kind, replacement, owner)
            longest = max((token for token in tokens if token.isdigit()), key=len, default="")
            if len(longest) > _FEW_DIGITS:
                self._put_number(longest, kind, replacement, owner)

    def add_words(self, text: str, kind: str, owner: str | None) -> None:
        """Add an institution or an address: whole, and the parts between commas that have two words or a rare one."""
        for part in [text, *re.split(r"[,;\n\r\\^]", text)]:
            tokens = _tokens(part)
            several = len(tokens) > 1 and sum(map(len, tokens)) > _FEW_DIGITS
            if several or (len(tokens) == 1 and tokens[0].isalpha() and len(tokens[0]) > _LETTERS):
                self._put(tokens, kind, f"[{kind.upper()}]", owner)

    def add_phone(self, number: str, owner: str | None) -> None:
        """Add a telephone number, whatever stands between its digits."""
        digits = "".join(re.findall(r"\d", re.split(r"(?i)x|ext", number)[0]))
        if len(digits) >= _TELEPHONE_DIGITS:
            self._numbers.setdefault(digits, _Entry((digits,), "phone", "[PHONE]", owner, False))

    def find(self, text: str, owner: str | None = None, any_case: bool = False) -> Iterator[Span]:
        """Where known identifiers stand in a text; matches may overlap.

        Args:
            text: any text.
            owner: whose text it is, if known: only there are names that are also words looked for.
            any_case: take words for names in lower case, too, as in the names of files.
        """
        tokens = list(_TOKEN.finditer(text))
        lower = [folded(token.group()) for token in tokens]
        gaps = [after.start() - before.end() for before, after in pairwise(tokens)]
        for index, word in enumerate(lower):
            for entry in self._entries.get(word, ()):
                stop = index + len(entry.tokens)
                if tuple(lower[index:stop]) != entry.tokens or any(gap > _GAP for gap in gaps[index : stop - 1]):
                    continue
                start, end = tokens[index].start(), tokens[stop - 1].end()
                lower_case = len(entry.tokens) == 1 and not any_case and text[start:end].islower()
                if entry.weak and (lower_case or owner not in (None, entry.owner)):
                    continue
                yield Span(start, end, entry.kind, entry.replacement, entry.owner)
            if word.isdigit():
                yield from self._find_number(text, tokens, lower, gaps, index)

    def longest_words(self) -> frozenset[str]:
        """The longest word of every identifier, folded: without any of them, a text holds no identifier."""
        words = {max(entry.tokens, key=len) for entries in self._entries.values() for entry in entries}
        return frozenset(words | set(self._numbers))

    def _find_number(
        self, text: str, tokens: list[re.Match[str]], lower: list[str], gaps: list[int], index: int
    ) -> Iterator[Span]:
        digits = ""
        start = tokens[index].start()
        for stop in range(index, min(index + _GAP + 2, len(tokens))):
            if not lower[stop].isdigit() or (stop > index and gaps[stop - 1] > _GAP):
                return
            digits += lower[stop]
            entry = self._numbers.get(digits) or self._numbers.get(digits.lstrip("0"))
            # 0.12345 is a measurement; 1.2.12345 is told by the rule for unique ids.
            number = text[max(0, start - 2) : tokens[stop].end()]
            decimal = len(digits) <= _TELEPHONE_DIGITS and re.search(r"\d[.,]\d+$", number)
            if entry is not None and not decimal:
                yield Span(start, tokens[stop].end(), entry.kind, entry.replacement, entry.owner)

    def _put(self, tokens: tuple[str, ...], kind: str, replacement: str, owner: str | None) -> None:
        weak = len(tokens) == 1 and is_ordinary(tokens[0])
        if len(tokens) > 1 and kind != "id" and not any(map(str.isdigit, tokens)):
            weak = all(is_ordinary(token) for token in tokens)
        self._entries.setdefault(tokens[0], {}).setdefault(_Entry(tokens, kind, replacement, owner, weak))

    def _put_number(self, digits: str, kind: str, replacement: str, owner: str | None) -> None:
        if len(digits.lstrip("0")) >= _FEW_DIGITS or len(digits) > _FEW_DIGITS:
            self._numbers[digits.lstrip("0")] = _Entry((digits,), kind, replacement, owner, False)


def _tokens(text: str) -> tuple[str, ...]:
    return tuple(folded(token) for token in _TOKEN.findall(plain(text)))
