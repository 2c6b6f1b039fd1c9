"""The data module's parts on the tiny folder."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from temmed.data.fitted import Fitted
from temmed.data.images import DecodedPixels, ImageSource
from temmed.data.records import Record, build_records
from temmed.timelines.folder import Timeline, write_timeline
from temmed.timelines.implant.geometry import plain, write_nifti
from temmed.timelines.splits import Split


@pytest.fixture(scope="session")
def records(tiny_timeline: Timeline, split: Split, fitted: Fitted) -> list[Record]:
    return build_records(tiny_timeline, split, "train", fitted)


@pytest.fixture(scope="session")
def pixels(tiny_timeline: Timeline, fitted: Fitted) -> DecodedPixels:
    return DecodedPixels(ImageSource(tiny_timeline), fitted)


@pytest.fixture
def visits(tmp_path: Path) -> Callable[..., Timeline]:
    """``visits({"s0": [{"t1": image}, …]}, spacing)``: a folder of NIfTI files, a sequence for each patient.

    ``spacing`` is in the order of the axes, or gives it by sequence and visit; ``None`` writes arrays without a header.
    """

    def write(
        sequences: dict[str, list[dict[str, np.ndarray]]], spacing: tuple[float, ...] | list[Any] | None = (1.0, 1.0)
    ) -> Timeline:
        images: list[dict[str, Any]] = []
        dims, root = 2, tmp_path / f"set{len(list(tmp_path.iterdir()))}"
        for n, (sequence, moments) in enumerate(sequences.items()):
            for position, channels in enumerate(moments):
                for channel, image in channels.items():
                    dims = image.ndim
                    path = f"images/{sequence}_{position}_{channel}" + (".npy" if spacing is None else ".nii.gz")
                    (root / path).parent.mkdir(exist_ok=True, parents=True)
                    if spacing is None:
                        np.save(root / path, image)
                    else:
                        here = spacing[n][position] if isinstance(spacing, list) else spacing
                        write_nifti(root / path, image, plain(here[::-1]), True, dims)
                    images.append(
                        {"sequence_id": sequence, "position": position, "channel": channel, "path": path, "frame": None}
                    )
        keys = list(sequences)
        times = [(key, p, float(p)) for key in keys for p in range(len(sequences[key]))]
        tables = {
            "patients": pd.DataFrame({"patient_id": [f"p-{key}" for key in keys]}),
            "sequences": pd.DataFrame(
                {"sequence_id": keys, "patient_id": [f"p-{key}" for key in keys], "modality": "mri", "time_unit": "day"}
            ).assign(spatial_dims=dims),
            "timepoints": pd.DataFrame(times, columns=["sequence_id", "position", "time"]),
            "images": pd.DataFrame(images),
            "questions": pd.DataFrame(
                {
                    "question_id": [f"q-{key}" for key in keys],
                    "sequence_id": keys,
                    "task": "size",
                    "template": "size",
                    "prompt": "How large?",
                    "asked_at": [len(sequences[key]) - 1 for key in keys],
                    "value": 1.0,
                    "evidence": [[0]] * len(keys),
                }
            ),
        }
        write_timeline(root, tables, name="visits", version="1", licence="CC0-1.0", provenance={"source": "test"})
        return Timeline.open(root)

    return write


@pytest.fixture(scope="session")
def with_tables() -> Callable[..., Timeline]:
    """``with_tables(timeline, reports=frame)``: the folder with other tables, not written."""

    def change(timeline: Timeline, **tables: pd.DataFrame) -> Timeline:
        changed = copy.copy(timeline)
        changed._tables = {**timeline._tables, **tables}
        return changed

    return change
