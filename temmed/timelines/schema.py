"""The tables of a timeline folder: columns, types, keys.

Every table is declared once, here. Reading, writing, validation and the documentation all follow these declarations.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

FORMAT = "temmed-timeline/1"

#: Factors from each ``time_unit`` to the canonical unit of its family: days for visits, seconds for cine loops.
#: ``frame`` and ``ordinal`` carry an order and no physical unit, so they are left as they are.
TIME_UNITS: dict[str, tuple[str, float]] = {
    "day": ("day", 1.0),
    "week": ("day", 7.0),
    "second": ("second", 1.0),
    "millisecond": ("second", 1e-3),
    "frame": ("step", 1.0),
    "ordinal": ("step", 1.0),
}

#: Width, in ln units, of the band around a bound of the progression rule in which nothing is asked.
PROGRESSION_MARGIN = 0.05
#: ln 1.2: the symmetric bound of the progression rule.
PROGRESSION_BOUND = 0.1823215567939546
#: Half-open horizon bins in steps, as (label, first, last).
HORIZON_BINS: tuple[tuple[str, int, int], ...] = (
    ("1", 1, 1),
    ("2", 2, 2),
    ("3-4", 3, 4),
    ("5-8", 5, 8),
    ("9-16", 9, 16),
    ("17+", 17, 2**31 - 1),
)
ABSENCE_BIN = "absence"


def horizon_bin(steps: float | None, evidence_kind: str = "positions") -> str:
    """The label of the horizon bin that a question falls into.

    Args:
        steps: ``asked_at - min(evidence)``, in positions; ``None`` or NaN for absence.
        evidence_kind: ``positions`` or ``absence``.

    Returns:
        One of ``0, 1, 2, 3-4, 5-8, 9-16, 17+, absence``.

    Examples:
        >>> horizon_bin(3)
        '3-4'
        >>> horizon_bin(None, "absence")
        'absence'
    """
    if evidence_kind == ABSENCE_BIN or steps is None or steps != steps:
        return ABSENCE_BIN
    for label, first, last in HORIZON_BINS:
        if first <= steps <= last:
            return label
    return "0"


class Kind(Enum):
    """How a column's values are stored and checked."""

    STRING = "string"
    INTEGER = "integer"
    FLOAT = "float"
    BOOLEAN = "boolean"
    STRINGS = "list of strings"
    INTEGERS = "list of integers"


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        kind: the type of its values.
        required: whether the column must be there.
        nullable: whether a value may be missing.
        choices: the values allowed, or empty for any.
        minimum: the least value allowed, for numbers.
    """

    kind: Kind
    required: bool = True
    nullable: bool = False
    choices: tuple[str, ...] = ()
    minimum: float | None = None


@dataclass(frozen=True)
class Table:
    """One table: its columns, its unique key and the tables its ids point into."""

    columns: dict[str, Column]
    key: tuple[str, ...]
    foreign: dict[tuple[str, ...], str]
    open_ended: bool = False


_ID = Column(Kind.STRING)
_OPTIONAL_ID = Column(Kind.STRING, required=False, nullable=True)
_TEXT = Column(Kind.STRING)
_OPTIONAL_TEXT = Column(Kind.STRING, required=False, nullable=True)
_POSITION = Column(Kind.INTEGER, minimum=0)
_OPTIONAL_POSITION = Column(Kind.INTEGER, required=False, nullable=True, minimum=0)
_NUMBER = Column(Kind.FLOAT)
_OPTIONAL_NUMBER = Column(Kind.FLOAT, required=False, nullable=True)

SCHEMA: dict[str, Table] = {
    "patients": Table(
        {"patient_id": _ID, "sex": _OPTIONAL_TEXT, "age": _OPTIONAL_NUMBER, "site": _OPTIONAL_TEXT},
        key=("patient_id",),
        foreign={},
        open_ended=True,
    ),
    "sequences": Table(
        {
            "sequence_id": _ID,
            "patient_id": _ID,
            "modality": _TEXT,
            "time_unit": Column(Kind.STRING, choices=tuple(TIME_UNITS)),
            "clock_offset": _OPTIONAL_NUMBER,
            "spatial_dims": Column(Kind.INTEGER, minimum=2),
            "scanner": _OPTIONAL_TEXT,
        },
        key=("sequence_id",),
        foreign={("patient_id",): "patients"},
    ),
    "timepoints": Table(
        {
            "sequence_id": _ID,
            "position": _POSITION,
            "time": _NUMBER,
            "time_lower": _OPTIONAL_NUMBER,
            "time_upper": _OPTIONAL_NUMBER,
        },
        key=("sequence_id", "position"),
        foreign={("sequence_id",): "sequences"},
    ),
    "images": Table(
        {
            "sequence_id": _ID,
            "position": _POSITION,
            "channel": _TEXT,
            "path": _TEXT,
            "frame": _OPTIONAL_POSITION,
        },
        key=("sequence_id", "position", "channel"),
        foreign={("sequence_id", "position"): "timepoints"},
    ),
    "reports": Table(
        {
            "report_id": _ID,
            "patient_id": _ID,
            "sequence_id": _OPTIONAL_ID,
            "position": _OPTIONAL_POSITION,
            "time": _OPTIONAL_NUMBER,
            "kind": Column(Kind.STRING, choices=("report", "note")),
            "text": _TEXT,
        },
        key=("report_id",),
        foreign={("patient_id",): "patients"},
    ),
    "findings": Table(
        {"finding_id": _ID, "sequence_id": _ID, "label": _TEXT, "location": _OPTIONAL_TEXT},
        key=("finding_id",),
        foreign={("sequence_id",): "sequences"},
    ),
    "measurements": Table(
        {
            "finding_id": _ID,
            "position": _POSITION,
            "quantity": _TEXT,
            "value": _NUMBER,
            "unit": _OPTIONAL_TEXT,
        },
        key=("finding_id", "position", "quantity"),
        foreign={("finding_id",): "findings"},
    ),
    "treatments": Table(
        {"patient_id": _ID, "name": _TEXT, "start": _NUMBER, "stop": _OPTIONAL_NUMBER},
        key=("patient_id", "name", "start"),
        foreign={("patient_id",): "patients"},
    ),
    "questions": Table(
        {
            "question_id": _ID,
            "sequence_id": _ID,
            "finding_id": _OPTIONAL_ID,
            "task": _TEXT,
            "template": _TEXT,
            "prompt": _TEXT,
            "asked_at": _POSITION,
            "choices": Column(Kind.STRINGS, required=False, nullable=True),
            "answer": _OPTIONAL_TEXT,
            "value": _OPTIONAL_NUMBER,
            "evidence": Column(Kind.INTEGERS, required=False, nullable=True),
            "evidence_kind": Column(Kind.STRING, required=False, nullable=True, choices=("positions", "absence")),
            "evidence_report_id": _OPTIONAL_ID,
            "evidence_sentence": _OPTIONAL_TEXT,
            "names_position": Column(Kind.BOOLEAN, required=False, nullable=True),
            "horizon_steps": _OPTIONAL_POSITION,
            "horizon_time": _OPTIONAL_NUMBER,
        },
        key=("question_id",),
        foreign={("sequence_id", "asked_at"): "timepoints"},
    ),
    "events": Table(
        {
            "event_id": _ID,
            "sequence_id": _ID,
            "finding_id": _OPTIONAL_ID,
            "label": _TEXT,
            "onset_lower": _OPTIONAL_NUMBER,
            "onset_upper": _OPTIONAL_NUMBER,
            "offset_lower": _OPTIONAL_NUMBER,
            "offset_upper": _OPTIONAL_NUMBER,
            "report_id": _OPTIONAL_ID,
            "sentence": _OPTIONAL_TEXT,
        },
        key=("event_id",),
        foreign={("sequence_id",): "sequences"},
    ),
    "statements": Table(
        {
            "statement_id": _ID,
            "report_id": _OPTIONAL_ID,
            "sequence_id": _ID,
            "position": _POSITION,
            "finding_id": _OPTIONAL_ID,
            "text": _TEXT,
            "direction": _OPTIONAL_TEXT,
            "location": _OPTIONAL_TEXT,
            "consistent": Column(Kind.BOOLEAN),
            "flip": _OPTIONAL_TEXT,
        },
        key=("statement_id",),
        foreign={("sequence_id", "position"): "timepoints"},
    ),
    "boxes": Table(
        {
            "finding_id": _ID,
            "position": _POSITION,
            "channel": _TEXT,
            "x1": _NUMBER,
            "y1": _NUMBER,
            "x2": _NUMBER,
            "y2": _NUMBER,
        },
        key=("finding_id", "position", "channel"),
        foreign={("finding_id",): "findings"},
    ),
    "masks": Table(
        {"finding_id": _ID, "position": _POSITION, "channel": _TEXT, "path": _TEXT},
        key=("finding_id", "position", "channel"),
        foreign={("finding_id",): "findings"},
    ),
}

#: Tables without which nothing can be opened.
REQUIRED_TABLES = ("patients", "sequences", "timepoints", "images")
