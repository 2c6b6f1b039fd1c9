"""Check a composed configuration before anything heavy is imported.

Hydra has already checked keys and types of the fixed nodes against :mod:`temmed.config.schema`. Here follow what a type
cannot say (values), what ``+key=value`` can smuggle in (keys), what was left open (``???``) and the arguments of every
``_target_``.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from temmed.config.annotations import fits, in_words
from temmed.config.schema import GIVEN_AT_RUN_TIME, HEAD_RULES, TARGET_RULES, Rule, SplitConfig
from temmed.config.targets import signature
from temmed.config.wording import one_of, suggestion
from temmed.errors import InputError
from temmed.timelines.recipe import Recipe, as_override
from temmed.timelines.windows import read_windows
from temmed.wording import nearest

_HYDRA_KEYS = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}
#: Stands for a value that is known only when the run has its folder.
_LATER = object()


def check(config: DictConfig) -> None:
    """Raise on the first thing that a run with this configuration would stumble over.

    Raises:
        InputError: with the key at fault, what it may hold, and the nearest right name.
    """
    schema = OmegaConf.get_type(config)
    if dataclasses.is_dataclass(schema):
        _check_fixed(config, schema, "")
    split = OmegaConf.select(config, "data.split")
    if OmegaConf.get_type(split) is SplitConfig:
        Recipe.of({str(key): _value(split, str(key), as_override(str(key))) for key in split}).check(as_override)
    for key, rule in TARGET_RULES.items():
        path, _, last = key.rpartition(".")
        node = OmegaConf.select(config, path)
        if isinstance(node, DictConfig) and last in node:
            value = _value(node, last, key)
            _check_rule(value, rule, key)
            if rule.divides:
                _check_divides(value, int(OmegaConf.select(config, rule.divides)), key, rule.divides)
    _check_heads(OmegaConf.select(config, "model.heads"))
    for name in map(str, config):
        if name != "hydra" and not OmegaConf.is_missing(config, name):
            _check_targets(_value(config, name, name), name)


def _check_fixed(config: DictConfig, schema: Any, path: str) -> None:
    fields = {field.name: field for field in dataclasses.fields(schema)}
    for key in map(str, config):
        full = f"{path}{key}"
        if key not in fields and full != "hydra":
            raise InputError(
                expected=f"a key of {path.rstrip('.') or 'the configuration'}",
                found=repr(key),
                where=full,
                remedy=suggestion(key, list(fields)),
            )
    for name, field in fields.items():
        full = f"{path}{name}"
        if OmegaConf.is_missing(config, name):
            raise InputError(
                expected="a value", found="none", where=full, remedy=f"It has no default: give {full}=VALUE."
            )
        value = _value(config, name, full)
        if isinstance(value, DictConfig) and dataclasses.is_dataclass(OmegaConf.get_type(value)):
            _check_fixed(value, OmegaConf.get_type(value), f"{full}.")
        elif "rule" in field.metadata and value is not None and value is not _LATER:
            _check_rule(value, field.metadata["rule"], full)


def _value(config: DictConfig, key: str, full: str) -> Any:
    """The value of a key with its interpolation followed."""
    try:
        return config[key]
    except InterpolationResolutionError as error:
        if "HydraConfig was not set" in str(error):
            return _LATER
        raw = OmegaConf.to_container(config, resolve=False)
        assert isinstance(raw, dict)
        raise InputError(
            expected="a reference to another key",
            found=repr(raw[key]),
            where=full,
            remedy=f"{str(error).splitlines()[0]}.",
        ) from error


def _check_rule(value: Any, rule: Rule, where: str) -> None:
    def refuse(expected: str, remedy: str = "") -> None:
        found = list(value) if OmegaConf.is_list(value) else value
        raise InputError(expected, repr(found), where, remedy or f"Set {where} to {expected}.")

    if rule.choices and value not in rule.choices:
        names = [str(choice) for choice in rule.choices]
        near = nearest(str(value), names)
        refuse(one_of(names), f"Did you mean {near!r}?" if near else "Choose one of them.")
    if rule.axes is not None:
        several = list(value) if OmegaConf.is_list(value) else []
        numbers = several or [value]
        kinds = (int,) if rule.axes is int else (int, float)
        if (several and len(several) not in (2, 3)) or not all(
            isinstance(number, kinds) and not isinstance(number, bool) and number > 0 for number in numbers
        ):
            whole = "whole " if rule.axes is int else ""
            refuse(f"a {whole}number above 0, or one for each axis: [rows, columns] or [slices, rows, columns]")
        for number in numbers[-2:]:
            _check_rule(number, dataclasses.replace(rule, axes=None), where)
        return
    if (rule.minimum is not None or rule.above is not None) and not isinstance(value, int | float):
        refuse("a number")
    if rule.minimum is not None and not value >= rule.minimum:
        refuse(f"at least {rule.minimum:g}" + (f" and less than {rule.below:g}" if rule.below is not None else ""))
    if rule.above is not None and not value > rule.above:
        refuse(f"more than {rule.above:g}")
    if rule.below is not None and not value < rule.below:
        refuse(f"less than {rule.below:g}")
    if rule.pattern and not (isinstance(value, str) and re.fullmatch(rule.pattern, value)):
        refuse(rule.meaning)
    if rule.shares and (
        len(value) != rule.shares or min(value) <= 0 or not math.isclose(math.fsum(value), 1.0, abs_tol=1e-6)
    ):
        refuse(f"{rule.shares} positive numbers that sum to 1")
    if rule.windows:
        read_windows(OmegaConf.to_container(value), where)  # type: ignore[arg-type]  # a mapping, by its type
    if rule.exists == "file" and value != rule.word and not Path(value).is_file():
        refuse("an existing file" + (f", or {rule.word}" if rule.word else ""), "Check the path.")
    if rule.exists == "folder" and not Path(value).is_dir() and "://" not in value:
        refuse("an existing folder, or a URL", "Check the path.")


def _check_heads(heads: Any) -> None:
    """Every key under ``model.heads`` is a task head."""
    for name in map(str, heads if isinstance(heads, DictConfig) else ()):
        full, head = f"model.heads.{name}", heads[name]
        if not isinstance(head, DictConfig) or "_target_" not in head:
            known = [str(other) for other in heads if other != name]
            raise InputError("a task head with a _target_", repr(name), full, suggestion(name, known))
        for key, rule in HEAD_RULES.items():
            if key in head and not OmegaConf.is_missing(head, key) and head[key] is not None:
                _check_rule(_value(head, key, f"{full}.{key}"), rule, f"{full}.{key}")


def _check_divides(value: float, whole: int, where: str, other: str) -> None:
    if whole % value:
        raise InputError(
            expected=f"a divisor of {other} = {whole}",
            found=repr(value),
            where=where,
            remedy=f"Change {where} or {other}.",
        )


def _check_targets(value: Any, path: str) -> None:
    """Check every ``_target_`` in a node and below."""
    if OmegaConf.is_list(value):
        for index in range(len(value)):
            _check_targets(value[index], f"{path}[{index}]")
    elif isinstance(value, DictConfig):
        if "_target_" in value:
            _check_call(value, path)
        for key in map(str, value):
            if key not in _HYDRA_KEYS and not OmegaConf.is_missing(value, key):
                _check_targets(_value(value, key, f"{path}.{key}"), f"{path}.{key}")


def _check_call(node: DictConfig, path: str) -> None:
    target = _value(node, "_target_", f"{path}._target_")
    called = signature(str(target), path)
    if called is None:
        return
    given = {str(key) for key in node} - _HYDRA_KEYS
    at_run_time = GIVEN_AT_RUN_TIME.get(path) or GIVEN_AT_RUN_TIME.get(f"{path.rpartition('.')[0]}.*", frozenset())
    for key in sorted(given):
        full = f"{path}.{key}"
        parameter = called.parameters.get(key)
        if parameter is None:
            if called.takes_any:
                continue
            raise InputError(
                expected=f"an argument of {called.name}",
                found=repr(key),
                where=full,
                remedy=suggestion(key, sorted(called.parameters.keys() - at_run_time)),
            )
        if OmegaConf.is_missing(node, key):
            raise InputError("a value", "none", full, f"It has no default: give {full}=VALUE.")
        value = _value(node, key, full)
        plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        if plain is not _LATER and not fits(plain, parameter.annotation):
            raise InputError(
                expected=in_words(parameter.annotation),
                found=_shown(plain),
                where=full,
                remedy=f"It is an argument of {called.name}.",
            )
    if node.get("_partial_") or "_args_" in node:
        return
    lacking = [key for key, parameter in called.parameters.items() if parameter.required]
    lacking = [key for key in lacking if key not in given and key not in at_run_time]
    if lacking:
        raise InputError(
            expected=f"the argument {lacking[0]!r} of {called.name}",
            found=one_of(sorted(given)),
            where=path,
            remedy=f"Add it: +{path}.{lacking[0]}=VALUE.",
        )


def _shown(value: Any) -> str:
    return "a mapping" if isinstance(value, Mapping) else repr(value)
