"""The generic table: what becomes what, and what is refused with the row it is in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import Result

from temmed.timelines.folder import Timeline
from temmed.timelines.importers.build import Outcome
from temmed.timelines.importers.plan import Options
from temmed.timelines.importers.registry import importer
from temmed.timelines.splits import load_split

Importing = Callable[..., tuple[Timeline, Outcome]]
Running = Callable[..., Result]

MAP: dict[str, Any] = {
    "table": "visits.csv",
    "images": "pictures",
    "modality": "mri",
    "date_format": "%d.%m.%Y",
    "columns": {"patient": "who", "time": "day", "path": "file", "channel": "kind", "report": "text", "subset": "part"},
    "attributes": {"sex": "gender", "age": "years", "site": "hospital"},
    "subsets": {"learn": "train", "choose": "val", "judge": "test"},
}


def visits() -> pd.DataFrame:
    """Three patients, three visits two days apart, two channels; one visit of the second has no image."""
    rows = [
        {
            "who": f"P-{patient}",
            "day": f"{9 + 2 * visit:02d}.0{patient + 1}.2020",
            "file": "" if (patient, visit) == (1, 2) else f"{patient}{visit}{kind}.png",
            "kind": kind,
            "text": "Unchanged." if visit and kind == "T1" else "",
            "part": ("learn", "choose", "judge")[patient],
            "gender": "FM"[patient % 2],
            "years": str(40 + patient),
            "hospital": "north",
            "frame number": "",
        }
        for patient in range(3)
        for visit in range(3)
        for kind in ("T1", "FLAIR")
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., Path]:
    """``source(rows, key=value, …)`` writes a table, its pictures and a map with these keys changed."""

    def write(rows: pd.DataFrame | None = None, **changes: Any) -> Path:
        folder = tmp_path / "source"
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        table = visits() if rows is None else rows
        for number, name in enumerate(filter(None, visits()["file"])):
            Image.fromarray(np.full((6, 5), number, np.uint8)).save(folder / "pictures" / name)
        content = {key: value for key, value in (MAP | changes).items() if value is not None}
        file = folder / (content["table"] or MAP["table"])
        if file.suffix == ".parquet":
            table.to_parquet(file)
        else:
            table.to_csv(file, index=False, sep="\t" if file.suffix == ".tsv" else ",")
        (folder / "map.yaml").write_text(yaml.safe_dump(content))
        return folder / "map.yaml"

    return write


def test_every_column_finds_its_place(running: Running, source: Callable[..., Path], tmp_path: Path) -> None:
    done = running("table", source(), tmp_path / "out", "--keep-ids")
    assert done.exit_code == 0, done.output
    timeline = Timeline.open(tmp_path / "out")
    patients = timeline.table("patients").set_index("patient_id")
    assert patients.loc["P-1", ["sex", "age", "site"]].tolist() == ["M", 41.0, "north"]
    timepoints = timeline.table("timepoints")
    assert timepoints["time"].tolist() == [0.0, 2.0, 4.0] * 3
    images = timeline.table("images")
    assert len(images) == 16
    assert set(images["channel"]) == {"t1", "flair"}
    pixels = {(position, channel): int(image.max()) for position, channel, image in timeline.read_images("P-0_mri")}
    assert pixels == {(0, "t1"): 0, (0, "flair"): 1, (1, "t1"): 2, (1, "flair"): 3, (2, "t1"): 4, (2, "flair"): 5}
    reports = timeline.table("reports")
    assert reports["position"].tolist() == [1, 2] * 3
    assert set(reports["text"]) == {"Unchanged."}
    split = load_split(tmp_path / "out", "official", timeline)
    assert [split.sequences(name)["patient_id"].tolist() for name in ("train", "val", "test")] == [
        ["P-0"],
        ["P-1"],
        ["P-2"],
    ]
    assert "skipped" not in "".join(line for line in done.output.splitlines() if line.startswith("  skipped"))


def test_names_are_pseudonyms_unless_asked(running: Running, source: Callable[..., Path], tmp_path: Path) -> None:
    columns = MAP["columns"] | {"sequence": "hospital"}
    assert running("table", source(columns=columns), tmp_path / "out").exit_code == 0
    written = b"".join(file.read_bytes() for file in (tmp_path / "out").rglob("*.csv"))
    sequences = Timeline.open(tmp_path / "out").table("sequences")
    assert not sequences["sequence_id"].str.contains("P-|north").any()
    assert b"P-" not in written
    assert sequences["sequence_id"].is_unique


@pytest.mark.parametrize("name", ["visits.tsv", "visits.parquet"])
def test_other_formats_say_the_same(source: Callable[..., Path], name: str) -> None:
    plans = [importer("table").plan(source(visits(), **given), Options(), _map) for given in ({}, {"table": name})]
    assert plans[0].sequences == plans[1].sequences
    assert plans[0].tables == plans[1].tables


def _map(label: str, function: Callable[[Any], Any], items: Any) -> list[Any]:
    return [function(item) for item in items]


def test_typed_parquet_columns_say_the_same(source: Callable[..., Path]) -> None:
    table = visits()
    text = importer("table").plan(source(table), Options(), _map)
    typed = table.assign(day=pd.to_datetime(table["day"], format="%d.%m.%Y"), years=table["years"].astype(float))
    plan = importer("table").plan(source(typed, table="visits.parquet", date_format=None), Options(), _map)
    assert plan.sequences == text.sequences
    assert plan.patients == text.patients


@given(order=st.permutations(range(18)))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_order_of_rows_means_nothing(source: Callable[..., Path], order: list[int]) -> None:
    def told(table: pd.DataFrame) -> dict[str, Any]:
        plan = importer("table").plan(source(table), Options(keep_ids=True), _map)
        return {
            sequence.sequence_id: (sequence.times, sorted((p.position, p.channel, p.files) for p in sequence.pictures))
            for sequence in plan.sequences
        }

    assert told(visits().iloc[order]) == told(visits())


@given(days=st.lists(st.integers(-400, 400), min_size=1, max_size=8), unit=st.sampled_from(["day", "week", "ordinal"]))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_numbers_are_times_in_the_unit(source: Callable[..., Path], days: list[int], unit: str) -> None:
    table = pd.DataFrame({"who": "a", "day": days})
    columns = {"patient": "who", "time": "day"}
    plan = importer("table").plan(source(table, columns=columns, attributes={}, time_unit=unit), Options(), _map)
    expected = sorted(set(days))
    times = list(range(len(expected))) if unit == "ordinal" else [day - expected[0] for day in expected]
    assert plan.sequences[0].times == times
    assert plan.sequences[0].time_unit == unit


def test_dates_become_weeks_and_may_carry_the_hour(source: Callable[..., Path]) -> None:
    table = pd.DataFrame({"who": "a", "day": ["2020-01-01T00:00", "2020-01-15T12:00"]})
    given = {"columns": {"patient": "who", "time": "day"}, "attributes": {}, "date_format": None}
    for unit, time in (("day", 14.5), ("week", 14.5 / 7), ("second", 14.5 * 86_400)):
        plan = importer("table").plan(source(table, **given, time_unit=unit), Options(), _map)
        assert plan.sequences[0].times == pytest.approx([0, time])


def test_frames_of_one_file_are_time_points(running: Running, source: Callable[..., Path], tmp_path: Path) -> None:
    table = pd.DataFrame({"who": "a", "day": [0.0, 0.5, 1.0], "file": "loop.npy", "frame number": ["2", "1", "0"]})
    columns = {"patient": "who", "time": "day", "path": "file", "frame": "frame number"}
    path = source(table, columns=columns, attributes={}, time_unit="second", date_format=None)
    np.save(
        path.parent / "pictures" / "loop.npy", np.arange(3, dtype=np.uint8).reshape(3, 1, 1) * np.ones((4, 4), "u1")
    )
    done = running("table", path, tmp_path / "out", "--keep-ids")
    assert done.exit_code == 0, done.output
    timeline = Timeline.open(tmp_path / "out")
    assert [int(image.max()) for _, _, image in timeline.read_images("a_mri")] == [2, 1, 0]
    assert len(list((tmp_path / "out" / "images").rglob("*.npy"))) == 1


def test_absent_files_are_told_and_their_visits_stay(
    running: Running, source: Callable[..., Path], tmp_path: Path
) -> None:
    path = source()
    (path.parent / "pictures" / "00T1.png").unlink()
    done = running("table", path, tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "skipped 1: the tables name it, and it is not there" in done.output
    assert len(Timeline.open(tmp_path / "out").table("timepoints")) == 9


def test_a_folder_without_any_of_the_images_is_refused(
    running: Running, source: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    done = running("table", source(), tmp_path / "out", "--images", tmp_path / "empty")
    assert done.exit_code == 2
    assert "none of them" in done.output
    assert not (tmp_path / "out").exists()


def test_two_loops_of_one_sequence_stay_apart(importing: Importing, source: Callable[..., Path]) -> None:
    table = pd.DataFrame({"who": "a", "day": [0, 1, 2, 3], "file": ["x.npy"] * 2 + ["y.npy"] * 2, "frame": [0, 1] * 2})
    columns = {"patient": "who", "time": "day", "path": "file", "frame": "frame"}
    path = source(table, columns=columns, attributes={}, time_unit="second", date_format=None)
    for value, name in enumerate(("x", "y")):
        frames = np.array([10 * value, 10 * value + 1], np.uint8).reshape(2, 1, 1) * np.ones((4, 4), "u1")
        np.save(path.parent / "pictures" / f"{name}.npy", frames)
    timeline, _ = importing("table", path, Options(keep_ids=True))
    assert [int(image.max()) for _, _, image in timeline.read_images("a_mri")] == [0, 1, 10, 11]


def test_great_ages_identify_nobody(source: Callable[..., Path]) -> None:
    plan = importer("table").plan(source(visits().assign(years="97")), Options(), _map)
    assert {row["age"] for row in plan.patients} == {90.0}


def test_images_may_lie_elsewhere_and_patients_be_limited(
    running: Running, source: Callable[..., Path], tmp_path: Path
) -> None:
    path = source()
    (path.parent / "pictures").rename(tmp_path / "elsewhere")
    done = running("table", path, tmp_path / "out", "--images", tmp_path / "elsewhere", "--limit", 2, "--reference")
    assert done.exit_code == 0, done.output
    assert "1 patients are left out by --limit" in done.output
    paths = Timeline.open(tmp_path / "out").table("images")["path"]
    assert paths.str.startswith(str(tmp_path / "elsewhere")).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colums": {}}, ["colums", "Did you mean columns?"]),
        ({"columns": {"patient": "who", "tme": "day"}}, ["columns.tme", "Did you mean columns.time?"]),
        ({"columns": {"patient": "who"}}, ["columns for patient and time"]),
        ({"columns": MAP["columns"] | {"path": "fil"}}, ["the column 'fil' (path)", "who, day, file"]),
        ({"attributes": {"sex": "sexe"}}, ["the column 'sexe' (attribute sex)"]),
        ({"time_unit": "fortnight"}, ["time_unit", "one of day, week", "fortnight"]),
        ({"spatial_dims": 4}, ["spatial_dims", "2 or 3"]),
        ({"spatial_dims": "two"}, ["spatial_dims", "two"]),
        ({"table": ""}, ["the name of a table"]),
        ({"subsets": {"learn": "training"}}, ["subsets", "values of train, val, test"]),
        ({"subsets": {"learn": "train"}}, ["visits.csv, row 7, part: must be empty or one of learn, found choose"]),
        ({"modality": None}, ["expected a modality", "--modality"]),
        ({"date_format": None}, ["row 1, day: must be a date (such as 2024-01-31), found 09.01.2020"]),
        ({"time_unit": "ordinal"}, ["must be a number of ordinals"]),
        ({"columns": MAP["columns"] | {"frame": "hospital"}}, ["hospital: must be a whole number from 0, found north"]),
        ({"attributes": {"age": "hospital"}}, ["hospital: must be a number, found north"]),
    ],
)
def test_what_cannot_be_used_is_told_with_its_place(
    running: Running, source: Callable[..., Path], tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    done = running("table", source(**changes), tmp_path / "out")
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    flat = " ".join(done.output.split())
    for word in words:
        assert word in flat
    assert not (tmp_path / "out").exists()


def test_a_patient_in_two_subsets_is_refused(running: Running, source: Callable[..., Path], tmp_path: Path) -> None:
    table = visits()
    table.loc[0, "part"] = "judge"
    done = running("table", source(table), tmp_path / "out")
    assert done.exit_code == 2
    assert "every patient in one subset, found 1 patients in several, such as 'P-0'" in " ".join(done.output.split())


def test_rows_that_are_longer_than_the_header_are_refused(
    running: Running, source: Callable[..., Path], tmp_path: Path
) -> None:
    path = source()
    table = path.parent / "visits.csv"
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, *(f"{row},more" for row in rows)]))
    done = running("table", path, tmp_path / "out")
    assert done.exit_code == 2
    assert "as many cells in each row as in the header" in " ".join(done.output.split())


@pytest.mark.parametrize("content", ["", "- a\n", "a: [", "\x00", "3", "2024-13-45"])
def test_a_map_that_is_none(running: Running, tmp_path: Path, content: str) -> None:
    (tmp_path / "map.yaml").write_text(content)
    done = running("table", tmp_path / "map.yaml", tmp_path / "out")
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    assert "map.yaml" in done.output


def test_a_folder_or_an_empty_table_is_no_source(running: Running, source: Callable[..., Path], tmp_path: Path) -> None:
    path = source(visits().iloc[:0])
    assert "rows below the header" in running("table", path, tmp_path / "out").output
    assert "a YAML file that maps" in running("table", path.parent, tmp_path / "out").output
    (path.parent / "visits.csv").unlink()
    assert running("table", path, tmp_path / "out").exit_code == 2


@pytest.mark.slow
def test_memory_grows_by_little_more_than_the_tables(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from temmed.timelines.importers.build import Request, run_import
from temmed.timelines.importers.registry import importer
run_import(importer("table"), Request(Path(sys.argv[1]), Path(sys.argv[2]), reference=True))
from tests.memory import peak_bytes
print(peak_bytes())
"""
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "one.png")
    columns = {"patient": "who", "time": "day", "path": "file"}
    peaks = []
    counts = (4_000, 40_000)
    for count in counts:
        rows = pd.DataFrame({"who": [f"P{n // 10}" for n in range(count)], "day": [n % 10 for n in range(count)]})
        rows.assign(file="one.png").to_csv(tmp_path / f"{count}.csv", index=False)
        content = {"table": f"{count}.csv", "modality": "cxr", "columns": columns}
        (tmp_path / f"{count}.yaml").write_text(yaml.safe_dump(content))
        command = [sys.executable, "-c", script, str(tmp_path / f"{count}.yaml"), str(tmp_path / f"out{count}")]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    assert 0 < (peaks[1] - peaks[0]) / (counts[1] - counts[0]) < 4_096
