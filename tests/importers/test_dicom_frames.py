"""DICOM imports: which slices and frames make a volume or a loop, in which order, and at which times."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.importers._dicom_frames import frames_of
from temmed.timelines.importers.build import Outcome
from temmed.timelines.importers.plan import Options, Plan
from temmed.timelines.tables import named_rows

DicomWriter = Callable[..., Path]
Importing = Callable[..., tuple[Timeline, Outcome]]
Planning = Callable[..., Plan]
Item = Callable[..., pydicom.Dataset]

AXIAL = [1, 0, 0, 0, 1, 0]
SAGITTAL = [0, 1, 0, 0, 0, -1]


def plain(value: int, size: int = 4, dtype: type = np.uint8) -> np.ndarray:
    return np.full((size, size), value, dtype)


def test_slices_are_sorted_by_position_whatever_their_names(
    importing: Importing, tmp_path: Path, dicom: DicomWriter
) -> None:
    heights = [-12.5, -10.0, -7.5, -5.0, -2.5, 0.0, 2.5]
    order = list(range(len(heights)))
    random.Random(3).shuffle(order)
    for name, index in enumerate(order):
        dicom(
            tmp_path / "source" / f"IM{name:04d}",
            plain(index + 1),
            ImagePositionPatient=[0, 0, heights[index]],
            ImageOrientationPatient=AXIAL,
            # The acquisition ran from head to feet, and says so: that must not matter either.
            InstanceNumber=len(heights) - index,
            SeriesDescription="Thorax 2.5 mm",
        )
    timeline, outcome = importing("dicom", tmp_path / "source")
    (sequence,) = named_rows(timeline.table("sequences"))
    assert sequence.spatial_dims == 3
    [(position, channel, volume)] = timeline.read_images(sequence.sequence_id)
    assert (position, channel) == (0, "thorax_2_5_mm")
    assert_array_equal(volume[:, 0, 0], np.arange(1, 8))
    assert outcome.plan.notes == []


def test_single_slices_and_volumes_of_a_patient_are_two_sequences(
    importing: Importing, tmp_path: Path, dicom: DicomWriter
) -> None:
    for height in (1, 2):
        dicom(
            tmp_path / "source" / f"v{height}",
            plain(height),
            ImagePositionPatient=[0, 0, height],
            ImageOrientationPatient=AXIAL,
        )
    dicom(tmp_path / "source" / "flat", plain(9), SeriesInstanceUID="1.2.3.5")
    timeline, _ = importing("dicom", tmp_path / "source", Options(keep_ids=True))
    dims = timeline.table("sequences").set_index("sequence_id")["spatial_dims"].to_dict()
    assert dims == {"one_ct_2d": 2, "one_ct_3d": 3}


def test_slices_of_different_directions_or_sizes_are_not_stacked(
    importing: Importing, tmp_path: Path, dicom: DicomWriter
) -> None:
    for index, (direction, size) in enumerate([(AXIAL, 4), (AXIAL, 4), (SAGITTAL, 4), (SAGITTAL, 4), (AXIAL, 5)]):
        dicom(
            tmp_path / "source" / f"{index}.dcm",
            plain(index, size),
            ImagePositionPatient=[index, index, index],
            ImageOrientationPatient=direction,
            InstanceNumber=index,
        )
    timeline, _ = importing("dicom", tmp_path / "source", Options(keep_ids=True))
    shapes = [pixels.shape for _, _, pixels in timeline.read_images("one_ct_3d")]
    assert shapes == [(2, 4, 4), (2, 4, 4)]
    assert [pixels.shape for _, _, pixels in timeline.read_images("one_ct_2d")] == [(5, 5)]


def test_a_missing_slice_is_told(planning: Planning, tmp_path: Path, dicom: DicomWriter) -> None:
    for height in (0, 5, 10, 20, 25):
        dicom(
            tmp_path / "source" / f"{height}",
            plain(0),
            ImagePositionPatient=[0, 0, height],
            ImageOrientationPatient=AXIAL,
        )
    [note] = planning("dicom", tmp_path / "source").notes
    assert "gap between slices" in note


def test_slices_without_a_place_are_refused(importing: Importing, tmp_path: Path, dicom: DicomWriter) -> None:
    for index in range(3):
        dicom(tmp_path / "source" / f"{index}.dcm", plain(index), InstanceNumber=index)
    with pytest.raises(InputError, match="order of its series is unknown"):
        importing("dicom", tmp_path / "source")
    for index in range(3):
        dicom(tmp_path / "source" / f"{index}.dcm", plain(index), SliceLocation=-index)
    timeline, _ = importing("dicom", tmp_path / "source", Options(keep_ids=True))
    assert_array_equal(timeline.read_images("one_ct")[0][2][:, 0, 0], [2, 1, 0])


def test_single_frame_files_of_one_place_are_a_loop(importing: Importing, tmp_path: Path, dicom: DicomWriter) -> None:
    moments = [80.0, 0.0, 40.0, 120.0]
    for index, moment in enumerate(moments):
        for height in (0, 8):
            dicom(
                tmp_path / "source" / f"{index}_{height}.dcm",
                plain(int(moment) + height),
                Modality="MR",
                ImagePositionPatient=[0, 0, -height],
                ImageOrientationPatient=AXIAL,
                TriggerTime=moment + 10,
            )
    timeline, _ = importing("dicom", tmp_path / "source")
    (sequence,) = named_rows(timeline.table("sequences"))
    assert (sequence.time_unit, sequence.spatial_dims) == ("millisecond", 3)
    assert list(timeline.table("timepoints")["time"]) == [0, 40, 80, 120]
    volumes = [pixels[:, 0, 0].tolist() for _, _, pixels in timeline.read_images(sequence.sequence_id)]
    assert volumes == [[8, 0], [48, 40], [88, 80], [128, 120]]


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ([{"TriggerTime": 0, "EchoTime": 10}, {"TriggerTime": 5, "EchoTime": 20}], "another EchoTime"),
        ([{}, {}], "nothing in the headers orders them in time"),
        ([{"TriggerTime": 5}, {"TriggerTime": 5}], "nothing in the headers orders them in time"),
    ],
)
def test_repeated_slices_that_are_no_course_of_time(
    planning: Planning, tmp_path: Path, dicom: DicomWriter, elements: list[dict[str, float]], reason: str
) -> None:
    for index, more in enumerate(elements):
        for height in (0, 8):
            dicom(
                tmp_path / "source" / f"{index}_{height}.dcm",
                plain(index),
                ImagePositionPatient=[0, 0, height],
                ImageOrientationPatient=AXIAL,
                **more,
            )
    plan = planning("dicom", tmp_path / "source")
    assert plan.sequences == []
    assert len(plan.skipped) == 4
    assert all(reason in entry.reason for entry in plan.skipped)


@pytest.mark.parametrize(
    ("elements", "unit", "times", "source"),
    [
        ({"FrameTime": 40}, "millisecond", [0, 40, 80, 120], "FrameTime"),
        ({"FrameTimeVector": [0, 30, 50, 20]}, "millisecond", [0, 30, 80, 100], "FrameTimeVector"),
        ({"FrameTimeVector": [7, 30, 50, 20]}, "millisecond", [0, 30, 80, 100], "FrameTimeVector"),
        ({"FrameTimeVector": [30, 50, 20]}, "millisecond", [0, 30, 80, 100], "FrameTimeVector"),
        ({"FrameTime": 10, "FrameTimeVector": [0, 30, 50, 20]}, "millisecond", [0, 30, 80, 100], "FrameTimeVector"),
        (
            {"FrameTime": 10, "FrameTimeVector": [0, 30, 50, 20], "FrameIncrementPointer": 0x00181063},
            "millisecond",
            [0, 10, 20, 30],
            "FrameTime",
        ),
        ({"FrameTimeVector": [0, 30, 0, 20], "CineRate": 50}, "millisecond", [0, 20, 40, 60], "CineRate"),
        ({"FrameTime": 0, "CineRate": 50}, "millisecond", [0, 20, 40, 60], "CineRate"),
        ({"RecommendedDisplayFrameRate": 10}, "millisecond", [0, 100, 200, 300], "RecommendedDisplayFrameRate"),
        ({}, "frame", [0, 1, 2, 3], "none"),
    ],
)
def test_times_of_a_loop(
    planning: Planning,
    tmp_path: Path,
    dicom: DicomWriter,
    elements: dict[str, Any],
    unit: str,
    times: list[float],
    source: str,
) -> None:
    pixels = np.stack([plain(value) for value in (4, 3, 2, 1)])
    path = dicom(tmp_path / "cine.dcm", pixels, Modality="US", **elements)
    plan = planning("dicom", path)
    [sequence] = plan.sequences
    assert sequence.time_unit == unit
    assert_allclose(sequence.times, times)
    assert sequence.timing == source
    assert [picture.frame for picture in sequence.pictures] == [0, 1, 2, 3]
    notes = {"none": ["their time_unit is frame"], "RecommendedDisplayFrameRate": ["the rate at which to show them"]}
    assert len(plan.notes) == len(notes.get(source, []))
    for note, expected in zip(plan.notes, notes.get(source, []), strict=True):
        assert expected in note


def test_the_user_may_say_how_long_a_frame_lasts(planning: Planning, tmp_path: Path, dicom: DicomWriter) -> None:
    path = dicom(tmp_path / "cine.dcm", np.zeros((3, 4, 4), np.uint8), FrameTime=40)
    [sequence] = planning("dicom", path, Options(frame_seconds=0.5)).sequences
    assert sequence.times == [0, 500, 1000]


def axial_frames(
    dicom: DicomWriter, path: Path, item: Item, values: tuple[int, ...], groups: list[pydicom.Dataset]
) -> Path:
    """A file with one plain axial frame per value, each with its functional groups."""
    return dicom(
        path,
        np.stack([plain(value) for value in values]),
        PerFrameFunctionalGroupsSequence=groups,
        SharedFunctionalGroupsSequence=[item(PlaneOrientationSequence=[item(ImageOrientationPatient=AXIAL)])],
    )


def test_frames_with_their_own_times_are_put_in_order(
    importing: Importing, tmp_path: Path, dicom: DicomWriter, item: Item
) -> None:
    groups = [
        item(
            FrameContentSequence=[item(FrameAcquisitionDateTime=f"20200101120000.{tenth}00000")],
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 5])],
        )
        for tenth in (4, 0, 2)
    ]
    path = axial_frames(dicom, tmp_path / "cine.dcm", item, (4, 0, 2), groups)
    timeline, _ = importing("dicom", path)
    assert_allclose(timeline.table("timepoints")["time"], [0, 200, 400])
    (sequence,) = named_rows(timeline.table("sequences"))
    images = timeline.read_images(sequence.sequence_id)
    assert [int(pixels[0, 0]) for _, _, pixels in images] == [0, 2, 4]


def test_frames_that_are_neither_loop_nor_volume(tmp_path: Path, dicom: DicomWriter, item: Item) -> None:
    def kind(**elements: Any) -> str:
        path = dicom(tmp_path / "a.dcm", np.zeros((4, 2, 2), np.uint8), **elements)
        return frames_of(pydicom.dcmread(path)).kind

    shared = [item(PlaneOrientationSequence=[item(ImageOrientationPatient=AXIAL)])]
    twice = [item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, z])]) for z in (0, 0, 1, 1)]
    assert kind(PerFrameFunctionalGroupsSequence=twice, SharedFunctionalGroupsSequence=shared) == "unknown"
    assert kind(FrameIncrementPointer=[0x00540010, 0x00540020]) == "unknown"
    assert kind(FrameIncrementPointer=0x00182005) == "volume"
    assert kind(VolumetricProperties="VOLUME") == "volume"
    assert kind(VolumetricProperties="VOLUME", FrameTime=3) == "cine"


def test_a_volume_in_one_file(importing: Importing, tmp_path: Path, dicom: DicomWriter, item: Item) -> None:
    groups = [item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, z])]) for z in (4, 0, 2)]
    path = axial_frames(dicom, tmp_path / "volume.dcm", item, (4, 0, 2), groups)
    timeline, outcome = importing("dicom", path)
    (sequence,) = named_rows(timeline.table("sequences"))
    assert (sequence.spatial_dims, sequence.time_unit) == (3, "day")
    assert_array_equal(timeline.read_images(sequence.sequence_id)[0][2][:, 0, 0], [0, 2, 4])
    assert outcome.findings == []


def test_clock_offset_places_loops_on_the_patients_clock(
    planning: Planning, tmp_path: Path, dicom: DicomWriter
) -> None:
    for index, day in enumerate(["20200101", "20200111"]):
        dicom(
            tmp_path / "source" / f"{index}.dcm",
            np.zeros((2, 4, 4), np.uint8),
            StudyDate=day,
            StudyInstanceUID=f"1.{index}",
            FrameTime=40,
        )
    plan = planning("dicom", tmp_path / "source")
    assert [sequence.clock_offset for sequence in plan.sequences] == [0, 10 * 86_400_000]
