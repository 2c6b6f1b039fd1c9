from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.viewer import write_viewer

Tables = dict[str, pd.DataFrame]


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    return json.loads(found.group(1))


def pixels_of(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


def test_the_page_holds_all_of_a_sequence(timeline: Timeline, tmp_path: Path) -> None:
    page = write_viewer(timeline, tmp_path / "deep" / "page.html")
    data = data_of(page)
    assert data["fingerprint"] == timeline.meta.fingerprint
    assert [sequence["id"] for sequence in data["sequences"]] == ["s0", "s1", "s2", "s3"]
    first = data["sequences"][0]
    assert first["times"] == [0, 30, 60, 90, 120]
    assert first["channels"] == ["flair", "t1"]
    assert sorted(first["pictures"]) == ["0", "1", "2", "4"]
    assert first["patient"] == {"patient_id": "p0", "sex": "F", "age": 60.5, "arm": "a"}
    assert first["treatments"][0]["start"] == 31
    assert first["events"][0]["onset_lower"] == "-inf"
    assert first["findings"][0]["measurements"][0]["value"] == 9
    assert [question["question_id"] for question in first["questions"]] == ["s0-q1", "s0-q2", "s0-q4"]
    assert len(first["reports"]) == 4
    stored = np.load(timeline.root / "images" / "s0_t1.npy")
    np.testing.assert_array_equal(pixels_of(first["pictures"]["4"]["t1"]), stored[4])


def test_the_page_needs_nothing_from_elsewhere(timeline: Timeline, tmp_path: Path) -> None:
    text = write_viewer(timeline, tmp_path / "page.html").read_text()
    assert "default-src 'none'" in text
    addresses = set(re.findall(r"https?://[^\s\"']+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}, "only the name of the SVG vocabulary"
    assert not re.search(r"<link|@import|src=\"(?!data:)|url\(", text)


def test_text_cannot_break_out_of_the_page(tables: Tables, build: Callable[..., Path], tmp_path: Path) -> None:
    evil = "</script><script>document.title = 'broken'</script>"
    tables["reports"]["text"] = evil
    tables["patients"]["arm"] = evil
    page = write_viewer(Timeline.open(build(tables)), tmp_path / "page.html")
    assert page.read_text().count("<script") == 2
    assert data_of(page)["sequences"][0]["reports"][0]["text"] == evil


def test_the_sequences_shown_are_spread_over_the_folder(timeline: Timeline, tmp_path: Path) -> None:
    data = data_of(write_viewer(timeline, tmp_path / "page.html", limit=2))
    assert [sequence["id"] for sequence in data["sequences"]] == ["s0", "s3"]
    assert data["total"] == 4


def test_asking_for_sequences_by_id(timeline: Timeline, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    page = write_viewer(
        timeline, tmp_path / "page.html", sequences=["s2", "s2"], progress=lambda *call: calls.append(call)
    )
    assert [sequence["id"] for sequence in data_of(page)["sequences"]] == ["s2"]
    assert calls == [(1, 1)]
    with pytest.raises(InputError, match=r"such as s0, found 's9'"):
        write_viewer(timeline, tmp_path / "other.html", sequences=["s9"])
    assert not (tmp_path / "other.html").exists()


def test_a_volume_is_shown_at_the_slice_with_most_of_the_finding(
    tables: Tables, build: Callable[..., Path], tmp_path: Path
) -> None:
    volume = np.zeros((5, 6, 12, 10), np.int16)
    volume[:] = np.arange(6)[None, :, None, None]
    mask = np.zeros((6, 12, 10), np.uint8)
    mask[4, 2:5, 2:5] = 1
    for name in ("images", "questions"):
        tables[name] = tables[name].query("sequence_id == 's0'")
    tables["sequences"]["spatial_dims"] = 3
    root = build(tables)
    for channel in ("t1", "flair"):
        np.save(root / "images" / f"s0_{channel}.npy", volume)
    middle = data_of(write_viewer(Timeline.open(root), tmp_path / "page.html", sequences=["s0"]))["sequences"][0]
    assert middle["size"] == [10, 12]
    np.save(root / "mask.npy", mask)
    row = {"finding_id": ["s0-f"], "position": [0], "channel": ["t1"], "path": ["mask.npy"]}
    pd.DataFrame(row).to_parquet(root / "masks.parquet")
    # A second grey level makes the slices tell themselves apart after windowing.
    volume[:, :, 0, 0] = 100
    for channel in ("t1", "flair"):
        np.save(root / "images" / f"s0_{channel}.npy", volume)
    masked = data_of(write_viewer(Timeline.open(root), tmp_path / "page.html", sequences=["s0"]))["sequences"][0]
    assert masked["pictures"]["0"]["t1"] != middle["pictures"]["0"]["t1"]


def test_one_window_for_all_time_points_keeps_changes_of_brightness(
    tables: Tables, build: Callable[..., Path], tmp_path: Path
) -> None:
    root = build(tables)
    loop = np.tile(np.linspace(0, 1000, 64).reshape(8, 8), (5, 1, 1)).astype(np.int16)
    loop[4] //= 4
    np.save(root / "images" / "s0_t1.npy", loop)
    pictures = data_of(write_viewer(Timeline.open(root), tmp_path / "page.html", sequences=["s0"]))["sequences"][0]
    early, late = (pixels_of(pictures["pictures"][position]["t1"]).mean() for position in ("0", "4"))
    assert late < early / 3


def test_ct_is_shown_in_windows(tables: Tables, build: Callable[..., Path], tmp_path: Path) -> None:
    tables["sequences"]["modality"] = "ct"
    root = build(tables)
    hu = np.tile(np.array([-1000, -600, 40, 400, 1300], np.int16).repeat(8)[:, None], (5, 1, 8))
    np.save(root / "images" / "s0_t1.npy", hu)
    shown = data_of(write_viewer(Timeline.open(root), tmp_path / "page.html", sequences=["s0"]))["sequences"][0]
    assert shown["channels"] == ["flair", "t1.lung", "t1.soft", "t1.bone"], "FLAIR has no value of air"
    greys = {
        name: pixels_of(shown["pictures"]["0"][f"t1.{name}"])[::8, 0].tolist() for name in ("lung", "soft", "bone")
    }
    assert greys == {"lung": [60, 128, 236, 255, 255], "soft": [0, 0, 128, 255, 255], "bone": [0, 0, 76, 128, 255]}


def test_long_loops_are_thinned_to_what_a_page_can_hold(
    tables: Tables, build: Callable[..., Path], tmp_path: Path
) -> None:
    many = 300
    only = {name: tables[name].iloc[:1] for name in ("patients", "sequences")}
    only["timepoints"] = pd.DataFrame({"sequence_id": "s0", "position": range(many), "time": range(many)})
    only["images"] = only["timepoints"].drop(columns="time").assign(channel="us", path="images/s0.npy", frame=0)
    data = data_of(write_viewer(Timeline.open(build(only)), tmp_path / "page.html"))["sequences"][0]
    assert len(data["times"]) == many
    assert len(data["kept"]) == 120
    assert (data["kept"][0], data["kept"][-1]) == (0, many - 1)


def show(page: Path, place: str, profile: Path) -> str:
    """The page's elements after its script has run."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--dump-dom"]
    command = ["chromium", *options, f"{page.as_uri()}#{place}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


in_a_browser = pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the chromium browser")


@in_a_browser
def test_the_page_works_in_a_browser(timeline: Timeline, tmp_path: Path) -> None:
    shown = show(write_viewer(timeline, tmp_path / "page.html"), "s1/4", tmp_path / "profile")
    assert '<strong id="now">Time point 4</strong>' in shown
    assert "120 days (3.9 months) · +30 days" in shown
    assert "s1 · mri" in shown
    assert shown.count('src="data:image/png') == 2
    assert "Has the cyst changed?" in shown
    assert '<span class="chip right">stable</span>' in shown
    assert "+4 %" in shown, "9.8 mm after 9.4 mm at the last visit with images"


@in_a_browser
def test_a_loop_shows_its_frames_with_their_times_and_each_quantity_by_its_name(
    tables: Tables, build: Callable[..., Path], tmp_path: Path
) -> None:
    tables["sequences"]["time_unit"] = "millisecond"
    tables["measurements"]["quantity"] = "depth"
    tables["measurements"].loc[1, ["quantity", "value", "unit"]] = ["ejection_fraction", 55.0, "%"]
    shown = show(write_viewer(Timeline.open(build(tables)), tmp_path / "page.html"), "s0/1", tmp_path / "profile")
    assert '<strong id="now">Frame 1</strong><span id="elapsed">30 ms</span>' in shown
    assert '<option value="mm">depth (mm)</option><option value="%">ejection fraction (%)</option>' in shown
    # Of a finding without the chosen quantity, what was measured is shown, under its own name.
    assert '<td class="muted">ejection fraction</td><td class="number">55 %</td>' in shown
