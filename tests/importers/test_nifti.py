"""NIfTI imports: real 4D files, units of time, and the two layouts of dated visits."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.importers.build import Outcome
from temmed.timelines.importers.plan import Options, Plan

Importing = Callable[..., tuple[Timeline, Outcome]]
Planning = Callable[..., Plan]
KEPT = Options(keep_ids=True)


def save(path: Path, shape: tuple[int, ...] = (2, 3, 4), value: float = 0, step: float = 0, unit: str = "") -> Path:
    image = nibabel.Nifti1Image(np.full(shape, value, np.float32), np.diag([-1, -1, 1, 1]))
    if len(shape) > 3:
        image.header.set_zooms((1, 1, 1, step))
    image.header.set_xyzt_units("mm", unit or None)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def reasons(outcome: Outcome) -> dict[str, str]:
    return {entry.path.name: entry.reason for entry in outcome.plan.skipped}


def test_functional_mri(importing: Importing, nibabel_data: Path) -> None:
    path = nibabel_data / "functional.nii"
    timeline, outcome = importing("nifti", path)
    sequence = timeline.table("sequences").iloc[0]
    assert (sequence.modality, sequence.time_unit, sequence.spatial_dims) == ("mri", "second", 3)
    image = nibabel.load(path)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert image.header.get_zooms()[3] == 2
    assert_allclose(timeline.table("timepoints")["time"], 2.0 * np.arange(20))
    voxels = np.asarray(image.dataobj).astype(np.float32)
    for position, channel, volume in timeline.read_images(sequence.sequence_id):
        assert channel == "image"
        assert volume.shape == (3, 21, 17)
        assert_array_equal(volume[:, ::-1, :].transpose(2, 1, 0), voxels[..., position])
    assert outcome.findings == []
    assert (timeline.root / timeline.table("images")["path"][0]).read_bytes() == path.read_bytes()


def test_two_thousand_seconds_are_doubted(planning: Planning, nibabel_data: Path) -> None:
    path = nibabel_data / "example4d.nii.gz"
    plan = planning("nifti", path)
    assert plan.sequences[0].times == [0, 2000]
    assert "import again with --frame-seconds 2" in plan.notes[0]
    plan = planning("nifti", path, Options(frame_seconds=2))
    assert (plan.sequences[0].times, plan.sequences[0].time_unit) == ([0, 2], "second")
    assert len(plan.notes) == 1


@pytest.mark.parametrize(
    ("step", "header_unit", "unit", "times"),
    [
        (0.72, "sec", "second", [0, 0.72, 1.44]),
        (40, "msec", "millisecond", [0, 40, 80]),
        (500, "usec", "millisecond", [0, 0.5, 1]),
        (3, "", "frame", [0, 1, 2]),
        (3, "hz", "frame", [0, 1, 2]),
        (0, "sec", "frame", [0, 1, 2]),
    ],
)
def test_units(
    planning: Planning, tmp_path: Path, step: float, header_unit: str, unit: str, times: list[float]
) -> None:
    path = save(tmp_path / "loop.nii.gz", (2, 3, 4, 3), step=step, unit=header_unit)
    plan = planning("nifti", path)
    [sequence] = plan.sequences
    assert sequence.time_unit == unit
    assert_allclose(sequence.times, times, rtol=1e-12)
    assert any("time_unit is frame" in note for note in plan.notes) == (unit == "frame")


def test_one_slice_over_time_is_two_dimensional(importing: Importing, tmp_path: Path) -> None:
    path = save(tmp_path / "loop.nii", (2, 3, 1, 5), step=1.5, unit="sec")
    timeline, outcome = importing("nifti", path)
    assert timeline.table("sequences")["spatial_dims"][0] == 2
    assert {finding.rule for finding in outcome.findings} <= {"blank_image"}


@pytest.mark.parametrize(
    "names",
    [
        ["p1/20200131/flair.nii.gz", "p1/20200131/T1.nii", "p1/20200302/flair.nii.gz"],
        ["p1/ses-20200131/flair.nii.gz", "p1/ses-20200131/T1.nii", "p1/ses-2020-03-02/flair.nii.gz"],
        ["p1_20200131_flair.nii.gz", "any/where/p1_20200131_T1.nii", "p1_20200302_flair.nii.gz"],
    ],
)
def test_dated_visits(importing: Importing, tmp_path: Path, names: list[str]) -> None:
    for value, name in enumerate(names):
        save(tmp_path / "source" / name, value=value)
    timeline, _ = importing("nifti", tmp_path / "source", KEPT)
    assert timeline.table("sequences")["time_unit"][0] == "day"
    assert list(timeline.table("timepoints")["time"]) == [0, 31]
    images = [(position, channel, pixels.max()) for position, channel, pixels in timeline.read_images("p1_mri")]
    assert images == [(0, "flair", 0), (0, "t1", 1), (1, "flair", 2)]


@pytest.mark.parametrize(
    ("sessions", "unit", "times"),
    [
        (["week-044", "week-000", "week-9"], "week", [0, 9, 44]),
        (["ses-d0129", "ses-d0000", "ses-d0010"], "day", [0, 10, 129]),
        (["ses-10", "ses-2", "ses-1"], "ordinal", [0, 1, 2]),
    ],
)
def test_numbered_sessions(
    planning: Planning, tmp_path: Path, sessions: list[str], unit: str, times: list[float]
) -> None:
    for session in sessions:
        save(tmp_path / "source" / "p1" / session / "t1.nii.gz")
    plan = planning("nifti", tmp_path / "source", KEPT)
    [sequence] = plan.sequences
    assert sequence.time_unit == unit
    assert sequence.times == times
    numbers = [int(re.search(r"\d+", picture.files[0].parent.name).group()) for picture in sequence.pictures]  # type: ignore[union-attr]
    assert numbers == sorted(numbers)
    assert any("ordinal" in note for note in plan.notes) == (unit == "ordinal")


def test_what_has_no_order_is_named(importing: Importing, tmp_path: Path) -> None:
    source = tmp_path / "source"
    save(source / "p1" / "baseline" / "word.nii.gz")
    save(source / "p2" / "20200101" / "mixed_date.nii.gz")
    save(source / "p2" / "visit2" / "mixed_number.nii.gz")
    save(source / "p3" / "20201399" / "no_date.nii.gz")
    save(source / "loose.nii.gz")
    save(source / "p4_20200231_flat.nii.gz")
    save(source / "bold.nii.gz", (2, 3, 4, 2), step=2, unit="sec")
    (source / "p1" / "baseline" / "word.json").write_text("{}")
    whole = save(source / "p1" / "20200101" / "cut.nii.gz").read_bytes()
    (source / "p1" / "20200101" / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    timeline, outcome = importing("nifti", source, KEPT)
    assert list(timeline.table("sequences")["time_unit"]) == ["second"]
    expected = {
        "word.nii.gz": "neither a date nor a single number",
        "mixed_date.nii.gz": "named in different ways",
        "mixed_number.nii.gz": "named in different ways",
        "no_date.nii.gz": "20201399 is not a date",
        "loose.nii.gz": "its path is neither",
        "p4_20200231_flat.nii.gz": "20200231 is not a date",
        "word.json": "not a NIfTI file",
        "cut.nii.gz": "expected a readable NIfTI image",
    }
    found = reasons(outcome)
    assert set(found) == set(expected)
    for name, reason in expected.items():
        assert reason in found[name]


def test_a_single_volume_is_a_sequence_of_one(importing: Importing, nibabel_data: Path) -> None:
    timeline, _ = importing("nifti", nibabel_data / "anatomical.nii")
    assert len(timeline.table("timepoints")) == 1
    assert timeline.table("images")["channel"][0] == "image"


def test_loops_belong_to_the_patient_of_their_folder(importing: Importing, tmp_path: Path) -> None:
    save(tmp_path / "source" / "p1" / "20200101" / "t1.nii.gz")
    save(tmp_path / "source" / "p1" / "20200101" / "bold.nii.gz", (2, 3, 4, 2), step=2, unit="sec")
    save(tmp_path / "source" / "p2" / "deep" / "er" / "bold.nii.gz", (2, 3, 4, 2), value=1, step=2, unit="sec")
    timeline, _ = importing("nifti", tmp_path / "source", KEPT)
    assert list(timeline.table("sequences")["patient_id"]) == ["p1", "p1", "p2"]


def test_a_second_copy_of_a_loop_is_skipped(planning: Planning, tmp_path: Path) -> None:
    path = save(tmp_path / "source" / "p1" / "a.nii", (2, 3, 4, 2), step=2, unit="sec")
    (path.parent / "b.nii").write_bytes(path.read_bytes())
    plan = planning("nifti", tmp_path / "source")
    assert len(plan.sequences) == 1
    assert [(entry.path.name, entry.reason) for entry in plan.skipped] == [("b.nii", "the same file as a.nii")]


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: None])
def test_empty_or_absent(importing: Importing, tmp_path: Path, make: Callable[[Path], Any]) -> None:
    make(tmp_path / "source")
    with pytest.raises(InputError, match="source"):
        importing("nifti", tmp_path / "source")
    assert not (tmp_path / "dataset").exists()


def test_reference(importing: Importing, tmp_path: Path) -> None:
    path = save(tmp_path / "source" / "p1" / "20200101" / "t1.nii.gz", value=3)
    timeline, _ = importing("nifti", tmp_path / "source", KEPT, reference=True)
    assert timeline.table("images")["path"][0] == str(path)
    assert timeline.read_images("p1_mri")[0][2].max() == 3
