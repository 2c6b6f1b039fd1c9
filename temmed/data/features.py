"""Features of a frozen backbone, computed once and kept in a memory-mapped file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from tqdm import tqdm

from temmed.data.fitted import Fitted
from temmed.data.images import DecodedPixels, ImageSource
from temmed.data.pixels import Finish, PixelStack, pack
from temmed.files import staged_folder
from temmed.timelines.folder import Timeline


class FeatureStore:
    """Read-only features ``(N, K, D)`` by sequence and position.

    Args:
        folder: from `build_features`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = json.loads((folder / "index.json").read_text())
        self._rows = {(sequence, position): row for row, (sequence, position) in enumerate(index)}
        self._array = np.load(folder / "features.npy", mmap_mode="r")

    def __getstate__(self) -> dict[str, Path]:
        """The place alone: each worker maps the file itself."""
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Path]) -> None:
        """Open the file again."""
        self.__init__(state["folder"])  # type: ignore[misc]

    def stack(self, sequence_id: str, positions: Sequence[int]) -> Tensor:
        """Features ``(n, K, D)`` float32 of some positions of a sequence."""
        rows = [self._rows[sequence_id, position] for position in positions]
        return torch.from_numpy(self._array[rows].astype(np.float32))


def feature_key(timeline: Timeline, fitted: Fitted, backbone: torch.nn.Module) -> str:
    """A key that changes with the images, the transforms and the weights.

    Args:
        timeline: its content fingerprint stands for the images.
        fitted: size, channels and normalisation are the transforms.
        backbone: weights and architecture, by its state dict and its printed form.
    """
    digest = hashlib.blake2b(digest_size=16)
    transforms = {k: v for k, v in fitted.to_dict().items() if k not in ("tokenizer", "values")}
    for part in (timeline.meta.fingerprint, json.dumps(transforms), repr(backbone), "float16/1"):
        digest.update(part.encode() + b"\0")
    for name, tensor in sorted(backbone.state_dict().items()):
        digest.update(name.encode() + b"\0" + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def build_features(
    folder: Path,
    timeline: Timeline,
    fitted: Fitted,
    encode: Callable[[Tensor], Tensor],
    batch_size: int = 128,
    progress: bool = True,
) -> FeatureStore:
    """Compute the features of every image of a timeline, unless they are there.

    One process computes them; others that want the same wait for it.

    Args:
        folder: named by `feature_key`; written as a whole or not at all.
        timeline: the data.
        fitted: channels, size and normalisation.
        encode: images ``(n, C, *spatial)`` → features ``(n, K, D)``, without gradient.
        batch_size: images encoded at once.
        progress: show a progress bar, on a terminal.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not (folder / "index.json").exists():
            _build(folder, timeline, fitted, encode, batch_size, progress)
    return FeatureStore(folder)


def _build(
    folder: Path,
    timeline: Timeline,
    fitted: Fitted,
    encode: Callable[[Tensor], Tensor],
    batch_size: int,
    progress: bool,
) -> None:
    images = timeline.table("images")[["sequence_id", "position"]].drop_duplicates()
    index = [(str(s), int(p)) for s, p in images.itertuples(index=False, name=None)]
    pixels = DecodedPixels(ImageSource(timeline, fitted.windows), fitted)
    finish = Finish(fitted)

    def finished(stacks: list[PixelStack]) -> Tensor:
        return encode(finish(*pack(stacks, len(fitted.sources))))

    with staged_folder(folder, overwrite=True, marker="index.json") as staging:
        _write(staging / "features.npy", index, pixels, finished, batch_size, progress)
        (staging / "index.json").write_text(json.dumps(index))


def _write(
    path: Path,
    index: list[tuple[str, int]],
    pixels: DecodedPixels,
    encode: Callable[[list[PixelStack]], Tensor],
    batch_size: int,
    progress: bool,
) -> None:
    sequences: dict[str, list[int]] = {}
    for sequence, position in index:
        sequences.setdefault(sequence, []).append(position)
    array: np.memmap | None = None
    pending: list[PixelStack] = []
    done = 0

    def flush() -> None:
        nonlocal array, done
        features = encode(pending).to(torch.float16).cpu().numpy()
        if array is None:
            shape = (len(index), *features.shape[1:])
            array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
        array[done : done + len(features)] = features
        done += len(features)
        pending.clear()

    with tqdm(total=len(index), desc="Image features", unit="img", disable=None if progress else True) as bar:
        for sequence, positions in sequences.items():
            pending.append(pixels.stack(sequence, positions))
            bar.update(len(positions))
            if sum(map(len, pending)) >= batch_size:
                flush()
        if pending:
            flush()
    if array is not None:
        array.flush()
