"""Brain MRI over visits: T1 and FLAIR slices or volumes, one NumPy file for a sequence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from temmed.timelines.synthetic.anatomy import CHANNELS
from temmed.timelines.synthetic.courses import Course, draw_course
from temmed.timelines.synthetic.modality import Modality, Picture, Target
from temmed.timelines.synthetic.mri import render_sequence
from temmed.timelines.synthetic.questions import draw_questions
from temmed.timelines.synthetic.rows import describe_visits


def _render(
    seed: int, course: Course, shape: tuple[int, ...], target: Target
) -> tuple[list[Picture], NDArray[np.float64]]:
    pixels, errors = render_sequence(seed, course, shape)
    path = f"images/{target.sequence}.npy"
    np.save(target.root / path, pixels.reshape(-1, *shape))
    wanted = [(int(position), channel) for position in np.flatnonzero(course.imaged) for channel in CHANNELS]
    return [Picture(*one, path, frame) for frame, one in enumerate(wanted)], errors


MODALITY = Modality(
    name="mri",
    about="T1 and FLAIR visits of brain findings",
    time_unit="day",
    draw=draw_course,
    render=_render,
    describe=describe_visits,
    ask=draw_questions,
    sizes={2: 64, 3: 32},
    files=("npy",),
)
