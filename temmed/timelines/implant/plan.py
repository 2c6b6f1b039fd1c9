"""Which findings a sequence gets: where they lie, how they look, how they change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from temmed.timelines.implant.blend import Finding, Room, grain, room
from temmed.timelines.implant.places import Grounds, Place, location_names, survey
from temmed.timelines.implant.scene import PROJECTIONS, Scene, Task, UnusableError
from temmed.timelines.synthetic.courses import Course, draw_diameters, patient_rng
from temmed.timelines.synthetic.courses import Finding as Truth
from temmed.timelines.synthetic.lesions import Look
from temmed.timelines.synthetic.plan import Kind, Plan

#: modality -> words for a finding brighter and darker than its surroundings; a projection only shows what absorbs.
_WORDS = {
    "ct": ("hyperdense lesion", "hypodense lesion"),
    "mr": ("hyperintense lesion", "hypointense lesion"),
    "mri": ("hyperintense lesion", "hypointense lesion"),
    "us": ("hyperechoic lesion", "hypoechoic lesion"),
    "ultrasound": ("hyperechoic lesion", "hypoechoic lesion"),
}
_OTHER, _PROJECTION = ("bright lesion", "dark lesion"), ("nodular opacity",)
#: Smallest diameter in pixels, and as a share of the side of the tissue; usual and greatest largest one as a share.
_PIXELS, _SMALL, _LARGE, _LARGEST = 6.0, 0.03, 0.14, 0.35
#: Least ratio of largest to smallest diameter, and the one wanted.
_RATIO, _WANTED = 1.7, 2.5
#: Findings by default, as a half-open range.
_COUNT = (2, 5)
#: Sizes that are tried, as shares of the largest, and places for each.
_SHRINK, _TRIES = (1.0, 0.75, 0.55), 6
#: Frames of a loop in which it is looked whether a finding can be seen.
_LOOKS = 4
#: Widest margin, as a share of the smallest diameter: a finding that is all margin has no size.
_MARGIN = 0.2
#: Frames of a loop over which a size grows, shrinks or rests are this many at least; knots of its course at the most.
_FRAMES_PER_KNOT, _KNOTS = 4, 9


@dataclass(frozen=True)
class Drawn:
    """What a sequence gets.

    Attributes:
        course: the truth, without pixels.
        findings: as they are drawn, in the order of the course's.
        offsets: by position, how far the anatomy is from where the first image has it, along the axes of the array.
        calibrated: whether values are Hounsfield units.
    """

    course: Course
    findings: list[Finding]
    offsets: dict[int, NDArray[np.float64]]
    calibrated: bool


def _no_anatomy(rng: np.random.Generator, age: float) -> Any:
    """The anatomy is real."""
    return None


def labels_of(modality: str) -> tuple[str, ...]:
    """Words for bright findings and, where they can be seen, dark ones."""
    name = modality.lower()
    return _PROJECTION if name in PROJECTIONS else _WORDS.get(name, _OTHER)


def draw(scene: Scene, task: Task, seed: int, wanted: int | None) -> Drawn:
    """Draw the findings of a sequence.

    Args:
        scene: its images.
        task: the sequence.
        seed: of the whole set.
        wanted: how many findings; 2 to 4 by default. There are fewer where places are.

    Raises:
        UnusableError: there is no place for any.
    """
    rng = patient_rng(seed, task.index, 0)
    grounds = survey(scene, task.modality)
    sizes = _sizes(scene, grounds)
    labels, places = labels_of(task.modality), location_names()
    plan = Plan(
        examination=f"{task.modality} examination",
        places=dict.fromkeys(places, (0.0, 0.0, 0.0)),
        kinds={label: Kind((), sizes) for label in labels},
        scanners=(),
        visits=(),
        draw_anatomy=_no_anatomy,
    )
    imaged = np.isin(np.arange(len(scene.times)), scene.positions)
    course = Course(
        index=task.index, sex="", age=0.0, site="", anatomy=None, times=scene.times, imaged=imaged, scanners=[],
        treatment=None, responder=False, plan=plan, time_unit=scene.time_unit, unit="mm" if scene.known else "pixel",
    )  # fmt: skip
    count = int(rng.integers(*_COUNT)) if wanted is None else wanted
    findings: list[Finding] = []
    cells = rng.permutation(len(places)).tolist()
    for number, cell in enumerate(cells):
        if len(findings) == count:
            course.absent = [(str(rng.choice(labels)), places[other]) for other in cells[number : number + 2]]
            break
        placed = _place(scene, grounds, cell, sizes, len(labels), rng)
        if placed is not None:
            finding, diameters, sign = placed
            findings.append(finding)
            label = labels[0 if sign > 0 else 1]
            course.findings.append(Truth(label, places[cell], finding.look, diameters))
    if not findings:
        raise UnusableError("no place for a finding: no calm tissue that is wide enough at every position")
    return Drawn(course, findings, grounds.offsets, grounds.calibrated)


def _sizes(scene: Scene, grounds: Grounds) -> tuple[float, float]:
    """Bounds of the diameters."""
    extent = grounds.extent
    low = max(_PIXELS * max(scene.spacing(scene.positions[0])[-2:]), _SMALL * extent)
    high = min(max(_LARGE * extent, _WANTED * low), _LARGEST * extent, 1.8 * grounds.widest)
    if high < _RATIO * low:
        raise UnusableError("no place for a finding: the tissue is too narrow for one that can be seen to grow")
    return float(low), float(high)


def _place(
    scene: Scene, grounds: Grounds, cell: int, sizes: tuple[float, float], signs: int, rng: np.random.Generator
) -> tuple[Finding, NDArray[np.float64], int] | None:
    """A finding in a part of the image with its diameters and its sign, ``None`` where there is no place."""
    for share in _SHRINK:
        bounds = (sizes[0], share * sizes[1])
        if bounds[1] < _RATIO * bounds[0]:
            return None
        diameters = _course(scene, bounds, rng)
        pixel = max(scene.spacing(scene.positions[0])[-2:])
        radius = float(diameters.max()) / 2
        for _ in range(_TRIES):
            centre = grounds.choose(cell, radius + pixel, rng)
            if centre is None:
                break
            sign = int(rng.choice([1, -1][:signs]))
            for one in (sign, -sign)[:signs]:
                amplitudes = _amplitudes(scene, grounds.calibrated, centre, radius, one, rng)
                if amplitudes is not None:
                    grounds.taken.append((centre, radius))
                    first = scene.positions[0]
                    fine = grain(scene.grey(first), centre, radius, scene.spacing(first))
                    look = _look(centre, float(diameters[diameters > 0].min()), pixel, fine, rng)
                    return Finding(look, amplitudes, int(rng.integers(2**31))), diameters, one
    return None


def _course(scene: Scene, sizes: tuple[float, float], rng: np.random.Generator) -> NDArray[np.float64]:
    """Diameters at all positions; those of a loop change smoothly."""
    count = len(scene.times)
    if not scene.is_loop or count <= _KNOTS:
        return draw_diameters(rng, count, count, sizes)
    knots = int(np.clip(count // _FRAMES_PER_KNOT, 4, _KNOTS))
    drawn = draw_diameters(rng, knots, knots, sizes)
    at = np.linspace(0, knots - 1, count)
    there = np.flatnonzero(drawn > 0)
    diameters = np.exp(np.interp(at, there, np.log(drawn[there])))
    return np.where(drawn[np.rint(at).astype(int)] > 0, diameters, 0.0)


def _amplitudes(
    scene: Scene, ct: bool, centre: Place, radius: float, sign: int, rng: np.random.Generator
) -> dict[str, float] | None:
    """What the finding adds in each channel, ``None`` where the main one does not allow it."""
    found = {}
    strength = float(rng.uniform(1.0, 1.5))
    for channel in sorted({name for image in scene.images.values() for name in image}):
        having = [position for position in scene.positions if channel in scene.images[position]]
        # Tissue gets brighter and darker within a loop: a finding is to be seen in all of it.
        looked = having[:: max(1, len(having) // _LOOKS)] if scene.is_loop else having[:1]
        rooms = [
            room(scene.grey(position, channel), centre, radius, scene.spacing(position), strength, ct)
            for position in looked
        ]
        allowed = Room(max(one.wanted for one in rooms), *np.min([one[1:] for one in rooms], axis=0).tolist())
        if channel == scene.main and not allowed.allows(sign):
            return None
        found[channel] = allowed.amplitude(sign) if allowed.allows(sign) else 0.0
    return found


def _look(centre: Place, smallest: float, pixel: float, fine: float, rng: np.random.Generator) -> Look:
    x, y, z = [*centre[::-1].tolist(), 0.0][:3]
    return Look(
        centre=(x, y, z),
        aspect=float(rng.uniform(0.65, 0.95)),
        angle=float(rng.uniform(0, np.pi)),
        lobes=float(rng.uniform(0.02, 0.1)),
        phase=float(rng.uniform(0, 2 * np.pi)),
        contrast=(),
        harmonics=tuple([(float(rng.uniform(0, 0.2 / k)), float(rng.uniform(0, 2 * np.pi))) for k in (4, 5, 6, 7)]),
        margin=float(np.clip(rng.uniform(0.8, 1.4) * fine, pixel, max(pixel, _MARGIN * smallest))),
    )
