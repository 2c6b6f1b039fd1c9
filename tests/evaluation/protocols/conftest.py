"""Tiny imported benchmarks and predictions for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from temmed.evaluation.protocols.registry import Outcome, Request, protocol
from temmed.predictions.tables import write_predictions
from temmed.timelines.folder import Timeline, write_timeline

Row = dict[str, Any]


class Bench:
    """A timeline folder in the form that an importer writes, with two patients' sequences s0 and s1."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tables: dict[str, list[Row]] = {"questions": []}
        self.records: dict[str, list[Row]] = {}

    def ask(self, identity: str, template: str, answer: str, choices: Sequence[str] | None, **more: Any) -> None:
        row = {
            "question_id": identity,
            "sequence_id": f"s{len(self.tables['questions']) % 2}",
            "task": "choice",
            "template": template,
            "prompt": "?",
            "asked_at": 1,
            "choices": choices,
            "answer": answer,
            "names_position": False,
        }
        self.tables["questions"].append(row | more)

    def score(
        self, name: str, answers: Sequence[Row] = (), file: Sequence[Row] = (), boxes: Any = None, **options: Any
    ) -> Outcome:
        """Write everything and score it."""
        pairs = [("s0", "p0"), ("s1", "p1")]
        fixed = {
            "patients": [{"patient_id": patient} for _, patient in pairs],
            "sequences": [
                {"sequence_id": s, "patient_id": p, "modality": "cxr", "time_unit": "ordinal", "spatial_dims": 2}
                for s, p in pairs
            ],
            "timepoints": [
                {"sequence_id": sequence, "position": position, "time": float(position)}
                for sequence, _ in pairs
                for position in range(2)
            ],
        }
        tables = {name: pd.DataFrame(rows) for name, rows in (fixed | self.tables).items() if rows}
        tables["images"] = pd.DataFrame(columns=["sequence_id", "position", "channel", "path"])
        folder = self.root / "dataset"
        write_timeline(folder, tables, name="bench", version="1", licence="CC0-1.0", provenance={"source": "test"})
        for record, rows in self.records.items():
            (folder / "source").mkdir(exist_ok=True)
            (folder / "source" / f"{record}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        predictions = self.root / "predictions"
        if file:
            predictions = self.root / "predictions.jsonl"
            predictions.write_text("".join(json.dumps(row) + "\n" for row in file))
        elif answers:
            others = {} if boxes is None else {"boxes": pd.DataFrame(boxes)}
            write_predictions(predictions, pd.DataFrame(answers), **others)
        return protocol(name).score(Request(Timeline.open(folder), predictions, resamples=20, **options))


def rows(given: dict[str, str | None]) -> list[Row]:
    """Rows of an answers table."""
    return [{"question_id": question, "answer": answer} for question, answer in given.items()]


def value(outcome: Outcome, key: str) -> float:
    """A score by its key."""
    return outcome.metrics[key]["value"]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
