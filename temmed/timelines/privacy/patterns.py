"""Rules for identifiers that tell themselves by their form or by the words beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from temmed.timelines.privacy.known import Span
from temmed.timelines.privacy.vocabulary import is_ordinary

_NAME = r"[A-ZÀ-ÖØ-Þ][\w'’-]*[\w]"
_INITIAL = r"[A-Z]\.?"
#: A person: capitalised words, initials between them, ``Family, Given``.
_PERSON = rf"(?:{_INITIAL} )*{_NAME}(?:,? (?:{_NAME}|{_INITIAL}|(?:van|von|der|den|de|la|del|bin|al)\b)){{0,4}}"
_CREDENTIAL = r"(?:M\.?D\.?|D\.?O\.?|Ph\.?D\.?|DDS|DVM|RN|NP|PA-C|FRCR|FRCP|MBBS|MBChB|FACR|RT\(R\)|MRCP|CNP|BSN)"
_STREETS = (
    "street|st|avenue|ave|road|rd|drive|dr|lane|ln|boulevard|blvd|court|ct|way|place|pl|square|sq|terrace|parkway|"
    "pkwy|circle|cir|highway|hwy|trail|row|close|crescent|gardens|mews|plaza|alley|path|pike|run|loop|crossing"
)
_UNIT = r"(?:,?\s+(?i:apt|apartment|suite|ste|unit|flat|floor|room|box|#)\.? ?#?[\w-]+)"
_PLACES = (
    r"Hospitals?|Clinics?|Infirmary|Medical Cent(?:er|re)|Health(?:care)? (?:Cent(?:er|re)|System|Trust)|Health|"
    r"University|Institute|Hospice|Nursing Home|Imaging Cent(?:er|re)|Radiology|Associates|Radiology Associates|"
    r"Medical Group|Surgery Cent(?:er|re)|Cancer Cent(?:er|re)|Foundation"
)
_STAFF = (
    "patient name|name of patient|pt name|full name|name|referring(?: physician| doctor| provider)?|referred by|"
    "ordering(?: physician| doctor| provider)?|ordered by|attending(?: physician)?|radiologist|physician|surgeon|"
    "dictated by|transcribed by|transcriptionist|signed by|reported by|reviewed by|read by|interpreted by|"
    "approved by|verified by|authenticated by|prepared by|performed by|requested by|seen by|examined by|"
    "discussed with|communicated (?:to|with)|conveyed to|relayed to|called to|notified|informed|operator|technologist|"
    "sonographer|consultant|nurse|next of kin|emergency contact|contact|cc|dear|patient|pt|by"
)
_RELATIVES = (
    "wife|husband|son|daughter|mother|father|brother|sister|spouse|partner|friend|neighbou?r|guardian|carer|caregiver"
)
#: What follows the person that a sign or disease is named after.
_NAMED_AFTER = re.compile(
    r"(?:['’]s)? (?:disease|syndrome|signs?|angle|lines?|lymphoma|fracture|hernia|grade|score|classification|"
    r"criteria|index|method|ring|duct|node|nodule|tumou?r|cells?|body|bodies|procedure|operation|type|scale|test|manoeuvre|"
    r"maneuver|tube|catheter|filter|stent|rods?|plate|abscess|point|triangle|pouch|ligament|canal|fossa|artery|vein)\b"
)
_NUMBERED = (
    r"MRN|medical record(?: number| no\.?| #)?|accession(?: number| no\.?| #)?|acc|patient id|pat id|pid|account|acct|"
    r"chart|hospital (?:number|no)|nhs(?: number| no)?|ssn|social security(?: number)?|policy|insurance(?: id)?|"
    r"member(?: id)?|encounter|requisition|specimen|license|licence|passport|case (?:number|no\.?|#|id)|"
    r"study (?:number|no\.?|#|id)|order (?:number|no\.?|#|id)|visit (?:number|no\.?|#|id)|record (?:number|no\.?|#|id)|"
    r"file (?:number|no\.?|#|id)|serial (?:number|no\.?|#)|id"
)
#: (kind, pattern); the group ``hit`` is the identifier where more than that is matched.
_RULES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("email", r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
        ("url", r"\b(?:https?|ftp)://[^\s\]>)\"']+|\bwww\.[^\s\]>)\"']+"),
        ("url", r"(?<![\d.])(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}(?![\d.])"),
        ("id", r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])"),
        (
            "id",
            rf"(?i:\b(?:{_NUMBERED}))(?i:[\s:#=.]|\bis\b|\bno\b|\bnumber\b){{1,8}}"
            r"(?P<hit>(?=[A-Za-z-]{0,8}\d)[\w-]{4,})",
        ),
        ("id", r"\b[A-Z]{2,5}[-_ ]?\d{2,}[-_]\d{3,}\b|\b[A-Z]{1,5}[-_]?\d{5,}\b|\b\d{2,}-[A-Z]{1,5}-?\d{4,}\b"),
        ("id", r"(?<![\d.,])\d{7,}(?![\d]|[.,]\d)"),
        ("phone", r"(?<![\w.])\+\d{1,3}[\d ()./-]{6,18}\d(?:\s?(?i:x|ext)\.?\s?\d{1,6})?"),
        (
            "phone",
            r"(?<![\w.])(?:\+?\d{1,3}[ .-])?(?:\(\d{3,5}\) ?|\d{3,5}[.-])\d{3,4}[ .-]\d{3,4}"
            r"(?:\s?(?i:x|ext)\.?\s?\d{1,6})?(?![\d])",
        ),
        (
            "phone",
            r"(?i:\b(?:tel|telephone|phone|fax|pager|beeper|mobile|cell|call|ext)\b)(?i:[\s.:#]|\bat\b|\bnumber\b|\bon\b){1,6}"
            r"(?P<hit>[\d(][\d ()./-]{2,18}\d(?:\s?(?i:x|ext)\.?\s?\d{1,6})?)",
        ),
        (
            "address",
            rf"\b\d{{1,6}}[A-Za-z]?,? (?:[NSEW]\.? )?(?:[A-Z0-9][\w'’.-]* ){{1,4}}(?i:{_STREETS})\b\.?{_UNIT}?"
            r"(?:[,\s]+[A-Z][\w.'’-]+(?: [A-Z][\w.'’-]+){0,3},? [A-Z]{2} \d{5}(?:-\d{4})?)?",
        ),
        (
            "address",
            rf"(?:\b\d{{1,6}} (?:[A-Z][\w'’.-]* ?){{1,5}}{_UNIT}?[,\s]+)?\b[A-Z][\w.'’-]+(?: [A-Z][\w.'’-]+){{0,3}},? "
            r"[A-Z]{2} \d{5}(?:-\d{4})?\b",
        ),
        ("address", r"\b(?:(?:PSC|Unit|CMR) \d+,? Box \d+[,\s]+)?(?:APO|FPO|DPO),? A[AEP] \d{5}\b"),
        ("address", r"\b(?:P\.?O\.? Box) \d+\b|\b[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}\b"),
        ("address", r"\b[A-ZÄÖÜ]\w+(?:straße|strasse|str\.|gasse|allee|platz)\s\d{1,4}[a-z]?\b"),
        (
            "address",
            r"(?i:\b(?:address|lives at|living at|residing at|resident of))[: ]+(?P<hit>(?=[^\n]*\d)[^\n.;\[]+)",
        ),
        ("place", rf"\b(?P<hit>(?:(?:[A-Z][\w'’&-]*|St\.|of|and|the|at) ){{1,5}}(?:{_PLACES}))\b"),
        # Without a point, MR and MS are magnetic resonance and multiple sclerosis.
        ("name", rf"\b(?P<sure>(?:Dr|Mr|Mrs|Ms|Miss|Prof|Professor)\.?|(?:DR|MR|MRS|MS|PROF)\.) (?P<hit>{_PERSON})"),
        ("name", rf"\b(?P<sure>(?i:{_RELATIVES})(?:,| named| is)?) (?P<hit>{_PERSON})"),
        ("name", rf"\b(?i:(?:{_STAFF}))(?P<sure> ?:)? {{0,3}}(?P<hit>{_PERSON})"),
        ("name", rf"\b(?P<hit>{_PERSON}),? {_CREDENTIAL}(?![\w])"),
    )
)  # fmt: skip
_AGE = re.compile(
    r"(?i)\b(?P<old>9[1-9]|1[0-2]\d)(?=[- ]?(?:years?|yrs?|y/?o|yo)\b)|\b(?:aged?|age:)\s+(?P<aged>9[1-9]|1[0-2]\d)\b"
)
#: Characters of a text that is rather a cell of a table than a sentence.
_CELL = 32
_WORD = re.compile(
    r"(?<![\w'’.@-])[A-ZÀ-ÖØ-Þ][a-zß-öø-ÿ]+(?:['’-]?[A-ZÀ-ÖØ-Þ]?[a-zß-öø-ÿ]+)*(?![\w@])|(?<!\w)(?:O|D)['’][A-Z][a-z]+"
)
_STARTS = re.compile(r"(?:^|[.!?:;\n\]]\s*|[-*•]\s+|\d\.\s+|\(\s*)$")


def find(text: str, strange: bool = True) -> Iterator[Span]:
    """Where a text holds what a rule takes for an identifier; matches may overlap, sure rules come first.

    Args:
        text: any text.
        strange: take capitalised words that are not ordinary for names.
    """
    for kind, pattern in _RULES:
        for match in pattern.finditer(text):
            start, end = match.span("hit" if "hit" in pattern.groupindex else 0)
            if kind == "name":
                end = _end_of_name(text[start:end], start, sure=bool(match.groupdict().get("sure")))
            elif kind == "place":
                start = _start_of_place(text, start, end)
            if start < end:
                yield Span(start, end, kind, f"[{kind.upper()}]")
    for match in _AGE.finditer(text):
        yield Span(*match.span("old" if match["old"] else "aged"), "age", "90")
    if strange:
        yield from _strange_words(text)


def _end_of_name(name: str, start: int, sure: bool) -> int:
    """Where a name ends: before the first word that is an ordinary one; ``start`` when that is its first.

    Args:
        name: words that may be a name.
        start: where they begin.
        sure: what stands before them says that they are one, so that the first word counts whatever it is.
    """
    end, strange = 0, sure
    for number, word in enumerate(re.finditer(r"[^\s,]+", name)):
        plain = word.group().strip(".'’")
        unknown = not is_ordinary(plain)
        # Behind a strange word an ordinary one is part of the name (Okafor Stone), unless a comma parts them.
        follows = strange and not plain.isupper() and name[word.start() - 2 : word.start()] != ", "
        if len(plain) == 1 or unknown or (sure and number == 0) or follows:
            end = word.end()
        elif plain[:1].isupper():
            break
        strange = strange or unknown
    only_initials = all(len(part.strip(".")) == 1 for part in re.findall(r"[^\s,]+", name[:end]))
    return start + (0 if only_initials and not sure else end)


def _start_of_place(text: str, start: int, end: int) -> int:
    """Where the name of a place begins: at its first strange word; ``end`` when all are ordinary."""
    words = list(re.finditer(r"\S+", text[start:end]))
    strange = [
        word.start() for word in words[:-1] if not is_ordinary(word.group().strip(".,'’")) or word.group() == "St."
    ]
    return start + strange[0] if strange else end


def _strange_words(text: str) -> Iterator[Span]:
    """Capitalised words that no report has but as names, with those beside them."""
    lower = set(re.findall(r"(?<!\w)[a-zß-öø-ÿ]{3,}(?!\w)", text))
    previous: re.Match[str] | None = None
    inside = False
    for match in _WORD.finditer(text):
        starts = _starts(text, match)
        beside = previous is not None and text[previous.end() : match.start()] == " "
        before, previous = previous, match
        word = re.sub(r"['’]s$", "", match.group())
        strange = word.lower() not in lower and not is_ordinary(word, starts_sentence=starts)
        strange = strange and not _NAMED_AFTER.match(text, match.end())
        # The first word of a sentence has a capital anyway; in a text as short as a cell it is a given name.
        part = before is not None and (len(text) < _CELL or not _starts(text, before))
        if strange and beside and part and before is not None and not inside:
            yield Span(before.start(), before.end(), "name", "[NAME]")
        inside = strange or (inside and beside)
        if inside:
            yield Span(match.start(), match.end(), "name", "[NAME]")


def _starts(text: str, word: re.Match[str]) -> bool:
    return bool(_STARTS.search(text[max(0, word.start() - 8) : word.start()]))
