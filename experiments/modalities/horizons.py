"""Against the reference model by horizon, and what each temporal head keeps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from temmed.evaluation.benchmark import HORIZONS
from temmed.evaluation.compare import Comparison, Group, compare_runs
from temmed.evaluation.runs import RECORD
from temmed.evaluation.statistics import Estimate, PatientResampler
from temmed.evaluation.tables import percent
from temmed.files import atomic_write
from temmed.models.temporal.base import State
from temmed.training.checkpoint import load_module

#: Images after which the state is weighed.
IMAGES = 40


def state_bytes(group: Group) -> int | None:
    """Bytes a head carries on for each place of the image grid after `IMAGES` images; ``None`` without a checkpoint."""
    path = group.runs[0].folder / "checkpoints" / "best.ckpt"
    if not path.exists():
        return None
    model = load_module(path).reasoner.eval()
    dim = model.missing.numel()
    state: State | None = None
    with torch.inference_mode():
        for position in range(IMAGES):
            _, state = model.temporal.step(torch.randn(1, 1, dim), torch.tensor([float(position)]), state)
    return sum(value.numel() * value.element_size() for value in state.values()) if state else 0


def differences(comparison: Comparison, other: Group) -> dict[str, Estimate]:
    """Reference minus another model by horizon bin, paired, with an interval over patients; in order of the bins."""
    reference = next(group for group in comparison.groups if group.label == comparison.reference)
    questions = comparison.benchmark.questions
    resampler = PatientResampler(questions["patient_id"], comparison.resamples)
    difference = reference.accuracy - other.accuracy
    bins = [name for name in HORIZONS if (questions["horizon"] == name).any()]
    columns = np.stack([np.where(questions["horizon"] == name, difference, np.nan) for name in bins], axis=1)
    found = zip(bins, resampler.means(columns).estimates(), strict=True)
    return {name: estimate for name, estimate in found if estimate.n}


def write_horizons(folders: Sequence[Path], reference: str, out: Path) -> None:
    """Write a table in Markdown: for each model its cost, its state, and by how much the reference is better.

    Args:
        folders: of runs on one set.
        reference: name of the model that the others are subtracted from.
        out: the file.
    """
    comparison = compare_runs(folders, reference=reference)
    found = {group.label: differences(comparison, group) for group in comparison.groups if not group.is_probe}
    bins = list(found[reference])
    row = comparison.row(reference)
    own = [percent(row.slices[f"horizon={name}"].value) for name in bins]
    titles = ["model", "processor time", f"state after {IMAGES} images", *(f"{name} steps" for name in bins)]
    lines = [f"| {' | '.join(titles)} |", "|---|" + "---:|" * (len(titles) - 1)]
    for group in comparison.groups:
        if group.is_probe:
            continue
        size = state_bytes(group)
        cells = [group.label, _cost(group), "" if size is None else f"{size:,} B"]
        shown = [f"{_points(e.value)} [{_points(e.low)}, {_points(e.high)}]" for e in found[group.label].values()]
        lines.append(f"| {' | '.join([*cells, *(own if group.label == reference else shown)])} |")
    note = (
        f"Accuracy in {comparison.task} of {reference} in percent, and by how many points it is better than each other "
        "model, paired, with 95 % intervals over patients (means over the seeds). The state is that of one place."
    )
    atomic_write(out, "\n".join([*lines, "", note, ""]))


def _cost(group: Group) -> str:
    """Mean processor time of a training, in minutes."""
    records = [json.loads((run.folder / RECORD).read_text()) for run in group.runs]
    seconds = [record["train_processor_seconds"] for record in records if "train_processor_seconds" in record]
    return f"{np.mean(seconds) / 60:.1f} min" if seconds else ""


def _points(share: float | None) -> str:
    return "" if share is None else f"{100 * share:+.1f}"
