from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from temmed.evaluation.charts import Level, Series, lines, mark, strip
from temmed.evaluation.statistics import Estimate

CATEGORIES = [("1", "n 10"), ("2", "n 20"), ("3-4", "n 30")]


def draw(values: dict[str, float], **options: object) -> ElementTree.Element:
    points = {key: Estimate(value, value - 0.05, value + 0.05, 10) for key, value in values.items()}
    text = lines(CATEGORIES, [Series("a & b", points, 1)], title="Title <1>", axis="axis", **{"levels": [], **options})
    return ElementTree.fromstring(text)


def heights(svg: ElementTree.Element) -> list[float]:
    marks = [node.get("transform", "") for node in svg.iter("g") if node.get("transform")]
    return [float(re.findall(r"[\d.]+", place)[1]) for place in marks]


def test_better_is_higher_and_labels_are_escaped() -> None:
    svg = draw({"1": 0.5, "2": 0.7, "3-4": 0.6})
    first, second, third = heights(svg)
    assert second < third < first
    assert svg.get("aria-label") == "Title <1>"
    titles = [node.text for node in svg.iter("title")]
    assert titles == [
        "a & b, 1: 50.0 [45.0, 55.0] (10 questions)",
        "a & b, 2: 70.0 [65.0, 75.0] (10 questions)",
        "a & b, 3-4: 60.0 [55.0, 65.0] (10 questions)",
    ]


def test_everything_stays_inside_the_picture() -> None:
    svg = draw({"1": 0.02, "3-4": 0.999})
    width, height = (float(side) for side in svg.get("viewBox", "").split()[2:])
    assert len(heights(svg)) == 2
    for node in svg.iter("text"):
        assert 0 <= float(node.get("x", "nan")) <= width
        assert 0 <= float(node.get("y", "nan")) <= height
    assert all(0 <= y <= height for y in heights(svg))


def test_names_of_levels_do_not_overlap() -> None:
    same = {key: Estimate(0.6, 0.6, 0.6, 10) for key, _ in CATEGORIES}
    svg = draw({"1": 0.5}, levels=[Level("ceiling", same), Level("majority", same)])
    places = [float(node.get("y", "nan")) for node in svg.iter("text") if node.text in ("ceiling", "majority")]
    assert abs(places[0] - places[1]) >= 13


def test_a_point_without_an_interval_has_no_whisker() -> None:
    nan = float("nan")
    svg = ElementTree.fromstring(lines(CATEGORIES, [Series("a", {"1": Estimate(0.5, nan, nan, 1)}, 0)], [], "t", "x"))
    assert not [node for node in svg.iter("path") if node.get("class") == "whisker"]
    assert "whisker" not in strip(Estimate(0.5, nan, nan, 1), [])


def test_the_strip_puts_a_share_where_it_belongs() -> None:
    svg = ElementTree.fromstring(strip(Estimate(0.25, 0.2, 0.3, 9), [0.5]))
    (circle,) = svg.iter("circle")
    assert float(circle.get("cx", "nan")) == pytest.approx(50.0)


def test_neighbouring_colours_have_different_marks() -> None:
    shapes = [re.sub(r'class="[^"]*"', "", mark(colour)) for colour in range(6)]
    assert len(set(shapes)) == 6
    ElementTree.fromstring(shapes[0])
