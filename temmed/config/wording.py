"""Small pieces of the messages: the way to the right name, lists, types in words."""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from typing import Any

from temmed.wording import nearest

_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "null",
    list: "a list",
    dict: "a mapping",
    Any: "anything",
}
_PLURALS: dict[Any, str] = {int: "whole numbers", float: "numbers", bool: "true or false", str: "texts"}


def one_of(candidates: Sequence[str]) -> str:
    """A readable list of the names that would have been right.

    >>> one_of(["auto", "cpu", "gpu"])
    'auto, cpu or gpu'
    """
    ordered = [str(candidate) for candidate in candidates]
    if len(ordered) < 2:
        return ordered[0] if ordered else "nothing"
    return f"{', '.join(ordered[:-1])} or {ordered[-1]}"


def suggestion(name: str, candidates: Sequence[str]) -> str:
    """The sentence that leads from a wrong name to the right one.

    >>> suggestion("statik", ["static", "default"])
    "Did you mean 'static'?"
    >>> suggestion("xyz", ["static", "default"])
    'Choose default or static.'
    """
    near = nearest(name, candidates)
    if near is not None:
        return f"Did you mean {near!r}?"
    if not candidates:
        return "Take it away: there is nothing to choose from here."
    return f"Choose {one_of(sorted(candidates))}."


def type_in_words(kind: Any) -> str:
    """An annotation of the schema in plain words.

    >>> type_in_words(int | None)
    'a whole number or null'
    >>> type_in_words(list[float])
    'a list of numbers'
    """
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_in_words(part) for part in typing.get_args(kind))
    if origin is list:
        (item,) = typing.get_args(kind)
        return f"a list of {_PLURALS.get(item, 'values')}"
    if origin is dict:
        return "a mapping"
    return _WORDS.get(kind, "a mapping")
