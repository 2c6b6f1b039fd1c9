"""The wording of generated questions, by template.

Each template has several phrasings. A phrasing is filled by `render` with

- ``finding``: label and place, for example ``white matter lesion in the left frontal lobe``;
- ``first``, ``last``: the two moments compared, already in words (`time_point`, `elapsed`).
"""

from __future__ import annotations

PROGRESSION_CHOICES = ("progressed", "stable", "regressed")
NEVER = "never"

#: template -> phrasings.
PHRASINGS: dict[str, tuple[str, ...]] = {
    "progression_timepoint": (
        "Between {first} and {last}, has the {finding} progressed, regressed or remained stable?",
        "Compare {last} with {first}: did the {finding} progress, regress or stay stable?",
    ),
    "progression_elapsed": (
        "Between {first} and {last} after the first examination, has the {finding} progressed, regressed or "
        "remained stable?",
        "Compare {last} with {first} after the first examination: did the {finding} progress, regress or stay stable?",
    ),
    "progression_previous": (
        "Compared with the previous examination, has the {finding} progressed, regressed or remained stable?",
        "Since the previous examination, did the {finding} progress, regress or stay stable?",
    ),
    "progression_first": (
        "Since it was first seen, has the {finding} progressed, regressed or remained stable?",
        "Compared with the examination that first showed it, did the {finding} progress, regress or stay stable?",
    ),
    "measurement_prior": ("What was the longest diameter of the {finding} at {first}, in millimetres?",),
    "measurement_current": ("What is the longest diameter of the {finding} at {last}, in millimetres?",),
    "measurement_size": ("What is the longest diameter of the {finding} now, in millimetres?",),
    "measurement_ratio": (
        "What is the ratio of the longest diameter of the {finding} at {last} to that at {first}?",
    ),
    "event_appear": (
        "At which time point did the {finding} first appear?",
        "When was the {finding} seen for the first time?",
    ),
    "event_disappear": (
        "At which time point had the {finding} disappeared?",
        "When was the {finding} no longer seen for the first time?",
    ),
}


def render(template: str, phrasing: int, **words: str) -> str:
    """Fill one phrasing of a template.

    Args:
        template: a key of `PHRASINGS`.
        phrasing: any integer; taken modulo the number of phrasings.
        **words: the values of the placeholders.

    Examples:
        >>> render("event_appear", 0, finding="nodule in the left frontal lobe")
        'At which time point did the nodule in the left frontal lobe first appear?'
    """
    phrasings = PHRASINGS[template]
    return phrasings[phrasing % len(phrasings)].format(**words)


def time_point(position: int) -> str:
    """A position in words: ``time point 3``."""
    return f"time point {position}"


def elapsed(time: float, time_unit: str) -> str:
    """An elapsed time in words, in the sequence's own unit: ``184 days``."""
    return f"{time:g} {time_unit}s"
