"""The comparison as text: for the terminal, Markdown and CSV."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from temmed.evaluation.compare import Comparison, Row
from temmed.evaluation.statistics import Estimate

if TYPE_CHECKING:
    from rich.table import Table

NOTHING = "\u2013"
#: Columns a terminal must have for the whole table side by side; a narrower one gets it in two parts.
_WHOLE = 128


@dataclass(frozen=True)
class Column:
    """A score that the table shows.

    Attributes:
        key: ``TASK/METRIC`` of `Row.scores`.
        title: its heading.
        with_interval: whether the text tables show its interval.
    """

    key: str
    title: str
    with_interval: bool = False


def columns(comparison: Comparison) -> list[Column]:
    """The scores that at least one row has: the headline task first."""
    task = comparison.task
    wanted = [
        Column(f"{task}/accuracy", f"{task} accuracy", True),
        Column(f"{task}/macro_f1", "macro F1"),
        Column(f"{task}/share_closed", "gap closed", True),
    ]
    for other in comparison.benchmark.tasks():
        if other != task:
            wanted.append(Column(f"{other}/accuracy", f"{other} accuracy"))
        wanted.append(Column(f"{other}/relative_error", f"{other} error"))
    wanted.append(Column("event/tiou", "event tIoU"))
    return [column for column in wanted if any(column.key in row.scores for row in comparison.rows)]


def percent(value: float) -> str:
    """A share as a percentage with one decimal."""
    return NOTHING if math.isnan(value) else f"{100 * value:.1f}"


def interval(estimate: Estimate) -> str:
    """The interval of a share, or nothing where there is none."""
    # Chance is the same on every question and has no width to show.
    has_width = estimate.high - estimate.low > 1e-9
    return f"[{percent(estimate.low)}, {percent(estimate.high)}]" if has_width else ""


def headline(row: Row, estimate: Estimate) -> str:
    """A score, with the spread over seeds where there are several."""
    spread = "" if math.isnan(row.spread) else f" ± {percent(row.spread)}"
    return percent(estimate.value) + spread


def signed(value: float) -> str:
    """A difference in percentage points."""
    return f"{100 * value:+.1f}"


def probability(p: float) -> str:
    """A p value.

    Examples:
        >>> probability(0.0002), probability(0.0314)
        ('< 0.001', '0.031')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float | None) -> str:
    """A duration in the unit that reads best.

    Examples:
        >>> duration(42.4), duration(200), duration(9000)
        ('42 s', '3.3 min', '2.5 h')
    """
    if seconds is None:
        return NOTHING
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def count(number: int | None) -> str:
    """A number of parameters.

    Examples:
        >>> count(123_456), count(7_000_000_000), count(980)
        ('123 k', '7.00 G', '980')
    """
    if number is None:
        return NOTHING
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}" if number >= 100 * size else f"{number / size:.2f} {unit}"
    return str(number)


def notes(comparison: Comparison) -> list[str]:
    """What a reader of the table must know."""
    questions = comparison.benchmark.questions
    asked = questions[questions["task"] == comparison.task]
    lines = [
        f"{comparison.task}: {len(asked):,} questions on {asked['patient_id'].nunique():,} patients, subset "
        f"{comparison.benchmark.subset} of split {comparison.benchmark.split.name}. In percent. [low, high]: 95 % "
        f"interval over patients ({comparison.resamples:,} resamples). ±: standard deviation over seeds.",
    ]
    if comparison.reference is not None:
        lines.append(
            f"vs {comparison.reference}, p: difference from {comparison.reference} in points on the same questions; "
            "patient-clustered permutation test, Holm-corrected."
        )
    if any(f"{comparison.task}/share_closed" in row.scores for row in comparison.rows):
        lines.append("Gap closed: (accuracy - majority) / (ceiling - majority).")
    if comparison.reference is None and comparison.models:
        lines.append("No test: no run is called static. Name a model to test against with --reference.")
    return lines + [f"Left out: {reason}." for reason in comparison.left_out]


