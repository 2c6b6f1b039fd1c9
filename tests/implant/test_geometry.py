"""What is written is read back: values, axes, size and place of pixels."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydicom import dcmread, examples

from temmed.timelines.implant.geometry import affine_of, plain, spacing_of, turned, write_nifti
from temmed.timelines.pixels import read_frames
from temmed.timelines.synthetic.generate import generate
from temmed.timelines.synthetic.thorax import FIELD_OF_VIEW

SPACINGS = {2: (0.5, 0.7), 3: (0.5, 0.7, 3.0)}


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(5, 7), (4, 5, 7)])
def test_images_come_back(shape: tuple[int, ...], dtype: type, tmp_path: Path) -> None:
    image = (np.arange(np.prod(shape)).reshape(shape) * 1.5).astype(dtype)
    path = tmp_path / "image.nii.gz"
    affine = plain(SPACINGS[len(shape)])
    write_nifti(path, image, affine, True, len(shape))
    assert_array_equal(read_frames(path)[0], image)
    assert nibabel.load(path).get_data_dtype() == dtype
    found = affine_of(path)
    assert found is not None
    assert_allclose(found, affine)
    assert_allclose(spacing_of(found, len(shape)), SPACINGS[len(shape)][::-1])


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("colour", [False, True])
def test_loops_come_back_with_their_times(dims: int, colour: bool, tmp_path: Path) -> None:
    shape = (6, *(3, 5, 7)[3 - dims :], *[3] * colour)
    loop = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    path = tmp_path / "loop.nii"
    write_nifti(path, loop, plain(SPACINGS[dims]), True, dims, (33.3, "msec"))
    assert_array_equal(read_frames(path, [4, 0]), loop[[4, 0]])
    header = nibabel.load(path).header
    assert header.get_zooms()[3] == pytest.approx(33.3)
    assert header.get_xyzt_units() == ("mm", "msec")


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1)])
def test_volumes_are_turned_as_the_reader_turns_them(
    order: tuple[int, ...], flips: tuple[int, ...], tmp_path: Path
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = (np.diag([0.5, 0.7, 3.0]) * flips)[list(order)]
    affine[:3, 3] = 10, -20, 30
    volume = np.random.default_rng(0).permutation(140).reshape(4, 5, 7).astype(np.int16)
    image, where = turned(volume, affine)
    write_nifti(tmp_path / "v.nii.gz", image, where, True, 3)
    assert_array_equal(read_frames(tmp_path / "v.nii.gz")[0], image)
    # The brightest voxel is where it was in space.
    here, there = (np.unravel_index(array.argmax(), array.shape) for array in (volume, image))
    assert_allclose((affine @ [*here[::-1], 1])[:3], (where @ [*there[::-1], 1])[:3])


def test_pixel_sizes_of_real_files() -> None:
    path = Path(str(examples.get_path("ct")))
    affine = affine_of(path)
    assert affine is not None
    assert_allclose(spacing_of(affine, 2), [float(size) for size in dcmread(path).PixelSpacing])
    assert affine_of(Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz") is not None


def test_series_of_slices_keep_their_place(tmp_path: Path) -> None:
    timeline = generate(tmp_path / "ct", "ct", patients=1, size=16, spatial_dims=3, workers=1, progress=False)
    folder = timeline.root / timeline.table("images")["path"].iloc[0]
    affine = affine_of(folder)
    assert affine is not None
    assert_allclose(spacing_of(affine, 3), (4.0, FIELD_OF_VIEW / 16, FIELD_OF_VIEW / 16), rtol=1e-4)
    headers = [dcmread(file) for file in sorted(folder.iterdir())]
    lowest = min(headers, key=lambda header: float(header.ImagePositionPatient[2]))
    x, y, z = (float(value) for value in lowest.ImagePositionPatient)
    assert_allclose(affine[:3, 3], (-x, -y, z))


def test_ultrasound_regions_and_files_without_a_size(tmp_path: Path) -> None:
    timeline = generate(tmp_path / "us", "ultrasound", patients=1, size=32, workers=1, progress=False)
    affine = affine_of(timeline.root / timeline.table("images")["path"].iloc[0])
    assert affine is not None
    assert spacing_of(affine, 2) == pytest.approx((5.0, 5.0), rel=0.2)
    np.save(tmp_path / "a.npy", np.zeros((2, 2)))
    assert affine_of(tmp_path / "a.npy") is None
