"""What is wrong with a table, row by row, and the error that says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from temmed.errors import InputError

#: How many problems a message lists; the rest are counted.
LISTED = 20


@dataclass(frozen=True)
class Problem:
    """One broken rule.

    Attributes:
        file: the table's file name.
        row: the data row, counted from 1 without the header; ``None`` when the whole file is meant.
        column: the column or columns at fault; empty when the whole row or file is meant.
        rule: what must hold.
        found: what was there instead.
    """

    file: str
    row: int | None
    column: str
    rule: str
    found: str

    def __str__(self) -> str:
        """``FILE, row N, COLUMN: RULE, found VALUE``."""
        place = self.file if self.row is None else f"{self.file}, row {self.row}"
        if self.column:
            place += f", {self.column}"
        return f"{place}: {self.rule}, found {self.found}"


@dataclass
class Problems:
    """Collects broken rules: keeps the first few of each rule, counts them all.

    Attributes:
        listed: the problems kept.
        total: how many there are.
        rules: how many there are of each (file, column, rule).
        unreadable: the 0-based rows of each (file, column) whose value had the wrong type, so that the missing value
            that took its place is not told again.
    """

    listed: list[Problem] = field(default_factory=list)
    total: int = 0
    rules: dict[tuple[str, str, str], int] = field(default_factory=dict)
    unreadable: dict[tuple[str, str], Sequence[int]] = field(default_factory=dict)

    def add(self, file: str, column: str, rule: str, found: str, row: int | None = None) -> None:
        """Note one problem."""
        self.add_rows(file, column, rule, [] if row is None else [row - 1], [found])

    def add_rows(self, file: str, column: str, rule: str, rows: Iterable[int], found: Iterable[object]) -> None:
        """Note the same rule broken in several rows.

        Args:
            file: the table's file name.
            column: the column at fault.
            rule: what must hold.
            rows: 0-based rows; empty when the whole file is meant.
            found: the offending value of each row.
        """
        rows, values = list(rows), list(found)
        if not values:
            return
        numbers: list[int | None] = [int(row) + 1 for row in rows] if rows else [None]
        self.total += len(values)
        key = (file, column, rule)
        self.rules[key] = self.rules.get(key, 0) + len(values)
        self.listed.extend(
            Problem(file, number, column, rule, _quote(value))
            for number, value in list(zip(numbers, values, strict=True))[:LISTED]
        )

    def check(self, where: str) -> None:
        """Raise when there is any problem.

        Raises:
            ValidationError: with the first problems listed and all of them counted.
        """
        if self.total:
            raise ValidationError(where, self._spread(), self.total)

    def _spread(self) -> list[Problem]:
        """Some problems of every kind, so that a rule broken everywhere does not hide the others."""
        seen: Counter[tuple[str, str, str]] = Counter()
        turns = []
        for problem in self.listed:
            kind = (problem.file, problem.column, problem.rule)
            turns.append(seen[kind])
            seen[kind] += 1
        chosen = sorted(range(len(turns)), key=turns.__getitem__)[:LISTED]
        return [self.listed[index] for index in sorted(chosen)]


class ProblemsError(InputError):
    """Several problems of the user's tables in one message; a kind of table says what it needs and how to mend it.

    Args:
        where: the folder or the files.
        problems: the problems to list.
        total: how many there are in all.
    """

    needs: ClassVar[str]
    advice: ClassVar[str]

    def __init__(self, where: str, problems: list[Problem], total: int) -> None:
        self.problems = problems
        self.total = total
        found = f"{total:,} {'problem' if total == 1 else 'problems'}"
        super().__init__(expected=self.needs, found=found, where=where, remedy=self.advice)

    def __str__(self) -> str:
        """The problems listed, one a line, and how many more there are."""
        lines = [f"{self.where}: expected {self.expected}, found {self.found}:"]
        lines += [f"  {problem}" for problem in self.problems]
        if self.total > len(self.problems):
            lines.append(f"  … and {self.total - len(self.problems):,} more")
        return "\n".join([*lines, self.remedy])

    def __reduce__(self) -> tuple[type[ProblemsError], tuple[str, list[Problem], int]]:  # type: ignore[override]
        """Pickle by the arguments, so that the error crosses process boundaries."""
        return type(self), (self.where, self.problems, self.total)


class ValidationError(ProblemsError):
    """A timeline folder breaks the rules of its format."""

    needs = "tables that follow the timeline format"
    advice = "Correct the tables; `temmed data audit` lists what is wrong by rule."


def _quote(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