def to_rich(comparison: Comparison, width: int) -> list[Table]:
    """The table for a terminal, in two parts where it is narrow; intervals stand under their values."""
    titles = _titles(comparison)
    # The headline task is what belongs together: its scores, the test, and the share of the gap.
    first = sum(column.key.startswith(f"{comparison.task}/") for column in columns(comparison))
    cut = first + (0 if comparison.reference is None else 2)
    parts = [slice(None)] if width >= _WHOLE else [slice(0, cut), slice(cut, None)]
    return [_part(comparison, titles[part], part) for part in parts if titles[part]]


def _part(comparison: Comparison, titles: list[str], part: slice) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0, header_style="bold")
    table.add_column("", no_wrap=True)
    for title in titles:
        # One word per line: the columns are narrower than most headings.
        table.add_column(title.replace(" ", "\n"), justify="right", no_wrap=True)
    accuracy = f"{comparison.task}/accuracy"
    best = max((row.scores[accuracy].value for row in comparison.models), default=math.nan)
    kind = comparison.rows[0].kind
    for row in comparison.rows:
        if row.kind != kind:
            table.add_section()
            kind = row.kind
        label = escape(row.label) + (f"\n[dim]{row.seeds} seeds[/]" if row.seeds > 1 else "")
        shown = [
            value + (f"\n[dim]{escape(below)}[/]" if below else "") for value, below in cells(comparison, row)[part]
        ]
        style = "bold" if row.kind == "model" and row.scores[accuracy].value == best else None
        table.add_row(label, *shown, style=style)
    return table


def to_markdown(comparison: Comparison) -> str:
    """The table and its notes in Markdown."""
    titles = ["", "seeds", *_titles(comparison)]
    lines = [f"| {' | '.join(titles)} |", "|---|" + "---:|" * (len(titles) - 1)]
    for row in comparison.rows:
        parts = [f"{value} {below}".strip() for value, below in cells(comparison, row)]
        lines.append(f"| {row.label} | {row.seeds or NOTHING} | {' | '.join(parts)} |")
    meta = comparison.benchmark.timeline.meta
    return "\n".join([f"# {meta.name}: comparison", "", *lines, "", *(f"- {note}" for note in notes(comparison)), ""])


def to_csv(comparison: Comparison) -> str:
    """One line per row, every score with its interval, in full precision and as shares rather than percentages."""
    shown = columns(comparison)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    parts = ("value", "low", "high", "n")
    scores = [f"{column.key}/{part}" for column in shown for part in parts]
    tests = ["difference", "difference_low", "difference_high", "p", "p_holm", "p_mcnemar"]
    writer.writerow(["label", "kind", "seeds", "seed_sd", *scores, *tests, "train_seconds", "n_parameters"])
    for row in comparison.rows:
        numbers: list[float | int | None] = [row.spread]
        for column in shown:
            estimate = row.scores.get(column.key)
            numbers += [None] * 4 if estimate is None else [getattr(estimate, part) for part in parts]
        test = row.test
        numbers += (
            [None] * 6
            if test is None
            else [test.difference.value, test.difference.low, test.difference.high, test.p, test.p_holm, test.p_mcnemar]
        )
        numbers += [row.train_seconds, row.n_parameters]
        plain = ["" if number is None or math.isnan(number) else number for number in numbers]
        writer.writerow([row.label, row.kind, row.seeds, *plain])
    return stream.getvalue()


def _titles(comparison: Comparison) -> list[str]:
    first, *others = [column.title for column in columns(comparison)]
    against = [] if comparison.reference is None else [f"vs {comparison.reference}", "p"]
    return [first, *against, *others, "training", "parameters"]


def cells(comparison: Comparison, row: Row) -> list[tuple[str, str]]:
    """The text of each cell of a row and the interval that belongs under it, in the order of the titles."""
    found = []
    for column in columns(comparison):
        estimate = row.scores.get(column.key)
        if estimate is None:
            found.append((NOTHING, ""))
        else:
            is_headline = column.key == f"{comparison.task}/accuracy"
            value = headline(row, estimate) if is_headline else percent(estimate.value)
            found.append((value, interval(estimate) if column.with_interval else ""))
        if comparison.reference is not None and column.key == f"{comparison.task}/accuracy":
            test = row.test
            found += (
                [(NOTHING, ""), (NOTHING, "")]
                if test is None
                else [(signed(test.difference.value), interval(test.difference)), (probability(test.p_holm), "")]
            )
    return [*found, (duration(row.train_seconds), ""), (count(row.n_parameters), "")]
