"""MedFrameQA: questions about two to five frames of a teaching video, with choices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from temmed.errors import InputError
from temmed.files import atomic_write
from temmed.timelines.importers._items import Item, check_images, check_used, find_image, read_items
from temmed.timelines.importers._series import Series, choices_of, plan_series
from temmed.timelines.importers._splits import add_split
from temmed.timelines.importers.plan import Mapper, Options, Plan, folder_of, slug
from temmed.timelines.importers.registry import Importer
from temmed.timelines.importers.rows import question_row

_FIELDS = ("question_id", "modality", "video_id", "question", "options", "image", "answer")
#: Fields that published results are divided by.
_KEPT = ("question_id", "system", "organ", "keyword", "modality", "video_id", "answer")
_ENDINGS = (".parquet", ".jsonl", ".json")
_SIGNATURES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg"}


def plan(source: Path, options: Options, run: Mapper) -> Plan:
    """Find the items of MedFrameQA; all of them are for testing.

    Args:
        source: a file of items, or a folder of such files.
        options: what the user asked for; ``images`` is the folder of frames. Frames that lie inside the file are
            unpacked into it.
        run: of no use here.

    Raises:
        InputError: a file is missing or malformed, or no image is there.
    """
    result = Plan()
    items = [item for path in _files(source) for item in read_items(path, _FIELDS)]
    chosen = result.choose((item.needed("video_id") for item in items), options)
    items = [item for item in items if item.needed("video_id") in chosen]
    series = [_series(item, options) for item in items]
    planned = plan_series(series, result, replace(options, limit=None), "the order of the frames in the source")
    check_used(result, source, "item")
    check_images(result, options.images or folder_of(source))
    for item, frames in zip(items, series, strict=True):
        choices, answer = choices_of(item, "options", "answer")
        sequence = planned[frames]
        row = question_row(
            item.needed("question_id"),
            sequence,
            len(frames.images) - 1,
            task="choice",
            template=f"medframeqa_{slug(item.text('system') or 'other')}",
            prompt=item.needed("question"),
            choices=choices,
            answer=answer,
        )
        result.add("questions", **row)
        result.records.setdefault("items", []).append({name: item.text(name) for name in _KEPT})
    add_split(result, ((sequence, "test") for sequence in planned.values()))
    return result


def _files(source: Path) -> list[Path]:
    files = [source] if source.is_file() else sorted(file for file in source.iterdir() if file.suffix in _ENDINGS)
    if not files:
        raise InputError(f"a file of items ({', '.join(_ENDINGS)})", "none", str(source), "Check the path.")
    return files


def _series(item: Item, options: Options) -> Series:
    """The frames of an item. Those of one video belong to one patient, so that no split divides them."""
    found: Any = item.fields["image"]
    if not isinstance(found, list) or not found:
        raise item.wrong("image", "a list of frames")
    files = tuple(_file(item, number, frame, options) for number, frame in enumerate(found, 1))
    return Series(item.needed("video_id"), files, slug(item.needed("modality"), "other"))


def _file(item: Item, number: int, frame: Any, options: Options) -> Path:
    if isinstance(frame, dict) and isinstance(frame.get("bytes"), bytes):
        return _unpack(item, number, frame["bytes"], options.images)
    path = frame.get("path") if isinstance(frame, dict) else frame
    if not isinstance(path, str) or not path:
        raise item.wrong("image", "paths of frames, or the frames themselves")
    return find_image(path, options.images or folder_of(item.path))


def _unpack(item: Item, number: int, content: bytes, folder: Path | None) -> Path:
    """Write a frame that lies inside the file, unless it is there."""
    if folder is None:
        raise InputError(
            "a folder to unpack the frames into", "none", str(item.path), "Name one with --images; it may be empty."
        )
    suffix = next((end for start, end in _SIGNATURES.items() if content.startswith(start)), None)
    if suffix is None:
        raise item.wrong("image", "frames in PNG or JPEG")
    path = folder / f"{slug(item.needed('question_id'))}_{number}{suffix}"
    if not path.is_file() or path.stat().st_size != len(content):
        atomic_write(path, content)
    return path


IMPORTER = Importer(
    name="medframeqa",
    summary="MedFrameQA: multiple-choice questions about two to five frames of a medical video.",
    needs="the file or folder of items (.parquet, .json, .jsonl); with --images the folder of frames",
    plan=plan,
)
