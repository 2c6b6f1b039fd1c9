"""Pixels of every format, against what the libraries themselves say."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

from temmed.errors import InputError
from temmed.timelines.pixels import read_frames

DicomWriter = Callable[..., Path]


def test_echo_frames_are_those_of_pydicom(echo: Path) -> None:
    expected = pixel_array(echo)
    assert_array_equal(read_frames(echo, [7, 0, 29, 7]), expected[[7, 0, 29, 7]])
    assert read_frames(echo, [3]).shape == (1, 240, 320, 3)


def test_only_the_frames_asked_for_are_decoded(echo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pydicom.pixels import utils

    decoded: list[int] = []
    original = utils.iter_pixels

    def counting(*args: object, **kwargs: object) -> object:
        for frame in original(*args, **kwargs):
            decoded.append(1)
            yield frame

    monkeypatch.setattr(utils, "iter_pixels", counting)
    read_frames(echo, [28, 4])
    assert len(decoded) == 2


def test_ct_is_in_hounsfield_units() -> None:
    path = Path(get_testdata_file("CT_small.dcm"))
    dataset = pydicom.dcmread(path)
    expected = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    found = read_frames(path)[0]
    assert found.dtype == np.float32
    assert_allclose(found, expected)


def test_palette_is_converted_as_pydicom_does() -> None:
    path = Path(get_testdata_file("examples_palette.dcm"))
    dataset = pydicom.dcmread(path)
    expected = apply_color_lut(dataset.pixel_array, dataset)
    found = read_frames(path)[0]
    assert found.shape == (350, 800, 3)
    assert found.dtype == np.uint8
    assert_array_equal(found, expected >> 8)


def test_eight_bit_colours_in_sixteen_bit_entries(tmp_path: Path, dicom: DicomWriter) -> None:
    ramp = np.arange(256, dtype="<u2").tobytes()
    palette = {
        f"{colour}PaletteColorLookupTable{part}": value
        for colour in ("Red", "Green", "Blue")
        for part, value in (("Descriptor", [256, 0, 16]), ("Data", ramp))
    }
    pixels = np.array([[0, 100], [200, 255]], np.uint8)
    path = dicom(tmp_path / "a.dcm", pixels, PhotometricInterpretation="PALETTE COLOR", **palette)
    assert_array_equal(read_frames(path)[0], np.repeat(pixels[..., None], 3, axis=-1))


@pytest.mark.parametrize("signed", [False, True])
def test_monochrome1_is_inverted_over_the_stored_range(tmp_path: Path, dicom: DicomWriter, signed: bool) -> None:
    pixels = np.array([[0, 1], [1000, 2047]], np.int16 if signed else np.uint16)
    path = dicom(tmp_path / "a.dcm", pixels, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11)
    expected = (-1 if signed else 4095) - pixels.astype(float)
    assert_array_equal(read_frames(path)[0], expected)


def test_monochrome1_is_inverted_after_the_modality_transform(tmp_path: Path, dicom: DicomWriter) -> None:
    pixels = np.array([[0, 255]], np.uint8)
    path = dicom(
        tmp_path / "a.dcm", pixels, PhotometricInterpretation="MONOCHROME1", RescaleSlope=2, RescaleIntercept=-10
    )
    assert_array_equal(read_frames(path)[0], [[500, -10]])


def test_modality_lut(tmp_path: Path, dicom: DicomWriter, item: Callable[..., pydicom.Dataset]) -> None:
    lut = item(LUTDescriptor=[4, 0, 16], LUTData=np.array([10, 30, 20, 5], "<u2").tobytes(), ModalityLUTType="US")
    pixels = np.array([[0, 1], [2, 3]], np.uint8)
    path = dicom(tmp_path / "a.dcm", pixels, ModalityLUTSequence=[lut])
    assert_array_equal(read_frames(path)[0], apply_modality_lut(pixels, pydicom.dcmread(path)))
    assert_array_equal(read_frames(path)[0], [[10, 30], [20, 5]])


def test_each_frame_has_its_own_transform(
    tmp_path: Path, dicom: DicomWriter, item: Callable[..., pydicom.Dataset]
) -> None:
    groups = [
        item(PixelValueTransformationSequence=[item(RescaleSlope=slope, RescaleIntercept=0)]) for slope in (1, 10)
    ]
    pixels = np.full((2, 2, 2), 3, np.uint8)
    path = dicom(tmp_path / "a.dcm", pixels, PerFrameFunctionalGroupsSequence=groups)
    assert_array_equal(read_frames(path, [0, 1])[:, 0, 0], [3, 30])


def test_a_volume_in_one_file_is_sorted_by_position(
    tmp_path: Path, dicom: DicomWriter, item: Callable[..., pydicom.Dataset]
) -> None:
    groups = [item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, z])]) for z in (5, -5, 0)]
    shared = item(PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])])
    pixels = np.stack([np.full((2, 2), value, np.uint8) for value in (3, 1, 2)])
    path = dicom(
        tmp_path / "a.dcm",
        pixels,
        PerFrameFunctionalGroupsSequence=groups,
        SharedFunctionalGroupsSequence=[shared],
    )
    assert_array_equal(read_frames(path)[0][:, 0, 0], [1, 2, 3])


def test_deflated_and_compressed_files() -> None:
    for name in ("image_dfl.dcm", "JPEG2000.dcm", "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_rle_2frame.dcm"):
        path = Path(get_testdata_file(name))
        dataset = pydicom.dcmread(path)
        assert_array_equal(read_frames(path)[0], dataset.pixel_array)


def test_a_file_without_suffix_is_read_by_its_marker(tmp_path: Path, dicom: DicomWriter) -> None:
    path = dicom(tmp_path / "1.2.840.5", np.eye(3, dtype=np.uint8))
    assert_array_equal(read_frames(path)[0], np.eye(3))


def test_missing_decoder_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from pydicom.pixels.decoders import JPEGLSLosslessDecoder

    monkeypatch.setattr(JPEGLSLosslessDecoder, "_available", {})
    with pytest.raises(InputError, match=r"temmed\[compressed\]"):
        read_frames(Path(get_testdata_file("MR_small_jpeg_ls_lossless.dcm")))


def test_frame_beyond_the_end(echo: Path, nibabel_data: Path) -> None:
    for path, last in ((echo, 29), (nibabel_data / "functional.nii", 19)):
        with pytest.raises(InputError, match=f"frames 0 to {last}, found frame {last + 1}"):
            read_frames(path, [last + 1])


@pytest.mark.parametrize("name", ["functional.nii", "example4d.nii.gz", "example_nifti2.nii.gz"])
def test_nifti_frames_are_those_of_nibabel(nibabel_data: Path, name: str) -> None:
    image = nibabel.load(nibabel_data / name)
    volume = np.asarray(image.dataobj)[..., 1]
    # These are stored right to left, back to front, feet to head: LAS.
    assert nibabel.aff2axcodes(image.affine) == ("L", "A", "S")
    expected = volume.transpose(2, 1, 0)[:, ::-1, :]
    assert_array_equal(read_frames(nibabel_data / name, [1])[0], expected.astype(np.float32))


def test_nifti_is_turned_like_axial_dicom(tmp_path: Path) -> None:
    voxels = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    straight = nibabel.Nifti1Image(voxels, np.diag([-1, -1, 1, 1]))
    nibabel.save(straight, tmp_path / "lps.nii")
    nibabel.save(nibabel.as_closest_canonical(straight), tmp_path / "ras.nii.gz")
    expected = voxels.transpose(2, 1, 0)
    assert_array_equal(read_frames(tmp_path / "lps.nii")[0], expected)
    assert_array_equal(read_frames(tmp_path / "ras.nii.gz")[0], expected)


def test_nifti_scaling_slices_and_colour(tmp_path: Path) -> None:
    scaled = nibabel.Nifti1Image(np.array([[[1, 2]]], np.int16), np.eye(4))
    scaled.header.set_slope_inter(2, 10)
    nibabel.save(scaled, tmp_path / "scaled.nii")
    stored = nibabel.load(tmp_path / "scaled.nii")
    assert_allclose(read_frames(tmp_path / "scaled.nii")[0].ravel(), np.asarray(stored.dataobj).ravel())
    loop = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 1, 4)
    nibabel.save(nibabel.Nifti1Image(loop, np.eye(4)), tmp_path / "loop.nii.gz")
    assert_array_equal(read_frames(tmp_path / "loop.nii.gz", [2])[0], loop[:, :, 0, 2].T)
    colour = np.zeros((2, 3, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    colour["G"][0, 0, 0] = 9
    nibabel.save(nibabel.Nifti1Image(colour, np.diag([-1, -1, 1, 1])), tmp_path / "colour.nii")
    found = read_frames(tmp_path / "colour.nii")
    assert found.shape == (1, 4, 3, 2, 3)
    assert_array_equal(found[0, 0, 0, 0], [0, 9, 0])


@pytest.mark.parametrize(
    ("mode", "shape", "dtype"),
    [("L", (4, 5), np.uint8), ("I;16", (4, 5), np.uint16), ("RGB", (4, 5, 3), np.uint8), ("RGBA", (4, 5, 3), np.uint8),
     ("P", (4, 5, 3), np.uint8), ("1", (4, 5), np.uint8), ("LA", (4, 5), np.uint8)],
)  # fmt: skip
def test_png(tmp_path: Path, mode: str, shape: tuple[int, ...], dtype: type) -> None:
    Image.new(mode, (5, 4), 1 if mode in ("L", "I;16", "P", "1") else None).save(tmp_path / "a.png")
    found = read_frames(tmp_path / "a.png", [0, 0])
    assert found.shape == (2, *shape)
    assert found.dtype == dtype


def test_png_keeps_sixteen_bits_and_refuses_frames(tmp_path: Path) -> None:
    pixels = np.array([[0, 1000], [40000, 65535]], np.uint16)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert_array_equal(read_frames(tmp_path / "a.png")[0], pixels)
    with pytest.raises(InputError, match="frame 3"):
        read_frames(tmp_path / "a.png", [3])


def write_video(path: Path, frames: int, codec: str, pixel_format: str) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
        for index in range(frames):
            picture = np.full((48, 64, 3), 20 + 20 * index, np.uint8)
            picture[:8, : 8 * index] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


@pytest.mark.parametrize(("name", "codec", "pixel_format"), [
    ("a.avi", "mjpeg", "yuvj420p"), ("a.mp4", "mpeg4", "yuv420p"), ("b.avi", "ffv1", "gray"),
])  # fmt: skip
def test_video_frames_by_number(tmp_path: Path, name: str, codec: str, pixel_format: str) -> None:
    write_video(tmp_path / name, 9, codec, pixel_format)
    found = read_frames(tmp_path / name, [8, 0, 5, 5])
    grey = pixel_format == "gray"
    assert found.shape == ((4, 48, 64) if grey else (4, 48, 64, 3))
    levels = found[:, 20:].reshape(4, -1).mean(axis=1)
    assert_allclose(levels, [180, 20, 120, 120], atol=6)
    with pytest.raises(InputError, match="frame 9"):
        read_frames(tmp_path / name, [9])
    with pytest.raises(InputError, match="Name the frame"):
        read_frames(tmp_path / name)


def test_video_without_pyav_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.avi").write_bytes(b"RIFF")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"temmed\[video\]"):
        read_frames(tmp_path / "a.avi", [0])


def told(path: Path, frames: list[int] | None) -> str:
    """What reading a file says against it; any other exception than an input error passes through."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read_frames(path, frames)
        except InputError as error:
            return str(error)
    return ""


