"""Windows of Hounsfield units as channels of the tensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from temmed.data.fitted import Fitted, Source
from temmed.data.fitting import fit
from temmed.data.images import DecodedPixels, ImageSource
from temmed.data.pixels import Finish, pack
from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import make_split
from temmed.timelines.synthetic.generate import generate
from temmed.timelines.windows import read_windows


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    return generate(tmp_path_factory.mktemp("ct") / "set", "ct", patients=12, size=32, workers=1, progress=False)


def test_a_window_spreads_its_range_and_clips_the_rest(chest: Timeline) -> None:
    raw = ImageSource(chest).read("s00000")[0][Source("ct")]
    lung, body = read_windows({"ct": ["lung", [40, 400]]})["ct"]
    assert (lung.name, body.name) == ("lung", "40_400")
    np.testing.assert_allclose(lung.apply(raw), np.clip((raw + 1350) / 1500, 0, 1), atol=1e-6)
    np.testing.assert_allclose(body.apply(raw), np.clip((raw + 160) / 400, 0, 1), atol=1e-6)


def test_other_modalities_are_left_as_they_are(tiny_timeline: Timeline) -> None:
    assert set(ImageSource(tiny_timeline, {"ct": ["lung"]}).read("s00000")[0]) == {Source("t1"), Source("flair")}


def test_windows_of_a_batch_are_those_of_single_images(chest: Timeline) -> None:
    fitted = fit(chest, make_split(chest, by="patient", seed=0), 32, {"ct": ["lung", [40, 400]]})
    source = ImageSource(chest, fitted.windows)
    found = source.read("s00000", {0})[0]
    [[kind, image]] = found.items()
    images = Finish(fitted)(*pack([DecodedPixels(source, fitted).stack("s00000", [0])], 1))[0]
    assert image.shape == images.shape[1:]
    for column, name in enumerate(fitted.channels):
        window = dict(kind.channels)[name]
        assert window is not None
        expected = (window.apply(image) - fitted.mean[column]) / fitted.deviation[column]
        np.testing.assert_allclose(images[column], expected, atol=1e-5)


def test_windows_are_fitted_and_come_back_with_the_checkpoint(chest: Timeline) -> None:
    fitted = fit(chest, make_split(chest, by="patient", seed=0), 32, {"ct": ["lung", "soft"]})
    assert fitted.channels == ("ct.lung", "ct.soft")
    again = Fitted.from_dict(fitted.to_dict())
    assert again == fitted
    assert again.plan == fitted.plan


@pytest.mark.parametrize("wrong", ["lung", ["lungs"], [], ["lung", "lung"], [[40, 0]], [[40]], [[True, 5]], [3]])
def test_what_is_no_window_is_refused(wrong: object, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.windows\.ct"):
        read_windows({"ct": wrong})  # type: ignore[dict-item]
