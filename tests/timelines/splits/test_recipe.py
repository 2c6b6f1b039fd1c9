"""Wishes that go together, and what their split is called."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from temmed.errors import InputError
from temmed.timelines.recipe import RULES, Duplicates, Recipe, as_option, as_override

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"by": "patients"}, "by", "one of patient, time, patient_time, stratified, kfold, site, file, found 'patients'"),
    ({"fractions": (0.6, 0.4)}, "fractions", "three fractions that add up to 1"),
    ({"fractions": (0.6, 0.6, 0.6)}, "fractions", "three fractions that add up to 1"),
    ({"fractions": (1.2, -0.2, 0.0)}, "fractions", "three fractions that add up to 1"),
    ({"by": "stratified"}, "stratify", "For example: stratify=[sex,site]."),
    ({"by": "stratified", "stratify": ("sex", "sex")}, "stratify", "Name each one once."),
    ({"stratify": ("sex",)}, "stratify", "by to be stratified or kfold"),
    ({"by": "kfold", "fold": 0}, "folds", "For example: folds=5."),
    ({"by": "kfold", "folds": 5}, "fold", "For example: fold=0."),
    ({"by": "kfold", "folds": 2, "fold": 0}, "folds", "at least 3, found 2"),
    ({"by": "kfold", "folds": 5, "fold": 5}, "fold", "0 … 4, found 5"),
    ({"by": "kfold", "folds": 5, "fold": -1}, "fold", "0 … 4, found -1"),
    ({"folds": 5}, "folds", "Leave it out, or add by=kfold."),
    ({"fold": 0}, "fold", "Leave it out, or add by=kfold."),
    ({"by": "site"}, "site", "For example: site=NAME."),
    ({"site": "B"}, "site", "Leave it out, or add by=site."),
    ({"by": "site", "site": "B", "fractions": (0.0, 0.0, 1.0)}, "fractions", "a share for train or val"),
    ({"by": "file"}, "name", "For example: name=official."),
    ({"name": "../up"}, "name", "letters, digits and . _ + -, found '../up'"),
    ({"by": "time", "together": [["a", "b"]]}, "together", "the rules that take together, found time"),
    ({"by": "file", "name": "x", "together": "groups.csv"}, "together", "the rules that take together, found file"),
    ({"few_shot": 0}, "few_shot", "at least 1, found 0"),
    ({"few_shot_per": "sex"}, "few_shot_per", "few_shot beside it"),
]


@pytest.mark.parametrize(("wishes", "where", "message"), REFUSED, ids=[str(row[0]) for row in REFUSED])
def test_what_cannot_work_is_refused(wishes: dict, where: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Recipe(**wishes).check()
    assert caught.value.where == where
    assert message in str(caught.value)


def test_the_message_speaks_as_the_user_does() -> None:
    recipe = Recipe("stratified")
    for spell, words in (
        (as_override, ("data.split.stratify: expected a value for data.split.by=stratified", "stratify=[sex,site].")),
        (as_option, ("--stratify: expected a value for --by stratified", "--stratify sex --stratify site.")),
    ):
        with pytest.raises(InputError) as caught:
            recipe.check(spell)
        assert all(word in str(caught.value) for word in words)


NAMES = [
    ({}, "patient_seed0"),
    ({"by": "patient_time", "seed": 7}, "patient_time_seed7"),
    ({"by": "stratified", "stratify": ("sex", "site")}, "stratified-sex-site_seed0"),
    ({"by": "kfold", "folds": 5, "fold": 2}, "kfold5-2_seed0"),
    ({"by": "kfold", "folds": 5, "fold": 2, "stratify": ("sex",)}, "kfold5-2-sex_seed0"),
    ({"by": "kfold", "folds": 5, "fold": 2, "name": "ours"}, "ours-2"),
    ({"by": "site", "site": "St. Mary/West"}, "site-St.-Mary-West_seed0"),
    ({"by": "site", "site": "x" * 500}, f"site-{'x' * 60}_seed0"),
    ({"by": "file", "name": "official"}, "official"),
    ({"by": "file", "name": "official", "few_shot": 16, "seed": 3}, "official_seed3_few16"),
    ({"few_shot": 4, "few_shot_per": "sex"}, "patient_seed0_few4-per-sex"),
    ({"together": [["a", "b"]]}, "patient-together_seed0"),
    ({"together": "duplicates"}, "patient-duplicates_seed0"),
    ({"together": Duplicates("1f", (("a", "b"),))}, "patient-duplicates_seed0"),
    ({"name": "ours"}, "ours"),
]


@pytest.mark.parametrize(("wishes", "name"), NAMES, ids=[row[1][:30] for row in NAMES])
def test_a_split_is_named_by_what_made_it(wishes: dict, name: str) -> None:
    recipe = Recipe(**wishes)
    recipe.check()
    assert recipe.file_name == name


def test_what_a_configuration_says_becomes_a_recipe() -> None:
    recipe = Recipe.of({"by": "stratified", "seed": 1, "fractions": [0.5, 0.2, 0.3], "stratify": ["sex"]})
    assert recipe == Recipe("stratified", 1, (0.5, 0.2, 0.3), ("sex",))
    assert Recipe.of({"by": "time", "seed": 0, "fractions": [0.6, 0.1, 0.3]}) == Recipe("time")
    assert recipe.whole == recipe
    assert Recipe(few_shot=4, few_shot_per="sex").whole == Recipe()


def test_frozen_is_what_more_than_a_patients_own_id_decides() -> None:
    needs: dict[str, Any] = {"folds": 5, "fold": 0}
    assert not any(Recipe(by).frozen for by in RULES if by != "stratified")
    for recipe in (
        Recipe("stratified"),
        Recipe("kfold", stratify=("sex",), **needs),
        Recipe(together=[]),
        Recipe(few_shot=1),
    ):
        assert recipe.frozen


def test_recipes_are_checked_without_pandas() -> None:
    code = "import sys, temmed.timelines.recipe; print('pandas' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
