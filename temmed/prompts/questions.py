"""The wording of generated questions, by template.

Each template has several phrasings. A phrasing is filled by `render` with

- ``finding``: label and place, for example ``white matter lesion in the left frontal lobe``;
- ``first``, ``last``: the two moments compared, already in words (`time_point`, `elapsed`);
- ``quantity``: what is measured; ``longest diameter`` by default;
- ``unit``: of what is measured; ``millimetres`` by default.
"""

from __future__ import annotations

PROGRESSION_CHOICES = ("progressed", "stable", "regressed")
NEVER = "never"
#: Response to therapy, by criteria in clinical use: not symmetric in time, and so no part of reversal controls.
RESPONSE_CHOICES = ("progressing", "stable", "improved")
#: What became of a finding between two examinations, appearance and disappearance included.
COMPARISON_CHOICES = ("new", "worse", "stable", "improved", "resolved", "never there")
YES_NO = ("yes", "no")

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
    "measurement_prior": ("What was the {quantity} of the {finding} at {first}, in {unit}?",),
    "measurement_current": ("What is the {quantity} of the {finding} at {last}, in {unit}?",),
    "measurement_size": ("What is the {quantity} of the {finding} now, in {unit}?",),
    "measurement_ratio": ("What is the ratio of the {quantity} of the {finding} at {last} to that at {first}?",),
    "event_appear": (
        "At which time point did the {finding} first appear?",
        "When was the {finding} seen for the first time?",
    ),
    "event_disappear": (
        "At which time point had the {finding} disappeared?",
        "When was the {finding} no longer seen for the first time?",
    ),
    "response_finding": (
        "Therapy was started after {first}. Judged by its diameter, is the {finding} now improved (at least 30 % below "
        "the baseline), progressing (at least 20 % and 5 mm above the smallest since) or stable?",
        "With {first} as baseline before therapy, has the {finding} improved, remained stable or been progressing by "
        "response criteria (30 % below the baseline; 20 % and 5 mm above the nadir)?",
    ),
    "response_overall": (
        "Therapy was started after {first}. Judged by new findings and by the sum of the diameters of those that were "
        "at least 10 mm at the baseline, is the disease now improved, stable or progressing?",
        "With {first} as baseline before therapy, has the disease improved, remained stable or been progressing by "
        "response criteria (sum of diameters of at least 10 mm at the baseline: 30 % below it; 20 % and 5 mm above "
        "the nadir; new findings)?",
    ),
    "new_previous": (
        "Is there a finding now that was not there at the previous examination?",
        "Compared with the previous examination, has a new finding appeared?",
    ),
    "new_timepoint": (
        "Is there a finding now that was not there at {first}?",
        "Compared with {first}, has a new finding appeared?",
    ),
    "new_since": (
        "Since which time point has the finding been there that was not there at {first}?",
        "A finding is new since {first}. At which time point was it seen for the first time?",
    ),
    "comparison_previous": (
        "What has become of the {finding} since the previous examination?",
        "Compared with the previous examination, how is the {finding}?",
    ),
    "progression_frame": (
        "Between {first} and {last}, has the {finding} progressed (grown by a fifth), regressed or remained stable?",
        "Compare {last} with {first}: did the {finding} progress (grow by a fifth), regress or stay stable?",
    ),
    "measurement_ejection": (
        "What is the ejection fraction of the {finding} in percent?",
        "By how many percent of its largest volume does the {finding} empty in a beat?",
    ),
    "event_systole": (
        "At which of these frames is the {finding} smallest?",
        "Which of these frames shows end-systole of the {finding}?",
    ),
    "event_diastole": (
        "At which of these frames is the {finding} largest?",
        "Which of these frames shows end-diastole of the {finding}?",
    ),
    "event_arrival": (
        "At which frame has contrast arrived in the {finding}?",
        "Which frame is the first with contrast in the {finding}?",
    ),
    "event_washout": (
        "At which frame has contrast washed out of the {finding}?",
        "Which frame is the first without contrast in the {finding} after it had arrived?",
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
    usual = {"quantity": "longest diameter", "unit": "millimetres"}
    return phrasings[phrasing % len(phrasings)].format(**{**usual, **words})


def time_point(position: int) -> str:
    """A position in words: ``time point 3``."""
    return f"time point {position}"


def frame(position: int) -> str:
    """A position of a cine loop in words: ``frame 3``."""
    return f"frame {position}"


def elapsed(time: float, time_unit: str) -> str:
    """An elapsed time in words, in the sequence's own unit: ``184 days``."""
    return f"{time:g} {time_unit}s"
