from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
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


def image(content: bytes | np.ndarray) -> Prepare:
    def prepare(root: Path, replace_table: Callable[..., None], tables: Tables) -> None:
        path = root / "images" / "s1_t1.npy"
        if isinstance(content, bytes):
            path.write_bytes(path.read_bytes()[: len(content)])
        else:
            np.save(path, content)

    return prepare


def split(old: str, new: str, json_too: bool = True) -> Prepare:
    def prepare(root: Path, replace_table: Callable[..., None], tables: Tables) -> None:
        path = save_split(make_split(Timeline.open(root)), root)
        path.write_text(path.read_text().replace(old, new))
        if not json_too:
            path.with_suffix(".json").unlink()

    return prepare


def overlap(root: Path, replace_table: Callable[..., None], tables: Tables) -> None:
    (root / "splits").mkdir()
    (root / "splits" / "mine.csv").write_text("sequence_id,patient_id,subset\ns0,p0,train\ns0,p0,test\n")


def late_start(root: Path, replace_table: Callable[..., None], tables: Tables) -> None:
    for name in ("timepoints", "reports"):
        replace_table(root, name, tables[name].assign(time=tables[name]["time"] + 5))


def without_times_of_day(root: Path, replace_table: Callable[..., None], tables: Tables) -> None:
    replace_table(root, "sequences", tables["sequences"].assign(time_unit="ordinal"))
    cell("timepoints", 2, "time", 30.0)(root, replace_table, tables)


CASES: dict[str, tuple[Prepare, str, str, str]] = {
    "reversed": (cell("timepoints", 3, "time", 10.0), "order", "error", "s0, position 3"),
    "tied days": (cell("timepoints", 2, "time", 30.0), "ties", "warning", "s0, position 2"),
    "tied order": (without_times_of_day, "ties", "error", "s0, position 2"),
    "no time": (cell("timepoints", 2, "time", np.nan), "missing_time", "error", "s0, position 2"),
    "late start": (
        late_start,
        "time_origin",
        "warning",
        "s0, position 0",
    ),
    "report too early": (cell("reports", 1, "time", 12.0), "report_dates", "error", "s0-r1: dated 12, images of 30"),
    "report too late": (cell("reports", 1, "time", 62.0), "report_dates", "error", "s0-r1: dated 62, images of 30"),
    "evidence in the future": (
        cell("questions", 0, "evidence", [0, 2]),
        "evidence_after_question",
        "error",
        "s0-q1: asked at 1, evidence at 2",
    ),
    "no evidence": (cell("questions", 0, "evidence", []), "evidence_missing", "warning", "s0-q1"),
    "evidence unseen": (
        cell("questions", 2, "evidence", [0, 3]),
        "evidence_without_image",
        "warning",
        "s0-q4: evidence at 3",
    ),
    "wrong horizon": (
        cell("questions", 2, "horizon_steps", 1),
        "horizon",
        "error",
        "s0-q4: horizon_steps 1, evidence [0, 4], asked at 4",
    ),
    "truncated image": (
        image(b"\0" * 300),
        "unreadable_image",
        "error",
        "images/s1_t1.npy: a truncated or damaged file",
    ),
    "empty image": (image(b""), "unreadable_image", "error", "images/s1_t1.npy: a truncated or damaged file"),
    "too few frames": (
        image(np.zeros((3, 8, 8), np.uint8)),
        "unreadable_image",
        "error",
        "images/s1_t1.npy: frame 4",
    ),
    "volume for a slice": (
        image(np.zeros((5, 8, 8, 8), np.uint8)),
        "image_shape",
        "error",
        "images/s1_t1.npy: shape (8, 8, 8), spatial_dims 2",
    ),
    "patient in two subsets": (overlap, "patient_overlap", "error", "mine: p0"),
    "unknown patient in a split": (split("p0", "ghost"), "unknown_in_split", "error", "patient_seed0: ghost, s0"),
    "split that is no split": (
        split("subset", "part"),
        "unreadable_split",
        "error",
        "patient_seed0.csv: expected columns sequence_id, patient_id, subset, first_asked, last_asked, found no subset",
    ),
    "duplicate position": (cell("timepoints", 2, "position", 1), "form", "error", "row 3: s0, 1"),
    "wrong type": (cell("timepoints", 2, "position", "two"), "form", "error", "row 3: nothing"),
    "image gone": (
        lambda root, replace, tables: (root / "images" / "s0_t1.npy").unlink(),
        "form",
        "error",
        "row 1: images/s0_t1.npy",
    ),
    "edited": (cell("questions", 0, "answer", "progressed"), "fingerprint", "warning", "recorded"),
}


def by_rule(findings: list[Finding], rule: str) -> list[Finding]:
    return [finding for finding in findings if finding.rule == rule]


@pytest.mark.parametrize("case", CASES)
def test_each_fault_is_found_with_an_example(
    case: str, root: Path, tables: Tables, replace_table: Callable[..., None]
) -> None:
    prepare, rule, severity, example = CASES[case]
    prepare(root, replace_table, tables)
    findings = audit(Timeline.open(root, validate=False))
    told = by_rule(findings, rule)
    assert [finding.severity for finding in told if any(text.startswith(example) for text in finding.examples)] == [
        severity
    ], findings
    assert has_errors(findings) == any(finding.severity == "error" for finding in findings)
    others = {finding.rule for finding in findings if finding.severity == "error"} - {rule, "form"}
    assert not others, "one fault must not be told as another"


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
    audit(timeline, progress=lambda done, total: calls.append((done, total)))
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
