"""How patients and findings change over time: visits, growth, response to therapy, appearance and disappearance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from temmed.timelines.synthetic.anatomy import REGIONS, draw_head
from temmed.timelines.synthetic.lesions import Look
from temmed.timelines.synthetic.plan import Kind, Plan

#: Bounds of the longest diameter in mm: below the first, findings are not drawn.
SMALLEST, LARGEST = 7.0, 30.0
MIN_VISITS, MAX_VISITS = 4, 9
#: label -> range of the contrast added in (T1, FLAIR).
LABELS: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "white matter lesion": ((-0.34, -0.18), (0.28, 0.48)),
    "enhancing nodule": ((0.24, 0.42), (0.14, 0.26)),
    "cyst": ((-0.55, -0.42), (-0.36, -0.28)),
}
SITES = ("north", "south", "west")
SCANNERS = ("1.5T-A", "3T-B", "3T-C")

BRAIN = Plan(
    examination="MRI of the brain",
    places=REGIONS,
    kinds={label: Kind(contrast, (SMALLEST, LARGEST)) for label, contrast in LABELS.items()},
    scanners=SCANNERS,
    visits=tuple(range(MIN_VISITS, MAX_VISITS + 1)),
    draw_anatomy=draw_head,
)


@dataclass
class Finding:
    """One finding of a patient.

    Attributes:
        label: what it is.
        location: the region it lies in.
        look: its fixed looks.
        diameters: true longest diameter (or other ``quantity``) at each position in mm, 0 where it is absent; shape
            ``(T,)``.
        quantity: what is measured of it, in mm.
    """

    label: str
    location: str
    look: Look
    diameters: NDArray[np.float64]
    quantity: str = "longest_diameter"

    @property
    def phrase(self) -> str:
        """Label and place in words."""
        return f"{self.label} in the {self.location}"


@dataclass
class Course:
    """One synthetic patient.

    Attributes:
        index: number of the patient, from 0.
        sex: ``F`` or ``M``.
        age: in years at the first visit.
        site: the hospital.
        anatomy: the shape of the body part, as the modality draws it.
        times: since the first visit in ``time_unit``, strictly increasing; shape ``(T,)``.
        imaged: whether the visit has images; shape ``(T,)``; the first visit always has.
        scanners: name of the scanner at each visit.
        treatment: day on which therapy started, or ``None``.
        responder: whether the findings may shrink under therapy.
        findings: the findings.
        absent: (label, location) pairs that never occur and may be asked about.
        plan: what the patient was drawn from.
        time_unit: of the times, as in the sequences table.
        unit: of the diameters: ``mm``, or ``pixel`` where the size of a pixel is not known.
    """

    index: int
    sex: str
    age: float
    site: str
    anatomy: Any
    times: NDArray[np.float64]
    imaged: NDArray[np.bool_]
    scanners: list[str]
    treatment: float | None
    responder: bool
    findings: list[Finding] = field(default_factory=list)
    absent: list[tuple[str, str]] = field(default_factory=list)
    plan: Plan = BRAIN
    time_unit: str = "day"
    unit: str = "mm"


def patient_rng(seed: int, index: int, stream: int) -> np.random.Generator:
    """The generator for one patient and purpose: independent of every other patient and of the worker."""
    return np.random.default_rng([seed, index, stream])


def draw_diameters(
    rng: np.random.Generator, visits: int, shrink_from: int, sizes: tuple[float, float]
) -> NDArray[np.float64]:
    """Longest diameter per visit within the bounds ``sizes``, 0 where absent.

    The finding grows, shrinks or rests for a few visits at a time; from ``shrink_from`` on it rather shrinks.
    """
    low, high = np.log(sizes)
    level = rng.uniform(low, high)
    regime = int(rng.integers(-1, 2))
    rate = rng.uniform(0.12, 0.45)
    path = np.empty(visits)
    for position in range(visits):
        if position:
            if rng.random() < 0.35:
                regime = int(rng.integers(-1, 2))
                rate = rng.uniform(0.12, 0.45)
            if position == shrink_from:
                regime, rate = -1, rng.uniform(0.15, 0.45)
            level += regime * rate * rng.uniform(0.6, 1.4) + rng.normal(0, 0.03)
        if not low <= level <= high:
            level = float(np.clip(level, low, high))
            regime = 0 if rng.random() < 0.5 else -regime
        path[position] = level
    diameters = np.exp(path)
    onset = int(rng.integers(1, visits)) if rng.random() < 0.35 else 0
    diameters[:onset] = 0
    if rng.random() < 0.3 and onset + 1 < visits:
        diameters[int(rng.integers(onset + 1, visits)) :] = 0
    return diameters


def draw_times(rng: np.random.Generator, visits: int, plan: Plan) -> NDArray[np.float64]:
    """Days of the visits since the first, strictly increasing; shape ``(visits,)``."""
    gaps = np.round(np.exp(rng.normal(np.log(plan.gap), 0.5, visits - 1))).clip(*plan.gap_bounds)
    return np.concatenate([[0.0], np.cumsum(gaps)])


def _look(rng: np.random.Generator, plan: Plan, label: str, location: str, volume: bool) -> Look:
    centre = np.array(plan.places[location]) + np.append(rng.uniform(-3, 3, 2), rng.uniform(-20, 20) if volume else 0.0)
    kind = plan.kinds[label]
    contrast = tuple([float(rng.uniform(*bounds)) for bounds in kind.contrast])
    return Look(
        centre=(float(centre[0]), float(centre[1]), float(centre[2])),
        aspect=float(rng.uniform(0.7, 1.0)),
        angle=float(rng.uniform(0, np.pi)),
        lobes=float(rng.uniform(0.0, 0.08)),
        phase=float(rng.uniform(0, 2 * np.pi)),
        contrast=contrast,
    )


def draw_course(seed: int, index: int, spatial_dims: int = 2, plan: Plan = BRAIN) -> Course:
    """Draw one patient.

    Args:
        seed: of the whole set.
        index: number of the patient; other patients have no influence.
        spatial_dims: 2 or 3; in volumes the findings spread along z.
        plan: what may be drawn.

    Returns:
        The patient, all truth included, without pixels.
    """
    rng = patient_rng(seed, index, 0)
    visits = plan.visits[int(rng.integers(len(plan.visits)))]
    times = draw_times(rng, visits, plan)
    imaged = rng.random(visits) >= 0.08
    imaged[0] = imaged[-1] = True
    age = float(np.round(rng.uniform(25, 80)))
    site = str(rng.choice(SITES))
    first, second = rng.choice(plan.scanners, 2, replace=False)
    change = int(rng.integers(1, visits)) if rng.random() < 0.3 else visits
    treated = rng.random() < plan.treated
    start = int(rng.integers(1, visits)) if treated else visits
    responder = bool(rng.random() < 0.6)
    course = Course(
        index=index,
        sex=str(rng.choice(["F", "M"])),
        age=age,
        site=site,
        anatomy=plan.draw_anatomy(rng, age),
        times=times,
        imaged=imaged,
        scanners=[str(first if p < change else second) for p in range(visits)],
        treatment=float(times[start - 1] + 1) if treated else None,
        responder=responder,
        plan=plan,
    )
    locations = list(plan.places)
    rng.shuffle(locations)
    count = int(rng.integers(*plan.findings))
    for location in locations[:count]:
        responds = treated and responder and rng.random() < 0.6
        label = str(rng.choice(plan.labels_at(location)))
        kind = plan.kinds[label]
        course.findings.append(
            Finding(
                label,
                location,
                _look(rng, plan, label, location, spatial_dims == 3),
                draw_diameters(rng, visits, start if responds else visits, kind.sizes),
                kind.quantity,
            )
        )
    for location in locations[count : count + 2]:
        course.absent.append((str(rng.choice(plan.labels_at(location))), location))
    return course
