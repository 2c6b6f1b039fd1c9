"""Values against annotations: refused only where the annotation leaves no doubt."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from temmed.config.annotations import fits, in_words


def parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


@pytest.mark.parametrize(
    ("annotation", "right", "wrong"),
    [
        ("int", [0, -3], [1.0, "1", True, None]),
        ("float", [0.5, 2], ["x", False, None]),
        ("bool", [True], [1, "true"]),
        ("str", [""], [1, None]),
        ("int | None", [1, None], ["x"]),
        ("Optional[float]", [1, None], ["x"]),
        ("Union[int, str]", [1, "x"], [1.5]),
        ("typing.Union[int, str]", [1, "x"], [1.5]),
        ("Literal['a', 'b', 1]", ["a", 1], ["c", True]),
        ("list[int]", [[], [1, 2]], [[1.5], "12", 3]),
        ("Sequence[float]", [[1, 2.5]], [["a"]]),
        ("tuple[float, float]", [[0.9, 0.99]], [[0.9], [0.9, "x"]]),
        ("tuple[int, ...]", [[1, 2, 3]], [["a"]]),
        ("dict[str, int]", [{"a": 1}], [[1], 1]),
        ("Mapping[str, Any] | None", [{}, None], [1]),
        ("'int | None'", [1, None], ["x"]),
        ("None", [None], [0]),
    ],
)
def test_plain_annotations(annotation: str, right: list[Any], wrong: list[Any]) -> None:
    expression = parsed(annotation)
    assert [value for value in right if not fits(value, expression)] == []
    assert [value for value in wrong if fits(value, expression)] == []


@pytest.mark.parametrize("annotation", ["Path", "nn.Module", "Literal[NAME]", "Callable[[int], str]", "'not python ['"])
def test_unknown_annotations_take_anything(annotation: str) -> None:
    assert fits("x", parsed(annotation))
    assert fits(3, parsed(annotation))


def test_a_node_that_will_be_built_fits_anything() -> None:
    assert fits({"_target_": "some.Class"}, parsed("int"))


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ("int", "a whole number"),
        ("float | None", "a number or null"),
        ("Optional[str]", "text or null"),
        ("Literal['a', 'b']", "'a' or 'b'"),
        ("list[int]", "list[int]"),
    ],
)
def test_words(annotation: str, words: str) -> None:
    assert in_words(parsed(annotation)) == words
