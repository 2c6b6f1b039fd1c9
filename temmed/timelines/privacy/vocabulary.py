"""Which words are ordinary in a radiology report, so that other capitalised words can be taken for names.

Most come from the coded terms that pydicom ships (SNOMED CT and DICOM codes for anatomy, findings, procedures,
devices and substances); what reports say around them is listed in ``words.txt``. Words are compared in lower case
without accents.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from importlib import resources

_CAMEL = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_PLURAL = re.compile(r"(?:'s|’s|s|es)$")
#: Endings that hardly any family name has; a word at the start of a sentence that ends so is taken for ordinary.
_ENDINGS = re.compile(
    r"(?:tion|sion|ment|ness|ity|ous|able|ible|ally|edly|ingly|osis|itis|oma|omas|pathy|graphy|graphic|gram|scopy|"
    r"ectomy|plasty|iasis|algia|plegia|penia|trophy|rrhagia|rrh?ea|cytosis|philia|ostomy|emia|aemia|ular|eal|ial|ical|ized|ised|ating|ated|ured|ening|ally|ward|wards|less|ful)$"
)
_BEGINNINGS = re.compile(
    r"^(?:multi|un|non|peri|sub|supra|infra|inter|intra|extra|hyper|hypo|pre|post|micro|macro|anti|trans|retro)"
)
#: Parts of names that are too common in text to stand for a person by themselves.
PARTICLES = frozenset(
    re.split(" ", "van von der den del della las los the und bin ben abu ibn mac san santa jr sr md phd dr")
)


#: Characters that are not seen, and spaces that are no plain ones: they would part a name, or hide that two words meet.
_UNSEEN = {ord(letter): None for letter in "\u00ad\u200b\u200c\u200d\u2060\ufeff"} | {
    ord(space): " " for space in "\u00a0\u2007\u2009\u202f"
}


def plain(text: str) -> str:
    """A text with accents as parts of letters, plain spaces, and nothing unseen.

    Examples:
        >>> plain("Jo\u0308rg\u00a0Okafor")
        'Jörg Okafor'
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text).translate(_UNSEEN)


def folded(word: str) -> str:
    """A word in lower case without accents.

    Examples:
        >>> folded("Müller")
        'muller'
    """
    if word.isascii():
        return word.lower()
    spread = unicodedata.normalize("NFKD", word.casefold())
    return "".join(letter for letter in spread if not unicodedata.combining(letter))


@cache
def words() -> frozenset[str]:
    """Every ordinary word."""
    from pydicom.sr._concepts_dict import concepts

    coded = {part.lower() for scheme in concepts.values() for term in scheme for part in _CAMEL.findall(term)}
    text = resources.files(__package__).joinpath("words.txt").read_text(encoding="utf-8")
    ordinary, persons = {word for word in coded if len(word) > 1}, set[str]()
    for line in text.splitlines():
        if line.startswith("!"):
            persons.update(line[1:].split())
        elif not line.startswith("#"):
            ordinary.update(line.split())
    return frozenset(ordinary - persons)


def is_ordinary(word: str, starts_sentence: bool = False) -> bool:
    """Whether a word is known, as it is or without the ending of a plural; parts of a compound count by themselves.

    Args:
        word: letters, perhaps with hyphens and apostrophes.
        starts_sentence: also accept a word by its ending; it would have a capital anyway.

    Examples:
        >>> is_ordinary("Nodules"), is_ordinary("Armitage"), is_ordinary("T2-weighted")
        (True, False, True)
    """
    known = words()
    for part in re.split(r"[-/]", word):
        lower = folded(part)
        if len(lower) < 2 or lower in known or _PLURAL.sub("", lower) in known or any(map(str.isdigit, lower)):
            continue
        if starts_sentence and (_ENDINGS.search(lower) or _BEGINNINGS.sub("", lower) in known):
            continue
        return False
    return True
