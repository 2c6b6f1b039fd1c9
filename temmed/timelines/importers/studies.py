"""Sequences from sources that list their visits in tables: who, when, which images, which report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from temmed.timelines.importers.plan import LENGTHS, Options, Plan, PlannedSequence, Visit, pictures_of, slug


@dataclass(frozen=True)
class Study:
    """One visit, as a source tells of it.

    Attributes:
        patient: the source's id of the patient.
        key: the source's id of the visit, unique within the patient.
        when: the time on any clock of the patient's, in the unit of the sequences to make, or the date and time
            themselves; for ``ordinal`` any number that grows with the order.
        images: (channel, files) of each image; views of one visit are channels of one time point.
        report: the text written about it.
    """

    patient: str
    key: str
    when: float | datetime
    images: tuple[tuple[str, tuple[Path, ...]], ...] = ()
    report: str | None = None


class Place(NamedTuple):
    """Which time point a visit became."""

    sequence: PlannedSequence
    position: int

    @property
    def report_id(self) -> str:
        """The id of the first report written about it."""
        return f"{self.sequence.sequence_id}_r{self.position}"


def add_report(result: Plan, place: Place, text: str, number: int = 1) -> None:
    """Add a report written about a visit.

    Args:
        result: the plan to add it to.
        place: the visit.
        text: the report.
        number: which of the visit's reports it is, from 1.
    """
    sequence, position = place
    result.add(
        "reports",
        report_id=place.report_id + (f"_{number}" if number > 1 else ""),
        patient_id=sequence.patient_id,
        sequence_id=sequence.sequence_id,
        position=position,
        time=sequence.times[position],
        kind="report",
        text=text,
    )


def plan_studies(
    studies: Iterable[Study],
    result: Plan,
    options: Options,
    *,
    modality: str,
    timing: str,
    time_unit: str = "day",
    spatial_dims: int = 2,
    attributes: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[tuple[str, str], Place]:
    """Make one sequence of each patient's visits, in the order of time.

    Files that are not there are skipped: their visit stays, as one without that image. Patients beyond
    ``options.limit`` are left out, too.

    Args:
        studies: the visits, in any order.
        result: the plan to add patients, sequences, reports and notes to.
        options: what the user asked for.
        modality: the modality, unless the user named one.
        timing: what the times were taken from.
        time_unit: of the sequences.
        spatial_dims: of the images.
        attributes: further columns of the patients table (sex, age, site, …) by the source's patient id.

    Returns:
        The place of each visit by (patient, key), both as the source calls them.
    """
    by_patient: dict[str, list[Study]] = defaultdict(list)
    for study in studies:
        by_patient[study.patient].append(study)
    written = result.choose(by_patient, options)
    places: dict[tuple[str, str], Place] = {}
    absent: list[Path] = []
    for patient, patient_id in written.items():
        visits = sorted(by_patient[patient], key=lambda study: study.when)
        shown = [Visit(0.0, _there(study, absent)) for study in visits]
        first = visits[0].when
        start = first if isinstance(first, datetime) else None
        sequence = PlannedSequence(
            sequence_id=f"{patient_id}_{slug(options.modality or modality)}",
            patient_id=patient_id,
            modality=options.modality or modality,
            time_unit=time_unit,
            spatial_dims=spatial_dims,
            times=[
                float(rank) if time_unit == "ordinal" else _since(first, study.when, time_unit)
                for rank, study in enumerate(visits)
            ],
            pictures=pictures_of(shown),
            timing=timing,
            start=start,
        )
        result.patients.append({"patient_id": patient_id, **(attributes or {}).get(patient, {})})
        result.sequences.append(sequence)
        for position, study in enumerate(visits):
            place = places[patient, study.key] = Place(sequence, position)
            if study.report:
                add_report(result, place, study.report)
    result.skip_absent(absent)
    return places


def _there(study: Study, absent: list[Path]) -> list[tuple[str, tuple[Path, ...]]]:
    """The images whose files exist; the others' first missing file is added to ``absent``."""
    found = []
    for channel, files in study.images:
        missing = next((file for file in files if not file.exists()), None)
        if missing is None:
            found.append((channel, files))
        else:
            absent.append(missing)
    return found


def _since(first: float | datetime, when: float | datetime, unit: str) -> float:
    if isinstance(first, datetime) and isinstance(when, datetime):
        return (when - first) / LENGTHS[unit]
    if isinstance(first, datetime) or isinstance(when, datetime):
        raise TypeError("the visits of a patient need times of one kind")
    return when - first
