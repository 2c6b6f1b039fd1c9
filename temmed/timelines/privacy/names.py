"""Persons and institutions in text, told by the words beside them and by capitals that ordinary words do not have."""

from __future__ import annotations

import re
from collections.abc import Iterator

from temmed.timelines.privacy.known import Span
from temmed.timelines.privacy.vocabulary import is_ordinary

_LATIN = [chr(code) for code in range(0xC0, 0x250)]
_UP = "A-Z" + "".join(filter(str.isupper, _LATIN))
_LOW = "a-z" + "".join(filter(str.islower, _LATIN))
_NAME = rf"[{_UP}][\w'’-]*[\w]"
_INITIAL = rf"[{_UP}]\.?"
#: A person: capitalised words, initials between them, ``Family, Given``.
_PERSON = rf"(?:{_INITIAL} )*{_NAME}(?:,? (?:{_NAME}|{_INITIAL}|(?:van|von|der|den|de|la|del|bin|al)\b)){{0,4}}"
_CREDENTIAL = r"(?:M\.?D\.?|D\.?O\.?|Ph\.?D\.?|DDS|DVM|RN|NP|PA-C|FRCR|FRCP|MBBS|MBChB|FACR|RT\(R\)|MRCP|CNP|BSN)"
_PLACES = (
    r"Hospitals?|Clinics?|Infirmary|Medical Cent(?:er|re)|Health(?:care)? (?:Cent(?:er|re)|System|Trust)|Health|"
    r"University|Institute|Hospice|Nursing Home|Imaging Cent(?:er|re)|Radiology|Associates|Radiology Associates|"
    r"Medical Group|Surgery Cent(?:er|re)|Cancer Cent(?:er|re)|Foundation"
)
_STAFF = (
    "patient name|name of patient|pt name|full name|name|referring(?: physician| doctor| provider)?|referred by|"
    "ordering(?: physician| doctor| provider)?|ordered by|attending(?: physician)?|radiologist|physician|surgeon|"
    "dictated by|transcribed by|transcriptionist|signed(?: by)?|reported by|reviewed by|read by|interpreted by|"
    "approved by|verified by|authenticated by|prepared by|performed by|requested by|seen by|examined by|"
    "discussed with|communicated (?:to|with)|conveyed to|relayed to|called to|notified|informed|operator|technologist|"
    "sonographer|consultant|nurse|next of kin|emergency contact|contact|cc|re|dear|patient|pt|by"
)
_RELATIVES = (
    "wife|husband|son|daughter|mother|father|brother|sister|spouse|partner|friend|neighbou?r|guardian|carer|caregiver"
)
_PLACE = re.compile(rf"\b(?P<hit>(?:(?:[{_UP}][\w'’&-]*|St\.|of|and|the|at) ){{1,5}}(?:{_PLACES}))\b")
#: The group ``hit`` is the person; where ``sure`` matched, what stands there is one, whatever word it is.
_RULES = tuple(
    re.compile(pattern)
    for pattern in (
        # As DICOM and HL7 write names.
        rf"(?P<sure>(?<![\w^]))(?P<hit>[^\W\d_][\w'’-]+\^[^\W\d_][\w'’-]*(?: [{_UP}][\w'’-]*)?(?:\^[\w'’.-]*){{0,3}})",
        # Who dictated and who typed.
        rf"(?m)(?P<sure>^|:) ?(?P<hit>[{_UP}]{{2,3}}[/:](?!lat)[a-z]{{2,3}})[ .]*$",
        # Without a point, MR and MS are magnetic resonance and multiple sclerosis.
        rf"\b(?P<sure>(?:Dr|Mr|Mrs|Ms|Miss|Prof|Professor)\.?|(?:DR|MR|MRS|MS|PROF)\.)\s{{1,2}}(?P<hit>{_PERSON})",
        rf"\b(?P<sure>(?i:{_RELATIVES})(?:,| named| is)?) (?P<hit>{_PERSON})",
        rf"\b(?i:{_STAFF})(?!\w)(?P<sure> ?:)? {{0,3}}(?P<hit>{_PERSON})",
        rf"\b(?P<hit>{_PERSON}),? {_CREDENTIAL}(?![\w])",
        rf"(?i:\binitials)(?P<sure>:| are| is) ?(?P<hit>(?:[{_UP}]\.? ?){{2,4}}(?![\w]))",
        rf"(?P<sure>(?<![\w.]))(?P<hit>(?:[{_UP}]\.){{2,3}})(?= (?:is|was|has|presents|presented)\b)",
    )
)
#: What follows the person that a sign, disease or device is named after.
_NAMED_AFTER = re.compile(
    r"(?:['’]s)? (?:disease|syndrome|signs?|angle|lines?|lymphoma|fracture|hernia|grade|score|classification|criteria|"
    r"index|method|ring|duct|nodes?|nodule|tumou?r|cells?|body|bodies|procedure|operation|type|scale|test|maneuver|"
    r"manoeuvre|tube|catheter|filter|stent|rods?|plate|abscess|point|triangle|pouch|ligament|canal|fossa|artery|vein|"
    r"cysts?|lesions?|deformity|(?:fat )?pad|cardiomyopathy|anomaly|physiology|granulomatosis|gallbladder|malformation|"
    r"contracture|palsy|phenomenon|reaction|space|view|approach|repair|technique|formula|equation|sarcoma|thyroiditis|"
    r"arthropathy|nerve|plexus|membrane|valve|graft|shunt|needle|clips?|coils?|pump|port|device|neuropathy|nails?|"
    r"prosthesis|screws?|wires?|appearance|zone|tetralogy|biplane|drain|mass|gangrene|chorea|encephalopathy)\b"
)
#: Characters of a text that is rather a cell of a table than a sentence.
_CELL = 32
_WORD = re.compile(
    rf"(?<![\w'’.@-])[{_UP}][{_LOW}]+(?:['’-]?[{_UP}]?[{_LOW}]+)*(?![\w@])|(?<!\w)(?:O|D)['’][{_UP}][{_LOW}]+"
)
_STARTS = re.compile(r"(?:^|[.!?:;\n\]]\s*|[-*•]\s+|\d\.\s+|\(\s*)$")
#: Two words in capitals beside each other, with or without a comma.
_SHOUTED = re.compile(rf"(?<![\w'’.@/-])(?=([{_UP}][{_UP}'’-]{{2,}}),? ([{_UP}][{_UP}'’-]{{2,}})(?![\w@/-]))")
_VOWEL = re.compile(r"[AEIOUY]|[^\x00-\x7f]")
#: Shorter pairs are abbreviations.
_LETTERS = 7


