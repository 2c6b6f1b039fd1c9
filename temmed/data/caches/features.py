"""Features of a frozen backbone, computed once and kept in mapped files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from temmed.data.caches.building import announce, check_space, divide, missing_parts, open_or_build, write_part
from temmed.data.caches.digests import FileState, ImageState
from temmed.data.caches.entry import Entry, Slab
from temmed.data.caches.images import (
    CacheImages,
    files_by_sequence,
    image_key,
    imaged_positions,
    open_pixels,
    read_states,
)
from temmed.data.fitted import Fitted
from temmed.data.pixels import Finish, Pixels, PixelStack, pack
from temmed.timelines.folder import Timeline

#: Images of a part of the store at least, if there are as many.
_IN_PART = 4096
_DTYPE = np.float16


class FeatureStore:
    """Read-only features ``(n, K, D)`` by sequence and position.

    Args:
        entry: of kind ``features``.
    """

    def __init__(self, entry: Entry) -> None:
        self.entry = entry

    def stack(self, sequence_id: str, positions: Sequence[int]) -> Tensor:
        """Features ``(n, K, D)`` float32 of some positions of a sequence."""
        number = self.entry.numbers[sequence_id]
        rows = self.entry.rows(number, positions)
        return torch.from_numpy(self.entry.array(number)[rows].astype(np.float32))


def feature_key(images: str, fitted: Fitted, backbone: torch.nn.Module) -> str:
    """A key that changes with the images, the transforms and the weights.

    Args:
        images: the key of the images.
        fitted: size, channels and normalisation are the transforms.
        backbone: weights and architecture, by its state dict and its printed form.
    """
    digest = hashlib.blake2b(digest_size=16)
    transforms = {
        k: v for k, v in fitted.to_dict().items() if k not in ("tokenizer", "values", "units", "reports", "boxes")
    }
    for part in (images, json.dumps(transforms), repr(backbone), f"{np.dtype(_DTYPE)}/1"):
        digest.update(part.encode() + b"\0")
    for name, tensor in sorted(backbone.state_dict().items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def open_features(
    timeline: Timeline,
    fitted: Fitted,
    backbone: torch.nn.Module,
    encode: Callable[[Tensor], Tensor],
    cache: Path,
    mode: CacheImages = "auto",
) -> FeatureStore:
    """The features of every image of a timeline, computed unless they are there.

    Args:
        timeline: the data.
        fitted: channels, size and normalisation.
        backbone: whose weights are part of the key.
        encode: images ``(n, C, *spatial)`` → features ``(n, K, D)``, without gradient.
        cache: the folder of all caches.
        mode: ``always`` builds the cache of images first; else they are taken from one only if it is there, as each
            is needed once.

    Raises:
        InputError: images cannot be read, or there is no space.
    """
    states = read_states(timeline, cache)
    key = feature_key(image_key(timeline, fitted, states), fitted, backbone)

    def pixels() -> Pixels:
        return open_pixels(timeline, fitted, cache, mode, once=mode == "auto", states=states)

    return build_features(cache / "features" / key, timeline, fitted, pixels, encode, states)


def build_features(
    target: Path,
    timeline: Timeline,
    fitted: Fitted,
    pixels: Callable[[], Pixels],
    encode: Callable[[Tensor], Tensor],
    states: Mapping[str, ImageState],
    batch_size: int = 128,
    progress: bool = True,
) -> FeatureStore:
    """Compute the features of every image of a timeline into an entry, unless they are there.

    One process computes them; others that want the same wait for it. What a killed process had written is used.

    Args:
        target: named by `feature_key`.
        timeline: the data.
        fitted: channels, size and normalisation.
        pixels: gives what images are taken from; asked only if features are to be computed.
        encode: images ``(n, C, *spatial)`` → features ``(n, K, D)``, without gradient.
        states: of the image files.
        batch_size: images encoded at once.
        progress: show a progress bar, on a terminal.

    Raises:
        InputError: images cannot be read, or there is no space.
    """
    finish = Finish(fitted)

    def finished(stacks: list[PixelStack]) -> np.ndarray:
        images = finish(*pack(stacks, len(fitted.sources)))
        features: np.ndarray = encode(images).to(torch.float16).cpu().numpy()
        return features

    def build(staging: Path) -> dict[str, Any]:
        sequences = imaged_positions(timeline)
        parts = divide(sequences, _IN_PART)
        missing = missing_parts(staging, parts)
        if missing:
            source, files = pixels(), files_by_sequence(timeline, states)
            first = parts[missing[0]][0]
            row = finished([source.stack(first, sequences[first][:1])])
            count = sum(len(sequences[key]) for n in missing for key in parts[n])
            check_space(row.nbytes * count, staging.parent)
            announce("Feature cache", count, row.nbytes * count, staging.parent)
            bar = tqdm(total=count, desc="Image features", unit="img", disable=None if progress else True, leave=False)
            with bar:
                for number in missing:
                    held = {key: sequences[key] for key in parts[number]}
                    read = [file for key in parts[number] for file in files[key]]
                    write_part(staging, number, _watched(_slabs(source, held, finished, batch_size), bar, read))
        about = {"dataset": timeline.meta.name, "root": str(timeline.root.absolute())}
        return {"kind": "features", "made_from": {**about, "images": sum(map(len, sequences.values()))}}

    return FeatureStore(open_or_build(target, build))


def _slabs(
    pixels: Pixels,
    sequences: Mapping[str, Sequence[int]],
    encode: Callable[[list[PixelStack]], np.ndarray],
    batch_size: int,
) -> Iterator[Slab]:
    """The features of sequences, in their order; images of several are encoded together."""
    waiting: dict[str, list[np.ndarray]] = {}
    for batch in _batches(_pieces(pixels, sequences, batch_size), batch_size):
        found = encode([piece for _, piece in batch])
        ends = np.cumsum([len(piece) for _, piece in batch])
        for (sequence, _), rows in zip(batch, np.split(found, ends[:-1]), strict=True):
            held = waiting.setdefault(sequence, [])
            held.append(rows)
            if sum(map(len, held)) == len(sequences[sequence]):
                yield Slab(sequence, sequences[sequence], np.concatenate(waiting.pop(sequence)))


def _pieces(
    pixels: Pixels, sequences: Mapping[str, Sequence[int]], batch_size: int
) -> Iterator[tuple[str, PixelStack]]:
    """The images of sequences, at most ``batch_size`` at a time."""
    for sequence, positions in sequences.items():
        stack = pixels.stack(sequence, positions)
        for start in range(0, len(stack), batch_size):
            part = slice(start, start + batch_size)
            yield sequence, replace(stack, rows=stack.rows[part], mask=stack.mask[part])


def _batches(pieces: Iterable[tuple[str, PixelStack]], batch_size: int) -> Iterator[list[tuple[str, PixelStack]]]:
    """Pieces of one spatial size together, until there are enough."""
    batch: list[tuple[str, PixelStack]] = []
    for piece in pieces:
        full = sum(len(stack) for _, stack in batch) >= batch_size
        if batch and (full or piece[1].spatial != batch[0][1].spatial):
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch


def _watched(slabs: Iterable[Slab], bar: tqdm, files: Iterable[FileState]) -> Iterator[Slab]:
    """Slabs, shown by a bar; at their end the files must be what they were."""
    for slab in slabs:
        bar.update(len(slab.positions))
        yield slab
    for file in files:
        file.check()
