"""Run folders: find them, read what they say of themselves, and refuse those that cannot be compared."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import FOLDER, PLAIN_RULES, Split, get_split, load_split, reopen_split

RECORD = "run.json"
_REQUIRED = ("name", "model", "temporal", "inputs", "seed", "dataset_root", "dataset_fingerprint", "split")
_REQUIRED_OF_SPLIT = ("name", "rule", "seed", "fingerprint")


@dataclass(frozen=True)
class Run:
    """What ``run.json`` says.

    Attributes:
        folder: the run folder.
        name: what the run is called; seeds of one model share it.
        model: the model's name.
        temporal: the temporal head's name.
        inputs: ``all``, or what a probe sees: ``text``, ``asked_image``, ``prior_image``.
        seed: of the training.
        dataset_root: the timeline folder it was trained on.
        dataset_fingerprint: of its content.
        split: name, rule, seed, fractions, parameters and fingerprint of the split.
        n_parameters: trained parameters, if known.
        train_seconds: how long the training took, if known.
        created: when, in ISO format.
    """

    folder: Path
    name: str
    model: str
    temporal: str
    inputs: str
    seed: int
    dataset_root: str
    dataset_fingerprint: str
    split: dict[str, Any]
    n_parameters: int | None = None
    train_seconds: float | None = None
    created: str = ""

    @property
    def group(self) -> tuple[str, str, str, str]:
        """What the seeds of one model have in common."""
        return self.name, self.model, self.temporal, self.inputs

    def predictions(self, subset: str) -> Path:
        """Where its predictions for a subset are."""
        return self.folder / "predictions" / subset


@dataclass(frozen=True)
class Found:
    """The runs to compare, and why others that were found are not among them."""

    runs: list[Run]
    left_out: list[str] = field(default_factory=list)


def find_runs(paths: Sequence[str | Path], subset: str = "test") -> Found:
    """Collect run folders.

    Args:
        paths: run folders, folders with runs somewhere in them, or glob patterns of either.
        subset: the subset that they must have predictions for.

    Returns:
        The runs, by group and seed. A run below a given folder is left out when it has no predictions, and so is the
        older of two runs of one model and seed.

    Raises:
        InputError: nothing is found, a folder that was named has no predictions, a ``run.json`` is damaged, or the
            runs are not on one dataset and split.
    """
    left_out: list[str] = []
    found: dict[Path, Run] = {}
    for path in _expanded(paths):
        named = (path / RECORD).is_file()
        records = [path / RECORD] if named else sorted(path.rglob(RECORD))
        if not records:
            raise InputError(
                f"a run folder with a {RECORD}", "none", str(path), "Give a folder that a training run has written."
            )
        for record in records:
            run = read_run(record.parent)
            if run.predictions(subset).is_dir():
                found[run.folder.resolve()] = run
            elif named:
                raise InputError(
                    f"predictions for {subset}",
                    "none",
                    str(run.predictions(subset)),
                    "The run may not have finished. Predict with its checkpoint first: evaluate.py ckpt_path=…",
                )
            else:
                left_out.append(f"{run.folder}: no predictions for {subset}")
    _check_comparable(list(found.values()))
    newest: dict[tuple[object, ...], Run] = {}
    for run in sorted(found.values(), key=lambda run: (run.created, str(run.folder))):
        if older := newest.get((*run.group, run.seed)):
            left_out.append(f"{older.folder}: {run.folder} is a newer run of {run.name} with seed {run.seed}")
        newest[(*run.group, run.seed)] = run
    if not newest:
        raise InputError(f"runs with predictions for {subset}", "none", ", ".join(map(str, paths)), "Train some first.")
    return Found(sorted(newest.values(), key=lambda run: (run.group, run.seed)), left_out)


def read_run(folder: Path) -> Run:
    """Read ``run.json`` of a run folder.

    Raises:
        InputError: it is damaged or lacks an entry.
    """
    path = folder / RECORD
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("a JSON object", str(error), str(path), "Train again, or leave the run out.") from error
    split = raw.get("split") if isinstance(raw, dict) else None
    missing = [name for name in _REQUIRED if not isinstance(raw, dict) or raw.get(name) is None]
    missing += [f"split.{name}" for name in _REQUIRED_OF_SPLIT if isinstance(split, dict) and split.get(name) is None]
    if missing:
        raise InputError(f"entries {', '.join(_REQUIRED)}", f"no {', '.join(missing)}", str(path), "Train again.")
    optional = {name: raw[name] for name in ("n_parameters", "train_seconds", "created") if raw.get(name) is not None}
    return Run(folder, **{name: raw[name] for name in _REQUIRED}, **optional)


def open_dataset(runs: Sequence[Run], root: str | Path | None = None) -> tuple[Timeline, Split]:
    """Open the timeline folder and the split that comparable runs share.

    Args:
        runs: of one dataset and split, as `find_runs` returns them.
        root: where the folder is now, if not where the runs were trained.

    Raises:
        InputError: the folder is not there, or its content or split is no longer what the runs were trained on.
    """
    first = runs[0]
    place = Path(first.dataset_root if root is None else root)
    if not place.is_dir():
        raise InputError("the runs' timeline folder", "nothing", str(place), "Say where it is now with --dataset.")
    timeline = Timeline.open(place)
    remedy = "Give the dataset that the runs were trained on, or train again."
    if timeline.meta.fingerprint != first.dataset_fingerprint:
        found = f"content {timeline.meta.fingerprint}"
        raise InputError(f"the content {first.dataset_fingerprint}", found, str(place), remedy)
    split = reopen_split(timeline, first.split)
    if split.fingerprint != first.split["fingerprint"]:
        expected = f"the split {split.name} with fingerprint {first.split['fingerprint']}"
        raise InputError(expected, split.fingerprint, str(place), remedy)
    return timeline, split


def named_split(timeline: Timeline, name: str) -> Split:
    """A split by its name: the written one or, for a name such as ``patient_seed0``, the one that the hash gives.

    Raises:
        InputError: there is no such split and the name says no rule and seed.
    """
    rule, _, seed = name.rpartition("_seed")
    is_written = (timeline.root / FOLDER / f"{name}.csv").is_file()
    if not is_written and rule in PLAIN_RULES and seed.isdigit():
        return get_split(timeline, rule, int(seed))
    return load_split(timeline.root, name, timeline)


def _expanded(paths: Iterable[str | Path]) -> list[Path]:
    places: list[Path] = []
    for path in paths:
        matches = [Path(path)] if Path(path).exists() else [Path(match) for match in sorted(glob.glob(str(path)))]
        folders = [match for match in matches if match.is_dir()]
        if not folders:
            raise InputError("a run folder", "nothing there", str(path), "Check the path.")
        places += folders
    return places


def _check_comparable(runs: Sequence[Run]) -> None:
    """Refuse runs that were not trained and tested on the same questions."""
    for what, remedy, marks in (
        ("dataset", "Compare runs of one dataset at a time.", [run.dataset_fingerprint for run in runs]),
        ("split", "Compare runs with the same data.split.", [str(run.split["fingerprint"]) for run in runs]),
    ):
        kinds: dict[str, list[Run]] = {}
        for run, mark in zip(runs, marks, strict=True):
            kinds.setdefault(mark, []).append(run)
        if len(kinds) > 1:
            shown = "; ".join(f"{mark[:12]} ({_some(group)})" for mark, group in kinds.items())
            raise InputError(f"runs on one {what}", f"{len(kinds)} fingerprints: {shown}", "the runs", remedy)


def _some(runs: Sequence[Run]) -> str:
    names = [str(run.folder) for run in runs]
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