def find(text: str, strange: bool = True) -> Iterator[Span]:
    """Where a text names somebody, or an institution; matches may overlap, sure rules come first.

    Args:
        text: any text.
        strange: take capitalised words that are not ordinary for names, as in prose.
    """
    if text.islower() and "^" not in text:
        return
    for match in _PLACE.finditer(text):
        start = _start_of_place(text, *match.span("hit"))
        if start < match.end():
            yield Span(start, match.end(), "place", "[PLACE]")
    for pattern in _RULES:
        for match in pattern.finditer(text):
            start = match.start("hit")
            sure = match.groupdict().get("sure") is not None
            end = start + _length_of_name(match["hit"], sure)
            if start < end:
                yield Span(start, end, "name", "[NAME]")
    if strange:
        yield from _strange_words(text)
        yield from _shouted_words(text)


def _length_of_name(name: str, sure: bool) -> int:
    """How many characters of what may be a name are one: up to the first word that is an ordinary one.

    Args:
        name: words that may be a name.
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
    return 0 if only_initials and not sure else end


def _start_of_place(text: str, start: int, end: int) -> int:
    """Where the name of a place begins: at its first strange word; ``end`` when all are ordinary."""
    words = list(re.finditer(r"\S+", text[start:end]))
    strange = [
        word.start() for word in words[:-1] if not is_ordinary(word.group().strip(".,'’")) or word.group() == "St."
    ]
    return start + strange[0] if strange else end


def _strange_words(text: str) -> Iterator[Span]:
    """Capitalised words that no report has but as names, with those beside them."""
    lower = set(re.findall(rf"(?<!\w)[{_LOW}]{{3,}}(?!\w)", text))
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


def _shouted_words(text: str) -> Iterator[Span]:
    """Two strange words in capitals beside each other; one alone is more often an abbreviation."""
    for match in _SHOUTED.finditer(text):
        pair = match.groups()
        strange = all(_VOWEL.search(word) and not is_ordinary(word, starts_sentence=True) for word in pair)
        if strange and sum(map(len, pair)) >= _LETTERS:
            yield Span(match.start(1), match.end(2), "name", "[NAME]")


def _starts(text: str, word: re.Match[str]) -> bool:
    return bool(_STARTS.search(text[max(0, word.start() - 8) : word.start()]))
