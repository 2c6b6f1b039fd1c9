"""How answers to TemMed-Bench are read: as its published scripts do, with their defects, and strictly."""

from __future__ import annotations

import re
from collections.abc import Callable

_YES, _NO = "Yes", "No"
_FIRST_WORD = re.compile(
    r"[\s*_\"'#>]*(?:(?:final |the )?answer(?: is)?:?[\s*_]*)?(yes|no)\b(.*)", re.IGNORECASE | re.DOTALL
)
#: What follows a "no" that denies nothing, or a word that takes the verdict back at once.
_NO_VERDICT = re.compile(
    r"[\s*_]*(?:(?:and|or|/)[\s*_]*(?:yes|no)\b|(?:idea|answer|opinion|way|clue|information)\b)", re.IGNORECASE
)
#: The published script knows a fourth letter, which no item offers.
_OFFICIAL_LETTERS = "ABCD"
#: A letter at the end of a clause: the "a" of "my answer is a guess" is an article.
_SELECTED = re.compile(
    r"my answer is:?\s*[*_(\[\"']*(?:option |choice |pair )?[*_(\[\"']*([a-c])[*_)\]\"']*"
    r"(?=\s*(?:$|\n|[.,;:!?]|because\b|since\b|as\b))",
    re.IGNORECASE,
)
_ALONE = re.compile(r"[\s*_(\[\"']*([A-C])[\s*_)\]\"'.]*")


def official_verdict(said: str) -> str | None:
    """``Yes`` or ``No`` as the published script reads it, by the first letters; ``None`` where it raises.

    Examples:
        >>> official_verdict("Not sure"), official_verdict("**Yes**"), official_verdict("yEs")
        ('No', None, None)
    """
    if said[:3] in ("Yes", "yes", "YES"):
        return _YES
    return _NO if said[:2] in ("No", "no", "NO") else None


def strict_verdict(said: str) -> str | None:
    """``Yes`` or ``No`` where that is the first word, in any case and markup; ``None`` otherwise.

    Examples:
        >>> strict_verdict("Not sure"), strict_verdict("**Yes**"), strict_verdict("No idea."), strict_verdict("no.")
        (None, 'Yes', None, 'No')
    """
    match = _FIRST_WORD.match(said)
    if match is None or _NO_VERDICT.match(match[2]):
        return None
    return match[1].capitalize()


def official_selection(said: str) -> str | None:
    """The letter that the published script reads; ``None`` where it raises.

    Examples:
        >>> official_selection("My answer is ambiguous"), official_selection("My answer is (A)")
        ('A', None)
    """
    text = said.lower()
    for letter in _OFFICIAL_LETTERS:
        small = letter.lower()
        if any(f"my answer is {form}" in text for form in (small, f"**{small}**", f"**{small}.**")):
            return letter
    return None


def strict_selection(said: str) -> str | None:
    """The one letter that an answer settles on; ``None`` where there is none, or several.

    Examples:
        >>> strict_selection("My answer is ambiguous"), strict_selection("… My answer is **(A)**.")
        (None, 'A')
        >>> strict_selection("My answer is B. No, my answer is C."), strict_selection("C.")
        (None, 'C')
    """
    if alone := _ALONE.fullmatch(said):
        return alone[1]
    letters = {letter.upper() for letter in _SELECTED.findall(said)}
    return letters.pop() if len(letters) == 1 else None


VERDICTS: dict[str, Callable[[str], str | None]] = {"official": official_verdict, "strict": strict_verdict}
SELECTIONS: dict[str, Callable[[str], str | None]] = {"official": official_selection, "strict": strict_selection}
