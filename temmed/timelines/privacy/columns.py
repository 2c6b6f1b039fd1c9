"""What a column of a table, or a key of a JSON file, holds about people, told by its name."""

from __future__ import annotations

import re
from functools import cache
from typing import Literal, cast

Kind = Literal["patient", "record", "remove", "birth", "date", "age", "path", "key", "text"]

_SUFFIX = r"(?:_?(?:id|ids|key|no|num|number|uid))"
#: The first pattern that a name matches, in lower case with underscores, says what the column holds.
_KINDS: tuple[tuple[Kind, re.Pattern[str]], ...] = tuple(
    (cast(Kind, kind), re.compile(pattern))
    for kind, pattern in (
        (
            "patient",
            rf"(?:.*_)?(?:patient|subject|participant|person|pat|pt){_SUFFIX}?|pid|ptid|rid|mrn|oasisid|.*_mrn|"
            rf"(?:medical_record|hospital|unit|chart){_SUFFIX}",
        ),
        (
            "remove",
            r"(?:.*_)?(?:name|first_?name|last_?name|family_?name|given_?name|surname|initials|physicians?|doctor|"
            r"radiologist|operator|technologist|technician|author|authors|e_?mail|phone|telephone|mobile|fax|address|"
            r"street|city|town|zip|zip_?code|postal_?code|postcode|county|ssn|insurance|institution|hospital|"
            r"referring|attending|contact|employer|occupation|religion|next_of_kin|nhs(?:_?(?:no|number))?|"
            r"social_security\w*|medicare\w*|passport\w*|national_id\w*|nurse|surgeon|consultant|"
            r"(?:signed|dictated|reported|read|verified|approved|entered|ordered|referred|requested|performed|"
            r"transcribed|acquired|scanned|annotated|reviewed)_by)"
            r"|(?:.*_)?(?:physician|patient|operator|institution|station|performing|referring)\w*(?:_?names?|_?address)",
        ),
        ("birth", r"(?:.*_)?(?:dob|birth\w*|date_of_birth|born|death_?date|date_of_death|dod)"),
        (
            "record",
            rf"(?:.*_)?(?:study|series|accession|image|dicom|exam|encounter|visit|order|admission|hadm|stay|account|"
            rf"specimen|serial|device_?serial|rad){_SUFFIX}|accession|(?:.*_)?uid",
        ),
        ("path", r"(?:.*_)?(?:path|paths|file|files|filename|file_?name|img_?path|image_?path|folder|intended_?for)"),
        (
            "date",
            r"(?:.*_)?(?:date|datetime|day_of|timestamp|acq_?time|date_?time|exam_?date|study_?date|created|modified)",
        ),
        ("age", r"(?:.*_)?age(?:_(?:at|in|years)\w*)?"),
        ("key", r"(?:.*_)?ids?"),
    )
)
#: Names of things and not of persons; and columns of a timeline folder that only sound like more.
_HARMLESS = re.compile(
    r"(?:task|protocol|sequence|series|scanner|modality|manufacturers?|model|column|variable|file|drug|treatment|"
    r"dataset|institutional|coil|receive_coil|pulse_sequence|software|template|parameter|body_part|suite|tracer)_?(?:model_?)?name"
    r"|names?_position|institutional_department_name|name"
)
#: A column of this name beside one that describes a person holds that person's name, and else that of a thing.
_NAME, _OF_PERSONS = (
    "name",
    re.compile(r"sex|gender|(?:.*_)?age|first_?name|last_?name|phone|telephone|e_?mail|address"),
)
#: Cells that say that there is nothing.
MISSING = frozenset(("", "n/a", "na", "nan", "none", "null", "x"))
_PLACEHOLDER = re.compile(r"\[[A-Z]+\]")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]+")


@cache
def kind_of(name: str) -> Kind:
    """What a column holds.

    Examples:
        >>> kind_of("PatientID"), kind_of("acq_time"), kind_of("report"), kind_of("Referring Physician")
        ('patient', 'date', 'text', 'remove')
    """
    plain = _plain(name)
    if _HARMLESS.fullmatch(plain):
        return "text"
    return next((kind for kind, pattern in _KINDS if pattern.fullmatch(plain)), "text")


@cache
def kinds_of(names: tuple[str, ...]) -> tuple[Kind, ...]:
    """What the columns of one table hold, or the keys of one JSON object.

    Examples:
        >>> kinds_of(("name", "sex")), kinds_of(("name", "start"))
        (('remove', 'text'), ('text', 'text'))
    """
    kinds = tuple(map(kind_of, names))
    plain = list(map(_plain, names))
    if "birth" not in kinds and not any(map(_OF_PERSONS.fullmatch, plain)):
        return kinds
    return tuple("remove" if name == _NAME else kind for name, kind in zip(plain, kinds, strict=True))


def patient_id(value: str) -> str:
    """A patient's id without the prefix that BIDS gives it."""
    return value.strip().removeprefix("sub-")


def _plain(name: str) -> str:
    # What stands there instead of a name says nothing about the column.
    parts = _CAMEL.split(_PLACEHOLDER.sub(" ", name).strip())
    return "_".join(part for part in parts if part).lower()
