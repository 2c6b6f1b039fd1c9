from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from temmed.timelines.audit import EXAMPLES, Finding, audit, has_errors, to_json
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import make_split, save_split

Tables = dict[str, pd.DataFrame]
Prepare = Callable[[Path, Callable[..., None], Tables], None]


def cell(table: str, row: int, column: str, value: object) -> Prepare:
    """Change one cell of a table on disk; the row counts from 0."""

    def prepare(root: Path, replace_table: Callable[..., None], tables: Tables) -> None:
        frame = tables[table].astype({column: "object"})
        frame.at[row, column] = value
        replace_table(root, table, frame.infer_objects())

    return prepare


def by_rule(findings: list[Finding], rule: str) -> list[Finding]:
    return [finding for finding in findings if finding.rule == rule]


def test_a_sound_folder_has_no_errors_and_no_warnings(timeline: Timeline) -> None:
    findings = audit(timeline, make_split(timeline))
    assert {finding.severity for finding in findings} == {"info"}
    assert not has_errors(findings)
    (blank,) = by_rule(findings, "visits_without_image")
    assert (blank.count, blank.examples[0]) == (4, "s0, position 3")


def test_answers_whose_evidence_is_absence_need_no_positions(
    root: Path, tables: Tables, replace_table: Callable[..., None]
) -> None:
    questions = tables["questions"].assign(evidence=None, evidence_kind="absence", horizon_steps=None)
    replace_table(root, "questions", questions)
    assert not by_rule(audit(Timeline.open(root, validate=False)), "evidence_missing")


def test_balance_names_the_least_balanced_groups_first(
    root: Path, tables: Tables, replace_table: Callable[..., None]
) -> None:
    questions = pd.concat([tables["questions"]] * 8, ignore_index=True)
    questions["question_id"] = [f"q{index}" for index in range(len(questions))]
    early = questions["asked_at"] == 1
    questions.loc[early, "answer"] = ["progressed", "stable"] * (early.sum() // 2)
    questions.loc[~early, "answer"] = "regressed"
    replace_table(root, "questions", questions)
    (balance,) = by_rule(audit(Timeline.open(root, validate=False)), "balance")
    assert balance.severity == "info"
    assert balance.examples[0].startswith("progression_previous, horizon 3-4: 'regressed' is 100% of 32 answers")
    assert balance.examples[-1].startswith("progression_previous, horizon 1: ")
    assert "is 50% of 32 answers" in balance.examples[-1]


def test_many_cases_are_counted_and_few_are_named(
    root: Path, tables: Tables, replace_table: Callable[..., None]
) -> None:
    replace_table(root, "timepoints", tables["timepoints"].assign(time=0.0))
    (ties,) = by_rule(audit(Timeline.open(root, validate=False)), "ties")
    assert ties.count == 16
    assert len(ties.examples) == EXAMPLES


def test_errors_come_first_and_json_holds_all(root: Path, tables: Tables, replace_table: Callable[..., None]) -> None:
    cell("timepoints", 3, "time", 10.0)(root, replace_table, tables)
    timeline = Timeline.open(root, validate=False)
    findings = audit(timeline)
    severities = [finding.severity for finding in findings]
    assert severities == sorted(severities, key=["error", "warning", "info"].index)
    report = json.loads(to_json(timeline, findings))
    assert report["counts"] == {level: severities.count(level) for level in ("error", "warning", "info")}
    assert report["findings"][0]["rule"] == "order"
    assert report["fingerprint"] == timeline.meta.fingerprint


def test_progress_is_told_up_to_the_last_file(timeline: Timeline) -> None:
    calls: list[tuple[int, int]] = []
    audit(timeline, progress=lambda label, done, total: calls.append((done, total)) if "Reading" in label else None)
    assert calls[-1] == (8, 8)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_an_overlap_under_time_is_one_of_positions(root: Path) -> None:
    path = save_split(make_split(Timeline.open(root), "time"), root)
    assert not by_rule(audit(Timeline.open(root)), "patient_overlap")
    path.write_text(path.read_text().replace("s0,p0,val,3,3", "s0,p0,val,2,3"))
    (finding,) = by_rule(audit(Timeline.open(root)), "patient_overlap")
    assert finding.examples == ("time_seed0: s0",)


@pytest.mark.parametrize("name", ["patients", "sequences", "timepoints", "images", "questions"])
@pytest.mark.parametrize("damage", ["absent", "null"])
def test_a_table_that_is_gone_or_blank_is_told_and_stops_no_other_rule(
    name: str, damage: str, root: Path, tables: Tables
) -> None:
    path = root / f"{name}.parquet"
    if damage == "absent":
        path.unlink()
    else:
        tables[name].assign(**dict.fromkeys(tables[name].columns)).to_parquet(path)
    findings = audit(Timeline.open(root, validate=False))
    if (name, damage) != ("questions", "absent"):
        assert has_errors(findings)
    assert by_rule(findings, "fingerprint")