def test_files_cut_anywhere_are_refused(tmp_path: Path, echo: Path, nibabel_data: Path, dicom: DicomWriter) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    write_video(tmp_path / "whole.avi", 9, "mjpeg", "yuvj420p")
    dicom(tmp_path / "whole.dcm", np.zeros((3, 20, 20), np.int16), FrameTime=10)
    sources: list[tuple[Path, list[int] | None]] = [
        (echo, [0, 29]),
        (tmp_path / "whole.dcm", [2]),
        (Path(get_testdata_file("SC_rgb_rle_2frame.dcm")), [1]),
        (nibabel_data / "functional.nii", [19]),
        (nibabel_data / "example4d.nii.gz", [1]),
        (tmp_path / "whole.png", None),
        (tmp_path / "whole.jpg", None),
        (tmp_path / "whole.avi", [8]),
    ]
    generator = np.random.default_rng(0)
    for source, frames in sources:
        content = source.read_bytes()
        for trial in range(12):
            path = tmp_path / f"{trial}{''.join(source.suffixes)}"
            path.write_bytes(content[: int(generator.integers(1, len(content) - 1))])
            assert str(path) in told(path, frames)


def test_files_with_changed_bytes_are_read_or_refused(tmp_path: Path, echo: Path, nibabel_data: Path) -> None:
    generator = np.random.default_rng(0)
    refused = 0
    for source in (echo, nibabel_data / "functional.nii", Path(get_testdata_file("CT_small.dcm"))):
        content = np.frombuffer(source.read_bytes(), np.uint8)
        for trial in range(20):
            broken = content.copy()
            places = generator.integers(0, min(len(broken), 2000), 15)
            broken[places] = generator.integers(0, 256, 15)
            path = tmp_path / f"{trial}{source.suffix}"
            path.write_bytes(broken.tobytes())
            message = told(path, [0])
            assert not message or str(path) in message
            refused += bool(message)
    assert refused > 10


def test_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / "text.nii").write_text("hello")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "unknown.xyz").write_text("hello")
    (tmp_path / "folder").mkdir()
    for name in ("empty.dcm", "text.nii", "text.png", "unknown.xyz", "folder", "absent.dcm"):
        with pytest.raises(InputError, match=name):
            read_frames(tmp_path / name)
