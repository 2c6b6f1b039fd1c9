"""Text burned into pixels: told by headers, and seen in pictures made for the purpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pydicom.examples
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset

from temmed.timelines.privacy.burned_in import by_header, by_looking, lines_of_text
from temmed.timelines.synthetic.generate import generate

TEXTS = ("DOE JANE 1960", "ID 00481516", "St. Mary 12:30", "Okafor, M.  F 63Y")


def picture(rng: np.random.Generator, text: str, size: int, light: bool, side: int = 256) -> np.ndarray:
    """Smooth organs and noise, with a line of text near a border."""
    rows, columns = np.mgrid[:side, :side] / side
    organs = np.zeros((side, side))
    for _ in range(4):
        distance = (rows - rng.random()) ** 2 + (columns - rng.random()) ** 2
        organs += rng.uniform(20, 70) * np.exp(-distance / rng.uniform(0.01, 0.1))
    base = np.clip(organs + rng.normal(0, 6, (side, side)) + (0 if light else 150), 0, 255)
    image = Image.fromarray(base.astype(np.uint8))
    if text:
        place = (int(rng.integers(4, 40)), int(rng.choice([5, side - size - 10])))
        font = ImageFont.load_default(size=size)
        ImageDraw.Draw(image).text(place, text, fill=255 if light else 0, font=font)
    return np.asarray(image)


def test_text_in_made_pictures_is_seen_as_often_as_the_documentation_says() -> None:
    rng = np.random.default_rng(0)
    cases = [(text, size, light) for text in TEXTS for size in (12, 14, 18, 24) for light in (True, False)]
    seen = sum(lines_of_text(picture(rng, *case)) > 0 for case in cases)
    wrong = sum(lines_of_text(picture(rng, "", 12, light)) > 0 for light in (True, False) for _ in range(32))
    assert seen >= 0.9 * len(cases)
    assert wrong <= 0.05 * 64


def test_synthetic_images_hold_no_text(tmp_path: Path) -> None:
    timeline = generate(tmp_path / "folder", patients=4, size=64, workers=1, progress=False)
    images = [
        image for sequence in timeline.table("sequences")["sequence_id"] for image in timeline.read_images(sequence)
    ]
    assert sum(lines_of_text(pixels) > 0 for _, _, pixels in images) <= 0.02 * len(images)


def test_text_is_seen_in_a_file_and_in_colour(tmp_path: Path) -> None:
    grey = picture(np.random.default_rng(1), "DOE JANE 1960", 18, True)
    Image.fromarray(np.stack([grey] * 3, axis=-1)).save(tmp_path / "a.png")
    assert by_looking(tmp_path / "a.png", None) > 0


def test_a_real_ct_slice_holds_none() -> None:
    assert by_looking(Path(pydicom.examples.get_path("ct")), None) == 0


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"BurnedInAnnotation": "YES", "Modality": "CT"}, 1),
        ({"BurnedInAnnotation": "NO", "Modality": "US"}, 0),
        ({"Modality": "US"}, 1),
        ({"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, 1),
        ({"Modality": "CT", "ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, 2),
        ({"Modality": "CT", "ImageType": ["ORIGINAL", "PRIMARY"]}, 0),
    ],
)
def test_headers_tell_of_text(elements: dict[str, object], expected: int) -> None:
    header = Dataset()
    for keyword, value in elements.items():
        setattr(header, keyword, value)
    assert len(by_header(header)) == expected


def test_an_overlay_in_bits_of_the_pixels_is_warned_of() -> None:
    header = Dataset()
    header.Modality, header.BurnedInAnnotation = "CT", "NO"
    header.add_new((0x6000, 0x0010), "US", 16)
    assert by_header(header) == ["an overlay in unused bits of the pixels"]
    header.add_new((0x6000, 0x3000), "OW", b"\0\0")
    assert by_header(header) == [], "it has its own data, which is removed"


@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (64, 64)])
def test_flat_and_tiny_pictures_hold_none(shape: tuple[int, int]) -> None:
    assert lines_of_text(np.full(shape, 7, np.int16)) == 0
