"""Windows of Hounsfield units as channels of the tensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from temmed.data.datamodule import fit
from temmed.data.fitted import Fitted
from temmed.data.images import ImageSource, to_tensor
from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import make_split
from temmed.timelines.synthetic.generate import generate
from temmed.timelines.windows import read_windows


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    return generate(tmp_path_factory.mktemp("ct") / "set", "ct", patients=12, size=32, workers=1, progress=False)


def test_a_window_spreads_its_range_and_clips_the_rest(chest: Timeline) -> None:
    raw = ImageSource(chest).read("s00000")[0]["ct"]
    shown = ImageSource(chest, {"ct": ["lung", [40, 400]]}).read("s00000")[0]
    assert list(shown) == ["ct.lung", "ct.40_400"]
    np.testing.assert_allclose(shown["ct.lung"], np.clip((raw + 1350) / 1500, 0, 1), atol=1e-6)
    np.testing.assert_allclose(shown["ct.40_400"], np.clip((raw + 160) / 400, 0, 1), atol=1e-6)
    assert shown["ct.40_400"].min() == 0
    assert shown["ct.lung"].max() == 1


def test_other_modalities_are_left_as_they_are(tiny_timeline: Timeline) -> None:
    assert set(ImageSource(tiny_timeline, {"ct": ["lung"]}).read("s00000")[0]) == {"t1", "flair"}


def test_windows_are_fitted_and_come_back_with_the_checkpoint(chest: Timeline) -> None:
    fitted = fit(chest, make_split(chest, by="patient", seed=0), 32, {"ct": ["lung", "soft"]})
    assert fitted.channels == ("ct.lung", "ct.soft")
    again = Fitted.from_dict(fitted.to_dict())
    assert again == fitted
    images, mask = to_tensor(ImageSource(chest, again.windows).read("s00000", {0}), [0], again)
    assert images.shape == (1, 2, 32, 32)
    assert mask.all()
    assert abs(float(images.mean())) < 1


@pytest.mark.parametrize("wrong", ["lung", ["lungs"], [], ["lung", "lung"], [[40, 0]], [[40]], [[True, 5]], [3]])
def test_what_is_no_window_is_refused(wrong: object, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.windows\.ct"):
        read_windows({"ct": wrong})  # type: ignore[dict-item]
