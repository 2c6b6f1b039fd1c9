"""A small dataset with known truth, and runs of known quality on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from temmed.evaluation.ceiling import VERDICTS
from temmed.predictions.tables import write_predictions
from temmed.timelines.folder import Timeline, write_timeline
from temmed.timelines.schema import PROGRESSION_BOUND, PROGRESSION_MARGIN
from temmed.timelines.splits import Split, get_split

SIZE = 24
PATIENTS = 90
#: Standard error of ln d in the fake images: large, so that the ceiling is visibly under 1.
ERROR = 0.09


def build_timeline(root: Path, patients: int = PATIENTS, seed: int = 0, images: bool = True) -> Timeline:
    """Patients with one disc each that grows, shrinks or rests, and in some appears late."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[dict]] = {
        name: []
        for name in ("patients", "sequences", "timepoints", "images", "findings", "measurements", "questions", "events")
    }
    (root / "images").mkdir(parents=True)
    for index in range(patients):
        _add_patient(rows, root, index, rng)
    for number, question in enumerate(rows["questions"]):
        question["question_id"] = f"q{number:05d}"
    tables = {name: pd.DataFrame(content) for name, content in rows.items()}
    if not images:
        tables["images"] = tables["images"].iloc[:0]
    write_timeline(root, tables, name="discs", version="1", licence="CC0-1.0", provenance={"source": "test"})
    return Timeline.open(root)


def _add_patient(rows: dict[str, list[dict]], root: Path, index: int, rng: np.random.Generator) -> None:
    patient, sequence, finding = f"p{index:04d}", f"s{index:04d}", f"s{index:04d}-f0"
    visits = int(rng.integers(4, 9))
    times = np.concatenate([[0.0], np.cumsum(rng.integers(20, 200, visits - 1))])
    drift = rng.choice([-0.25, 0.0, 0.25])
    sizes = np.exp(np.clip(rng.uniform(1.2, 2.4) + np.cumsum(drift + rng.normal(0, 0.15, visits)), 0.9, 2.9))
    onset = int(rng.integers(1, visits - 1)) if index % 3 == 0 else 0
    sizes[:onset] = 0.0
    rows["patients"].append({"patient_id": patient, "sex": "F" if index % 2 else "M"})
    rows["sequences"].append(
        {"sequence_id": sequence, "patient_id": patient, "modality": "mri", "time_unit": "day", "spatial_dims": 2}
    )
    rows["findings"].append({"finding_id": finding, "sequence_id": sequence, "label": "disc", "location": "centre"})
    missing = 2 if index % 10 == 3 else None
    grid = np.hypot(*np.meshgrid(np.arange(SIZE) - SIZE / 2, np.arange(SIZE) - SIZE / 2))
    frames = [np.where(grid < size / 2, 900, 200) + rng.normal(0, 60, grid.shape) for size in sizes]
    np.save(root / "images" / f"{sequence}.npy", np.clip(frames, 0, 4000).astype(np.uint16))
    for position in range(visits):
        rows["timepoints"].append({"sequence_id": sequence, "position": position, "time": times[position]})
        if position != missing:
            rows["images"].append(
                {
                    "sequence_id": sequence,
                    "position": position,
                    "channel": "t1",
                    "path": f"images/{sequence}.npy",
                    "frame": position,
                }
            )
        if sizes[position] > 0:
            for quantity, value, unit in (
                ("longest_diameter", sizes[position], "mm"),
                ("log_diameter_sd", ERROR, "1"),
            ):
                rows["measurements"].append(
                    {"finding_id": finding, "position": position, "quantity": quantity, "value": value, "unit": unit}
                )
    rows["events"] += [
        {
            "event_id": f"{finding}-e",
            "sequence_id": sequence,
            "finding_id": finding,
            "label": "disc",
            "onset_lower": times[onset - 1] if onset else -np.inf,
            "onset_upper": times[onset],
            "offset_lower": times[-1],
            "offset_upper": np.inf,
        },
        {"event_id": f"{finding}-n", "sequence_id": sequence, "label": "square"},
    ]
    _add_questions(rows["questions"], sequence, finding, sizes, times, onset)


def _add_questions(
    questions: list[dict], sequence: str, finding: str, sizes: np.ndarray, times: np.ndarray, onset: int
) -> None:
    def ask(task: str, template: str, asked_at: int, evidence: list[int], **fields: object) -> None:
        steps = asked_at - min(evidence) if evidence else None
        questions.append(
            {
                "sequence_id": sequence,
                "finding_id": finding,
                "task": task,
                "template": template,
                "prompt": f"{template}? (asked at time point {asked_at})",
                "asked_at": asked_at,
                "evidence": evidence,
                "evidence_kind": "positions" if evidence else "absence",
                "horizon_steps": steps,
                "horizon_time": None if steps is None else times[asked_at] - times[asked_at - steps],
                **fields,
            }
        )

    for last in range(onset + 1, len(sizes)):
        for first in range(onset, last):
            change = np.log(sizes[last] / sizes[first])
            if abs(abs(change) - PROGRESSION_BOUND) < PROGRESSION_MARGIN:
                continue
            verdict = VERDICTS[0 if change > PROGRESSION_BOUND else 2 if change < -PROGRESSION_BOUND else 1]
            template = "progression_timepoint" if (last + first) % 2 else "progression_first"
            named = template == "progression_timepoint"
            fields = {"choices": list(VERDICTS), "answer": verdict, "names_position": named}
            ask("progression", template, last, [first, last], **fields)
        for template, value, evidence in (
            ("measurement_prior", sizes[onset], [onset]),
            ("measurement_current", sizes[last], [last]),
            ("measurement_ratio", sizes[last] / sizes[onset], [onset, last]),
        ):
            ask("measurement", template, last, evidence, value=float(value), names_position=True)
    last = len(sizes) - 1
    choices = [f"time point {onset}", f"time point {onset + 1}", f"time point {onset + 2}", "never"]
    fields = {"choices": choices, "answer": choices[0], "names_position": False}
    ask("event", "event_appear", last, [onset - 1, onset] if onset else [onset], **fields)
    fields = {"choices": ["never", "time point 0"], "answer": "never", "names_position": False}
    ask("event", "event_appear", last, [], **fields)


