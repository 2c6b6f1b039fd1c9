from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from temmed.errors import InputError
from temmed.timelines import pixels
from temmed.timelines.pixels import read_frames, reader, reader_of


@pytest.fixture
def loop(tmp_path: Path) -> Path:
    path = tmp_path / "loop.npy"
    np.save(path, np.arange(4 * 6 * 5, dtype=np.int16).reshape(4, 6, 5))
    return path


def test_frames_come_in_the_order_asked(loop: Path) -> None:
    stored = np.load(loop)
    np.testing.assert_array_equal(read_frames(loop, [3, 0, 3]), stored[[3, 0, 3]])


def test_without_frames_the_file_is_one_image(loop: Path) -> None:
    assert read_frames(loop).shape == (1, 4, 6, 5)


def test_the_pixels_are_a_copy_that_may_be_changed(loop: Path) -> None:
    for frames in (None, [0]):
        read_frames(loop, frames)[:] = -1
    assert np.load(loop).min() == 0


@pytest.mark.parametrize("kept", [0, 5, 60, 127, 130, 300])
def test_a_truncated_file_is_named(loop: Path, kept: int) -> None:
    loop.write_bytes(loop.read_bytes()[:kept])
    for frames in (None, [0]):
        with pytest.raises(InputError, match="truncated or damaged") as caught:
            read_frames(loop, frames)
        assert caught.value.where == str(loop)


@pytest.mark.parametrize(
    "content",
    [np.array({"not": "pixels"}, dtype=object), np.float64(3.0), np.zeros((0, 4))],
    ids=["object", "number", "empty"],
)
def test_an_array_that_is_no_image_is_refused(tmp_path: Path, content: np.ndarray) -> None:
    path = tmp_path / "odd.npy"
    np.save(path, content, allow_pickle=True)
    with pytest.raises(InputError):
        read_frames(path)


@pytest.mark.parametrize("frames", [[4], [-1], [0, 9]])
def test_a_frame_the_file_does_not_have_is_refused(loop: Path, frames: list[int]) -> None:
    with pytest.raises(InputError, match="expected frames 0 to 3, found frame"):
        read_frames(loop, frames)


def test_an_absent_file_and_an_unknown_format_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="found nothing"):
        read_frames(tmp_path / "lost.npy")
    monkeypatch.setattr(pixels, "READERS", {".npy": pixels.READERS[".npy"]})
    (tmp_path / "notes.docx").touch()
    with pytest.raises(InputError, match=r"one of \.npy, found '\.docx'"):
        read_frames(tmp_path / "notes.docx")


def test_the_longest_known_suffix_decides_whatever_its_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "READERS", {})

    def make(name: str) -> pixels.Reader:
        def read(path: Path, frames: Sequence[int] | None) -> np.ndarray:
            raise AssertionError(name)

        return read

    registered = {suffix: reader(suffix)(make(suffix)) for suffix in (".nii.gz", ".gz", "")}
    assert reader_of(Path("a.b.NII.GZ")) is registered[".nii.gz"]
    assert reader_of(Path("a.tar.gz")) is registered[".gz"]
    assert reader_of(Path("1.2.840.113")) is registered[""]
    assert reader_of(Path("IM000001")) is registered[""]
