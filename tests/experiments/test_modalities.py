"""The record of the experiment on several sets, and the page that is made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.modalities.page import RESULTS, TITLES, to_markdown
from experiments.modalities.record import Record, read, write
from experiments.modalities.run import ROWS
from temmed.errors import InputError

HORIZONS = ("1", "17+")


def _record(accuracy: dict[str, float], seeds: int = 3, patients: int = 200) -> Record:
    """Rows that are right so often, by chance; half of the questions look far back."""
    rng = np.random.default_rng(0)
    count = 4 * patients
    questions = pd.DataFrame(
        {
            "question_id": [f"q{number}" for number in range(count)],
            "patient_id": [f"p{number % patients}" for number in range(count)],
            "template": "grown",
            "horizon": [HORIZONS[number // (count // 2)] for number in range(count)],
            "majority": (np.arange(count) % 3 == 0).astype(float),
            "ceiling": 1.0,
        }
    )
    runs = {f"{row}/{seed}": row for row in accuracy for seed in range(seeds)}
    right = {name: rng.random(count) < accuracy[row] for name, row in runs.items()}
    told = {
        "commit": "abcdef0",
        "processor_seconds": 90.0,
        "parameters": 1234,
        "epochs": 4,
        "state_bytes": 4000,
        "metrics": {"event/accuracy": 0.5},
    }
    about = {"set": "tiny", "fingerprint": "f", "split": "s", "task": "progression"}
    return Record(about, questions, right, {name: dict(told) for name in runs})


def _table(page: str, title: str) -> dict[str, list[str]]:
    lines = page.split(title, 1)[1].split("\n## ", 1)[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows}


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    record = _record({"gru": 0.6, "memory_fusion": 0.8}, seeds=12)
    write(record, tmp_path / "set.parquet")
    again = read(tmp_path / "set.parquet")
    pd.testing.assert_frame_equal(again.questions, record.questions)
    assert (again.about, again.runs) == (record.about, record.runs)
    assert all((again.right[name] == right).all() for name, right in record.right.items())
    assert again.seeds("gru") == [f"gru/{seed}" for seed in range(12)]


def test_rows_that_were_recorded_before_stay() -> None:
    old, new = _record({"gru": 0.6, "ssm": 0.7}), _record({"gru": 0.9})
    both = old.joined(new)
    assert both.rows == ["gru", "ssm"]
    assert (both.right["gru/0"] == new.right["gru/0"]).all()
    assert (both.right["ssm/0"] == old.right["ssm/0"]).all()
    other = Record({**new.about, "fingerprint": "another"}, new.questions, new.right, new.runs)
    with pytest.raises(InputError, match="another"):
        old.joined(other)


def test_another_table_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "set.parquet")
    with pytest.raises(InputError, match="a record of this experiment"):
        read(tmp_path / "set.parquet")


def test_the_page_says_what_was_answered() -> None:
    record = _record({"memory_fusion": 0.85, "temporal_transformer": 0.855, "ssm": 0.7, "gru_equal": 0.85})
    page = to_markdown(record, resamples=500)
    whole = _table(page, "# tiny")
    means = [100 * record.right[f"ssm/{seed}"].mean() for seed in range(3)]
    accuracy, spread = whole["ssm"][0].split(" [")[0].split(" ± ")
    assert float(accuracy) == pytest.approx(np.mean(means), abs=0.051)
    assert float(spread) == pytest.approx(np.std(means, ddof=1), abs=0.051)
    majority = record.questions["majority"].mean()
    closed = (np.mean(means) - 100 * majority) / (1 - majority)
    assert float(whole["ssm"][1].split(" [")[0]) == pytest.approx(closed, abs=0.051)
    assert whole["ssm"][-3:] == ["1.23 k", "1.5 min", "4,000 B"]
    assert whole["ceiling"][0].startswith("100.0")
    far = _table(page, "## By horizon")
    back = (record.questions["horizon"] == "17+").to_numpy()
    gap = np.mean(
        [record.right[f"memory_fusion/{s}"][back].mean() - record.right[f"ssm/{s}"][back].mean() for s in range(3)]
    )
    assert float(far["ssm"][1].split(" [")[0]) == pytest.approx(100 * gap, abs=0.051)
    verdicts = page.split("## 17+ steps back")[1]
    assert "against ssm, with as many bytes: better" in verdicts
    assert "against gru, 1,024 units, with as many bytes: no difference shown" in verdicts
    assert "memory_fusion against temporal_transformer, margin 2 points:" in verdicts
    assert "16 moments" not in verdicts


def test_not_inferior_is_said_of_the_interval_alone() -> None:
    def verdict(reference: float, full: float, patients: int) -> str:
        record = _record({"memory_fusion": reference, "temporal_transformer": full}, patients=patients)
        return to_markdown(record, resamples=500).split("margin 2 points: ")[1].split(",")[0]

    assert verdict(0.9, 0.8, 400) == "not inferior"
    assert verdict(0.8, 0.8, 50) == "not decided"
    assert verdict(0.7, 0.8, 400) == "inferior"


def test_a_set_whose_ceiling_nobody_knows_has_no_share_of_it() -> None:
    record = _record({"memory_fusion": 0.8, "ssm": 0.7})
    assert "gap closed" in to_markdown(record, resamples=50)
    record.questions["ceiling"] = np.nan
    page = to_markdown(record, resamples=50)
    assert "gap closed" not in page.lower()
    assert "ceiling" not in page
    assert "nan" not in page


def test_every_row_that_is_trained_has_a_title() -> None:
    assert set(ROWS) == set(TITLES)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.parquet")), ids=lambda path: path.stem)
def test_pages_of_the_project_are_those_of_their_records(path: Path) -> None:
    assert path.with_suffix(".md").read_text() == to_markdown(read(path))
