"""The experiment on few-shot adaptation: what is trained, on whom, and what is made of it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from experiments.few_shot.results import Cell, Source, to_markdown, to_svg
from experiments.few_shot.run import WAYS, Target, open_source, plan, prepare
from experiments.runner import Job
from temmed.config.paths import conf_dir
from temmed.config.schema import register
from temmed.errors import InputError
from temmed.evaluation.statistics import Estimate
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Recipe, find_split
from temmed.timelines.synthetic import generate

_ROOT = Path(__file__).resolve().parents[2]
DRAWS, SHOTS = (0, 1), (1, 5)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    root = tmp_path_factory.mktemp("few_shot") / "target"
    generate(root, patients=80, size=32, workers=1, progress=False)
    return prepare(root, "few_shot", "progression", root.parent)


@pytest.fixture(scope="module")
def jobs(target: Target) -> list[Job]:
    source = Source(target.root.parent / "best.ckpt", "gru", 32)
    return plan(source, target, SHOTS, DRAWS, target.root.parent / "out", ["data.batch_size=4"])


def test_every_way_is_tried_on_the_same_few_patients(jobs: list[Job], target: Target) -> None:
    assert [job.name for job in jobs] == [f"{way}_{shot}" for _ in DRAWS for shot in SHOTS for way in WAYS]
    assert len({job.folder for job in jobs}) == len(jobs)
    register()
    GlobalHydra.instance().clear()
    found = {}
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for job in jobs[-len(WAYS) :]:
            config = compose("train", overrides=job.words)
            found[job.name] = (config.model.train, config.model.backbone.train, config.model.start_data)
            split = config.data.split
            assert (split.few_shot, split.seed, config.seed) == (SHOTS[-1], DRAWS[-1], DRAWS[-1])
            assert (config.data.root, config.data.size) == (str(target.root), 32)
            assert (config.data.batch_size, config.model.name, config.name) == (4, "gru", job.name)
            assert (config.model.start_from is None) == job.name.startswith("scratch")
            # Only the end is validated: no epoch is chosen by the patients of val.
            assert config.trainer.check_val_every_n_epoch == config.trainer.max_epochs
    assert found == {
        "probe_5": ("outputs", "none", "other"),
        "lora_5": ("outputs", "lora", "other"),
        "full_5": ("full", "full", "other"),
        "scratch_5": ("full", "full", "same"),
    }


def test_few_are_among_more_and_the_test_is_the_same(jobs: list[Job], target: Target) -> None:
    timeline = Timeline.open(target.root)
    found: dict[tuple[int, int], dict[str, set[str]]] = {}
    for job in jobs:
        words = dict(word.split("=", 1) for word in job.words)
        own = {key.removeprefix("data.split."): value for key, value in words.items() if key.startswith("data.split.")}
        few, seed = int(own.pop("few_shot")), int(own.pop("seed"))
        recipe = Recipe.of({**own, "few_shot": few, "seed": seed})
        split = find_split(timeline, recipe)
        subsets = {name: set(split.sequences(name)["patient_id"]) for name in ("train", "val", "test")}
        assert found.setdefault((few, seed), subsets) == subsets
    for draw in DRAWS:
        assert found[1, draw]["train"] < found[5, draw]["train"]
        assert not found[5, draw]["train"] & found[5, draw]["test"]
    assert found[5, 0]["train"] != found[5, 1]["train"]
    assert len({frozenset(subsets["test"]) for subsets in found.values()}) == 1
    assert len({frozenset(subsets["val"]) for subsets in found.values()}) == 1


def test_the_table_and_the_picture_show_what_was_found() -> None:
    cells = [
        Cell(way, shot, [shot, shot + 1], 1234, [0.5, 0.6], Estimate(0.55, 0.5, 0.6, 100))
        for way, shot in itertools.product(("probe", "full"), (1, 5))
    ]
    references = {"not adapted": Estimate(0.4, 0.3, 0.5, 100)}
    table = to_markdown(cells, references).splitlines()
    assert table[0] == "| way | parameters that learn | k = 1 (1–2 patients) | k = 5 (5–6 patients) |"
    assert table[2] == "| linear probe | 1,234 | 55.0 ± 7.1 [50.0, 60.0] | 55.0 ± 7.1 [50.0, 60.0] |"
    assert table[4] == "| not adapted | | 40.0 [30.0, 50.0] | 40.0 [30.0, 50.0] |".replace("| |", "|  |")
    picture = ElementTree.fromstring(to_svg(cells, references))
    words = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"linear probe", "all weights", "not adapted", "patients for each class"} <= set(words)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.yaml"):
        open_source(tmp_path)


@pytest.mark.slow
@pytest.mark.nightly
def test_from_a_trained_model_to_the_table(target: Target, tmp_path: Path) -> None:
    """One draw of one patient per class, on a set far too small to learn from."""
    settings = os.environ | {"TEMMED_DATA": str(tmp_path / "data_cache")}

    def run(script: str, *words: str) -> str:
        command = [sys.executable, str(_ROOT / script), *words]
        outcome = subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=900)
        assert outcome.returncode == 0, outcome.stdout + outcome.stderr
        return outcome.stdout

    tiny = ("data.size=32", "trainer=cpu", "trainer.max_epochs=1", "trainer.enable_progress_bar=false")
    run("train.py", "model=gru", "data.patients=24", "test=false", f"paths.run={tmp_path}/source", *tiny)
    words = ("--source", "source", "--target", str(target.root), "--shots", "1", "--seeds", "0", "--out", "out")
    first = run("experiments/few_shot/run.py", *words, *tiny[1:])
    assert first.count("$ python train.py") == len(WAYS)
    assert "$ python evaluate.py" in first
    table = pd.read_csv(tmp_path / "out" / "few_shot.csv").set_index("way")
    assert set(table.index) == set(WAYS)
    assert table["accuracy"].between(0, 1).all()
    learned = table["parameters"]
    assert learned["probe"] < learned["lora"] < learned["full"]
    assert "not adapted" in (tmp_path / "out" / "few_shot.md").read_text()
    again = run("experiments/few_shot/run.py", *words, *tiny[1:])
    assert again.count("# done before") == len(WAYS)
    assert "$ python evaluate.py" not in again
