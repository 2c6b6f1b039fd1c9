"""How a split is made, and which wishes go together: without pandas, so that a configuration is checked at once."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, Protocol

from temmed.errors import InputError

SUBSETS = ("train", "val", "test")
#: Rules that a seed alone decides, besides the fractions.
PLAIN_RULES = ("patient", "time", "patient_time")
RULES = (*PLAIN_RULES, "stratified", "kfold", "site", "file")
DEFAULT_FRACTIONS = (0.6, 0.1, 0.3)
#: Below this a fold for validation and one for testing leave nothing to train on.
LEAST_FOLDS = 3

#: The word, in place of a file, for groups that are found in the data themselves.
DUPLICATES = "duplicates"


@dataclass(frozen=True)
class Duplicates:
    """Groups of patients who share an image or a report.

    Attributes:
        content: the fingerprint of the data they were found in.
        groups: the patients of each.
    """

    content: str
    groups: tuple[tuple[str, ...], ...]


#: Patients that belong together: a CSV file with columns ``patient_id, group``, a mapping of patient to group, groups
#: of patients, or ``duplicates`` for those who share an image or a report.
Together = str | PathLike[str] | Mapping[str, str] | Collection[Collection[str]] | Duplicates

_NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]*"
_LONGEST = 60
#: The rules that take each key; the other keys are for every rule.
_TAKEN_BY = {
    "stratify": ("stratified", "kfold"),
    "folds": ("kfold",),
    "fold": ("kfold",),
    "site": ("site",),
    "together": ("patient", "patient_time", "stratified", "kfold", "site"),
}
#: What each rule cannot do without, with an example.
_NEEDED_BY = {
    "stratified": {"stratify": "[sex,site]"},
    "kfold": {"folds": "5", "fold": "0"},
    "site": {"site": "NAME"},
    "file": {"name": "official"},
}


class Spelling(Protocol):
    """How the user writes a key, alone or with a value: ``folds=5``, ``data.split.folds=5``, ``--folds 5``."""

    def __call__(self, key: str, value: str | None = None) -> str:
        """The key as the user writes it."""


def as_argument(key: str, value: str | None = None) -> str:
    """The spelling in Python.

    >>> as_argument("folds", "5")
    'folds=5'
    """
    return key if value is None else f"{key}={value}"


def as_override(key: str, value: str | None = None) -> str:
    """The spelling in a configuration.

    >>> as_override("few_shot")
    'data.split.few_shot'
    """
    return f"data.split.{as_argument(key, value)}"


def as_option(key: str, value: str | None = None) -> str:
    """The spelling on the command line; a list is an option given several times.

    >>> as_option("stratify", "[sex,site]")
    '--stratify sex --stratify site'
    """
    option = "--" + key.replace("_", "-")
    return option if value is None else " ".join(f"{option} {part}" for part in value.strip("[]").split(","))


@dataclass(frozen=True)
class Recipe:
    """What decides a split.

    Attributes:
        by: one of :data:`RULES`.
        seed: of the hashes.
        fractions: shares of the patients for train, val and test. ``time``, ``kfold`` and ``file`` do not use them,
            and ``site`` only the ratio of the first two.
        stratify: columns of the patients table whose values have the same shares in every subset.
        folds: number of folds.
        fold: the fold that is the test; the next one is for validation.
        site: the site that is the test.
        name: of the split's file; the one to read if ``by`` is ``file``, else instead of one made from the rule.
        together: patients who must not be on two sides.
        few_shot: train on so many patients only.
        few_shot_per: so many for each value of this column of the patients table, or for each answer to this task.
    """

    by: str = "patient"
    seed: int = 0
    fractions: tuple[float, ...] = DEFAULT_FRACTIONS
    stratify: tuple[str, ...] = ()
    folds: int | None = None
    fold: int | None = None
    site: str | None = None
    name: str | None = None
    together: Together | None = None
    few_shot: int | None = None
    few_shot_per: str | None = None

    @classmethod
    def of(cls, mapping: Mapping[str, Any]) -> Recipe:
        """The recipe that the keys of a configuration, or of a split's record, describe; others keep their default."""
        lists = {key: tuple(mapping[key]) for key in ("fractions", "stratify") if key in mapping}
        return cls(**{**mapping, **lists})

    @property
    def frozen(self) -> bool:
        """Whether more than each patient's own id decides, so that the file must be kept: more data would move some."""
        return bool(self.by == "stratified" or self.stratify or self.together is not None or self.few_shot is not None)

    @property
    def whole(self) -> Recipe:
        """The same with all patients in train."""
        return replace(self, few_shot=None, few_shot_per=None)

    @property
    def parameters(self) -> dict[str, Any]:
        """What is recorded besides rule, seed and fractions; only what is used."""
        named = {key: getattr(self, key) for key in ("folds", "fold", "site", "few_shot", "few_shot_per")}
        found = {key: value for key, value in named.items() if value is not None}
        if self.stratify:
            found["stratify"] = list(self.stratify)
        if self.together is not None:
            found["together"] = DUPLICATES if self._finds_duplicates else True
        return found

    @property
    def _finds_duplicates(self) -> bool:
        return self.together == DUPLICATES or isinstance(self.together, Duplicates)

    @property
    def file_name(self) -> str:
        """The name of the split's file, without suffix.

        >>> Recipe("kfold", seed=1, folds=5, fold=2).file_name
        'kfold5-2_seed1'
        >>> Recipe("file", name="official", few_shot=16).file_name
        'official_seed0_few16'
        """
        parts = [self.name] if self.name else [self.by, *self.stratify]
        if self.by == "kfold":
            parts = [self.name or f"kfold{self.folds}", str(self.fold), *(() if self.name else self.stratify)]
        elif self.by == "site" and not self.name:
            parts.append(str(self.site))
        if self.together is not None and not self.name:
            parts.append(DUPLICATES if self._finds_duplicates else "together")
        stem = "-".join(_plain(part) for part in parts)
        if not self.name or self.few_shot is not None:
            stem += f"_seed{self.seed}"
        if self.few_shot is not None:
            stem += f"_few{self.few_shot}" + (f"-per-{_plain(self.few_shot_per)}" if self.few_shot_per else "")
        return stem

    def check(self, spell: Spelling = as_argument) -> None:
        """Refuse what cannot work whatever the data are.

        Args:
            spell: how the user wrote the keys.

        Raises:
            InputError: the rule is unknown, lacks what it needs, was given what it does not take, or a number is off.
        """
        if self.by not in RULES:
            raise InputError(f"one of {', '.join(RULES)}", repr(self.by), spell("by"), "Choose one of them.")
        shares = self.fractions
        if len(shares) != len(SUBSETS) or min(shares) < 0 or not math.isclose(math.fsum(shares), 1.0, abs_tol=1e-6):
            raise InputError("three fractions that add up to 1", str(shares), spell("fractions"), "Correct them.")
        for key, rules in _TAKEN_BY.items():
            if self.by not in rules and getattr(self, key) not in (None, ()):
                raise InputError(
                    f"{spell('by')} to be {' or '.join(rules)}, the rules that take {spell(key)}",
                    self.by,
                    spell(key),
                    f"Leave it out, or add {spell('by', rules[0])}.",
                )
        for key, example in _NEEDED_BY.get(self.by, {}).items():
            if getattr(self, key) in (None, ()):
                raise InputError(
                    f"a value for {spell('by', self.by)}",
                    "none",
                    spell(key),
                    f"For example: {spell(key, example)}.",
                )
        self._check_values(spell)

    def _check_values(self, spell: Spelling) -> None:
        if self.name is not None and not re.fullmatch(_NAME, self.name):
            remedy = "It is the name of a file in splits/, without .csv."
            raise InputError("letters, digits and . _ + -", repr(self.name), spell("name"), remedy)
        if len(set(self.stratify)) < len(self.stratify):
            raise InputError("different columns", str(list(self.stratify)), spell("stratify"), "Name each one once.")
        if self.folds is not None and self.folds < LEAST_FOLDS:
            remedy = "One fold tests, one validates, and the others train."
            raise InputError(f"at least {LEAST_FOLDS}", str(self.folds), spell("folds"), remedy)
        if self.folds is not None and self.fold is not None and not 0 <= self.fold < self.folds:
            remedy = "Folds count from 0."
            raise InputError(f"0 … {self.folds - 1}", str(self.fold), spell("fold"), remedy)
        if self.by == "site" and not sum(self.fractions[:2]):
            remedy = "Their ratio divides the other sites between train and val."
            raise InputError("a share for train or val", str(self.fractions), spell("fractions"), remedy)
        if self.few_shot is not None and self.few_shot < 1:
            raise InputError("at least 1", str(self.few_shot), spell("few_shot"), "Train on one patient or more.")
        if self.few_shot_per is not None and self.few_shot is None:
            remedy = f"Say how many of each: {spell('few_shot', '16')}."
            raise InputError(f"{spell('few_shot')} beside it", "none", spell("few_shot_per"), remedy)


def _plain(text: str) -> str:
    """As much of a text as a file name can hold on every system."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text)[:_LONGEST]
