"""Rows of the tables that say what is known of a patient with visits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from temmed.timelines.synthetic.courses import Course
from temmed.timelines.synthetic.modality import Rows
from temmed.timelines.synthetic.reports import write_reports


def patient_id(index: int) -> str:
    """The pseudonymous id of a synthetic patient."""
    return f"p{index:05d}"


def sequence_id(index: int) -> str:
    """The id of the one sequence of a synthetic patient."""
    return f"s{index:05d}"


def finding_id(index: int, number: int) -> str:
    """The id of a patient's finding."""
    return f"{sequence_id(index)}-f{number}"


def describe_visits(course: Course, errors: NDArray[np.float64], seed: int, rows: Rows) -> None:
    """Add the treatment, findings, measurements, events, reports and statements of a patient.

    Args:
        course: the patient.
        errors: least standard error of ln(size), ``(findings, T)``; NaN where it is not known.
        seed: of the whole set.
        rows: by table; added to.
    """
    if course.treatment is not None:
        patient = patient_id(course.index)
        rows["treatments"].append({"patient_id": patient, "name": "therapy", "start": course.treatment})
    finding_rows(course, errors, rows)
    report_rows(course.index, course.times, write_reports(course, seed), rows)


def report_rows(index: int, times: NDArray[np.float64], written: tuple[list[dict], list[dict]], rows: Rows) -> None:
    """Add reports and statements, given with their ``position`` and the number of the finding."""
    sequence, patient = sequence_id(index), patient_id(index)
    reports, statements = written
    for report in reports:
        position = report["position"]
        own = {"report_id": f"{sequence}-r{position}", "sequence_id": sequence, "patient_id": patient}
        rows["reports"].append({**own, **report, "time": times[position], "kind": "report"})
    written_at = {report["position"] for report in reports}
    for statement in statements:
        cited = statement["consistent"] and statement["position"] in written_at
        told: dict[str, str | None] = {
            "statement_id": f"st{len(rows['statements']):07d}",
            "sequence_id": sequence,
            "finding_id": finding_id(index, statement.pop("finding")),
            "report_id": f"{sequence}-r{statement['position']}" if cited else None,
        }
        rows["statements"].append({**told, **statement})


def measured(identity: str, position: int, quantity: str, value: float, unit: str) -> dict[str, str | int | float]:
    """A row of ``measurements``."""
    value = float(np.round(value, 5))
    return {"finding_id": identity, "position": position, "quantity": quantity, "value": value, "unit": unit}


def finding_rows(course: Course, errors: NDArray[np.float64], rows: Rows) -> None:
    """Add the findings, measurements and events of a patient; arguments as of `describe_visits`."""
    sequence = sequence_id(course.index)
    imaged = np.flatnonzero(course.imaged)
    for number, finding in enumerate(course.findings):
        identity = finding_id(course.index, number)
        rows["findings"].append(
            {"finding_id": identity, "sequence_id": sequence, "label": finding.label, "location": finding.location}
        )
        seen = imaged[finding.diameters[imaged] > 0]
        for position in seen.tolist():
            size, error = finding.diameters[position], errors[number, position]
            rows["measurements"].append(measured(identity, position, finding.quantity, size, course.unit))
            if np.isfinite(error):
                rows["measurements"].append(measured(identity, position, "log_diameter_sd", error, "1"))
        event: dict[str, str | float] = {
            "event_id": f"{identity}-e",
            "sequence_id": sequence,
            "finding_id": identity,
            "label": finding.phrase,
        }
        if len(seen):
            before = imaged[imaged < seen[0]]
            after = imaged[imaged > seen[-1]]
            event |= {
                "onset_lower": float(course.times[before[-1]]) if len(before) else -np.inf,
                "onset_upper": float(course.times[seen[0]]),
                "offset_lower": float(course.times[seen[-1]]),
                "offset_upper": float(course.times[after[0]]) if len(after) else np.inf,
            }
        rows["events"].append(event)
    for number, (label, location) in enumerate(course.absent):
        rows["events"].append(
            {"event_id": f"{sequence}-a{number}", "sequence_id": sequence, "label": f"{label} in the {location}"}
        )
