"""Questions in one's own words to a trained model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from temmed.answering import Asker
from temmed.predictions.tables import read_predictions
from temmed.timelines.folder import Timeline, write_timeline

#: See conftest.
Outcome = Any
Command = Callable[..., Any]

PROMPT = "Compared with the previous time point, did the lesion grow?"


@pytest.fixture(scope="module")
def checkpoint(finished: Outcome) -> Path:
    return finished.run / "checkpoints" / "best.ckpt"


def write_images(root: Path, channels: tuple[str, ...] = ("flair", "t1"), size: int = 20, dims: int = 2) -> Path:
    """One sequence of four visits, images only; the third visit has no image."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    rows = []
    for position in (0, 1, 3):
        for channel in channels:
            path = f"images/{position}-{channel}.npy"
            np.save(root / path, rng.normal(500, 100, (size,) * dims).astype(np.float32))
            rows.append({"sequence_id": "s1", "position": position, "channel": channel, "path": path})
    tables = {
        "patients": pd.DataFrame({"patient_id": ["p1"]}),
        "sequences": pd.DataFrame(
            {
                "sequence_id": ["s1"],
                "patient_id": ["p1"],
                "modality": ["mri"],
                "time_unit": ["week"],
                "spatial_dims": [dims],
            }
        ),
        "timepoints": pd.DataFrame({"sequence_id": "s1", "position": range(4), "time": [0.0, 5.0, 11.5, 30.0]}),
        "images": pd.DataFrame(rows),
    }
    write_timeline(root, tables, name="own", version="1", licence="CC0-1.0", provenance={"source": "test"})
    return root


def test_every_sequence_is_asked_at_its_last_image(checkpoint: Path, dataset: Path) -> None:
    reply = Asker(checkpoint, dataset).ask(PROMPT)
    timeline = Timeline.open(dataset)
    assert [answer.sequence_id for answer in reply.answers] == sorted(timeline.table("sequences")["sequence_id"])
    last = timeline.table("images").groupby("sequence_id")["position"].max()
    times = timeline.table("timepoints").set_index(["sequence_id", "position"])["time"]
    for answer in reply.answers:
        assert answer.asked_at == last[answer.sequence_id]
        assert answer.time == times[answer.sequence_id, answer.asked_at]
        assert answer.answer in ("progressed", "stable", "regressed")
        assert 1 / 3 <= answer.probability <= 1
        assert all(0 <= position <= answer.asked_at for position in answer.evidence)


def test_a_free_question_gets_the_answer_of_the_same_question_in_the_folder(
    checkpoint: Path, dataset: Path, finished: Outcome
) -> None:
    answers = read_predictions(finished.run / "predictions" / "test").answers.set_index("question_id")
    questions = Timeline.open(dataset).table("questions").set_index("question_id")
    asker = Asker(checkpoint, dataset)
    asked = questions.loc[[q for q in answers.index if questions.loc[q, "task"] == "progression"]].iloc[:3]
    assert len(asked) == 3
    for identity, question in asked.iterrows():
        (answer,) = asker.ask(
            question["prompt"], list(question["choices"]), question["sequence_id"], int(question["asked_at"])
        ).answers
        assert answer.answer == answers.loc[identity, "answer"]
        assert answer.probability == pytest.approx(answers.loc[identity, "confidence"], abs=1e-5)
        assert list(answer.evidence) == list(answers.loc[identity, "evidence"])


def test_a_folder_of_images_alone_can_be_asked(checkpoint: Path, tmp_path: Path, command: Command) -> None:
    result = command(
        "predict", checkpoint, write_images(tmp_path / "own"), "--ask", PROMPT, "--choices", "stable|never"
    )
    assert result.exit_code == 0, result.output
    assert "s1" in result.output
    assert "time point 3 (30 week)" in result.output
    assert "%" in result.output


def test_words_that_were_never_seen_are_named(checkpoint: Path, tmp_path: Path, command: Command) -> None:
    root = write_images(tmp_path / "own")
    result = command("predict", checkpoint, root, "--ask", "Is the zygomatic stable?", "--position", 1)
    assert result.exit_code == 0, result.output
    assert "zygomatic" in result.output.splitlines()[-1]


