"""Explanations as one HTML page that needs nothing else: no network, no script."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable

from jinja2 import Environment, StrictUndefined

from temmed import __version__
from temmed.evaluation.cases import MOST_FRAMES
from temmed.explaining.overlay import Pictures, draw
from temmed.explaining.told import Explained, Told

PAGE = "explanations.html"
#: Share of what the images gained that the error of integrated gradients may have before the page warns of it.
TOLERABLE = 0.05
#: Numbers are written into the cells of so many time points at most.
_MOST_NUMBERS = 14
TITLES = {
    "attention": "attention",
    "grad_cam": "Grad-CAM",
    "integrated_gradients": "integrated gradients",
}


def to_html(explained: Explained, pictures: Sequence[Pictures]) -> str:
    """The page.

    Args:
        explained: what is told.
        pictures: of each of its questions.
    """
    styles = [files("temmed.evaluation") / "templates" / "compare.css", _template("explanations.css")]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(is_inexact=is_inexact, most_numbers=_MOST_NUMBERS)
    shown = [shown_points(question) for question in explained.questions]
    return environment.from_string(_template("explanations.html.jinja").read_text(encoding="utf-8")).render(
        css="".join(style.read_text(encoding="utf-8") for style in styles),
        version=__version__,
        explained=explained,
        title=TITLES[explained.method],
        cases=[
            {
                "told": question,
                "shown": positions,
                "pictures": draw(drawn, positions),
                "slice": drawn.slice,
                "slices": drawn.maps.shape[1],
                "rows": _rows(question, explained.method),
            }
            for question, positions, drawn in zip(explained.questions, shown, pictures, strict=True)
        ],
    )


def _template(name: str) -> Traversable:
    return files("temmed.explaining") / "templates" / name


def is_inexact(question: Told) -> bool:
    """Whether integrated gradients took too few steps to be believed."""
    if question.error is None or question.gained is None:
        return False
    return abs(question.error) > TOLERABLE * max(abs(question.gained), TOLERABLE)


def shown_points(question: Told, limit: int = MOST_FRAMES) -> list[int]:
    """The positions to show: evidence, the asked and the first one, and of the others those that counted most."""
    last = question.points[-1].position
    needed = {*question.evidence, *question.cited, last, question.points[0].position}
    by_size = sorted(question.points, key=lambda point: -max(point.relevance, point.memory or 0.0))
    others = [point.position for point in by_size if point.position not in needed]
    kept = needed | set(others[: max(0, limit - len(needed))])
    return [point.position for point in question.points if point.position in kept]


def _rows(question: Told, method: str) -> list[tuple[str, str, list[float]]]:
    """Lines of the table over time: title, what it means, a number for each time point."""
    lines = {
        "relevance": "share of all that is coloured",
        "memory": "share of what was remembered",
        "earliest": "probability of the earliest evidence, by the model's account",
        "latest": "probability of the latest evidence, by the model's account",
    }
    if method == "attention":
        del lines["relevance"]  # it is of one time point alone
    rows = []
    for name, meaning in lines.items():
        values = [getattr(point, name) for point in question.points]
        if None not in values:
            rows.append((name, meaning, values))
    return rows
