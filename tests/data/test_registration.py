"""Follow-ups are moved onto the first visit: by a known motion, and not at all where that would be no improvement."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import affine_transform, gaussian_filter

from temmed.data import registration
from temmed.data.fitted import Source
from temmed.data.fitting import fit
from temmed.data.followups import register_timeline
from temmed.data.images import DecodedPixels, ImageSource, PreparedImages
from temmed.data.preparation import Preparation
from temmed.data.registration import apply_motion, find_motion
from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import make_split

Visits = Callable[..., Timeline]
RIGID = Preparation(register="rigid")


def anatomy(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Something with edges and no symmetry: smooth noise in a few grey values, in an ellipse."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=shape), [min(4.0, n / 5) for n in shape])
    levels = np.digitize(smooth, np.quantile(smooth, [0.2, 0.5, 0.7, 0.9])) * 200.0 + 200
    axes = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) / (0.42 * n) for n in shape], indexing="ij")
    body = np.sqrt(sum(axis**2 for axis in axes)) < 1
    return (np.where(body, gaussian_filter(levels, 0.7), 0) + rng.normal(0, 5, shape)).astype(np.float32)


def moved(image: np.ndarray, degrees: float, shift: tuple[float, ...], zoom: float = 1.0) -> np.ndarray:
    """The image turned in the plane of its last two axes about its middle, shifted by pixels and made larger."""
    angle, dims = np.deg2rad(degrees), image.ndim
    turn = np.eye(dims)
    turn[-2:, -2:] = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = (np.array(image.shape) - 1) / 2
    offset = middle - turn @ middle / zoom + np.array(shift)
    found = affine_transform(image.astype(float), turn / zoom, offset, order=3, cval=float(image.min()))
    return (found + np.random.default_rng(1).normal(0, 5, image.shape)).astype(np.float32)


def error(motion: registration.Motion, degrees: float, shift: tuple[float, ...], zoom: float, size: int) -> float:
    """How far, at most, points of the middle half land from where they came from, in pixels."""
    dims, angle = len(shift), np.deg2rad(degrees)
    turn = np.eye(dims)
    turn[-2:, -2:] = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.stack(np.meshgrid(*[np.linspace(-size / 4, size / 4, 3)] * dims), -1).reshape(-1, dims)
    matrix = np.reshape(motion.matrix, (dims, dims))[::-1, ::-1]
    there = points @ matrix.T + np.array(motion.shift[::-1])
    return float(np.linalg.norm(there @ turn.T / zoom + np.array(shift) - points, axis=1).max())


def ones(dims: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return (1.0,) * dims, (1.0,) * dims


@pytest.fixture
def _simpleitk() -> None:
    pytest.importorskip("SimpleITK")


needs_simpleitk = pytest.mark.usefixtures("_simpleitk")


@needs_simpleitk
@pytest.mark.parametrize(
    ("how", "shape", "degrees", "shift", "zoom"),
    [
        ("rigid", (72, 64), 8.0, (5.0, -3.0), 1.0),
        ("rigid", (72, 64), -15.0, (-6.0, 4.0), 1.0),
        ("affine", (72, 64), 5.0, (3.0, 3.0), 1.06),
        ("rigid", (20, 40, 44), 6.0, (1.0, 2.0, -3.0), 1.0),
    ],
)
def test_a_known_motion_is_found(
    how: registration.How, shape: tuple[int, ...], degrees: float, shift: tuple[float, ...], zoom: float
) -> None:
    first = anatomy(shape)
    second = moved(first, degrees, shift, zoom)
    motion = find_motion(first, second, how, ones(len(shape)))
    assert motion.accepted, motion
    assert error(motion, degrees, shift, zoom, min(shape)) < 0.3
    assert motion.rotation == pytest.approx(abs(degrees), abs=0.5)
    back = apply_motion(motion, second, shape, ones(len(shape)))
    inside = tuple(slice(n // 4, -n // 4) for n in shape)
    assert abs(back - first)[inside].mean() < 0.25 * abs(second - first)[inside].mean()


@needs_simpleitk
def test_spacing_is_that_of_the_headers(visits: Visits, tmp_path: Path) -> None:
    """The second visit has pixels of another size; in millimetres nothing but a shift lies between the two."""
    first = anatomy((80, 80))
    coarse = moved(first, 0.0, (6.0, 0.0))[::2, ::2]
    timeline = visits({"s0": [{"t1": first}, {"t1": coarse}]}, [[(1.0, 1.0), (2.0, 2.0)]])
    found = PreparedImages(ImageSource(timeline), RIGID, tmp_path / "kept").read("s0")
    kind = Source("t1")
    assert found[1][kind].shape == (80, 80)
    plain = PreparedImages(ImageSource(timeline), Preparation()).read("s0")[1][kind]
    middle = slice(20, 60)
    np.testing.assert_array_equal(found[0][kind], first)
    errors = [abs(image - first)[middle, middle].mean() for image in (found[1][kind], plain)]
    assert errors[0] < 0.4 * errors[1]
    fine = PreparedImages(ImageSource(timeline), replace(RIGID, spacing=(0.5,)), tmp_path / "kept").read("s0")
    assert fine[1][kind].shape == fine[0][kind].shape == (160, 160)


@needs_simpleitk
@pytest.mark.parametrize("how", ["rigid", "affine"])
def test_what_is_no_improvement_is_refused(how: registration.How) -> None:
    first = anatomy((64, 64))
    noise = np.random.default_rng(3).normal(400, 200, first.shape).astype(np.float32)
    refused = {
        "the same image": first,
        "no gain": first + np.random.default_rng(4).normal(0, 5, first.shape).astype(np.float32),
        "an image of one value": np.full_like(first, 7),
    }
    for reason, image in refused.items():
        motion = find_motion(first, image, how, ones(2))
        assert (motion.accepted, motion.reason) == (False, reason)
    for image in (noise, gaussian_filter(noise, 3), anatomy((64, 64), seed=9)):
        assert not find_motion(first, image, how, ones(2)).accepted


@needs_simpleitk
def test_what_moves_too_far_is_refused() -> None:
    first = anatomy((64, 64))
    motion = find_motion(first, moved(first, 0.0, (20.0, 0.0)), "rigid", ones(2))
    assert not motion.accepted
    turned = moved(first, 40.0, (0.0, 0.0))
    assert not find_motion(first, turned, "rigid", ones(2)).accepted


@needs_simpleitk
def test_one_motion_moves_all_channels_of_a_visit_in_their_number_type(visits: Visits, tmp_path: Path) -> None:
    first = {"flair": anatomy((64, 64)), "t1": 1000 - anatomy((64, 64))}
    second = {name: moved(image, 7.0, (3.0, -2.0)) for name, image in first.items()}
    noise = {"t1": np.random.default_rng(0).normal(500, 100, (64, 64)).astype(np.float32)}
    timeline = visits({"s0": [first, second, noise], "s1": [{"t1": first["t1"]}]})
    steps = replace(RIGID, size=(64, 64))
    images = PreparedImages(ImageSource(timeline), steps, tmp_path / "kept")
    found = images.read("s0")
    for name in first:
        before, after = (
            abs(image - first[name])[16:48, 16:48].mean() for image in (second[name], found[1][Source(name)])
        )
        assert after < 0.4 * before
    np.testing.assert_array_equal(found[2][Source("t1")], noise["t1"])
    # What is asked alone, and from what was kept, is the same.
    kept = sorted((tmp_path / "kept").iterdir())
    alone = PreparedImages(ImageSource(timeline), steps, tmp_path / "kept").read("s0", [1])
    assert sorted(alone) == [1]
    for kind, image in alone[1].items():
        np.testing.assert_array_equal(image, found[1][kind])
    assert sorted((tmp_path / "kept").iterdir()) == kept
    motion = find_motion(first["t1"], second["t1"], "rigid", ones(2))
    for number_type in (np.uint8, np.int16, np.uint16):
        assert apply_motion(motion, np.full((64, 64), 200, number_type), (64, 64), ones(2)).dtype == number_type
    exact = np.full((64, 64), 2**24 + 1, np.int32)
    np.testing.assert_array_equal(apply_motion(motion, exact, (64, 64), ones(2)), exact)


@needs_simpleitk
@pytest.mark.parametrize("telling", ["flair", "t1"])
def test_channels_move_alike_where_one_of_them_tells_its_spacing(
    telling: str, visits: Visits, with_tables: Callable[..., Timeline], tmp_path: Path
) -> None:
    first = anatomy((64, 64))
    second = moved(first, 7.0, (4.0, -2.0))
    timeline = visits({"s0": [{"flair": image, "t1": image} for image in (first, second)]}, (2.5, 2.5))
    images = timeline.table("images").copy()
    for row in np.flatnonzero(images["channel"] != telling):
        image = (first, second)[images["position"][row]]
        images.loc[row, "path"] = f"images/{row}.npy"
        np.save(timeline.root / "images" / f"{row}.npy", image)
    found = PreparedImages(ImageSource(with_tables(timeline, images=images)), RIGID, tmp_path / "kept").read("s0")[1]
    assert abs(found[Source("flair")] - first)[16:48, 16:48].mean() < 0.4 * abs(second - first)[16:48, 16:48].mean()
    np.testing.assert_allclose(found[Source("t1")], found[Source("flair")], rtol=1e-5, atol=0.01)


@needs_simpleitk
def test_a_table_tells_what_was_done_and_one_line_what_was_not(
    visits: Visits, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = anatomy((64, 64))
    noise = np.random.default_rng(0).normal(500, 100, (64, 64)).astype(np.float32)
    timeline = visits({"s0": [{"t1": first}, {"t1": moved(first, 7.0, (3.0, -2.0))}, {"t1": noise}]})
    source, folder = ImageSource(timeline), tmp_path / "registration"
    with caplog.at_level(logging.WARNING):
        table = register_timeline(timeline, source, "rigid", folder)
    assert table["accepted"].tolist() == [True, False]
    assert table["position"].tolist() == [1, 2]
    assert (table["after"] > table["before"]).tolist()[0]
    [line] = caplog.messages
    assert line.startswith("1 of 2 follow-ups stay where they are: 1 ")
    [path] = folder.glob("table-*.parquet")
    assert str(path) in line
    pd.testing.assert_frame_equal(pd.read_parquet(path), table)
    # A stopped search goes on from what it had: nothing is searched for again.
    path.unlink()
    monkeypatch.setattr(registration, "_search", None)
    pd.testing.assert_frame_equal(register_timeline(timeline, source, "rigid", folder), table)


@needs_simpleitk
def test_a_fitted_model_registers_what_it_reads(visits: Visits) -> None:
    first = anatomy((64, 64))
    timeline = visits({"s0": [{"t1": first}, {"t1": moved(first, 7.0, (3.0, -2.0))}]})
    split = make_split(timeline, by="patient", fractions=(1.0, 0.0, 0.0), seed=0)
    fitted = fit(timeline, split, 64, steps=RIGID)
    assert fitted.preparation == replace(RIGID, size=(64, 64))
    array = DecodedPixels(ImageSource(timeline), fitted).stack("s0", [0, 1]).array
    np.testing.assert_array_equal(array[0, 0], first)
    assert np.corrcoef(array[1, 0, 16:48, 16:48].ravel(), first[16:48, 16:48].ravel())[0, 1] > 0.95
    assert RIGID.key() != replace(RIGID, register="affine").key()


@needs_simpleitk
def test_volumes_of_other_spacing_land_where_scipy_puts_them() -> None:
    """`apply_motion` against scipy, with axes of unlike size and spacing: matrix, shift and steps in their order."""
    moving = anatomy((12, 30, 26)) + 0.01 * np.arange(26, dtype=np.float32)
    size, steps, other = (10, 34, 28), (4.0, 1.0, 1.25), (3.0, 1.2, 1.5)
    turn = np.array([[1.0, 0.02, 0.0], [-0.02, 0.99, -0.1], [0.01, 0.1, 0.99]])  # slices, rows, columns
    shift = np.array([2.0, -3.0, 4.0])
    motion = registration.Motion(
        tuple(turn[::-1, ::-1].ravel()), tuple(shift[::-1]), 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, True, ""
    )
    found = apply_motion(motion, moving, size, (steps, other))
    matrix = np.diag(1 / np.array(other)) @ turn @ np.diag(steps)
    offset = shift / other + (np.array(moving.shape) - 1) / 2 - matrix @ ((np.array(size) - 1) / 2)
    expected = affine_transform(moving, matrix, offset, size, order=1, cval=np.nan)
    shown = np.isfinite(expected)
    assert 0.5 < shown.mean() < 1
    np.testing.assert_allclose(found[shown], expected[shown], atol=0.05)


@needs_simpleitk
def test_a_sequence_without_images_has_nothing_to_register(visits: Visits) -> None:
    timeline = visits({"s0": [{"t1": anatomy((32, 32))}]})
    images = PreparedImages(ImageSource(timeline), replace(RIGID, size=(32, 32)))
    assert images.read("s0", []) == {}
    timeline._tables["images"] = timeline.table("images").iloc[:0]
    empty = PreparedImages(ImageSource(timeline), replace(RIGID, size=(32, 32)))
    assert empty.read("s0", []) == empty.read("s0") == {}


def test_without_simpleitk_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise registration.PackageNotFoundError(name)

    monkeypatch.setattr(registration, "version", absent)
    for asks in (lambda: find_motion(anatomy((32, 32)), anatomy((32, 32)), "rigid", ones(2)), RIGID.key):
        with pytest.raises(InputError, match=r"data\.register: .*`pip install 'temmed\[registration\]'"):
            asks()
