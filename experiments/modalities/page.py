"""The results of a set as a page in Markdown, made from its record.

Usage: python experiments/modalities/page.py [FOLDER]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # experiments are no part of the installed package

from experiments.modalities.record import IMAGES, Record, read
from temmed.evaluation.benchmark import HORIZONS
from temmed.evaluation.scoring import share_closed
from temmed.evaluation.statistics import Estimate, PatientResampler, Replicates
from temmed.evaluation.tables import NOTHING, count, interval, percent
from temmed.files import atomic_write

Masks = Mapping[str, NDArray[np.bool_]]

#: Where records and pages are kept that belong to the project.
RESULTS = Path(__file__).resolve().parent / "results"
#: Rows in the order in which they are shown, and how they are called.
TITLES = {
    "static": "static",
    **{
        head: head
        for head in ("mean_pool", "difference", "temporal_conv", "gru", "lstm", "ssm", "windowed_transformer")
    },
    "temporal_transformer": "temporal_transformer",
    "memory_tokens": "memory_tokens",
    "gru_equal": "gru, 1,024 units",
    "memory_tokens_equal": "memory_tokens, segments of 4",
    "ssm_double": "ssm, 33 keys",
    "memory_tokens_double": "memory_tokens, segments of 10",
    "memory_fusion": "memory_fusion",
    "memory_fusion_16": "memory_fusion, 16 moments",
    "memory_fusion_32": "memory_fusion, 32 moments",
    "probe_text": "text only (probe)",
    "probe_asked_image": "asked image only (probe)",
    "probe_prior_image": "prior image only (probe)",
    "measure": "measure (no learning)",
}
#: Whom the others are compared with.
REFERENCE = "memory_fusion"
#: What it, or a larger one, must not be worse than by more than `MARGIN`, looking far back; and what it should be
#: better than there, with as many bytes of state.
FULL_ATTENTION = "temporal_transformer"
RIVALS = {
    REFERENCE: ("gru_equal", "ssm", "memory_tokens_equal"),
    "memory_fusion_16": ("ssm_double", "memory_tokens_double"),
    "memory_fusion_32": (),
}
FAR = "17+"
MARGIN = 0.02
RESAMPLES = 4000
#: Scores of other questions, of which the mean over seeds is told: title, name in ``metrics.json``.
OTHERS = (
    ("events in words", "event/accuracy"),
    ("event tIoU", "event/tiou"),
    ("evidence right, too", "progression/evidence_aligned_f1"),
    ("error of sizes, median", "measurement/relative_error_median"),
)


@dataclass(frozen=True)
class _Judge:
    """What is needed to say anything of a row: the same resamples of patients for all."""

    record: Record
    resampler: PatientResampler

    @classmethod
    def of(cls, record: Record, resamples: int) -> _Judge:
        return cls(record, PatientResampler(record.questions["patient_id"], resamples))

    @property
    def horizons(self) -> dict[str, NDArray[np.bool_]]:
        horizon = self.record.questions["horizon"].to_numpy()
        return {name: mask for name in HORIZONS if (mask := horizon == name).any()}

    def over_seeds(self, row: str, of: Callable[[NDArray[np.float64]], Replicates]) -> Replicates:
        return Replicates.over_runs([of(self.record.right[run].astype(float)) for run in self.record.seeds(row)])

    def accuracy(self, row: str) -> Estimate:
        return self.over_seeds(row, self.resampler.means).estimates()[0]

    def closed(self, row: str) -> Estimate:
        whole = {"": np.ones(len(self.record.questions), dtype=bool)}

        def share(right: NDArray[np.float64]) -> Replicates:
            return share_closed(right, self.record.questions, whole, self.resampler)

        return self.over_seeds(row, share).estimates()[0]

    def by_horizon(self, row: str) -> dict[str, Estimate]:
        columns = self.horizons

        def sliced(right: NDArray[np.float64]) -> Replicates:
            return self.resampler.means(np.stack([np.where(mask, right, np.nan) for mask in columns.values()], axis=1))

        return dict(zip(columns, self.over_seeds(row, sliced).estimates(), strict=True))

    def advantage(self, row: str, other: str, columns: Masks) -> dict[str, Estimate]:
        """By how much a row is better in each slice: runs of the same seed start from the same encoder."""
        pairs = [
            (run, match)
            for run in self.record.seeds(row)
            if (match := f"{other}/{run.rpartition('/')[2]}") in self.record.right
        ] or [(run, match) for run in self.record.seeds(row) for match in self.record.seeds(other)]
        differences = []
        for run, match in pairs:
            difference = self.record.right[run].astype(float) - self.record.right[match]
            sliced = np.stack([np.where(mask, difference, np.nan) for mask in columns.values()], axis=1)
            differences.append(self.resampler.means(sliced))
        return dict(zip(columns, Replicates.over_runs(differences).estimates(), strict=True))


def to_markdown(record: Record, resamples: int = RESAMPLES) -> str:
    """The page.

    Args:
        record: of one set.
        resamples: of patients and seeds.
    """
    judge = _Judge.of(record, resamples)
    rows = [row for row in TITLES if row in record.rows]
    questions = record.questions
    commits = sorted({str(told["commit"]) for told in record.runs.values()})
    seeds = sorted({len(record.seeds(row)) for row in rows if row != "measure"})
    lines = [
        f"# {record.about['set']}",
        "",
        f"{len(questions):,} questions of {record.about['task']} on {questions['patient_id'].nunique():,} patients of "
        f"the test subset; {' or '.join(map(str, seeds))} seed{'' if seeds == [1] else 's'}. Accuracies in percent; "
        "± is the standard deviation over seeds, brackets are 95 % intervals over patients and seeds "
        f"({resamples:,} resamples of both). Revision {', '.join(commits)}. Made by `python experiments/modalities/"
        "page.py` from the answers beside it.",
        "",
        *_whole(judge, rows),
    ]
    if REFERENCE in rows:
        heads = [row for row in rows if record.runs[record.seeds(row)[0]]["state_bytes"] is not None]
        heads = [row for row in heads if not row.startswith("probe_")]
        lines += ["", f"## By horizon, against {REFERENCE}", "", *_far(judge, heads)]
        lines += ["", f"## {FAR} steps back", "", *_verdicts(judge, rows)]
    return "\n".join([*lines, ""])


def _whole(judge: _Judge, rows: Sequence[str]) -> list[str]:
    record = judge.record
    others = [(title, key) for title, key in OTHERS if any(key in told["metrics"] for told in record.runs.values())]
    known = bool(record.questions["ceiling"].notna().any())
    columns = ["row", "accuracy", *(["gap closed"] if known else []), *(title for title, _ in others)]
    columns += ["parameters", "training", "state"]
    lines = [f"| {' | '.join(columns)} |", "|---|" + "---:|" * (len(columns) - 1)]
    for label, closed in (("majority", "0"), ("ceiling", "100"))[: 2 if known else 1]:
        found = judge.resampler.means(record.questions[label].to_numpy(dtype=float)).estimates()[0]
        cells = [label, f"{percent(found.value)} {interval(found)}", *([closed] if known else [])]
        lines.append(f"| {' | '.join([*cells, *[''] * (len(columns) - len(cells))])} |")
    for row in rows:
        told = [record.runs[run] for run in record.seeds(row)]
        accuracy, gap = judge.accuracy(row), judge.closed(row)
        by_seed = [float(record.right[run].mean()) for run in record.seeds(row)]
        spread = f" ± {percent(float(np.std(by_seed, ddof=1)))}" if len(by_seed) > 1 else ""
        cells = [
            TITLES[row],
            f"{percent(accuracy.value)}{spread} {interval(accuracy)}",
            *([f"{percent(gap.value)} {interval(gap)}"] if known else []),
            *(_mean(told, key) for _, key in others),
            count(told[0]["parameters"]),
            _minutes(told),
            NOTHING if told[0]["state_bytes"] is None else f"{told[0]['state_bytes']:,} B",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    notes = "Gap closed: (accuracy − majority) ÷ (ceiling − majority). " if known else ""
    notes += (
        "Training: minutes of processor time of all threads "
        f"of the process, a mean over seeds; the encoder's is in the row static. State: what is carried from image to "
        f"image for one place of the grid, after {IMAGES} images."
    )
    return [*lines, "", notes]


def _far(judge: _Judge, rows: Sequence[str]) -> list[str]:
    horizons = judge.horizons
    columns = ["row", *(f"{name} steps (n {mask.sum():,})" for name, mask in horizons.items())]
    lines = [f"| {' | '.join(columns)} |", "|---|" + "---:|" * len(horizons)]
    own = judge.by_horizon(REFERENCE)
    lines.append(f"| {TITLES[REFERENCE]} | {' | '.join(f'{percent(e.value)} {interval(e)}' for e in own.values())} |")
    for row in rows:
        if row != REFERENCE:
            found = judge.advantage(REFERENCE, row, horizons)
            lines.append(f"| {TITLES[row]} | {' | '.join(_points(found[name]) for name in horizons)} |")
    note = "First its accuracy, then by how many points it is better than each other row, paired by question and seed."
    return [*lines, "", note]


def _verdicts(judge: _Judge, rows: Sequence[str]) -> list[str]:
    """What was asked beforehand: not inferior to full attention, better than heads with as many bytes."""
    far = {FAR: judge.horizons.get(FAR, np.zeros(0, dtype=bool))}
    if not far[FAR].any():
        return ["No question looks so far back."]
    lines = []
    for size, rivals in RIVALS.items():
        if size not in rows:
            continue
        if FULL_ATTENTION in rows:
            found = judge.advantage(size, FULL_ATTENTION, far)[FAR]
            verdict = "not inferior" if found.low > -MARGIN else "inferior" if found.high < -MARGIN else "not decided"
            margin = f"margin {100 * MARGIN:.0f} points"
            lines.append(f"- {TITLES[size]} against {TITLES[FULL_ATTENTION]}, {margin}: {verdict}, {_points(found)}.")
        for row in (row for row in rivals if row in rows):
            found = judge.advantage(size, row, far)[FAR]
            verdict = "better" if found.low > 0 else "worse" if found.high < 0 else "no difference shown"
            lines.append(f"- {TITLES[size]} against {TITLES[row]}, with as many bytes: {verdict}, {_points(found)}.")
    return lines


def _mean(told: Sequence[Mapping[str, object]], key: str) -> str:
    values = [metrics[key] for run in told if isinstance(metrics := run["metrics"], dict) and key in metrics]
    return percent(float(np.mean(values))) if values else NOTHING


def _minutes(told: Sequence[Mapping[str, object]]) -> str:
    seconds = [run["processor_seconds"] for run in told if run["processor_seconds"] is not None]
    return f"{np.mean(np.asarray(seconds, dtype=float)) / 60:.1f} min" if seconds else NOTHING


def _points(estimate: Estimate) -> str:
    shown = (estimate.value, estimate.low, estimate.high)
    value, low, high = (f"{100 * share:+.1f}" for share in shown)
    return f"{value} [{low}, {high}]"


def write_page(record: Path) -> Path:
    """Write the page of a record beside it; returns its path."""
    page = record.with_suffix(".md")
    atomic_write(page, to_markdown(read(record)))
    return page


def main() -> int:
    """Write the page of every record in a folder."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    records = sorted(folder.glob("*.parquet"))
    for record in records:
        print(write_page(record))
    if not records:
        print(f"No record (*.parquet) in {folder}. Give the folder that run.py wrote.", file=sys.stderr)
    return 0 if records else 2


if __name__ == "__main__":
    sys.exit(main())
