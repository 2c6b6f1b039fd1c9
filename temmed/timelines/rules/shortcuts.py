"""Rules on shortcuts: answers that can be guessed without a look at the images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from temmed.timelines.audit import EXAMPLES, Audit, Finding, found_rows, rule
from temmed.timelines.tables import named_rows

_SEES = {"text": "prompt and choices", "metadata": "patient, scanner and visits"}


@rule
def guessable(audit: Audit) -> Iterator[Finding]:
    """Question families that a classifier answers from words or metadata alone, better than by the usual answer."""
    guesses = audit.guesses
    families = guesses.families.sort_values("low", ascending=False, kind="stable")
    notable = families[families["guessable"].astype(bool)]
    message = (
        "answers can be guessed without an image, beyond the most frequent one: read scores against this, or make a "
        "set without the worst of them with --debias"
    )
    yield from found_rows("guessable", "warning", message, notable, _text)
    if len(families) or guesses.skipped:
        message = (
            "question families by what can be guessed without an image, cross-validated by patient; the worst first"
        )
        if guesses.skipped:
            message += f"; too few questions to tell in {', '.join(sorted(guesses.skipped))}"
        examples = tuple(_text(row) for row in named_rows(families.head(EXAMPLES)))
        data = tuple(row._asdict() for row in named_rows(families))
        yield Finding("guessable", "info", len(families) or len(guesses.skipped), message, examples, data)


def _text(row: Any) -> str:
    interval = f"gain {100 * row.gain:+.1f} points [{100 * row.low:+.1f}, {100 * row.high:+.1f}]"
    return (
        f"{row.template} from {_SEES[row.guesser]}: {row.accuracy:.1%} right, most frequent {row.majority:.1%}, "
        f"{interval}, {row.questions:,} questions of {row.patients:,} patients"
    )
