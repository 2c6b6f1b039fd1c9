"""A small set of radiographs, and the comparison of a cache with the files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from temmed.data.fitted import Fitted
from temmed.data.fitting import fit
from temmed.data.images import DecodedPixels, ImageSource
from temmed.data.pixels import Pixels, pack
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import make_split
from temmed.timelines.synthetic.generate import generate

SameAsFiles = Callable[[Pixels, Timeline, Fitted], None]


@pytest.fixture(scope="session")
def cxr(tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    """12 patients' radiographs as DICOM files: two sources, of which many positions have one."""
    root = tmp_path_factory.mktemp("cxr") / "set"
    return generate(root, modality="cxr", patients=12, size=32, workers=1, progress=False)


@pytest.fixture(scope="session")
def cxr_fitted(cxr: Timeline) -> Fitted:
    return fit(cxr, make_split(cxr, by="patient", seed=0), 32)


@pytest.fixture
def copied(cxr: Timeline, tmp_path: Path) -> Timeline:
    """One that a test may change."""
    shutil.copytree(cxr.root, tmp_path / "copy")
    return Timeline.open(tmp_path / "copy")


@pytest.fixture(scope="session")
def same_as_files() -> SameAsFiles:
    """Check that all sequences, whole and in part, are what the files give."""
    known: dict[tuple[Path, tuple[int, ...]], dict[tuple[str, int], list[np.ndarray]]] = {}

    def check(found: Pixels, timeline: Timeline, fitted: Fitted) -> None:
        source = ImageSource(timeline, fitted.windows)
        # The files of the shared folder do not change: they are decoded once.
        kept = known.setdefault((timeline.root, fitted.spatial), {}) if timeline.root.name == "set" else {}
        for sequence in timeline.table("sequences")["sequence_id"]:
            positions = source.positions(sequence)
            for way, wanted in enumerate((positions, positions[::-2], positions[:1] * 2)):
                if (sequence, way) not in kept:
                    kept[sequence, way] = _packed(DecodedPixels(source, fitted), fitted, sequence, wanted)
                for one, other in zip(_packed(found, fitted, sequence, wanted), kept[sequence, way], strict=True):
                    assert np.array_equal(one, other)

    return check


def _packed(pixels: Pixels, fitted: Fitted, sequence: str, positions: list[int]) -> list[np.ndarray]:
    stack = pixels.stack(sequence, positions)
    assert len(stack) == len(positions)
    return [part.float().numpy() for part in pack([stack], len(fitted.sources))]