def test_own_questions_are_answered_into_tables(
    checkpoint: Path, dataset: Path, tmp_path: Path, command: Command
) -> None:
    result = command("predict", checkpoint, dataset, "--out", tmp_path / "answers")
    assert result.exit_code == 0, result.output
    questions = Timeline.open(dataset).table("questions")
    assert sorted(read_predictions(tmp_path / "answers").answers["question_id"]) == sorted(questions["question_id"])


def test_maps_tell_where_the_model_looked(checkpoint: Path, dataset: Path, tmp_path: Path, command: Command) -> None:
    result = command("predict", checkpoint, dataset, "--out", tmp_path / "answers", "--maps")
    assert result.exit_code == 0, result.output
    predictions = read_predictions(tmp_path / "answers")
    assert predictions.maps is not None
    asked_at = Timeline.open(dataset).table("questions").set_index("question_id")["asked_at"]
    assert sorted(predictions.maps["question_id"]) == sorted(asked_at.index)
    for row in predictions.maps.itertuples():
        assert len(row.places) > 1
        assert sum(row.places) == pytest.approx(1, abs=1e-4)
        assert list(row.positions) == list(range(asked_at[row.question_id] + 1))
        assert len(row.shares) == len(row.positions)
        assert sum(row.shares) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--ask", PROMPT, "--sequence", "nobody"), ("'nobody'", "s1")),
        (("--ask", PROMPT, "--position", "4"), ("0 to 3", "4")),
        (("--ask", PROMPT, "--position", "-1"), ("0 to 3", "-1")),
        (("--ask", PROMPT, "--position", "2"), ("position with an image", "0, 1, 3")),
        (("--ask", PROMPT, "--choices", "stable"), ("two or more choices",)),
        (("--ask", PROMPT, "--choices", "aaaa|bbbb"), ("tell apart", "'aaaa'", "'bbbb'")),
        ((), ("--ask or --out",)),
        (("--ask", PROMPT, "--maps"), ("--out with --maps",)),
        (("--out", "answers"), ("none in the folder",)),
    ],
)
def test_what_cannot_be_asked_is_refused(
    checkpoint: Path, tmp_path: Path, command: Command, words: tuple[str, ...], told: tuple[str, ...]
) -> None:
    result = command("predict", checkpoint, write_images(tmp_path / "own"), *words)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    for part in told:
        assert part in result.stderr
    assert not Path("answers").exists()


def test_other_images_than_the_model_was_fitted_to_are_refused(
    checkpoint: Path, tmp_path: Path, command: Command
) -> None:
    result = command("predict", checkpoint, write_images(tmp_path / "ct", ("ct",)), "--ask", PROMPT)
    assert result.exit_code == 2
    assert "expected channels flair, t1" in result.stderr
    assert "found ct" in result.stderr
    result = command("predict", checkpoint, write_images(tmp_path / "volumes", size=8, dims=3), "--ask", PROMPT)
    assert result.exit_code == 2
    assert "expected images of 2 dimensions" in result.stderr


@pytest.mark.parametrize("damage", ["absent", "truncated", "text"])
def test_a_checkpoint_that_cannot_be_read_is_refused(
    checkpoint: Path, tmp_path: Path, command: Command, damage: str
) -> None:
    spoilt = tmp_path / "best.ckpt"
    if damage == "truncated":
        content = checkpoint.read_bytes()
        spoilt.write_bytes(content[: len(content) // 2])
    elif damage == "text":
        spoilt.write_text(json.dumps({"not": "a checkpoint"}))
    result = command("predict", spoilt, write_images(tmp_path / "own"), "--ask", PROMPT)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    assert "expected a readable checkpoint" in result.stderr
    assert str(spoilt) in result.stderr


@pytest.mark.parametrize("words", [["--help"], ["predict", "--help"]])
def test_help_loads_no_torch(words: list[str]) -> None:
    code = (
        "import sys\nfrom temmed.cli import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "print(sorted({'torch', 'pandas', 'pytorch_lightning'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "predict" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
