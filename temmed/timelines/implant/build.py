"""Implant findings into every sequence of a timeline folder; whole or not at all."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from temmed import __version__
from temmed.errors import InputError
from temmed.files import staged_folder
from temmed.processes import map_in_processes, processors
from temmed.timelines.folder import Timeline, write_timeline
from temmed.timelines.implant.images import write_images
from temmed.timelines.implant.places import calibrated
from temmed.timelines.implant.plan import draw
from temmed.timelines.implant.scene import Scene, Task, UnusableError, read_scene
from temmed.timelines.implant.tables import Done, make_tables
from temmed.timelines.implant.visits import repeated
from temmed.timelines.synthetic.courses import patient_rng

VERSION = "1"


@dataclass(frozen=True)
class _Settings:
    """What the workers need to know."""

    source: Path
    staging: Path
    seed: int
    visits: int | None
    findings: int | None


@dataclass(frozen=True)
class _LeftOut:
    """A sequence into which nothing was put, and why."""

    sequence_id: str
    reason: str


@dataclass
class Outcome:
    """What was done.

    Attributes:
        timeline: the folder that was made.
        left_out: sequences without findings, and why.
        notes: what else there is to say of sequences.
    """

    timeline: Timeline
    left_out: dict[str, str] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)


def implant(
    source: str | Path,
    root: str | Path,
    visits: int | None = None,
    findings: int | None = None,
    seed: int = 0,
    limit: int | None = None,
    workers: int | None = None,
    keep_reports: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> Outcome:
    """Put evolving findings into the images of a timeline folder and write them as another.

    Args:
        source: the folder with the real images; it is not changed.
        root: the folder to make.
        visits: make so many visits of a sequence that has images at one position only.
        findings: how many in a sequence at the most; 2 to 4 by default.
        seed: equal seeds give equal content, whatever the workers.
        limit: at most so many patients.
        workers: processes; the number of cores by default.
        keep_reports: keep the reports of the source, which know nothing of the findings.
        overwrite: replace a folder that exists.
        progress: show a progress bar.

    Returns:
        The opened timeline and what was left out.

    Raises:
        InputError: arguments out of range, a source that cannot be read or holds no sequence that can be used, or a
            folder that exists. Nothing is written.
    """
    _check(Path(source), Path(root), {"visits": (visits, 2), "findings": (findings, 1), "limit": (limit, 1)})
    timeline = Timeline.open(source)
    tasks = _tasks(timeline, limit)
    with staged_folder(root, overwrite=overwrite) as staging:
        for name in ("images", "masks"):
            (staging / name).mkdir()
        settings = _Settings(timeline.root, staging, seed, visits, findings)
        results: list[Done | _LeftOut] = []
        with (
            tqdm(total=len(tasks), desc="Implanting", unit="seq", disable=None if progress else True) as bar,
            closing(map_in_processes(partial(_do, settings), tasks, workers or processors())) as done,
        ):
            for result in done:
                results.append(result)
                bar.update()
        used = [result for result in results if isinstance(result, Done)]
        left = {result.sequence_id: result.reason for result in results if isinstance(result, _LeftOut)}
        if not used:
            raise _none_usable(Path(source), left)
        notes = {done.task.sequence_id: list(done.notes) for done in used if done.notes}
        write_timeline(
            staging,
            make_tables(timeline, used, seed, keep_reports),
            name=f"{timeline.meta.name}-implanted",
            version=VERSION,
            licence=timeline.meta.licence,
            provenance={
                "source": f"semi-synthetic: findings implanted into the images of {timeline.meta.name}",
                "semi_synthetic": True,
                "importer": "temmed.timelines.implant",
                "source_folder": str(timeline.root.absolute()),
                "source_fingerprint": timeline.meta.fingerprint,
                "source_provenance": timeline.meta.provenance,
                "versions": {"temmed": __version__, "numpy": np.__version__},
                "parameters": {
                    "visits": visits, "findings": findings, "seed": seed, "limit": limit, "keep_reports": keep_reports,
                },
                "motion": "findings follow the tissue by its shift in plane, over visits and through loops; turning "
                "and stretching are not followed",
                "left_out": left,
                "notes": notes,
            },
        )  # fmt: skip
    return Outcome(Timeline.open(root), left, notes)


def _check(source: Path, root: Path, numbers: dict[str, tuple[int | None, int]]) -> None:
    """Refuse what cannot be right before anything is read."""
    here, there = source.resolve(), root.resolve()
    if here == there or here in there.parents or there in here.parents:
        remedy = "Write the findings to another place; the source is never changed."
        raise InputError("a folder outside of the source", str(root), "OUT", remedy)
    for name, (value, least) in numbers.items():
        if value is not None and value < least:
            raise InputError(f"at least {least}", str(value), f"--{name}", f"Set {name} to {least} or more.")


def _tasks(timeline: Timeline, limit: int | None) -> list[Task]:
    images = timeline.table("images")[["sequence_id", "position", "channel", "path", "frame"]]
    by_sequence = dict(list(images.groupby("sequence_id")))
    times = timeline.table("timepoints").groupby("sequence_id")["time"].agg(list)
    sequences = timeline.table("sequences")
    patients = timeline.table("patients")["patient_id"].sort_values()
    chosen = sequences[sequences["patient_id"].isin(patients if limit is None else patients.iloc[:limit])]
    return [
        Task(
            index=int(index),
            sequence_id=row["sequence_id"],
            modality=row["modality"],
            time_unit=row["time_unit"],
            spatial_dims=int(row["spatial_dims"]),
            times=tuple(float(time) for time in times[row["sequence_id"]]),
            images=by_sequence.get(row["sequence_id"], images.iloc[:0]),
        )
        for index, row in zip(chosen.index.tolist(), chosen.to_dict("records"), strict=True)
    ]


def _do(settings: _Settings, task: Task) -> Done | _LeftOut:
    """Worker: one sequence."""
    try:
        scene = _shown(read_scene(settings.source, task), task, settings)
        drawn = draw(scene, task, settings.seed, settings.findings)
    except UnusableError as error:
        return _LeftOut(task.sequence_id, str(error))
    written = write_images(scene, drawn, settings.staging, task.sequence_id, f"s{task.index:05d}")
    notes = [*scene.notes] if scene.known else [*scene.notes, "the size of a pixel is not known: sizes are in pixels"]
    return Done(task, drawn.course, written, scene.dims, tuple(notes))


def _shown(scene: Scene, task: Task, settings: _Settings) -> Scene:
    """The scene, repeated where one image is all there is."""
    if len(scene.positions) > 1:
        return scene
    if settings.visits is None:
        raise UnusableError("one position with images, so that nothing can change; --visits N makes visits of it")
    rng = patient_rng(settings.seed, task.index, 1)
    return repeated(scene, settings.visits, calibrated(scene, task.modality), rng)


def _none_usable(source: Path, left: dict[str, str]) -> InputError:
    counts = Counter(left.values())
    told = [f"{count} {'sequence' if count == 1 else 'sequences'}: {why}" for why, count in counts.most_common(3)]
    return InputError(
        "at least one sequence that findings can be put into",
        "; ".join(told) or "no sequence",
        str(source),
        "Import images of several visits or loops, add --visits 5 for single images, or give larger images.",
    )
