"""How long the audit of a million time points takes, and how much memory, on two cores; tables only.

Tables of invented patients are written: a sequence of eight visits each, an image per visit, findings with their
measurements and events, a report of every other visit, and two questions per sequence. Then the command itself is run
in a process of its own, so that start-up, reading, checking and every rule count.

Usage: python benchmarks/audit.py [--time-points 1000000] [--repeats 1] [--out FILE]
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from harness import ROOT, Ratio, parser, report

SECONDS, GIBIBYTES, CORES = 60.0, 4.0, 2
VISITS = 8
CHOICES = ("progressed", "stable", "regressed")
#: Invented words, of which the first ones are the most frequent.
WORDS = [
    f"{first}{second}{third}"
    for first in "bdfgklmnprst"
    for second in "aeiou"
    for third in ("ra", "len", "stic", "vum")
]


def tables(time_points: int, seed: int = 0) -> dict[str, pd.DataFrame]:
    """A sound set of tables with so many time points."""
    rng = np.random.default_rng(seed)
    count = time_points // VISITS
    number = pd.Series(np.arange(count).astype(str))
    sequence, patient = "s" + number.str.zfill(7), "p" + number.str.zfill(7)
    row, position = np.repeat(np.arange(count), VISITS), np.tile(np.arange(VISITS), count)
    gaps = rng.integers(20, 200, (count, VISITS)) * (np.arange(VISITS) > 0)
    times = gaps.cumsum(axis=1).astype(float)
    growth = rng.normal(0, 0.15, (count, VISITS)).cumsum(axis=1)
    sizes = np.round(12 * np.exp(growth), 3)
    sites, sexes = rng.integers(0, 5, count).astype(str), rng.integers(0, 2, count)
    visits = {"sequence_id": sequence.to_numpy()[row], "position": position}
    read = position % 2 == 0
    words = np.array(WORDS)[(len(WORDS) * rng.random((int(read.sum()), 40)) ** 2).astype(int)]
    asked = rng.integers(2, VISITS, (2, count))
    first = rng.integers(0, asked)
    return {
        "patients": pd.DataFrame(
            {"patient_id": patient, "sex": np.where(sexes, "F", "M"), "age": rng.uniform(20, 90, count), "site": sites}
        ),
        "sequences": pd.DataFrame(
            {
                "sequence_id": sequence,
                "patient_id": patient,
                "modality": "mri",
                "time_unit": "day",
                "clock_offset": 0.0,
                "spatial_dims": 3,
                "scanner": rng.integers(0, 9, count).astype(str),
            }
        ),
        "timepoints": pd.DataFrame({**visits, "time": times.ravel()}),
        "images": pd.DataFrame(
            {
                **visits,
                "channel": "flair",
                "path": ("images/" + sequence + ".npy").to_numpy()[row],
                "frame": position,
            }
        ),
        "findings": pd.DataFrame({"finding_id": sequence + "-f", "sequence_id": sequence, "label": "lesion"}),
        "measurements": pd.DataFrame(
            {
                "finding_id": (sequence + "-f").to_numpy()[row],
                "position": position,
                "quantity": "longest_diameter",
                "value": sizes.ravel(),
                "unit": "mm",
            }
        ),
        "events": pd.DataFrame(
            {
                "event_id": sequence + "-e",
                "sequence_id": sequence,
                "finding_id": sequence + "-f",
                "label": "lesion",
                "onset_lower": -np.inf,
                "onset_upper": 0.0,
                "offset_lower": times[:, -1],
                "offset_upper": np.inf,
            }
        ),
        "reports": pd.DataFrame(
            {
                "report_id": [f"r{place}" for place in range(len(words))],
                "patient_id": patient.to_numpy()[row[read]],
                "sequence_id": visits["sequence_id"][read],
                "position": position[read],
                "time": times.ravel()[read],
                "kind": "report",
                "text": [" ".join(line) + "." for line in words],
            }
        ),
        "questions": pd.concat(
            [questions(sequence, turn, first[turn], asked[turn], times, sizes) for turn in range(2)], ignore_index=True
        ),
    }


def questions(
    sequence: pd.Series, turn: int, first: np.ndarray, asked: np.ndarray, times: np.ndarray, sizes: np.ndarray
) -> pd.DataFrame:
    """One question of every sequence: how the finding changed between two positions."""
    rows = np.arange(len(sequence))
    change = np.log(sizes[rows, asked] / sizes[rows, first])
    verdict = np.where(np.abs(change) < np.log(1.2), 1, np.where(change > 0, 0, 2))
    return pd.DataFrame(
        {
            "question_id": sequence + f"-q{turn}",
            "sequence_id": sequence,
            "finding_id": sequence + "-f",
            "task": "progression",
            "template": ("progression_first", "progression_previous")[turn],
            "prompt": ("Has the lesion grown since it was first seen?", "Has the lesion changed?")[turn],
            "asked_at": asked,
            "choices": [list(CHOICES)] * len(sequence),
            "answer": np.array(CHOICES)[verdict],
            "evidence": np.stack([first, asked], axis=1).tolist(),
            "evidence_kind": "positions",
            "names_position": False,
            "horizon_steps": asked - first,
            "horizon_time": times[rows, asked] - times[rows, first],
        }
    )


def write(folder: Path, time_points: int) -> None:
    """A folder of tables; its image files are not there."""
    for name, frame in tables(time_points).items():
        frame.to_parquet(folder / f"{name}.parquet", index=False)
    about = {"format": "temmed-timeline/1", "name": "large", "version": "1", "licence": "CC0-1.0", "provenance": {}}
    (folder / "dataset.json").write_text(json.dumps(about), encoding="utf-8")


def measure(folder: Path) -> dict[str, Any]:
    """Run the command on two cores; its wall time, its largest memory and what it found."""
    out = folder / "audit.json"
    command = [sys.executable, "-m", "temmed.cli", "data", "audit", str(folder), "--tables-only"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    start = time.perf_counter()
    done = subprocess.run(
        [*command, "--json-file", str(out)],
        env=environment,
        stdout=subprocess.DEVNULL,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    seconds = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"the audit of a sound folder failed with status {done.returncode}")
    return {
        "seconds": seconds,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "gibibytes": usage.ru_maxrss / 2**20,
        "cores": len(cores),
        "load": os.getloadavg()[0],
        "counts": json.loads(out.read_text(encoding="utf-8"))["counts"],
    }


def main() -> int:
    """Measure, print, write JSON; 1 if it took longer or more memory than it may."""
    arguments = parser(__doc__, "audit", repeats=1)
    arguments.add_argument("--time-points", type=int, default=1_000_000)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options.time_points)
        runs = [measure(Path(folder)) for _ in range(options.repeats)]
    for run in runs:
        print(f"{options.time_points:,} time points: {run['seconds']:.1f} s, {run['gibibytes']:.2f} GiB", end="; ")
        print(f"processor {run['processor_seconds']:.1f} s, load {run['load']:.1f}, found {run['counts']}")
    ratios = [
        Ratio.of(f"{what}, of the {most:g} it may take", [run[what] for run in runs], [most] * len(runs), 1.0, True)
        for what, most in (("seconds", SECONDS), ("gibibytes", GIBIBYTES))
    ]
    return report(options.out, ratios, time_points=options.time_points, runs=runs)


if __name__ == "__main__":
    sys.exit(main())