def build_predictions(
    timeline: Timeline, questions: pd.DataFrame, skill: float, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Answers that are known with probability ``skill`` and guessed otherwise; values and intervals to match."""
    rng = np.random.default_rng(seed)
    rows = []
    for question in questions.itertuples():
        row: dict[str, object] = {"question_id": question.question_id}
        if question.choices is None:
            row["value"] = question.value * np.exp(rng.normal(0, 0.4 * (1.05 - skill)))
        else:
            known = rng.random() < skill
            answer = question.answer if known else str(rng.choice(question.choices))
            confidence = 0.5 + 0.45 * rng.random()
            rest = (1 - confidence) / (len(question.choices) - 1)
            row["answer"] = answer
            row["probabilities"] = [confidence if choice == answer else rest for choice in question.choices]
            row["confidence"] = confidence
            row["evidence"] = list(question.evidence) if known else [question.asked_at]
        rows.append(row)
    truths = timeline.table("events")
    truths = truths[truths["sequence_id"].isin(questions["sequence_id"])]
    events = [
        {
            "sequence_id": truth.sequence_id,
            "label": truth.label,
            "onset": max(truth.onset_upper + rng.normal(0, 150 * (1.01 - skill)), 0.0),
            "offset": np.inf,
            "score": 1.0,
        }
        for truth in truths.itertuples()
        if not np.isnan(truth.onset_upper)
    ]
    return pd.DataFrame(rows), pd.DataFrame(events)


@pytest.fixture(scope="session")
def timeline(tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    return build_timeline(tmp_path_factory.mktemp("data") / "discs")


@pytest.fixture(scope="session")
def large_timeline(tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    """More patients, for scores that need dozens of them in each bin; without images."""
    return build_timeline(tmp_path_factory.mktemp("data") / "many", patients=300, seed=1, images=False)


@pytest.fixture
def make_timeline(tmp_path: Path) -> Callable[..., Timeline]:
    return lambda **options: build_timeline(tmp_path / "discs", **options)


@pytest.fixture(scope="session")
def make_predictions() -> Callable[..., tuple[pd.DataFrame, pd.DataFrame]]:
    return build_predictions


@pytest.fixture(scope="session")
def split(timeline: Timeline) -> Split:
    return get_split(timeline, "patient", 0, (0.5, 0.1, 0.4))


@pytest.fixture(scope="session")
def asked(timeline: Timeline, split: Split) -> pd.DataFrame:
    return split.questions(timeline, "test").reset_index(drop=True)


def build_run(folder: Path, timeline: Timeline, split: Split, /, **about: object) -> Path:
    """A run folder with predictions for the test subset; ``answers_of`` names the model whose answers it gives."""
    skill = float(about.pop("skill", 0.5))  # type: ignore[arg-type]
    seed = int(about.get("seed", 0))  # type: ignore[call-overload]
    answers_of = about.pop("answers_of", about.get("name", "static"))
    record = {
        "name": "static",
        "model": "static",
        "temporal": "none",
        "inputs": "all",
        "seed": seed,
        "dataset_root": str(timeline.root),
        "dataset_fingerprint": timeline.meta.fingerprint,
        "split": {
            "name": split.name,
            "rule": split.rule,
            "seed": split.seed,
            "fingerprint": split.fingerprint,
            "path": str(timeline.root / "splits" / f"{split.name}.csv"),
        },
        "n_parameters": 123_456,
        "train_seconds": 61.5 + seed,
        "created": "2026-01-01T00:00:00",
    } | about
    folder.mkdir(parents=True)
    answers, events = build_predictions(timeline, split.questions(timeline, "test"), skill, hash_of(answers_of) + seed)
    write_predictions(folder / "predictions" / "test", answers, events)
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def hash_of(name: object) -> int:
    """A small number that belongs to a name, the same in every process."""
    return sum(map(ord, str(name)))


#: name, temporal head, inputs, skill, seeds
RUNS = (
    ("static", "none", "all", 0.1, 2),
    ("temporal_transformer", "transformer", "all", 0.7, 1),
    ("memory_fusion", "memory_fusion", "all", 0.8, 2),
    ("probe_text", "none", "text", 0.02, 1),
    ("probe_asked_image", "none", "asked_image", 0.05, 1),
    ("probe_prior_image", "none", "prior_image", 0.15, 1),
)


def build_runs(root: Path, timeline: Timeline, split: Split) -> Path:
    """Two seeds of two models, one of a third, and the probes."""
    for name, temporal, inputs, skill, seeds in RUNS:
        model = "static" if temporal == "none" else name
        for seed in range(seeds):
            build_run(
                root / name / f"seed{seed}",
                timeline,
                split,
                name=name,
                model=model,
                temporal=temporal,
                inputs=inputs,
                skill=skill,
                seed=seed,
            )
    return root


@pytest.fixture
def make_run(timeline: Timeline, split: Split) -> Callable[..., Path]:
    return lambda folder, **about: build_run(folder, timeline, split, **about)


@pytest.fixture(scope="session")
def runs(timeline: Timeline, split: Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_runs(tmp_path_factory.mktemp("runs") / "runs", timeline, split)
