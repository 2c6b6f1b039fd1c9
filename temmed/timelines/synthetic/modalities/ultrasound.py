"""Echocardiography: cine loops of a beating heart, with contrast that arrives in the left ventricle and washes out.

A loop is one multi-frame DICOM file, or one AVI; positions are its frames, and times are in milliseconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from temmed.errors import InputError
from temmed.timelines.synthetic.courses import patient_rng
from temmed.timelines.synthetic.dicom import ULTRASOUND_MULTIFRAME, Study, write_dicom
from temmed.timelines.synthetic.heart import FIELD_OF_VIEW, Speckle, echoes, scan_convert
from temmed.timelines.synthetic.loop_questions import describe_loop, draw_loop_questions
from temmed.timelines.synthetic.loops import Loop, draw_loop
from temmed.timelines.synthetic.modality import Modality, Picture, Target
from temmed.timelines.synthetic.rows import patient_id

CHANNEL = "cine"
#: scanner -> gain in dB.
GAIN = {"US-A": 0.0, "US-B": 3.0, "US-C": -3.0}
#: So many frames before the left heart the right one has contrast, and is free of it again.
LEAD = 6


def render_loop(seed: int, loop: Loop, size: int) -> NDArray[np.uint8]:
    """All frames of a loop, ``(T, size, size)``."""
    rng = patient_rng(seed, loop.index, 1)
    speckle = Speckle(rng)
    gain = GAIN[loop.scanners[0]] + rng.normal(0, 1.5)
    # Contrast comes by way of the right heart.
    ahead = np.concatenate([loop.contrast[LEAD:], np.repeat(loop.contrast[-1], LEAD)])
    frames = []
    for diameter, level, venous in zip(loop.diameters, loop.contrast, ahead, strict=True):
        echo = echoes(loop.heart, float(diameter), loop.relaxed, float(level), float(venous))
        frames.append(scan_convert(speckle.image(echo, float(diameter) / loop.relaxed, gain), size))
    return np.stack(frames)


def _render(seed: int, loop: Loop, shape: tuple[int, ...], target: Target) -> tuple[list[Picture], NDArray[np.float64]]:
    frames = render_loop(seed, loop, shape[-1])
    path = f"images/{target.sequence}.{'avi' if target.files == 'avi' else 'dcm'}"
    if target.files == "avi":
        _write_avi(target.root / path, frames, float(loop.times[1]))
    else:
        _write_dicom(target.root / path, frames, seed, loop)
    nothing = np.full((1, len(loop.times)), np.nan)
    return [Picture(position, CHANNEL, path, position) for position in range(len(frames))], nothing


def _write_dicom(path: Path, frames: NDArray[np.uint8], seed: int, loop: Loop) -> None:
    from pydicom.dataset import Dataset
    from pydicom.tag import Tag

    interval = float(loop.times[1])
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 2
    region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
    region.RegionLocationMaxX1 = region.RegionLocationMaxY1 = frames.shape[-1] - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3  # cm
    region.PhysicalDeltaX = region.PhysicalDeltaY = FIELD_OF_VIEW / frames.shape[-1] / 10
    elements: dict[str, Any] = {
        "Modality": "US",
        "BodyPartExamined": "HEART",
        "FrameTime": f"{interval:g}",
        "FrameIncrementPointer": Tag("FrameTime"),
        "CineRate": str(round(1000 / interval)),
        "NumberOfFrames": str(len(frames)),
        "SequenceOfUltrasoundRegions": [region],
        "LossyImageCompression": "00",
        "PatientOrientation": "",
        "BurnedInAnnotation": "NO",
    }
    study = Study(seed, patient_id(loop.index), loop.sex, loop.age, 0.0, 0, loop.scanners[0], "Apical four-chamber")
    write_dicom(path, frames, ULTRASOUND_MULTIFRAME, study, elements)


def _write_avi(path: Path, frames: NDArray[np.uint8], interval: float) -> None:
    """Uncompressed grey video; no metadata, so that equal frames give equal files."""
    try:
        import av
    except ModuleNotFoundError as error:
        raise InputError(
            "PyAV, which writes videos",
            "it is not installed",
            "files=avi",
            "Install it: `pip install 'temmed[video]'`.",
        ) from error
    from fractions import Fraction

    with av.open(str(path), "w", format="avi", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("rawvideo", rate=Fraction(1000, round(interval)))
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.pix_fmt = "gray"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="gray")))
        container.mux(stream.encode())


MODALITY = Modality(
    name="ultrasound",
    about="echocardiography loops: a beating chamber, contrast wash-in and wash-out",
    time_unit="millisecond",
    draw=draw_loop,
    render=_render,
    describe=describe_loop,
    ask=draw_loop_questions,
    sizes={2: 96},
    files=("dicom", "avi"),
)
