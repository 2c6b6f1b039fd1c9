"""Questions with exact answers, chosen so that nothing but the comparison over time tells them.

Progression candidates are all (finding, template, pair) that the rule allows. They are kept in equal numbers per
verdict within cells of template, horizon, size of the finding in the asked image, size of the other findings there,
elapsed time and asked position, so that neither the wording nor the asked image says which verdict is likelier.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temmed.prompts.questions import NEVER, PROGRESSION_CHOICES, elapsed, render, time_point
from temmed.timelines.schema import PROGRESSION_BOUND, PROGRESSION_MARGIN, horizon_bin
from temmed.timelines.synthetic.courses import Course, Finding

#: Mean number of questions per sequence, by task.
PER_SEQUENCE = {"progression": 7, "measurement_pairs": 2, "measurement_sizes": 4, "event": 2}
#: Cells for the balance: width in ln(mm) of the asked size, and number of classes of the other covariates.
SIZE_CELL, OTHER_CELLS, TIME_CELLS = 0.05, 2, 2
#: Horizons of this many steps and more share a cell.
LONG_HORIZON = 6
CHOICES_PER_EVENT = 4


def verdict(first: NDArray, last: NDArray) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The progression rule.

    Args:
        first: longest diameters at the earlier position, > 0.
        last: the same at the later position.

    Returns:
        Index into (progressed, stable, regressed), and whether the pair is far enough from a bound to be asked.
    """
    ratio = np.log(np.asarray(last) / np.asarray(first))
    index = np.where(ratio >= PROGRESSION_BOUND, 0, np.where(ratio <= -PROGRESSION_BOUND, 2, 1))
    return index, np.abs(np.abs(ratio) - PROGRESSION_BOUND) > PROGRESSION_MARGIN


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
            for first, last in _pairs(course, finding):
                size = finding.diameters[last]
                common = (number, which, first, last, finding.diameters[first], size, totals[last] - size)
                gap = course.times[last] - course.times[first]
                rows.append((*common, gap, "progression_timepoint"))
                rows.append((*common, gap, "progression_elapsed"))
                if previous[last] == first:
                    rows.append((*common, gap, "progression_previous"))
                if visible[0] == first:
                    rows.append((*common, gap, "progression_first"))
    columns = ["course", "finding", "first", "last", "size_first", "size_last", "others", "gap", "template"]
    table = pd.DataFrame(rows, columns=columns)
    table["verdict"], asked = verdict(table["size_first"].to_numpy(), table["size_last"].to_numpy())
    table["steps"] = table["last"] - table["first"]
    return table[asked].reset_index(drop=True)


def _cells(values: pd.Series, by: list[pd.Series], count: int) -> pd.Series:
    """Classes of equal frequency within each group."""
    rank = values.groupby(by).rank(method="first", pct=True)
    return np.ceil(rank * count).clip(1, count).astype(int)


def _balance(table: pd.DataFrame, wanted: int, rng: np.random.Generator) -> pd.DataFrame:
    """Keep equally many of each verdict in every cell, ``wanted`` questions in all at the most."""
    table = table.sample(frac=1.0, random_state=rng.integers(2**31)).reset_index(drop=True)
    stratum = [table["template"], table["steps"].clip(upper=LONG_HORIZON)]
    # Equal classes of each covariate inside its stratum; sizes finest, for they are what an image shows best.
    size = np.floor(np.log(table["size_last"]) / SIZE_CELL)
    cell = [
        *stratum,
        size,
        _cells(table["gap"], stratum, TIME_CELLS),
        _cells(table["others"], stratum, OTHER_CELLS),
        _cells(table["last"], stratum, TIME_CELLS),
    ]
    table["cell"] = table.groupby(cell).ngroup()
    counts = table.groupby(["cell", "verdict"]).size().unstack("verdict", fill_value=0)
    keep = counts.min(axis=1)
    order = table.groupby(["cell", "verdict"]).cumcount()
    table = table[order < table["cell"].map(keep)].copy()
    # Thin evenly over horizons: a triplet (one of each verdict in a cell) is kept or dropped as a whole.
    table["triplet"] = table.groupby(["cell", "verdict"]).cumcount()
    table["bin"] = table["steps"].map(horizon_bin)
    groups = table.groupby(["template", "bin"])
    sizes = groups["template"].transform("size")
    if table.empty:  # too few patients for a single balanced cell
        return table
    triplets = table.groupby(["cell", "triplet"]).ngroup()
    draw = rng.random(int(triplets.max()) + 1)[triplets]
    return table[draw < _level(groups.size().to_numpy(), wanted) / sizes].copy()


def _level(sizes: NDArray, wanted: int) -> float:
    """The common size to cut groups down to so that about ``wanted`` rows are left."""
    low, high = 0.0, float(sizes.max())
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(sizes, middle).sum() < wanted else (low, middle)
    return high


def _progression(courses: list[Course], rng: np.random.Generator) -> list[dict]:
    table = _balance(_progression_candidates(courses), PER_SEQUENCE["progression"] * len(courses), rng)
    rows = []
    for row, phrasing in zip(table.itertuples(index=False), rng.integers(0, 2, len(table)), strict=True):
        course = courses[row.course]
        finding = course.findings[row.finding]
        if row.template == "progression_elapsed":
            moments = (elapsed(course.times[row.first], "day"), elapsed(course.times[row.last], "day"))
        else:
            moments = (time_point(row.first), time_point(row.last))
        rows.append(
            _row(
                course,
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


def _row(course: Course, finding: int | None, **fields: object) -> dict:
    evidence = fields.get("evidence")
    row = {"course": course.index, "finding": finding, "evidence_kind": "positions", **fields}
    if evidence:
        asked_at = int(fields["asked_at"])  # type: ignore[call-overload]
        row["horizon_steps"] = asked_at - min(evidence)  # type: ignore[call-overload]
        row["horizon_time"] = float(course.times[asked_at] - course.times[min(evidence)])  # type: ignore[call-overload]
    else:
        row["evidence_kind"] = "absence"
    return row


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
    words = {"finding": course.findings[which].phrase, "first": time_point(first), "last": time_point(last)}
    return _row(
        course,
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
        table = table.sample(frac=1.0, random_state=rng.integers(2**31)).reset_index(drop=True)
        earliest = 0 if template == "event_appear" else 1
        kept = []
        for asked, group in table.groupby("asked"):
            moments = list(range(earliest, int(asked) + 1))
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
        for row in table.itertuples(index=False):
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
                _row(
                    course,
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


def draw_questions(courses: list[Course], seed: int) -> pd.DataFrame:
    """All questions of a synthetic set.

    Args:
        courses: every patient of the set, index 0…n−1.
        seed: of the whole set.

    Returns:
        Columns of the ``questions`` table, but for the ids, with ``course`` and ``finding`` (numbers) in their place;
        ordered by patient, then by asked position.
    """
    rng = np.random.default_rng([seed, 2**31, 2])
    rows = _progression(courses, rng) + _measurement(courses, rng) + _event(courses, rng)
    table = pd.DataFrame(rows)
    return table.sort_values(["course", "asked_at", "task", "prompt"], kind="stable").reset_index(drop=True)
