"""Build a synthetic timeline folder, in parallel, the same for any number of workers."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from temmed import __version__
from temmed.errors import InputError
from temmed.files import staged_folder
from temmed.processes import map_in_processes, processors
from temmed.timelines.folder import Timeline, write_timeline
from temmed.timelines.synthetic.anatomy import CHANNELS
from temmed.timelines.synthetic.courses import Course, draw_course
from temmed.timelines.synthetic.mri import render_sequence
from temmed.timelines.synthetic.questions import draw_questions
from temmed.timelines.synthetic.reports import write_reports

VERSION = "1"
DEFAULT_SIZE = {2: 64, 3: 32}
_CHUNK = 16


def patient_id(index: int) -> str:
    """The pseudonymous id of a synthetic patient."""
    return f"p{index:05d}"


def sequence_id(index: int) -> str:
    """The id of the one sequence of a synthetic patient."""
    return f"s{index:05d}"


def _render_chunk(
    staging: Path, seed: int, shape: tuple[int, ...], indices: list[int]
) -> list[tuple[Course, np.ndarray]]:
    """Worker: render some patients into ``staging/images``; returns the course and the measurement errors of each."""
    rendered = []
    for index in indices:
        course = draw_course(seed, index, len(shape))
        pixels, error = render_sequence(seed, course, shape)
        np.save(staging / "images" / f"{sequence_id(index)}.npy", pixels.reshape(-1, *shape))
        rendered.append((course, error))
    return rendered


def generate(
    root: str | Path,
    modality: str = "mri",
    patients: int = 3200,
    seed: int = 0,
    workers: int | None = None,
    size: int | None = None,
    spatial_dims: int = 2,
    overwrite: bool = False,
    progress: bool = True,
) -> Timeline:
    """Write a synthetic benchmark as a timeline folder.

    Args:
        root: the folder to create.
        modality: ``mri``: T1 and FLAIR visits of brain findings.
        patients: number of patients, one sequence of 4 to 9 visits each.
        seed: equal seeds give equal content fingerprints, whatever the workers.
        workers: processes; the number of cores by default.
        size: pixels along each side (the field of view is 192 mm); 64 for slices, 32 for volumes by default.
        spatial_dims: 2 for slices, 3 for volumes.
        overwrite: replace a folder that exists.
        progress: show a progress bar, on a terminal.

    Returns:
        The opened timeline.

    Raises:
        InputError: for arguments out of range, or a folder that exists.
    """
    root = Path(root)
    size = DEFAULT_SIZE.get(spatial_dims, 64) if size is None else size
    for name, value, good, expected in (
        ("modality", modality, modality == "mri", "mri"),
        ("patients", patients, patients >= 1, "at least 1"),
        ("size", size, 16 <= size <= 1024, "16 to 1024 pixels"),
        ("spatial_dims", spatial_dims, spatial_dims in (2, 3), "2 or 3"),
    ):
        if not good:
            raise InputError(expected, repr(value), f"synthetic data, {name}", f"Set {name} to a value in that range.")
    workers = processors() if workers is None else workers
    shape = (size,) * spatial_dims
    with staged_folder(root, overwrite=overwrite) as staging:
        (staging / "images").mkdir()
        chunks = [list(range(start, min(start + _CHUNK, patients))) for start in range(0, patients, _CHUNK)]
        drawn: list[tuple[Course, np.ndarray]] = []
        with (
            tqdm(total=patients, desc=f"Synthetic {modality}", unit="seq", disable=None if progress else True) as bar,
            closing(map_in_processes(partial(_render_chunk, staging, seed, shape), chunks, workers)) as rendered,
        ):
            for chunk in rendered:
                drawn += chunk
                bar.update(len(chunk))
        write_timeline(
            staging,
            _tables(drawn, seed, spatial_dims),
            name=f"synthetic-{modality}",
            version=VERSION,
            licence="CC0-1.0",
            provenance={
                "source": "synthetic",
                "importer": "temmed.timelines.synthetic",
                "versions": {"temmed": __version__, "numpy": np.__version__},
                "parameters": {
                    "modality": modality,
                    "patients": patients,
                    "seed": seed,
                    "size": size,
                    "spatial_dims": spatial_dims,
                },
            },
        )
    return Timeline.open(root)


def _tables(drawn: list[tuple[Course, np.ndarray]], seed: int, spatial_dims: int) -> dict[str, pd.DataFrame]:
    rows: dict[str, list[dict]] = {
        name: []
        for name in (
            "patients", "sequences", "timepoints", "images", "findings", "measurements", "treatments", "events",
            "reports", "statements",
        )
    }  # fmt: skip
    for course, error in drawn:
        patient, sequence = patient_id(course.index), sequence_id(course.index)
        rows["patients"].append({"patient_id": patient, "sex": course.sex, "age": course.age, "site": course.site})
        rows["sequences"].append(
            {
                "sequence_id": sequence,
                "patient_id": patient,
                "modality": "mri",
                "time_unit": "day",
                "clock_offset": 0.0,
                "spatial_dims": spatial_dims,
                "scanner": course.scanners[0],
            }
        )
        if course.treatment is not None:
            rows["treatments"].append({"patient_id": patient, "name": "therapy", "start": course.treatment})
        frame = 0
        for position, time in enumerate(course.times):
            rows["timepoints"].append({"sequence_id": sequence, "position": position, "time": time})
            if not course.imaged[position]:
                continue
            for channel in CHANNELS:
                rows["images"].append(
                    {
                        "sequence_id": sequence,
                        "position": position,
                        "channel": channel,
                        "path": f"images/{sequence}.npy",
                        "frame": frame,
                    }
                )
                frame += 1
        _finding_rows(course, error, rows)
        _report_rows(course, seed, rows)
    tables = {name: pd.DataFrame(content) for name, content in rows.items() if content}
    questions = draw_questions([course for course, _ in drawn], seed)
    questions["question_id"] = [f"q{n:07d}" for n in range(len(questions))]
    questions["sequence_id"] = [sequence_id(course) for course in questions["course"]]
    questions["finding_id"] = [
        finding_id(course, int(number)) if number == number and number is not None else None
        for course, number in zip(questions["course"], questions["finding"], strict=True)
    ]
    tables["questions"] = questions.drop(columns=["course", "finding"])
    return tables


def finding_id(index: int, number: int) -> str:
    """The id of a patient's finding."""
    return f"{sequence_id(index)}-f{number}"


