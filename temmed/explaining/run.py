"""Explain answers of a trained run: heat maps, a manifest, and a page."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from temmed.data.collate import Collator
from temmed.data.datamodule import TimelineDataModule
from temmed.data.dataset import SequenceDataset
from temmed.data.followups import register_timeline
from temmed.data.images import ImageSource
from temmed.data.settings import DataSettings, find_timeline, require_questions
from temmed.data.streaming.opening import default_cache
from temmed.errors import InputError
from temmed.evaluation.ceiling import evidence_positions
from temmed.explaining.overlay import Pictures
from temmed.explaining.page import PAGE, to_html
from temmed.explaining.relevance import STEPS, Method, check_method, check_model, relevance
from temmed.explaining.told import Explained, Point, Told
from temmed.files import staged_folder
from temmed.run import check_same_data
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import reopen_split
from temmed.training.checkpoint import load_module, read_checkpoint
from temmed.training.module import TimelineModule

MANIFEST, MAPS = "explanations.json", "maps"
FORMAT = "temmed-explanations/1"
#: Heads that have a part in answers; the others are not asked.
_ANSWERING = ("answer", "value", "evidence")


def explain_run(
    run: Path,
    out: Path | None = None,
    method: str = "attention",
    *,
    questions: Sequence[str] = (),
    number: int = 6,
    subset: str = "test",
    steps: int = STEPS,
    seed: int = 0,
    dataset: str | Path | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Explain some answers of a run.

    Args:
        run: a run folder, or a checkpoint of one.
        out: the folder to write: ``explanations.html``, ``explanations.json`` and ``maps/*.npz``;
            ``explanations/METHOD`` of the run by default.
        method: see `temmed.explaining.relevance`.
        questions: ids; if none, they are drawn.
        number: how many are drawn: one of each template, then a second of each, and so on.
        subset: whose questions.
        steps: of ``integrated_gradients``.
        seed: of the draw.
        dataset: where the timeline folder is now, if not where the run was trained.
        overwrite: replace ``out`` if it holds explanations.
        progress: called with (done, total) questions.

    Returns:
        The page.

    Raises:
        InputError: the run has no checkpoint or another kind of model, the data are others than it was trained on, or a
            question cannot be explained by the method.
    """
    method = check_method(method)
    checkpoint = _checkpoint(run)
    out = out or checkpoint.absolute().parent.parent / "explanations" / method
    content = read_checkpoint(checkpoint)
    provenance = content["hyper_parameters"]["provenance"]
    settings = DataSettings(**provenance["data"])
    settings.cache_features, settings.overwrite = False, False
    settings.root = str(dataset or provenance["dataset"]["root"])
    timeline = find_timeline(settings, default_cache())
    split = reopen_split(timeline, provenance["split"])
    check_same_data(content, timeline, split, str(checkpoint))
    require_questions(timeline, split, subset)
    asked = split.questions(timeline, subset).set_index("question_id", drop=False)
    chosen = _named(asked, questions, timeline, subset) if questions else _drawn(asked, number, seed)
    module = load_module(checkpoint)
    check_model(module.reasoner, str(checkpoint))
    if (how := module.fitted.preparation.register) is not None:
        register_timeline(timeline, ImageSource(timeline), how, default_cache() / "registration")
    data = TimelineDataModule(timeline, split, settings, module.fitted, cache=default_cache(), once=True)
    explainer = _Explainer(module, data.dataset(subset), timeline, settings, method, steps)
    with staged_folder(out, overwrite, MANIFEST) as folder:
        (folder / MAPS).mkdir()
        told = []
        for done, identity in enumerate(chosen, start=1):
            question, pictures = explainer(asked.loc[identity], f"{MAPS}/{done:04d}.npz")
            np.savez_compressed(folder / question.maps, relevance=pictures.maps, positions=pictures.positions)
            told.append((question, pictures))
            if progress is not None:
                progress(done, len(chosen))
        explained = Explained(
            format=FORMAT,
            model=_name(checkpoint),
            checkpoint=str(checkpoint),
            checkpoint_sha256=_digest(checkpoint),
            dataset=timeline.meta.name,
            dataset_fingerprint=timeline.meta.fingerprint,
            split=split.name,
            subset=subset,
            method=method,
            steps=steps if method == "integrated_gradients" else None,
            questions=[question for question, _ in told],
        )
        (folder / MANIFEST).write_text(json.dumps(asdict(explained), indent=1, allow_nan=False), encoding="utf-8")
        (folder / PAGE).write_text(to_html(explained, [pictures for _, pictures in told]), encoding="utf-8")
    return out / PAGE


