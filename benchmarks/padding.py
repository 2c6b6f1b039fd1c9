"""What share of a batch is padding, on the lengths of the built-in sets: at random, in buckets, within budgets.

Counted, not timed: for each rule one epoch of training batches is laid out, and what does not exist in them is divided
by what they hold. Positions are what temporal heads compute, questions what the text of a batch is padded to, pairs of
both what the reader's attention computes. Images are packed, so that none is padded.

Usage: python benchmarks/padding.py [--patients 200] [--sets FOLDER] [--out FILE]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from harness import Ratio, parser, report

from temmed.data.batching import Budget, plan
from temmed.timelines.folder import Timeline
from temmed.timelines.synthetic.generate import generate

#: Sequences in a batch, as in conf/data.
SETS = {"ct": 8, "mri": 8, "ultrasound": 2}


def sizes(timeline: Timeline) -> np.ndarray:
    """``(n, 3)`` positions, questions and images of each sequence that has a question."""
    counts = [
        timeline.table("timepoints").groupby("sequence_id").size(),
        timeline.table("questions").groupby("sequence_id").size(),
        timeline.table("images").groupby("sequence_id")["position"].nunique(),
    ]
    kept = counts[1].index
    return np.stack([count.reindex(kept, fill_value=0).to_numpy() for count in counts], axis=1)


def shares(batches: list[np.ndarray], of: np.ndarray) -> dict[str, float]:
    """Share of positions, questions and pairs that is padding; batches, and images in the fullest and the mean one."""
    held, real = np.zeros(3), np.zeros(3)
    for batch in batches:
        positions, questions, _ = of[batch].T
        longest, most = positions.max(), questions.max()
        held += len(batch) * np.array([longest, most, longest * most])
        real += positions.sum(), questions.sum(), (positions * questions).sum()
    images = [int(of[batch, 2].sum()) for batch in batches]
    padded = dict(zip(("positions", "questions", "pairs"), (1 - real / held).tolist(), strict=True))
    return {**padded, "batches": len(batches), "mean_images": float(np.mean(images)), "most_images": max(images)}


def rules(of: np.ndarray, items: int) -> dict[str, list[np.ndarray]]:
    """An epoch of batches by each rule; budgets are those of a mean batch of ``items`` sequences."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(of))
    frames = round(of[:, 2].mean() * items)
    pairs = round((of[:, 0] * of[:, 1]).mean() * items)
    return {
        "at random": [order[start : start + items] for start in range(0, len(order), items)],
        "buckets": plan(of, Budget(items), rng),
        f"{frames} frames": plan(of, Budget(items, frames=frames), rng),
        f"{pairs} pairs": plan(of, Budget(items, pairs=pairs), rng),
        "testing": plan(of, Budget(items)),
    }


def main() -> int:
    """Lay out everything, print a table, write JSON."""
    arguments = parser(__doc__, "padding", repeats=1)
    arguments.add_argument("--patients", type=int, default=200)
    arguments.add_argument("--sets", type=Path, help="keep the built sets here, or use those that are there")
    options = arguments.parse_args()
    results: dict[str, dict[str, dict[str, float]]] = {}
    ratios: list[Ratio] = []
    print(f"{'set':<11} {'batches of':<12} {'positions':>9} {'questions':>9} {'pairs':>6} {'number':>6} {'images':>11}")
    with tempfile.TemporaryDirectory() as scratch:
        for name, items in SETS.items():
            root = (options.sets or Path(scratch)) / name
            if not root.exists():
                generate(root, name, patients=options.patients, size=16, progress=False)
            of = sizes(Timeline.open(root))
            for rule, batches in rules(of, items).items():
                row = results.setdefault(name, {})[rule] = shares(batches, of)
                percent = (f"{100 * row[key]:.1f} %" for key in ("positions", "questions", "pairs"))
                images = f"{row['mean_images']:.0f} ≤ {row['most_images']}"
                print(
                    "{:<11} {:<12} {:>9} {:>9} {:>6} {:>6} {:>11}".format(name, rule, *percent, row["batches"], images)
                )
            padded = [results[name][rule]["positions"] for rule in ("buckets", "at random")]
            ratios.append(Ratio.of(f"{name}: positions padded in buckets, of those at random", padded[:1], padded[1:]))
    return report(options.out, ratios, patients=options.patients, results=results)


if __name__ == "__main__":
    sys.exit(main())
