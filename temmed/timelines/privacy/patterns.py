"""Identifiers that tell themselves by their form or by a label before them: numbers, addresses, ages."""

from __future__ import annotations

import re
from collections.abc import Iterator

from temmed.timelines.privacy.known import Span

#: Ages above this one are written as it.
OLDEST = 90
_STREETS = (
    "street|avenue|ave|road|rd|drive|lane|boulevard|blvd|court|square|terrace|parkway|pkwy|circle|highway|hwy|crescent|"
    "gardens|mews|plaza|alley"
)
#: Also words or abbreviations of medicine (CT, DR), so that only these spellings count; 4 March Dr. Okafor is a date.
_SHORT_STREETS = (
    r"(?:St|Dr)\b(?!\.? [A-Z])|Ln|Ct|Way|Place|Pl|Sq|Cir|Trail|Row|Close|Path|Pike|Run|Loop|Crossing|Park|Grove|Hill"
)
_UNIT = r"(?:,?\s+(?i:apt|apartment|suite|ste|unit|flat|floor|room|box|#)\.? ?#?[\w-]+)"
_UP = r"A-ZÀ-ÖØ-Þ"
_TOWN = rf"[{_UP}][\w.'’-]+(?: [{_UP}][\w.'’-]+){{0,3}},? [A-Z]{{2}} \d{{5}}(?:-\d{{4}})?"
_EXTENSION = r"(?:\s?(?i:x|ext)\.?\s?\d{1,6})?"
_NO = r"(?:number|no\.?|#|id)"
_NUMBERED = (
    rf"mrn|medical record(?: {_NO})?|accession(?: {_NO})?|acc|patient {_NO}|pat id|pid|account|acct|chart|"
    rf"(?:hospital|unit) {_NO}|nhs(?: {_NO})?|chi {_NO}|ssn|social security(?: number)?|policy|insurance(?: id)?|"
    rf"member(?: id)?|encounter|requisition|specimen|driver['’]?s licen[sc]e|licen[sc]e(?: plate| {_NO})?|passport|vin|"
    rf"(?:case|study|order|visit|record|file) {_NO}|serial(?: {_NO})?|s/?n|lot|id"
)
#: (kind, pattern); the group ``hit`` is the identifier where more than that is matched.
_RULES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("email", r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
        ("url", r"\b(?:https?|s?ftp|file)://[^\s\]>)\"']+|\bwww\.[^\s\]>)\"']+"),
        ("url", r"(?i)\b(?:[a-z0-9-]{2,}\.)+(?:com|org|net|edu|gov|(?:nhs|ac|co)\.uk)\b(?:/[^\s\])]*)?"),
        ("url", r"(?:[A-Za-z]:\\|\\\\)[^\s\"'<>|]+|(?<![\w.])(?:/(?:home|Users|mnt|media|data|scratch)/)[^\s\"']+"),
        ("url", r"(?<![\d.])(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}(?![\d.])"),
        ("id", r"(?<![\d-])\d{3}([- ])\d{2}\1\d{4}(?![\d-])"),
        ("id", r"(?<![\w.,-])\d{3}[ -]\d{3}[ -]\d{4}(?![\d-]|[.,]\d)"),
        (
            "id",
            rf"(?i:\b(?:{_NUMBERED}))(?i:[\s:#=.(/-]|\bis\b|\bno\b|\bnumber\b){{1,8}}"
            r"(?P<hit>(?=(?:\d[ -]?){5})\d{1,5}(?:[ -]\d{1,5}){1,5}\b|(?=[A-Za-z-]{0,8}\d)[\w-]{4,})",
        ),
        ("id", r"\b[A-Z]{2,5}[-_ ]?\d{2,}[-_]\d{3,}\b|\b[A-Z]{1,5}[-_]?\d{5,}\b|\b\d{2,}-[A-Z]{1,5}-?\d{4,}\b"),
        ("id", r"(?<![\d.,])\d{7,}(?![\d]|[.,]\d)"),
        ("phone", rf"(?<![\w.])\+\d{{1,3}}[\d ()./-]{{6,18}}\d{_EXTENSION}"),
        (
            "phone",
            r"(?<![\w.])(?:\+?\d{1,3}[ .-])?(?:\(\d{3,5}\) ?|\d{3,5}[.-])\d{3,4}[ .-]\d{3,4}" + _EXTENSION + r"(?!\d)",
        ),
        (
            "phone",
            r"(?<![\w.,])(?=(?:[ ()/-]*\d){9})\(?0\d{2,4}\)?[ /-]\d{3,8}(?:[ -]\d{3,4})?"
            + _EXTENSION
            + r"(?!\d|[.,]\d)",
        ),
        (
            "phone",
            r"(?i:\b(?:tel|telephone|phone|fax|pager|beeper|bleep|mobile|cell|call|ext)\b)"
            r"(?i:[\s.:#]|\bat\b|\bnumber\b|\bon\b){1,6}"
            rf"(?P<hit>[\d(][\d ()./-]{{2,18}}\d{_EXTENSION})",
        ),
        (
            "address",
            rf"\b\d{{1,6}}[A-Za-z]?,? (?:[NSEW]\.? )?(?:[{_UP}0-9][\w'’.-]* ){{1,4}}"
            rf"(?:(?i:{_STREETS})|{_SHORT_STREETS})\b\.?{_UNIT}?(?:[,\s]+{_TOWN})?",
        ),
        ("address", rf"(?:\b\d{{1,6}} (?:[{_UP}][\w'’.-]* ?){{1,5}}{_UNIT}?[,\s]+)?\b{_TOWN}\b"),
        ("address", r"\b(?:(?:PSC|Unit|CMR) \d+,? Box \d+[,\s]+)?(?:APO|FPO|DPO),? A[AEP] \d{5}\b"),
        # The letters behind the second digit of a British code leave out, among others, M: L4 5MM is no code.
        ("address", rf"\b(?:[{_UP}][\w'’-]+,? ){{0,2}}[A-Z]{{1,2}}\d[A-Z\d]? \d[ABD-HJLNP-UW-Z]{{2}}\b"),
        ("address", r"\b(?:P\.?O\.? Box) \d+\b"),
        ("address", r"\b[A-ZÄÖÜ]\w+(?:straße|strasse|str\.|gasse|allee|platz)\s\d{1,4}[a-z]?\b"),
        (
            "address",
            r"(?i:\b(?:address|lives at|living at|residing at|resident of))[: ]+(?P<hit>(?=[^\n]*\d)[^\n.;\[]+)",
        ),
    )
)
_NINETIES = r"ninety[- ](?:one|two|three|four|five|six|seven|eight|nine)|(?:one|a) hundred(?:[- ](?:and[- ])?\w+)?"
_AGE = re.compile(
    rf"(?i)\b(?P<old>9[1-9]|1[0-2]\d|{_NINETIES})(?=[- ]?(?:years?|yrs?|y/?o|y\.o\.?)(?!\w))"
    r"(?!\W+\w+\W+(?:ago|earlier)\b)"
    r"|\b(?:aged?|age:)\s+(?P<aged>9[1-9]|1[0-2]\d)\b"
    r"|\b(?P<sexed>9[1-9]|10\d)(?=y?[MF] (?:with|w/|presenting|p/w|s/p|h/o|status|who)\b)"
)

#: One of these is in everything that the rules look for.
_MARK = re.compile(r"(?i)[\d@\\/.]|ninety|hundred")


def find(text: str) -> Iterator[Span]:
    """Where a text holds what a rule takes for an identifier; matches may overlap, sure rules come first."""
    if not _MARK.search(text):
        return
    for kind, pattern in _RULES:
        for match in pattern.finditer(text):
            yield Span(*match.span("hit" if "hit" in pattern.groupindex else 0), kind, f"[{kind.upper()}]")
    for match in _AGE.finditer(text):
        yield Span(*match.span(match.lastgroup or 0), "age", str(OLDEST))