class _Explainer:
    """Explains questions of a data set, each in a batch of its sequence alone."""

    def __init__(
        self,
        module: TimelineModule,
        dataset: SequenceDataset,
        timeline: Timeline,
        settings: DataSettings,
        method: Method,
        steps: int,
    ) -> None:
        heads = module.reasoner.heads
        for name in set(heads) - set(_ANSWERING):
            del heads[name]
        self.module = module.to("cuda" if torch.cuda.is_available() else "cpu")
        self.dataset, self.method, self.steps = dataset, method, steps
        self.collate = Collator(settings.reports)
        self.units = timeline.table("sequences").set_index("sequence_id")["time_unit"]
        self.times = timeline.table("timepoints").set_index(["sequence_id", "position"])["time"].sort_index()
        self.items: dict[str, int] = {}
        for number, view in enumerate(dataset.views):
            owned = dataset.records[view.record].questions
            for question in owned if view.position is None else [owned[k] for k in view.questions]:
                self.items[question.identity] = number

    def __call__(self, question: Any, path: str) -> tuple[Told, Pictures]:
        """What is told of a question whose maps are kept at ``path``; and its images with their maps."""
        number = self.items[question["question_id"]]
        batch = self.collate([self.dataset[number]]).to(self.module.device)
        place = 0, batch.question_ids[0].index(question["question_id"])
        with torch.no_grad():
            row = self.module.predict_step(batch, 0).rows["answers"][place[1]]
            reading = self.module.reasoner.explain(batch)
            index = batch.frame_index[:, 0], batch.frame_index[:, 1]
            images = self.module.reasoner.finish(batch.images, batch.channel_mask[index])
        found = relevance(self.module.reasoner, batch, place, self.method, self.steps)
        alone = self.dataset.views[number].position  # what a probe is shown, and calls its first
        seen = slice(int(batch.asked_at[place]) + 1)
        named = [alone] if alone is not None else batch.positions[0, seen].tolist()
        shown = batch.frame_index[:, 1] < seen.stop
        maps = found.maps[shown].cpu().numpy()
        shares = _shares(maps, batch.frame_index[shown, 1].tolist(), len(named))
        slots = None if reading.slots is None else reading.slots[place][seen].tolist()
        pointers = None if reading.pointers is None else reading.pointers[place][:, seen].tolist()
        sequence = question["sequence_id"]
        points = [
            Point(
                position=position,
                time=float(self.times[sequence, position]),
                has_image=bool(batch.image_mask[0, n]),
                relevance=shares[n],
                memory=None if slots is None else slots[n],
                earliest=None if pointers is None else pointers[0][n],
                latest=None if pointers is None else pointers[1][n],
            )
            for n, position in enumerate(named)
        ]
        probabilities: list[float] = row.get("probabilities") or []
        choices = [str(choice) for choice in question["choices"]] if probabilities else []
        told = Told(
            question_id=question["question_id"],
            sequence_id=sequence,
            task=question["task"],
            template=question["template"],
            prompt=question["prompt"],
            asked_at=int(question["asked_at"]),
            choices=choices,
            probabilities=probabilities,
            answer=choices[int(np.argmax(probabilities))] if choices else None,
            truth=question["answer"] if isinstance(question["answer"], str) else None,
            value=None if choices else row.get("value"),
            true_value=None if choices else float(question["value"]),
            evidence=evidence_positions([question["evidence"]])[0],
            cited=named if alone is not None else row.get("evidence", []),
            time_unit=str(self.units[sequence]),
            points=points,
            channels=list(self.module.fitted.channels),
            signed=found.signed,
            score=found.score,
            gained=found.gained,
            error=found.error,
            maps=path,
        )
        positions = np.array([point.position for point in points if point.has_image], np.int64)
        return told, Pictures(maps, positions, images[shown].cpu().numpy(), told.channels)


def _shares(maps: np.ndarray, places: Sequence[int], length: int) -> list[float]:
    """The share of each of the positions in what counted, by absolute size; 0 everywhere if nothing did."""
    size = np.zeros(length)
    np.add.at(size, np.asarray(places, np.int64), np.abs(maps, dtype=np.float64).reshape(len(maps), -1).sum(axis=1))
    return (size / (size.sum() or 1.0)).tolist()


def _checkpoint(run: Path) -> Path:
    if not run.exists():
        raise InputError(
            "a run folder, or a checkpoint", "nothing", str(run), "Give a folder that train.py has written."
        )
    path = run / "checkpoints" / "best.ckpt" if run.is_dir() else run
    if not path.is_file():
        raise InputError(
            "a run with checkpoints/best.ckpt", "none", str(run), "Give the folder of a run that trained a model."
        )
    return path


def _named(asked: pd.DataFrame, questions: Sequence[str], timeline: Timeline, subset: str) -> list[str]:
    for name in questions:
        if name not in asked.index:
            elsewhere = name in set(timeline.table("questions")["question_id"])
            raise InputError(
                f"a question of the {subset} subset, such as {asked.index[0]}",
                f"{name!r}, {'of another subset' if elsewhere else 'which the data does not have'}",
                "--question",
                "Choose another subset with --subset, or correct the id.",
            )
    return list(dict.fromkeys(questions))


def _drawn(asked: pd.DataFrame, number: int, seed: int) -> list[str]:
    """Questions drawn at random, first one of each template, then a second of each, and so on."""
    drawn = asked.iloc[np.random.default_rng(seed).permutation(len(asked))]
    turn = drawn.groupby("template").cumcount().sort_values(kind="stable")
    return [str(name) for name in turn.index[:number]]


def _name(checkpoint: Path) -> str:
    """What the run of a checkpoint is called."""
    record = checkpoint.absolute().parent.parent / "run.json"
    return str(json.loads(record.read_text(encoding="utf-8"))["name"]) if record.is_file() else checkpoint.stem


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
