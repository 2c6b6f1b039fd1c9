"""Does a value of the configuration fit the annotation of an argument? Read from the syntax tree, never evaluated."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

_LISTS = {"list", "List", "Sequence", "Iterable", "Collection", "tuple", "Tuple", "set", "frozenset"}
_MAPPINGS = {"dict", "Dict", "Mapping", "MutableMapping"}
_WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "None": "null"}


def fits(value: Any, annotation: ast.expr | None) -> bool:
    """Whether a plain value may be passed where ``annotation`` stands.

    Only what the syntax says for certain is refused: an annotation that names a class or an alias takes anything.

    >>> fits(2, ast.parse("int | None", mode="eval").body)
    True
    >>> fits("two", ast.parse("int | None", mode="eval").body)
    False
    >>> fits("b", ast.parse("Literal['a', 'b']", mode="eval").body)
    True
    """
    if annotation is None or (isinstance(value, Mapping) and "_target_" in value):
        return True
    if isinstance(annotation, ast.Constant):
        if isinstance(annotation.value, str):
            quoted = _parsed(annotation.value)
            return quoted is None or fits(value, quoted)
        return annotation.value is not None or value is None
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return fits(value, annotation.left) or fits(value, annotation.right)
    if isinstance(annotation, ast.Subscript):
        return _fits_subscript(value, annotation)
    return _fits_name(value, name_of(annotation))


def in_words(annotation: ast.expr | None) -> str:
    """The annotation as a reader of the message would say it.

    >>> in_words(ast.parse("int | None", mode="eval").body)
    'a whole number or null'
    """
    if annotation is None:
        return "anything"
    if isinstance(annotation, ast.Constant):
        return "null" if annotation.value is None else str(annotation.value)
    if isinstance(annotation, ast.BinOp):
        return f"{in_words(annotation.left)} or {in_words(annotation.right)}"
    if isinstance(annotation, ast.Subscript):
        inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        outer = name_of(annotation.value)
        if outer == "Optional":
            return f"{in_words(inner[0])} or null"
        if outer == "Union":
            return " or ".join(in_words(part) for part in inner)
        if outer == "Literal":
            return " or ".join(ast.unparse(part) for part in inner)
    return _WORDS.get(name_of(annotation), ast.unparse(annotation))


def name_of(expression: ast.expr) -> str:
    """The last name of a dotted expression; empty if it is something else."""
    if isinstance(expression, ast.Attribute):
        return expression.attr
    return expression.id if isinstance(expression, ast.Name) else ""


def _parsed(text: str) -> ast.expr | None:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        return None


def _fits_name(value: Any, name: str) -> bool:
    match name:
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "bool":
            return isinstance(value, bool)
        case "str":
            return isinstance(value, str)
    if name in _LISTS:
        return _is_list(value)
    if name in _MAPPINGS:
        return isinstance(value, Mapping)
    return True


def _fits_subscript(value: Any, annotation: ast.Subscript) -> bool:
    outer = name_of(annotation.value)
    inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
    if outer == "Optional":
        return value is None or fits(value, inner[0])
    if outer == "Union":
        return any(fits(value, part) for part in inner)
    if outer == "Literal":
        constants = [part.value for part in inner if isinstance(part, ast.Constant)]
        return len(constants) < len(inner) or any(value == item and type(value) is type(item) for item in constants)
    if outer in _LISTS:
        if not _is_list(value):
            return False
        repeated = len(inner) == 1 or (isinstance(inner[-1], ast.Constant) and inner[-1].value is Ellipsis)
        if repeated:
            return all(fits(item, inner[0]) for item in value)
        return len(value) == len(inner) and all(fits(item, part) for item, part in zip(value, inner, strict=True))
    if outer in _MAPPINGS:
        return isinstance(value, Mapping)
    return True


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
