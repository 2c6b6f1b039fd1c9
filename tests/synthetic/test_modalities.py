"""Every built-in set: pinned, the same for any worker count, clean for the audit, exact in what it asks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from temmed.config.paths import conf_dir
from temmed.errors import InputError
from temmed.timelines.audit import audit
from temmed.timelines.folder import Timeline
from temmed.timelines.synthetic.generate import generate
from temmed.timelines.synthetic.modality import MIXED, find_modality, modality_names

NAMES = [*modality_names(), MIXED]
#: Content fingerprints of 12 patients of 32 pixels with seed 0, for the versions pinned in requirements.txt. When a set
#: changes on purpose, raise `VERSION` in temmed/timelines/synthetic/generate.py and put here what the test prints.
PINNED = {
    "ct": "a541dd7defe65f18d0a7bef0ff900974",
    "cxr": "69ce0c6cdf2896e8f762195cb2a39914",
    "mixed": "c995d0376351be27f5124291f9461580",
    "ultrasound": "16a4ee688fddd52ac6930797dc937920",
}
Built = Callable[[str], Timeline]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """``built("ct")``: a small set, made once. Tests must not write into it."""
    made: dict[str, Timeline] = {}

    def make(name: str) -> Timeline:
        if name not in made:
            root = tmp_path_factory.mktemp("sets") / name
            made[name] = generate(root, name, patients=12, size=32, workers=1, progress=False)
        return made[name]

    return make


@pytest.mark.parametrize("name", [name for name in NAMES if name != "mri"])
def test_content_is_pinned(built: Built, name: str) -> None:
    assert built(name).meta.fingerprint == PINNED.get(name)


@pytest.mark.slow
def test_workers_change_nothing(built: Built, tmp_path: Path) -> None:
    # All modalities in one folder: several chunks of work, for two processes.
    parallel = generate(tmp_path / "two", MIXED, patients=12, size=32, workers=2, progress=False)
    assert parallel.meta.fingerprint == built(MIXED).meta.fingerprint


@pytest.mark.parametrize("name", NAMES)
def test_audit_finds_nothing_but_what_can_be_guessed(built: Built, name: str) -> None:
    found = {finding.rule for finding in audit(built(name)) if finding.severity != "info"}
    assert found <= {"guessable"}


@pytest.mark.parametrize("name", NAMES)
def test_every_set_has_its_options(name: str) -> None:
    assert (Path(conf_dir()) / "data" / f"{name}.yaml").is_file()


@pytest.mark.parametrize("name", modality_names())
def test_images_have_the_size_asked_for_and_change_from_moment_to_moment(built: Built, name: str) -> None:
    timeline = built(name)
    sequence = timeline.table("sequences")["sequence_id"].iloc[0]
    images = timeline.read_images(sequence)
    assert {pixels.shape for _, _, pixels in images} == {(32, 32)}
    channels: dict[str, list[np.ndarray]] = {}
    for _, channel, pixels in images:
        channels.setdefault(channel, []).append(pixels)
    for moments in channels.values():
        for before, after in pairwise(moments):
            assert (before != after).any()


@pytest.mark.parametrize("name", modality_names())
def test_stated_errors_are_positive_and_only_where_there_is_a_size(built: Built, name: str) -> None:
    table = built(name).table("measurements")
    errors = table[table["quantity"] == "log_diameter_sd"]
    assert (errors["value"] > 0).all()
    sizes = table[(table["unit"] == "mm") & (table["value"] > 0)].set_index(["finding_id", "position"]).index
    assert pd.MultiIndex.from_frame(errors[["finding_id", "position"]]).isin(sizes).all()
    # What can be read from speckle is not derived, and so not stated.
    assert len(errors) > 0 or name == "ultrasound"


@pytest.mark.parametrize("name", modality_names())
def test_equal_seeds_draw_equal_patients_alone_or_among_others(name: str, tmp_path: Path) -> None:
    draw = find_modality(name).draw
    assert draw(0, 3, 2).times.tolist() == draw(0, 3, 2).times.tolist()
    assert draw(0, 3, 2).age != draw(1, 3, 2).age or draw(0, 3, 2).times.tolist() != draw(1, 3, 2).times.tolist()


def test_mixed_holds_every_modality_with_its_own_clock(built: Built) -> None:
    sequences = built(MIXED).table("sequences")
    assert dict(zip(sequences["modality"], sequences["time_unit"], strict=True)) == {
        name: find_modality(name).time_unit for name in modality_names()
    }
    assert sequences["patient_id"].is_unique


@pytest.mark.parametrize(
    ("name", "wrong"), [("ct", {"files": "avi"}), ("mixed", {"files": "dicom"}), ("mixed", {"spatial_dims": 3})]
)
def test_what_a_modality_cannot_be_is_refused(tmp_path: Path, name: str, wrong: dict) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        generate(tmp_path / "set", name, patients=1, workers=1, progress=False, **wrong)
    assert list(tmp_path.iterdir()) == []
