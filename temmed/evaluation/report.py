"""The comparison as one HTML page that needs nothing else: no network, no script."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from temmed import __version__
from temmed.evaluation import charts, tables
from temmed.evaluation.benchmark import HORIZONS
from temmed.evaluation.cases import contrasts, typical_cases
from temmed.evaluation.compare import HONESTY, Comparison, Row
from temmed.evaluation.statistics import Estimate
from temmed.files import atomic_write

#: References drawn through every line of the table.
_LEVELS = (HONESTY["majority"], HONESTY["ceiling"])
PAGE, MARKDOWN, CSV = "compare.html", "compare.md", "compare.csv"


def write_comparison(comparison: Comparison, out: str | Path) -> list[Path]:
    """Write the comparison as a page, Markdown and CSV.

    Args:
        comparison: what to write.
        out: the folder, made if it is not there.

    Returns:
        The files written, the page first.
    """
    content = {
        PAGE: to_html(comparison),
        MARKDOWN: tables.to_markdown(comparison),
        CSV: tables.to_csv(comparison),
    }
    for name, text in content.items():
        atomic_write(Path(out) / name, text)
    return [Path(out) / name for name in content]


def to_html(comparison: Comparison) -> str:
    """The page."""
    folder = files("temmed.evaluation") / "templates"
    css, template = ((folder / name).read_text(encoding="utf-8") for name in ("compare.css", "compare.html.jinja"))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(
        nothing=tables.NOTHING,
        percent=tables.percent,
        interval=tables.interval,
        headline=tables.headline,
        signed=tables.signed,
        probability=tables.probability,
        duration=tables.duration,
        count=tables.count,
        mark=lambda colour: Markup(charts.mark(colour)),
        strip=lambda estimate, marks: Markup(charts.strip(estimate, marks)),
    )
    questions = comparison.benchmark.questions
    asked = questions[questions["task"] == comparison.task]
    return environment.from_string(template).render(
        css=css,
        version=__version__,
        comparison=comparison,
        meta=comparison.benchmark.timeline.meta,
        columns=tables.columns(comparison),
        accuracy=f"{comparison.task}/accuracy",
        closed=f"{comparison.task}/share_closed",
        n_questions=len(asked),
        n_patients=asked["patient_id"].nunique(),
        best=comparison.models[-1] if comparison.models else None,
        colours=_colours(comparison),
        levels=[row.scores[f"{comparison.task}/accuracy"].value for row in comparison.rows if row.label in _LEVELS],
        horizon_chart=Markup(_chart(comparison)),
        horizons=_names(comparison, "horizon"),
        templates=_names(comparison, "template"),
        notes=tables.notes(comparison),
        typical=typical_cases(comparison),
        contrasts=contrasts(comparison),
    )


def _colours(comparison: Comparison) -> dict[str, int]:
    """Colour index of each model; 0, a grey, is the reference's."""
    others = [row.label for row in comparison.models if row.label != comparison.reference]
    colours = {label: index for index, label in enumerate(others, start=1)}
    return colours if comparison.reference is None else {comparison.reference: 0} | colours


def _names(comparison: Comparison, kind: str) -> list[str]:
    """The slices of a kind that some row has, horizon bins in their order."""
    names = {
        name.removeprefix(f"{kind}=") for row in comparison.rows for name in row.slices if name.startswith(f"{kind}=")
    }
    return [name for name in HORIZONS if name in names] if kind == "horizon" else sorted(names)


def _chart(comparison: Comparison) -> str:
    """Accuracy of the models by horizon, between the majority answer and the ceiling."""
    asked = comparison.benchmark.questions
    counts = asked.loc[asked["task"] == comparison.task, "horizon"].value_counts()
    categories = [(name, f"n {counts[name]:,}") for name in _names(comparison, "horizon")]
    colours = _colours(comparison)
    series = [charts.Series(row.label, _points(row), colours[row.label]) for row in comparison.models]
    levels = [
        charts.Level(name, _points(row))
        for row in comparison.rows
        for name, column in (("ceiling", "ceiling"), ("majority", "majority"))
        if row.label == HONESTY[column]
    ]
    title = f"Accuracy in {comparison.task} by horizon"
    return charts.lines(categories, series, levels, title, "horizon: steps from the earliest evidence to the question")


def _points(row: Row) -> dict[str, Estimate]:
    prefix = "horizon="
    return {name.removeprefix(prefix): estimate for name, estimate in row.slices.items() if name.startswith(prefix)}
