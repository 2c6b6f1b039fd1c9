"""Questions of follow-up: response to therapy, new findings, and what became of a finding between two examinations.

Response follows the criteria in clinical use for measurable disease (RECIST 1.1: Eisenhauer et al., Eur J Cancer 45,
2009): at least 30 % below the baseline, or at least 20 % and 5 mm above the smallest since. Unlike the progression
rule they are not symmetric in time, so that they are a task of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from temmed.prompts.questions import COMPARISON_CHOICES, RESPONSE_CHOICES, YES_NO, render, time_point
from temmed.timelines.schema import PROGRESSION_MARGIN
from temmed.timelines.synthetic.asking import question_row, size_kind
from temmed.timelines.synthetic.balance import balanced
from temmed.timelines.synthetic.courses import Course, Finding
from temmed.timelines.synthetic.progression import verdict
from temmed.timelines.tables import named_rows

#: Mean number of questions per sequence at the most, by task.
PER_SEQUENCE = {"response": 2.0, "new_finding": 2.0, "comparison": 2.0}
#: Least diameter in mm, at the baseline, of a finding that response is judged by.
MEASURABLE = 10.0
INCREASE, LEAST_INCREASE, DECREASE = np.log(1.2), 5.0, np.log(0.7)
#: Nothing is asked within this many mm of the bound on the absolute increase.
_MM_MARGIN = 0.5


def response(baseline: float, nadir: float, now: float) -> tuple[int, bool]:
    """The verdict of the response criteria.

    Args:
        baseline: size in mm before therapy, > 0.
        nadir: smallest size from the baseline until before now.
        now: size now.

    Returns:
        Index into `RESPONSE_CHOICES`, and whether the sizes are far enough from every bound to be asked about.

    Examples:
        >>> response(20.0, 20.0, 26.0), response(20.0, 12.0, 13.0), response(10.0, 10.0, 13.0)
        ((0, True), (2, True), (1, True))
    """
    rise = np.log(now / nadir) if nadir > 0 < now else (np.inf if now > 0 else -np.inf)
    fall = np.log(now / baseline) if now > 0 else -np.inf
    far = abs(rise - INCREASE) > PROGRESSION_MARGIN and abs(now - nadir - LEAST_INCREASE) > _MM_MARGIN
    far = far and abs(fall - DECREASE) > PROGRESSION_MARGIN
    if rise >= INCREASE and now - nadir >= LEAST_INCREASE:
        return 0, bool(far)
    return (2 if fall <= DECREASE else 1), bool(far)


def baseline_position(course: Course) -> int | None:
    """The last imaged position before therapy was started, ``None`` without one."""
    if course.treatment is None:
        return None
    before = np.flatnonzero(course.imaged & (course.times < course.treatment))
    return int(before[-1]) if len(before) else None


def _measurable(finding: Finding, position: int) -> bool:
    return finding.quantity == "longest_diameter" and finding.diameters[position] >= MEASURABLE


def _response_candidates(courses: list[Course]) -> pd.DataFrame:
    rows = []
    for number, course in enumerate(courses):
        base = baseline_position(course)
        if base is None:
            continue
        imaged = np.flatnonzero(course.imaged)
        sizes = np.array([finding.diameters for finding in course.findings])
        targets = [k for k, finding in enumerate(course.findings) if _measurable(finding, base)]
        started = (sizes[:, imaged[imaged <= base]] > 0).any(axis=1)
        for last in imaged[imaged > base].tolist():
            total = sizes[:, last].sum()
            between = imaged[(imaged >= base) & (imaged < last)]
            common = (number, base, last, course.times[last] - course.times[base])
            for which in targets:
                now = sizes[which, last]
                if now > 0:
                    nadir = int(between[np.argmin(sizes[which, between])])
                    told = response(sizes[which, base], sizes[which, nadir], now)
                    rows.append((*common, which, now, total - now, "", "response_finding", *told, nadir, -1))
            if targets and total > 0:
                sums = sizes[targets].sum(axis=0)
                nadir = int(between[np.argmin(sums[between])])
                index, far = response(sums[base], sums[nadir], sums[last])
                new = np.flatnonzero(~started & (sizes[:, last] > 0))
                shown = min((int(imaged[np.argmax(sizes[k, imaged] > 0)]) for k in new), default=-1)
                index, far = (0, True) if len(new) else (index, far)
                seen = str(np.count_nonzero(sizes[:, last]))
                rows.append((*common, -1, total, sums[last], seen, "response_overall", index, far, nadir, shown))
    columns = ["course", "first", "last", "gap", "finding", "size_last", "others", "kind", "template", "verdict"]
    table = pd.DataFrame(rows, columns=[*columns, "asked", "nadir", "new"])
    table["steps"] = table["last"] - table["first"]
    return table[table["asked"].astype(bool)].reset_index(drop=True)


def response_questions(courses: list[Course], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Has a finding, or the disease as a whole, responded to therapy?"""
    candidates = _response_candidates(courses)
    if candidates.empty:
        return []
    table = balanced(candidates, PER_SEQUENCE["response"] * len(courses), rng, coarse=True)
    rows = []
    for row in named_rows(table):
        course = courses[row.course]
        words = {"finding": course.findings[row.finding].phrase} if row.finding >= 0 else {}
        evidence = sorted({int(row.first), int(row.nadir), int(row.last)} | ({int(row.new)} if row.new >= 0 else set()))
        rows.append(
            question_row(
                course.index,
                course.times,
                int(row.finding) if row.finding >= 0 else None,
                task="response",
                template=row.template,
                prompt=render(row.template, int(rng.integers(2)), first=time_point(int(row.first)), **words),
                asked_at=int(row.last),
                choices=list(RESPONSE_CHOICES),
                answer=RESPONSE_CHOICES[row.verdict],
                evidence=evidence,
                names_position=True,
            )
        )
    return rows


