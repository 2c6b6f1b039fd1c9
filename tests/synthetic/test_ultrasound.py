"""Synthetic cine loops: beats, contrast and files are as the truth says, and questions follow from it."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from scipy import ndimage
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GroupKFold, cross_val_predict

from temmed.prompts.questions import NEVER
from temmed.timelines.schema import PROGRESSION_BOUND, horizon_bin
from temmed.timelines.synthetic.generate import generate
from temmed.timelines.synthetic.heart import BLOOD, MUSCLE, beams, echoes
from temmed.timelines.synthetic.loop_questions import describe_loop, draw_loop_questions
from temmed.timelines.synthetic.loops import Loop, draw_loop, emptied
from temmed.timelines.synthetic.modalities.ultrasound import render_loop
from temmed.timelines.synthetic.modality import Rows


@pytest.fixture(scope="module")
def loops() -> list[Loop]:
    return [draw_loop(0, index) for index in range(400)]


@pytest.fixture(scope="module")
def questions(loops: list[Loop]) -> pd.DataFrame:
    return draw_loop_questions(loops, 0)


def test_a_beat_empties_and_fills_once() -> None:
    phase = np.linspace(0, 1, 1001)[:-1]
    out = emptied(phase)
    assert out[0] == 0
    assert out.max() == pytest.approx(1, abs=1e-4)
    assert np.sum(np.diff(np.sign(np.diff(out))) != 0) == 1
    assert out[-1] < 0.01


def test_loops_show_several_beats_in_order(loops: list[Loop]) -> None:
    counts = [len(loop.beats) for loop in loops]
    assert np.mean(counts) > 1.5
    assert min(counts) >= 1
    for loop in loops:
        assert (np.diff(loop.times) > 0).all()
        for beat in loop.beats:
            assert beat.diastole < beat.systole <= beat.next_diastole
            window = loop.diameters[beat.diastole : beat.next_diastole + 1]
            assert loop.diameters[beat.systole] == window.min()
        assert 15 < loop.ejection_fraction < 85


def test_contrast_is_there_from_arrival_to_washout(loops: list[Loop]) -> None:
    for loop in loops:
        there = np.flatnonzero(loop.contrast >= 0.5)
        if loop.arrival is None:
            assert not len(there)
            continue
        assert there[0] == loop.arrival
        assert there[-1] == (len(loop.times) if loop.washout is None else loop.washout) - 1
    never = np.mean([loop.arrival is None for loop in loops])
    assert 0.1 < never < 0.3


def test_the_cavity_is_as_wide_as_the_truth_says(loops: list[Loop]) -> None:
    loop = loops[0]
    x, depth = beams()
    for diameter in (loop.relaxed, 0.7 * loop.relaxed):
        echo = echoes(loop.heart, diameter, loop.relaxed, 0.0)
        chambers, _ = ndimage.label(echo < (BLOOD + MUSCLE) / 2 - 4)
        middle = np.argmin(np.hypot(x - 14, depth - loop.heart.apex - 45))
        inside = chambers == chambers.ravel()[middle]
        # Across the widest part; the axis of the chamber is tilted by a few degrees.
        found = [np.ptp(x[row][inside[row]]) for row in np.flatnonzero(inside.sum(axis=1) > 5)]
        assert max(found) == pytest.approx(diameter, rel=0.12)


def test_contrast_brightens_the_chamber_in_the_pictures(loops: list[Loop]) -> None:
    loop = next(loop for loop in loops if loop.arrival is not None and loop.arrival > 4)
    frames = render_loop(0, loop, 64).astype(float)
    assert frames.dtype == float
    before, after = frames[loop.arrival - 3], frames[loop.arrival + 2]
    gain = ndimage.uniform_filter(after - before, 5)
    assert gain.max() > 60
    assert (frames[:, :4, :16] == 0).all()  # outside the sector


def test_dicom_tells_the_time_of_frames_and_the_scale(tmp_path: Path) -> None:
    timeline = generate(tmp_path / "us", "ultrasound", patients=1, size=32, workers=1, progress=False)
    images = timeline.table("images")
    header = pydicom.dcmread(timeline.root / images["path"].iloc[0])
    times = timeline.table("timepoints")["time"].to_numpy()
    assert int(header.NumberOfFrames) == len(times) == len(images)
    assert float(header.FrameTime) == pytest.approx(times[1])
    assert header.SequenceOfUltrasoundRegions[0].PhysicalDeltaX == pytest.approx(17 / 32)
    assert header.pixel_array.shape == (len(times), 32, 32)


def test_avi_holds_the_very_frames_of_the_dicom(tmp_path: Path) -> None:
    pytest.importorskip("av")
    made = {
        files: generate(tmp_path / files, "ultrasound", patients=1, size=32, files=files, workers=1, progress=False)
        for files in ("dicom", "avi")
    }
    assert made["avi"].table("images")["path"].str.endswith(".avi").all()
    frames = [np.stack([pixels for _, _, pixels in made[files].read_images("s00000")]) for files in ("dicom", "avi")]
    np.testing.assert_array_equal(frames[0], frames[1])
    again = generate(tmp_path / "again", "ultrasound", patients=1, size=32, files="avi", workers=1, progress=False)
    assert again.meta.fingerprint == made["avi"].meta.fingerprint


def test_answers_follow_from_the_truth(loops: list[Loop], questions: pd.DataFrame) -> None:
    assert set(questions["task"]) == {"progression", "measurement", "event"}
    for row in questions.itertuples(index=False):
        loop = loops[row.course]
        if row.template == "progression_frame":
            change = np.log(loop.diameters[row.evidence[-1]] / loop.diameters[row.evidence[0]])
            grown = "progressed" if change > 0 else "regressed"
            assert row.answer == (grown if abs(change) >= PROGRESSION_BOUND else "stable")
        elif row.template == "measurement_ejection":
            assert row.value == pytest.approx(loop.ejection_fraction, abs=1e-3)
        elif row.template in ("event_systole", "event_diastole"):
            sizes = {choice: loop.diameters[int(choice.split()[1])] for choice in row.choices}
            best = min if row.template == "event_systole" else max
            assert row.answer == best(sizes, key=sizes.__getitem__)
        elif row.template in ("event_arrival", "event_washout"):
            moment = loop.arrival if row.template == "event_arrival" else loop.washout
            known = moment is not None and moment <= row.asked_at
            assert row.answer == (f"frame {moment}" if known else NEVER)
            assert row.answer in row.choices
        assert max(row.evidence, default=0) <= row.asked_at


def test_no_word_of_a_statement_is_true_more_often_than_not(loops: list[Loop]) -> None:
    said = []
    for loop in loops:
        rows: Rows = defaultdict(list)
        describe_loop(loop, np.empty((1, 0)), 0, rows)
        for statement in rows["statements"]:
            now = loop.diameters[statement["position"]]
            if earlier := re.search(r"than at frame (\d+)\.", statement["text"]):
                truth = "larger" if now > loop.diameters[int(earlier[1])] else "smaller"
            else:
                truth = {loop.arrival: "new", loop.washout: "gone"}[statement["position"]]
            assert (statement["direction"] == truth) == statement["consistent"]
            said.append((statement["direction"], truth))
    table = pd.crosstab(*np.array(said).T)
    assert (table["larger"].sum(), table["new"].sum()) == (table["smaller"].sum(), table["gone"].sum())
    for word in table.columns:
        told = table.loc[word]
        assert told[word] / told.sum() == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / told.sum()))


def test_verdicts_and_choices_are_balanced(questions: pd.DataFrame) -> None:
    progression = questions[questions["task"] == "progression"]
    assert len(progression) > 1000
    bins = progression["horizon_steps"].map(horizon_bin)
    shares = pd.crosstab(bins, progression["answer"], normalize="index")
    assert np.abs(shares.to_numpy() - 1 / 3).max() < 0.02
    for template, group in questions[questions["task"] == "event"].groupby("template"):
        place = [choices.index(answer) for choices, answer in zip(group["choices"], group["answer"], strict=True)]
        offered = len(group["choices"].iloc[0])
        share = np.bincount(place, minlength=offered) / len(place)
        assert np.abs(share - 1 / offered).max() < 4 * np.sqrt(0.25 / len(place)), template
        # Nor does the order of the frames offered tell.
        numbers = [sorted(int(c.split()[1]) for c in row if c != NEVER) for row in group["choices"]]
        told = [
            (row.index(int(answer.split()[1])), len(row))
            for row, answer in zip(numbers, group["answer"], strict=True)
            if answer != NEVER
        ]
        rank = np.bincount([place for place, _ in told], minlength=told[0][1]) / len(told)
        assert np.abs(rank - 1 / told[0][1]).max() < 4 * np.sqrt(0.25 / len(told)), (template, rank)


def test_neither_the_numbers_of_frames_nor_their_spaces_tell_the_extreme(
    loops: list[Loop], questions: pd.DataFrame
) -> None:
    asked = questions[questions["template"] == "event_systole"]
    frames = np.array([sorted(int(choice.split()[1]) for choice in row) for row in asked["choices"]])
    truth = (frames == asked["answer"].str.split().str[1].astype(int).to_numpy()[:, None]).argmax(axis=1)
    lengths = [len(loops[number].times) for number in asked["course"]]
    features = np.column_stack([frames, np.diff(frames, axis=1), asked["asked_at"], lengths])
    model = HistGradientBoostingClassifier(max_iter=40, max_depth=4, random_state=0)
    guess = cross_val_predict(model, features, truth, groups=asked["course"], cv=GroupKFold(4))
    assert np.mean(guess == truth) < 1 / 3 + 4 * np.sqrt(2 / 9 / len(truth))