def _report_rows(course: Course, seed: int, rows: dict[str, list[dict]]) -> None:
    sequence, patient = sequence_id(course.index), patient_id(course.index)
    reports, statements = write_reports(course, seed)
    for report in reports:
        position = report["position"]
        own = {"report_id": f"{sequence}-r{position}", "sequence_id": sequence, "patient_id": patient}
        rows["reports"].append({**own, **report, "time": course.times[position], "kind": "report"})
    for statement in statements:
        told: dict[str, str | None] = {
            "statement_id": f"st{len(rows['statements']):07d}",
            "sequence_id": sequence,
            "finding_id": finding_id(course.index, statement.pop("finding")),
            "report_id": f"{sequence}-r{statement['position']}" if statement["consistent"] else None,
        }
        rows["statements"].append({**told, **statement})


def _finding_rows(course: Course, error: np.ndarray, rows: dict[str, list[dict]]) -> None:
    sequence = sequence_id(course.index)
    imaged = np.flatnonzero(course.imaged)
    for number, finding in enumerate(course.findings):
        identity = finding_id(course.index, number)
        rows["findings"].append(
            {"finding_id": identity, "sequence_id": sequence, "label": finding.label, "location": finding.location}
        )
        seen = imaged[finding.diameters[imaged] > 0]
        for position in seen:
            for quantity, value, unit in (
                ("longest_diameter", finding.diameters[position], "mm"),
                ("log_diameter_sd", error[number, position], "1"),
            ):
                rows["measurements"].append(
                    {
                        "finding_id": identity,
                        "position": int(position),
                        "quantity": quantity,
                        "value": float(np.round(value, 5)),
                        "unit": unit,
                    }
                )
        event: dict[str, str | float] = {
            "event_id": f"{identity}-e",
            "sequence_id": sequence,
            "finding_id": identity,
            "label": finding.phrase,
        }
        if len(seen):
            before = imaged[imaged < seen[0]]
            after = imaged[imaged > seen[-1]]
            event |= {
                "onset_lower": float(course.times[before[-1]]) if len(before) else -np.inf,
                "onset_upper": float(course.times[seen[0]]),
                "offset_lower": float(course.times[seen[-1]]),
                "offset_upper": float(course.times[after[0]]) if len(after) else np.inf,
            }
        rows["events"].append(event)
    for number, (label, location) in enumerate(course.absent):
        rows["events"].append(
            {"event_id": f"{sequence}-a{number}", "sequence_id": sequence, "label": f"{label} in the {location}"}
        )
