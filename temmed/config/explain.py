"""Turn what Hydra and OmegaConf say about a wrong override into one line that names the right one."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Sequence
from typing import Any

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from temmed.config.help import defaults, groups
from temmed.config.paths import conf_dir
from temmed.config.schema import SCHEMAS
from temmed.config.targets import signature
from temmed.config.wording import suggestion, type_in_words
from temmed.errors import InputError

_OVERRIDE = re.compile(r"Error merging override (?P<override>.*)", re.DOTALL)
_FILE = re.compile(r"In '(?P<file>[^']*)': \w+ raised while composing config")
_NOT_A_GROUP = re.compile(r"Could not override '(?P<key>[^']+)'\.")


def explain(error: Exception, primary: str) -> InputError:
    """The message for the user.

    Args:
        error: what was raised while the configuration was composed.
        primary: the name of the primary configuration, ``train`` or ``evaluate``.
    """
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    if isinstance(error, MissingConfigException):
        return _missing_option(error)
    detail = error.__cause__ or error.__context__
    if isinstance(error, OmegaConfBaseException):
        detail = error
    file = _FILE.match(str(error))
    place = f" (in {file['file']})" if file else ""
    if isinstance(detail, ConfigAttributeError | ConfigKeyError):
        return _unknown_key(detail, place, primary)
    if isinstance(detail, ValidationError):
        override = _OVERRIDE.match(str(error))
        return _wrong_type(detail, override["override"] if override else "", SCHEMAS[primary], place)
    unmatched = _NOT_A_GROUP.match(str(error))
    if unmatched:
        key = unmatched["key"]
        return InputError(f"a key or group of {primary}", repr(key), key, suggestion(key, _top_level(primary)))
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return InputError(
        expected="a configuration that can be composed",
        found=lines[0].rstrip(".") if lines else type(error).__name__,
        where="the command line",
        remedy=" ".join(lines[1:]) or "See --help for groups and keys.",
    )


def _unreadable(override: str) -> InputError:
    if "=" not in override:
        remedy = f"Write {override}=VALUE." if re.fullmatch(r"[+~\w./@]+", override) else "See --help for the form."
        return InputError("KEY=VALUE", repr(override), "the command line", remedy)
    key, _, value = override.partition("=")
    return InputError(
        expected="a value that Hydra can read",
        found=repr(value),
        where=key,
        remedy=f"Put quotes around it: \"{key}='{value}'\".",
    )


def _missing_option(error: MissingConfigException) -> InputError:
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    if group:
        options = list(error.options or ())
        return InputError(
            f"an option of the group {group}", repr(option), f"{group}={option}", suggestion(option, options)
        )
    names = sorted(path.stem for path in conf_dir().glob("*.yaml"))
    return InputError("the name of a primary configuration", repr(option), "--config-name", suggestion(option, names))


def _unknown_key(error: ConfigAttributeError | ConfigKeyError, place: str, primary: str) -> InputError:
    full = str(error.full_key or error.key)
    key = full.rpartition(".")[2]
    node, known = error.parent_node, list[str]()
    if isinstance(node, DictConfig):
        known = [str(name) for name in node]
    parent = full.rpartition(".")[0]
    if not parent:
        known = _top_level(primary)
    elif isinstance(node, DictConfig) and isinstance(node.get("_target_"), str):
        called = signature(node["_target_"], parent)
        if called is not None and key in called.parameters:
            return InputError(
                expected=f"a key of {parent}",
                found=repr(key),
                where=full + place,
                remedy=f"{called.name} takes it but the YAML leaves it out: add it with +{full}=VALUE.",
            )
        accepted = called.parameters if called else {}
        known = sorted({*accepted, *known} - {"_target_", "_partial_"})
    expected = f"a key of {parent}" if parent else f"a key or group of {primary}"
    return InputError(expected, repr(key), full + place, suggestion(key, known))


def _wrong_type(error: ValidationError, override: str, schema: type, place: str) -> InputError:
    full = str(error.full_key or error.key or "the configuration")
    kind = _declared(schema, re.sub(r"\[\d+\]", "", full).split("."))
    if override:
        found = repr(override.partition("=")[2])
    else:
        quoted = re.search(r"Value '(?P<value>.*?)' of type", str(error.msg or error))
        found = repr(quoted["value"]) if quoted else "something else"
    expected = type_in_words(kind) if kind is not None else "another type of value"
    if dataclasses.is_dataclass(kind):
        names = ", ".join(field.name for field in dataclasses.fields(kind))
        return InputError("a mapping", found, full + place, f"Set its keys one by one: {names}.")
    return InputError(expected, found, full + place, f"Set {full} to {expected}.")


def _declared(schema: type, path: Sequence[str]) -> Any:
    """The annotation of a key of the schema; None for keys in open nodes."""
    kind: Any = schema
    for name in path:
        if not dataclasses.is_dataclass(kind):
            return None
        kind = typing.get_type_hints(kind).get(name)
    return kind


def _top_level(primary: str) -> list[str]:
    """The keys at the root of a primary configuration and the groups that it uses."""
    keys = [field.name for field in dataclasses.fields(SCHEMAS[primary])]
    used = {*keys, *defaults(primary)}
    return sorted(used | {group for group in groups() if group.partition("/")[0] in used})
