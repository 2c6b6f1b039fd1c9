"""``temmed data split``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from temmed.timelines.console import open_console, print_grid, progress_bar

if TYPE_CHECKING:
    from rich.console import Console

    from temmed.timelines.folder import Timeline
    from temmed.timelines.splits import Split


def split(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A timeline folder.", show_default=False)],
    by: Annotated[
        str, typer.Option(help="patient, time, patient_time, stratified, kfold, site or file; docs/splits.md.")
    ] = "patient",
    seed: Annotated[int, typer.Option(help="Seed of chance.")] = 0,
    fractions: Annotated[
        tuple[float, float, float], typer.Option(help="Shares of the patients for train, val and test.")
    ] = (0.6, 0.1, 0.3),
    stratify: Annotated[
        list[str] | None,
        typer.Option(help="stratified, kfold: a column of the patients table, such as sex or site; may be repeated."),
    ] = None,
    folds: Annotated[int | None, typer.Option(help="kfold: how many.", show_default=False)] = None,
    fold: Annotated[
        int | None, typer.Option(help="kfold: the one that is the test; the next is val.", show_default="all in turn")
    ] = None,
    site: Annotated[str | None, typer.Option(help="site: the one that is the test.", show_default=False)] = None,
    name: Annotated[
        str | None,
        typer.Option(help="file: of splits/NAME.csv. Else: for the new file.", show_default="from the rule"),
    ] = None,
    together: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="CSV file with columns patient_id, group: no group is on two sides. Or `duplicates`: patients who "
            "share an image or a report, as the audit finds them.",
            show_default=False,
        ),
    ] = None,
    few_shot: Annotated[int | None, typer.Option(help="Train on so many patients only.", show_default=False)] = None,
    few_shot_per: Annotated[
        str | None,
        typer.Option(
            help="So many for each value of this column of the patients table, or for each answer to this task.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Divide a folder into train, val and test, once; later calls show the division that is there.

    temmed data split DIR --by stratified --stratify sex --stratify site

    temmed data split DIR --by kfold --folds 5

    temmed data split DIR --by site --site B

    temmed data split DIR --by file --name official --few-shot 16
    """
    from temmed.timelines.folder import Timeline
    from temmed.timelines.recipe import Recipe, as_option
    from temmed.timelines.splits import find_split, keep_split, with_duplicates

    recipe = Recipe(
        by=by,
        seed=seed,
        fractions=fractions,
        stratify=tuple(stratify or ()),
        folds=folds,
        fold=fold,
        site=site,
        name=name,
        together=together,
        few_shot=few_shot,
        few_shot_per=few_shot_per,
    )
    in_turn = by == "kfold" and folds is not None and fold is None
    recipes = [replace(recipe, fold=number) for number in range(max(folds or 1, 1))] if in_turn else [recipe]
    recipes[0].check(as_option)
    timeline = Timeline.open(folder)
    with progress_bar() as progress:
        groups = with_duplicates(timeline, recipes[0], progress).together
    divisions = [find_split(timeline, replace(each, together=groups)) for each in recipes]
    console = open_console()
    for division in divisions:
        path = folder / "splits" / f"{division.name}.csv"
        state = "[bold]Already there[/]" if path.is_file() else "[bold green]Written[/]"
        keep_split(division, timeline)
        console.print(f"{state}: {path}")
        _print_subsets(console, division, timeline)
    if by == "time":
        console.print("Every patient is in every subset: report scores on it as within-patient.")


def _print_subsets(console: Console, division: Split, timeline: Timeline) -> None:
    """How many of everything are in each subset, and in none."""
    from temmed.timelines.splits import SUBSETS

    rows: list[tuple[str, ...]] = [("", "patients", "sequences", "questions")]
    parts = [(subset, division.sequences(subset), division.questions(timeline, subset)) for subset in SUBSETS]
    rest = division.left_out(timeline)
    if len(rest):
        questions = timeline.table("questions")
        parts.append(("in none", rest, questions[questions["sequence_id"].isin(rest["sequence_id"])]))
    for subset, part, asked in parts:
        counts = (part["patient_id"].nunique(), part["sequence_id"].nunique(), len(asked))
        rows.append((subset, *[f"{count:,}" for count in counts]))
    print_grid(console, rows, numbers=True)
    frozen = "" if division.basis is None else " (frozen: never made again by itself)"
    print_grid(console, [("fingerprint", division.fingerprint + frozen)])
