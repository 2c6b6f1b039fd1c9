"""Questions with exact answers, chosen so that nothing but the comparison over time tells them.

Progression candidates are all (finding, template, pair) that the rule allows. They are kept in equal numbers per
verdict within cells of template, horizon, size of the finding in the asked image, size of the other findings there,
elapsed time and asked position, so that neither the wording nor the asked image says which verdict is likelier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from temmed.prompts.questions import NEVER, PROGRESSION_CHOICES, elapsed, render, time_point
from temmed.timelines.schema import TIME_UNITS
from temmed.timelines.synthetic.asking import COLUMNS, UNIT_WORDS, question_row, size_kind
from temmed.timelines.synthetic.balance import balanced
from temmed.timelines.synthetic.courses import Course, Finding
from temmed.timelines.synthetic.followup import comparison_questions, new_finding_questions, response_questions
from temmed.timelines.synthetic.progression import verdict
from temmed.timelines.tables import named_rows

#: Mean number of questions per sequence, by task.
PER_SEQUENCE = {"progression": 7, "measurement_pairs": 2, "measurement_sizes": 4, "event": 2}
CHOICES_PER_EVENT = 4


def _pairs(course: Course, finding: Finding) -> Iterator[tuple[int, int]]:
    visible = np.flatnonzero(course.imaged & (finding.diameters > 0))
    for later in range(1, len(visible)):
        for earlier in range(later):
            yield int(visible[earlier]), int(visible[later])


def _progression_candidates(courses: list[Course]) -> pd.DataFrame:
    rows = []
    for number, course in enumerate(courses):
        imaged = np.flatnonzero(course.imaged)
        previous = dict(zip(imaged[1:].tolist(), imaged[:-1].tolist(), strict=True))
        totals = np.sum([f.diameters for f in course.findings], axis=0)
        for which, finding in enumerate(course.findings):
            visible = np.flatnonzero(course.imaged & (finding.diameters > 0))
            kind = size_kind(course, finding.label)
            for first, last in _pairs(course, finding):
                size = finding.diameters[last]
                common = (number, which, first, last, finding.diameters[first], size, totals[last] - size)
                gap = course.times[last] - course.times[first]
                rows.append((*common, gap, kind, "progression_timepoint"))
                if TIME_UNITS[course.time_unit][0] != "step":
                    rows.append((*common, gap, kind, "progression_elapsed"))
                if previous[last] == first:
                    rows.append((*common, gap, kind, "progression_previous"))
                if visible[0] == first:
                    rows.append((*common, gap, kind, "progression_first"))
    columns = ["course", "finding", "first", "last", "size_first", "size_last", "others", "gap", "kind", "template"]
    table = pd.DataFrame(rows, columns=columns)
    table["verdict"], asked = verdict(table["size_first"].to_numpy(), table["size_last"].to_numpy())
    table["steps"] = table["last"] - table["first"]
    return table[asked].reset_index(drop=True)


def _progression(courses: list[Course], rng: np.random.Generator) -> list[dict]:
    candidates = _progression_candidates(courses)
    # Where labels differ in size, each has cells of its own.
    several = candidates["kind"].nunique() > 1
    table = balanced(candidates, PER_SEQUENCE["progression"] * len(courses), rng, coarse=several)
    rows = []
    for row, phrasing in zip(named_rows(table), rng.integers(0, 2, len(table)), strict=True):
        course = courses[row.course]
        finding = course.findings[row.finding]
        if row.template == "progression_elapsed":
            moments = (
                elapsed(course.times[row.first], course.time_unit),
                elapsed(course.times[row.last], course.time_unit),
            )
        else:
            moments = (time_point(row.first), time_point(row.last))
        rows.append(
            question_row(
                course.index,
                course.times,
                row.finding,
                task="progression",
                template=row.template,
                prompt=render(row.template, int(phrasing), finding=finding.phrase, first=moments[0], last=moments[1]),
                asked_at=int(row.last),
                choices=list(PROGRESSION_CHOICES),
                answer=PROGRESSION_CHOICES[row.verdict],
                evidence=[int(row.first), int(row.last)],
                names_position=row.template in ("progression_timepoint", "progression_elapsed"),
            )
        )
    return rows


def _measurement(courses: list[Course], rng: np.random.Generator) -> list[dict]:
    """Pairs (prior, current and their ratio), and single sizes at the asked position."""
    rows = []
    for course in courses:
        pairs = [(which, pair) for which, f in enumerate(course.findings) for pair in _pairs(course, f)]
        for k in rng.permutation(len(pairs))[: PER_SEQUENCE["measurement_pairs"]]:
            which, (first, last) = pairs[k]
            sizes = course.findings[which].diameters[[first, last]]
            rows += [
                _measured(course, which, "measurement_prior", first, last, sizes[0], [first]),
                _measured(course, which, "measurement_current", first, last, sizes[1], [last]),
                _measured(course, which, "measurement_ratio", first, last, sizes[1] / sizes[0], [first, last]),
            ]
        seen = [
            (which, int(position))
            for which, finding in enumerate(course.findings)
            for position in np.flatnonzero(course.imaged & (finding.diameters > 0))
        ]
        for k in rng.permutation(len(seen))[: PER_SEQUENCE["measurement_sizes"]]:
            which, last = seen[k]
            size = course.findings[which].diameters[last]
            rows.append(_measured(course, which, "measurement_size", last, last, size, [last]))
    return rows


def _measured(
    course: Course, which: int, template: str, first: int, last: int, value: float, evidence: list[int]
) -> dict:
    finding = course.findings[which]
    quantity = course.plan.kinds[finding.label].words
    words = {
        "finding": finding.phrase,
        "quantity": quantity,
        "unit": UNIT_WORDS[course.unit],
        "first": time_point(first),
        "last": time_point(last),
    }
    return question_row(
        course.index,
        course.times,
        which,
        task="measurement",
        template=template,
        prompt=render(template, 0, **words),
        asked_at=last,
        value=float(np.round(value, 3)),
        evidence=evidence,
        names_position=template != "measurement_size",
    )


def _event_candidates(courses: list[Course], template: str) -> pd.DataFrame:
    """(course, finding or absent entry, asked position, true position or −1 for never, evidence)."""
    rows = []
    for number, course in enumerate(courses):
        imaged = np.flatnonzero(course.imaged)
        for which, finding in enumerate(course.findings):
            present = finding.diameters[imaged] > 0
            if not present.any():
                continue
            start = int(np.argmax(present))
            gone = np.flatnonzero(~present & (np.arange(len(imaged)) > start))
            index = start if template == "event_appear" else (int(gone[0]) if len(gone) else None)
            for asked in imaged[imaged >= 3]:
                if index is not None and imaged[index] <= asked:
                    truth = int(imaged[index])
                    before = [int(imaged[index - 1])] if index else []
                    rows.append((number, which, -1, int(asked), truth, [*before, truth]))
                elif template == "event_appear" or imaged[start] <= asked:
                    rows.append((number, which, -1, int(asked), -1, []))
        if template == "event_appear":
            for absent in range(len(course.absent)):
                rows.extend((number, -1, absent, int(asked), -1, []) for asked in imaged[imaged >= 3])
    return pd.DataFrame(rows, columns=["course", "finding", "absent", "asked", "truth", "evidence"])


def _event(courses: list[Course], rng: np.random.Generator) -> list[dict]:
    rows = []
    for template in ("event_appear", "event_disappear"):
        table = _event_candidates(courses, template)
        table = table.sample(frac=1.0, random_state=int(rng.integers(2**31))).reset_index(drop=True)
        earliest = 0 if template == "event_appear" else 1
        kept = [table[:0]]
        for asked in sorted(set(table["asked"].tolist())):
            group = table[table["asked"] == asked]
            moments = list(range(earliest, asked + 1))
            counts = group["truth"].value_counts()
            # "never" must be as likely as each named time point, given the choices offered (three of the moments).
            never_weight = len(moments) / (CHOICES_PER_EVENT - 1)
            least = min([*(counts.get(m, 0) for m in moments), counts.get(-1, 0) / never_weight])
            limits = {**dict.fromkeys(moments, int(least)), -1: int(least * never_weight)}
            order = group.groupby("truth").cumcount()
            kept.append(group[order < group["truth"].map(limits)])
        table = pd.concat(kept, ignore_index=True)
        wanted = PER_SEQUENCE["event"] * len(courses) // 2
        table = table.iloc[rng.permutation(len(table))[:wanted]]
        for row in named_rows(table):
            course = courses[row.course]
            phrase = (
                course.findings[row.finding].phrase
                if row.finding >= 0
                else "{} in the {}".format(*course.absent[row.absent])
            )
            others = [m for m in range(earliest, row.asked + 1) if m != row.truth]
            offered = CHOICES_PER_EVENT - 1 - (row.truth >= 0)
            moments = rng.choice(others, offered, replace=False).tolist() + ([row.truth] if row.truth >= 0 else [])
            choices = [time_point(int(m)) for m in moments] + [NEVER]
            choices = [choices[k] for k in rng.permutation(len(choices))]
            rows.append(
                question_row(
                    course.index,
                    course.times,
                    row.finding if row.finding >= 0 else None,
                    task="event",
                    template=template,
                    prompt=render(template, int(rng.integers(2)), finding=phrase),
                    asked_at=int(row.asked),
                    choices=choices,
                    answer=time_point(row.truth) if row.truth >= 0 else NEVER,
                    evidence=row.evidence,
                    names_position=False,
                )
            )
    return rows


#: The kinds of questions, drawn in this order.
_KINDS: dict[str, Callable[[list[Course], np.random.Generator], list[dict]]] = {
    "progression": _progression,
    "measurement": _measurement,
    "event": _event,
    "response": response_questions,
    "new_finding": new_finding_questions,
    "comparison": comparison_questions,
}


def draw_questions(
    courses: list[Course], seed: int, kinds: Sequence[str] = ("progression", "measurement", "event")
) -> pd.DataFrame:
    """All questions of a synthetic set.

    Args:
        courses: every patient of the set.
        seed: of the whole set.
        kinds: which kinds of questions; each is a task.

    Returns:
        Columns of the ``questions`` table, but for the ids, with ``course`` and ``finding`` (numbers) in their place;
        ordered by patient, then by asked position.
    """
    rng = np.random.default_rng([seed, 2**31, 2])
    rows = [row for kind, draw in _KINDS.items() if kind in kinds for row in draw(courses, rng)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.sort_values(["course", "asked_at", "task", "prompt"], kind="stable").reset_index(drop=True)