def _appeared(course: Course, first: int, last: int) -> list[int]:
    """Numbers of the findings that ``last`` shows and no image up to ``first`` does."""
    until = np.flatnonzero(course.imaged)
    until = until[until <= first]
    return [
        k for k, finding in enumerate(course.findings)
        if finding.diameters[last] > 0 and not (finding.diameters[until] > 0).any()
    ]  # fmt: skip


def _image_pairs(course: Course) -> Iterator[tuple[int, int, bool]]:
    """Earlier and later imaged position, and whether one follows the other."""
    imaged = np.flatnonzero(course.imaged).tolist()
    for late in range(1, len(imaged)):
        for early in range(late):
            yield imaged[early], imaged[late], early == late - 1


def new_finding_questions(courses: list[Course], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Is there a finding that was not there, and since when?"""
    rows, since = [], []
    for number, course in enumerate(courses):
        for first, last, following in _image_pairs(course):
            sizes = np.array([finding.diameters[last] for finding in course.findings])
            if not sizes.any():
                continue
            appeared = _appeared(course, first, last)
            gap = course.times[last] - course.times[first]
            # With more visits a finding is less often new at a given one.
            seen = f"{np.count_nonzero(sizes)} findings, {round(2 * np.log2(len(course.times)))} for the visits"
            for template in ("new_timepoint", *(["new_previous"] if following else [])):
                common = (number, first, last, gap, sizes.max(), sizes.sum(), seen)
                rows.append((*common, template, int(not appeared), last - first))
            if len(appeared) == 1:
                since.append((number, first, last, appeared[0]))
    if not rows:
        return []
    columns = ["course", "first", "last", "gap", "size_last", "others", "kind", "template", "verdict", "steps"]
    table = pd.DataFrame(rows, columns=columns)
    wanted = PER_SEQUENCE["new_finding"] / 2 * len(courses)
    kept = balanced(table, wanted, rng, len(YES_NO), coarse=True)
    found = [_new_row(courses[row.course], row, rng) for row in named_rows(kept)]
    return found + _since(courses, since, wanted, rng)


def _new_row(course: Course, row: Any, rng: np.random.Generator) -> dict[str, Any]:
    first, last = int(row.first), int(row.last)
    return question_row(
        course.index,
        course.times,
        None,
        task="new_finding",
        template=row.template,
        prompt=render(row.template, int(rng.integers(2)), first=time_point(first)),
        asked_at=last,
        choices=list(YES_NO),
        answer=YES_NO[row.verdict],
        evidence=[first, last],
        names_position=row.template == "new_timepoint",
    )


def _since(
    courses: list[Course], pairs: list[tuple[int, int, int, int]], wanted: float, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Since when the one new finding is there: every place among the later images is equally often the answer."""
    entries = []
    for number, first, last, which in pairs:
        moments = np.flatnonzero(courses[number].imaged)
        moments = moments[(moments > first) & (moments <= last)]
        if len(moments) > 1:
            truth = int(np.argmax(courses[number].findings[which].diameters[moments] > 0))
            entries.append((number, first, last, which, len(moments), truth))
    if not entries:
        return []
    table = pd.DataFrame(entries, columns=["course", "first", "last", "finding", "moments", "truth"])
    table = table.iloc[rng.permutation(len(table))]
    counts = table.groupby(["moments", "truth"]).size().unstack("truth", fill_value=0)
    least = {m: int(counts.reindex(columns=range(m), fill_value=0).loc[m].min()) for m in counts.index}
    order = table.groupby(["moments", "truth"]).cumcount()
    table = table[order < table["moments"].map(least)]
    rows = []
    for row in named_rows(table.iloc[rng.permutation(len(table))[: round(wanted)]]):
        course, first, last = courses[row.course], int(row.first), int(row.last)
        imaged = np.flatnonzero(course.imaged)
        moments = imaged[(imaged > first) & (imaged <= last)]
        truth = int(moments[row.truth])
        others = rng.permutation(moments[moments != truth])[:3].tolist()
        choices = [time_point(int(m)) for m in rng.permutation([truth, *others])]
        rows.append(
            question_row(
                course.index,
                course.times,
                int(row.finding),
                task="new_finding",
                template="new_since",
                prompt=render("new_since", int(rng.integers(2)), first=time_point(first)),
                asked_at=last,
                choices=choices,
                answer=time_point(truth),
                evidence=[int(imaged[imaged < truth][-1]), truth],
                names_position=True,
            )
        )
    return rows


def _comparison_candidates(courses: list[Course]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Findings that the later image shows, and (finding, place) pairs that it does not show."""
    shown: list[tuple] = []
    hidden: list[tuple] = []
    for number, course in enumerate(courses):
        totals = np.sum([finding.diameters for finding in course.findings], axis=0)
        for first, last, following in _image_pairs(course):
            if not following:
                continue
            common = (number, first, last, course.times[last] - course.times[first], last - first)
            for which, finding in enumerate(course.findings):
                before, now = finding.diameters[first], finding.diameters[last]
                kind = size_kind(course, finding.label)
                if now > 0 and not before:
                    shown.append((*common, which, finding.phrase, now, totals[last] - now, kind, 0))
                elif now > 0:
                    index, far = verdict(np.array(before), np.array(now))
                    if far:
                        shown.append((*common, which, finding.phrase, now, totals[last] - now, kind, 1 + int(index)))
                elif before > 0:
                    hidden.append((*common, which, finding.phrase, 1.0, totals[last], finding.label, 0))
            for label, location in course.absent:
                hidden.append((*common, -1, f"{label} in the {location}", 1.0, totals[last], label, 1))
    columns = ["course", "first", "last", "gap", "steps", "finding", "phrase", "size_last", "others", "kind", "verdict"]
    tables = [pd.DataFrame(rows, columns=columns).assign(template="comparison_previous") for rows in (shown, hidden)]
    return tables[0], tables[1]


def comparison_questions(courses: list[Course], rng: np.random.Generator) -> list[dict[str, Any]]:
    """What became of a finding since the previous examination, appearance and disappearance included."""
    shown, hidden = _comparison_candidates(courses)
    wanted = PER_SEQUENCE["comparison"] * len(courses)
    parts = []
    for candidates, classes in ((shown, (0, 1, 2, 3)), (hidden, (4, 5))):
        if len(candidates):
            share = wanted * len(classes) / len(COMPARISON_CHOICES)
            kept = balanced(candidates, share, rng, len(classes), coarse=True)
            parts.append(kept.assign(verdict=kept["verdict"] + classes[0]))
    if len(parts) < 2:
        return []
    table = pd.concat(parts, ignore_index=True)
    if table.empty:  # too few patients for a single balanced cell
        return []
    # The same number of each answer in each horizon bin: the two parts were balanced by themselves.
    counts = table.groupby(["bin", "verdict"]).size().unstack("verdict", fill_value=0)
    least = counts.reindex(columns=range(len(COMPARISON_CHOICES)), fill_value=0).min(axis=1)
    table = table.iloc[rng.permutation(len(table))]
    table = table[table.groupby(["bin", "verdict"]).cumcount() < table["bin"].map(least)]
    rows = []
    for row in named_rows(table):
        course = courses[row.course]
        rows.append(
            question_row(
                course.index,
                course.times,
                int(row.finding) if row.finding >= 0 else None,
                task="comparison",
                template=row.template,
                prompt=render(row.template, int(rng.integers(2)), finding=row.phrase),
                asked_at=int(row.last),
                choices=list(COMPARISON_CHOICES),
                answer=COMPARISON_CHOICES[row.verdict],
                evidence=[int(row.first), int(row.last)],
                names_position=False,
            )
        )
    return rows
