"""Charts as inline SVG, drawn with the colours of the page they stand in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from temmed.evaluation.statistics import Estimate

#: Marks beside colours, so that series can be told apart without colour. Shapes fit into a circle of radius 5.
_MARKS = (
    '<circle r="4.2"/>',
    '<rect x="-3.8" y="-3.8" width="7.6" height="7.6"/>',
    '<path d="M0-5 4.8 3.6-4.8 3.6Z"/>',
    '<path d="M0-5.2 5.2 0 0 5.2-5.2 0Z"/>',
    '<path d="M0 5-4.8-3.6 4.8-3.6Z"/>',
    '<path d="M-1.6-5h3.2v3.4H5v3.2H1.6V5h-3.2V1.6H-5v-3.2h3.4Z"/>',
)
#: Colours that the page defines: c0 is the reference model's.
COLOURS = 8
_WIDTH, _HEIGHT = 620, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 96, 14, 52


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        label: its name.
        points: an estimate per category; categories without one are passed over.
        colour: index of its colour and mark.
    """

    label: str
    points: dict[str, Estimate]
    colour: int


@dataclass(frozen=True)
class Level:
    """A reference drawn as a dashed line across the chart, with its name at the right end."""

    label: str
    points: dict[str, Estimate]


@dataclass(frozen=True)
class _Scale:
    """Shares to vertical pixels."""

    low: float
    high: float

    def y(self, share: float) -> float:
        inner = _HEIGHT - _TOP - _BOTTOM
        return _TOP + inner * (self.high - share) / (self.high - self.low)

    def ticks(self) -> list[float]:
        step = 0.1 if self.high - self.low <= 0.7 else 0.2
        first = math.ceil(self.low / step - 1e-9)
        return [index * step for index in range(first, math.floor(self.high / step + 1e-9) + 1)]


def mark(colour: int) -> str:
    """The mark of a series, as a small SVG for legends and tables."""
    return (
        f'<svg class="mark c{colour % COLOURS}" viewBox="-6 -6 12 12" aria-hidden="true">'
        f"{_MARKS[colour % len(_MARKS)]}</svg>"
    )


def lines(
    categories: Sequence[tuple[str, str]], series: Sequence[Series], levels: Sequence[Level], title: str, axis: str
) -> str:
    """A line chart of shares by category, with intervals as whiskers.

    Args:
        categories: key and second line of the label of each, in order.
        series: what is drawn as lines.
        levels: what is drawn dashed.
        title: read out by screen readers.
        axis: what the categories are.

    Returns:
        An ``<svg>`` element.
    """
    scale = _scale([*series, *levels])
    slot = (_WIDTH - _LEFT - _RIGHT) / len(categories)
    centre = {key: _LEFT + slot * (index + 0.5) for index, (key, _) in enumerate(categories)}
    parts = [f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">']
    for tick in scale.ticks():
        y = scale.y(tick)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{100 * tick:.0f}</text>')
    base = _HEIGHT - _BOTTOM
    for key, below in categories:
        parts.append(
            f'<text class="tick" x="{centre[key]:.1f}" y="{base + 18}" text-anchor="middle">{escape(key)}</text>'
        )
        parts.append(
            f'<text class="small" x="{centre[key]:.1f}" y="{base + 32}" text-anchor="middle">{escape(below)}</text>'
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle:.0f}" y="{_HEIGHT - 3}" text-anchor="middle">{escape(axis)}</text>')
    parts += _levels(levels, categories, slot, scale)
    for index, line in enumerate(series):
        # Side by side within the slot, so that whiskers do not hide each other.
        shift = (index - (len(series) - 1) / 2) * min(9.0, 0.6 * slot / max(len(series), 1))
        parts += _line(line, centre, shift, scale)
    return "".join([*parts, "</svg>"])


def strip(estimate: Estimate, marks: Sequence[float]) -> str:
    """An estimate and its interval on a line from 0 to 100 %, for a table cell; ``marks`` are drawn through it."""
    width, middle = 200.0, 9.0
    parts = [
        f'<svg class="strip" viewBox="0 0 {width:.0f} 18" aria-hidden="true">',
        f'<path class="rail" d="M0 {middle}H{width}"/>',
    ]
    parts += [f'<path class="level" d="M{width * value:.1f} 0V18"/>' for value in marks]
    if not math.isnan(estimate.low):
        parts.append(f'<path class="whisker" d="M{width * estimate.low:.1f} {middle}H{width * estimate.high:.1f}"/>')
    return "".join([*parts, f'<circle cx="{width * estimate.value:.1f}" cy="{middle}" r="4.5"/></svg>'])


def _scale(everything: Sequence[Series | Level]) -> _Scale:
    drawn = [point for one in everything for point in one.points.values()]
    ends = [end for point in drawn for end in (point.value, point.low, point.high) if not math.isnan(end)]
    low = math.floor(10 * min(ends, default=0.0)) / 10
    high = math.ceil(10 * max(ends, default=1.0)) / 10
    return _Scale(max(0.0, low), min(1.0, high) if high > low else low + 0.1)


def _levels(levels: Sequence[Level], categories: Sequence[tuple[str, str]], slot: float, scale: _Scale) -> list[str]:
    parts: list[str] = []
    taken: list[float] = []
    for level in levels:
        path, last = "", None
        for index, (key, _) in enumerate(categories):
            if key not in level.points:
                continue
            y = last = scale.y(level.points[key].value)
            path += f"{'L' if path else 'M'}{_LEFT + slot * index:.1f} {y:.1f}H{_LEFT + slot * (index + 1):.1f}"
        if last is None:
            continue
        parts.append(f'<path class="level" d="{path}"><title>{escape(level.label)}</title></path>')
        # Names that would overlap are pushed apart.
        place = last + 4
        while any(abs(place - other) < 13 for other in taken):
            place += 2
        taken.append(place)
        parts.append(f'<text class="small" x="{_WIDTH - _RIGHT + 6}" y="{place:.1f}">{escape(level.label)}</text>')
    return parts


def _line(line: Series, centre: dict[str, float], shift: float, scale: _Scale) -> list[str]:
    points = [(centre[key] + shift, line.points[key], key) for key in centre if key in line.points]
    path = "L".join(f"{x:.1f} {scale.y(point.value):.1f}" for x, point, _ in points)
    parts = [f'<g class="series c{line.colour % COLOURS}"><path class="line" d="M{path}"/>']
    for x, point, key in points:
        words = f"{line.label}, {key}: {100 * point.value:.1f}"
        if not math.isnan(point.low):
            parts.append(f'<path class="whisker" d="M{x:.1f} {scale.y(point.low):.1f}V{scale.y(point.high):.1f}"/>')
            words += f" [{100 * point.low:.1f}, {100 * point.high:.1f}]"
        shape = _MARKS[line.colour % len(_MARKS)]
        place = f"translate({x:.1f} {scale.y(point.value):.1f})"
        parts.append(f'<g transform="{place}"><title>{escape(words)} ({point.n:,} questions)</title>{shape}</g>')
    return [*parts, "</g>"]
