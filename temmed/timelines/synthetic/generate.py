"""Build a synthetic timeline folder, in parallel, the same for any number of workers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from temmed import __version__
from temmed.errors import InputError
from temmed.files import staged_folder
from temmed.processes import map_in_processes, processors
from temmed.timelines.folder import Timeline, write_timeline
from temmed.timelines.synthetic.modality import MIXED, Modality, Picture, Rows, Target, find_modality, modality_names
from temmed.timelines.synthetic.rows import finding_id, patient_id, sequence_id

VERSION = "2"
_CHUNK = 16
_TABLES = (
    "patients", "sequences", "timepoints", "images", "findings", "measurements", "treatments", "events", "reports",
    "statements",
)  # fmt: skip


class _Chunk(NamedTuple):
    """Some patients of one modality, and the shape of their images."""

    modality: str
    indices: range
    shape: tuple[int, ...]


class _Drawn(NamedTuple):
    """One patient: the truth, the rows of the images, the measurement errors."""

    course: Any
    pictures: list[Picture]
    errors: np.ndarray


def _render_chunk(staging: Path, seed: int, files: str | None, chunk: _Chunk) -> list[_Drawn]:
    """Worker: render some patients into ``staging/images``."""
    modality = find_modality(chunk.modality)
    drawn = []
    for index in chunk.indices:
        course = modality.draw(seed, index, len(chunk.shape))
        target = Target(staging, sequence_id(index), files or modality.files[0])
        drawn.append(_Drawn(course, *modality.render(seed, course, chunk.shape, target)))
    return drawn


def generate(
    root: str | Path,
    modality: str = "mri",
    patients: int = 3200,
    seed: int = 0,
    workers: int | None = None,
    size: int | None = None,
    spatial_dims: int = 2,
    files: str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Timeline:
    """Write a synthetic benchmark as a timeline folder.

    Args:
        root: the folder to create.
        modality: ``ct``, ``cxr``, ``mri``, ``ultrasound``, or ``mixed`` for all of them in one folder.
        patients: number of patients, one sequence each.
        seed: equal seeds give equal content fingerprints, whatever the workers.
        workers: processes; the number of cores by default.
        size: pixels along each side; the modality's own by default (of a mixed set, each modality its own).
        spatial_dims: 2 for slices, 3 for volumes.
        files: how images are written, where the modality leaves a choice: ``dicom`` or ``avi`` for ultrasound.
        overwrite: replace a folder that exists.
        progress: show a progress bar, on a terminal.

    Returns:
        The opened timeline.

    Raises:
        InputError: for arguments out of range, or a folder that exists.
    """
    root = Path(root)
    names = _check(modality, patients, size, spatial_dims, files)
    if size is None and len(names) == 1:
        size = find_modality(names[0]).sizes[spatial_dims]
    workers = processors() if workers is None else workers
    with staged_folder(root, overwrite=overwrite) as staging:
        (staging / "images").mkdir()
        chunks = [
            _Chunk(name, indices[k : k + _CHUNK], (size or find_modality(name).sizes[spatial_dims],) * spatial_dims)
            for name, indices in _shares(names, patients)
            for k in range(0, len(indices), _CHUNK)
        ]
        drawn: dict[str, list[_Drawn]] = {chunk.modality: [] for chunk in chunks}
        work = partial(_render_chunk, staging, seed, files)
        bar = tqdm(total=patients, desc=f"Synthetic {modality}", unit="seq", disable=None if progress else True)
        with bar, closing(map_in_processes(work, chunks, workers)) as rendered:
            for chunk, part in zip(chunks, rendered, strict=True):
                drawn[chunk.modality] += part
                bar.update(len(part))
        rows: Rows = {name: [] for name in _TABLES}
        asked = []
        for name, ones in drawn.items():
            kind = find_modality(name)
            for one in ones:
                _add(one, kind, seed, spatial_dims, rows)
            asked.append(kind.ask([one.course for one in ones], seed))
        write_timeline(
            staging,
            _tables(rows, asked),
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
                    "files": files,
                },
            },
        )
    return Timeline.open(root)


def _check(modality: str, patients: int, size: int | None, spatial_dims: int, files: str | None) -> list[str]:
    """Refuse arguments out of range; returns the names of the modalities to make."""
    known = modality_names()
    names = known if modality == MIXED else [modality]
    parts = [find_modality(name) for name in names if name in known]
    dims = sorted(set.intersection(*[set(part.sizes) for part in parts])) if parts else [2, 3]
    kinds = [part.files for part in parts]
    for name, value, good, expected in (
        ("modality", modality, bool(parts), f"{', '.join(known)} or {MIXED}"),
        ("patients", patients, patients >= 1, "at least 1"),
        ("size", size, size is None or 16 <= size <= 1024, "16 to 1024 pixels"),
        ("spatial_dims", spatial_dims, spatial_dims in dims, f"{' or '.join(map(str, dims))} for {modality}"),
        (
            "files",
            files,
            files is None or all(files in kind for kind in kinds),
            " or ".join(kinds[0]) if len(kinds) == 1 else "none for a mixed set",
        ),
    ):
        if not good:
            raise InputError(expected, repr(value), f"synthetic data, {name}", f"Set {name} to a value in that range.")
    return names


def _shares(names: Sequence[str], patients: int) -> list[tuple[str, range]]:
    """Equal shares of the patients, whose numbers run on; a modality without a patient is left out."""
    bounds = [patients * k // len(names) for k in range(len(names) + 1)]
    shares = [(name, range(bounds[k], bounds[k + 1])) for k, name in enumerate(names)]
    return [(name, indices) for name, indices in shares if indices]


def _add(drawn: _Drawn, modality: Modality, seed: int, spatial_dims: int, rows: Rows) -> None:
    course = drawn.course
    patient, sequence = patient_id(course.index), sequence_id(course.index)
    rows["patients"].append({"patient_id": patient, "sex": course.sex, "age": course.age, "site": course.site})
    rows["sequences"].append(
        {
            "sequence_id": sequence,
            "patient_id": patient,
            "modality": modality.name,
            "time_unit": modality.time_unit,
            "clock_offset": 0.0,
            "spatial_dims": spatial_dims,
            "scanner": course.scanners[0],
        }
    )
    for position, time in enumerate(course.times):
        rows["timepoints"].append({"sequence_id": sequence, "position": position, "time": time})
    rows["images"] += [{"sequence_id": sequence, **picture._asdict()} for picture in drawn.pictures]
    modality.describe(course, drawn.errors, seed, rows)


def _tables(rows: Rows, asked: list[pd.DataFrame]) -> dict[str, pd.DataFrame]:
    tables = {name: pd.DataFrame(content) for name, content in rows.items() if content}
    questions = pd.concat(asked, ignore_index=True) if len(asked) > 1 else asked[0]
    questions["question_id"] = [f"q{n:07d}" for n in range(len(questions))]
    questions["sequence_id"] = [sequence_id(course) for course in questions["course"]]
    questions["finding_id"] = [
        finding_id(course, int(number)) if number == number and number is not None else None
        for course, number in zip(questions["course"], questions["finding"], strict=True)
    ]
    tables["questions"] = questions.drop(columns=["course", "finding"])
    return tables
