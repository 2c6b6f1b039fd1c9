"""A split is made once, kept beside the data, and found again.

Where a hash of each patient's own id decides, the split can be made again at any time, and more data move nobody. All
others are frozen: their file is the only truth, and when the data change they are refused, never made anew.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.recipe import DEFAULT_FRACTIONS, RULES, Recipe
from temmed.timelines.splits.division import Split
from temmed.timelines.splits.files import load_split, save_about, save_split, split_file
from temmed.timelines.splits.groups import with_duplicates
from temmed.timelines.splits.make import build

_LOG = logging.getLogger(__name__)


def get_split(
    timeline: Timeline,
    by: str = "patient",
    seed: int = 0,
    fractions: Sequence[float] = DEFAULT_FRACTIONS,
    keep: bool = True,
    **options: Any,
) -> Split:
    """The split of a rule and seed: the written one if there is one, else a new one.

    Args:
        timeline: what to divide.
        by: see `make_split`, as for ``seed``, ``fractions`` and ``options``.
        seed: of chance.
        fractions: shares of train, val and test.
        keep: write a new one at once; else it is for the caller to `keep_split` it once it has proved of use.
        **options: what else the rule takes.

    Raises:
        InputError: the written split was made in another way, or from other data; or, with ``keep``, a frozen split
            cannot be written.
    """
    recipe = Recipe.of({"by": by, "seed": seed, "fractions": fractions, **options})
    recipe.check()
    split = find_split(timeline, recipe)
    if keep:
        keep_split(split, timeline)
    return split


def find_split(timeline: Timeline, recipe: Recipe) -> Split:
    """The split of a checked recipe: the written one if there is one, else a new one, not yet written."""
    recipe = with_duplicates(timeline, recipe)
    if recipe.few_shot is not None:
        return _written_or_new(timeline, build(timeline, recipe, base=find_split(timeline, recipe.whole)))
    if recipe.by == "file":
        return load_split(timeline.root, str(recipe.name), timeline)
    found = _written_or_new(timeline, build(timeline, recipe))
    if recipe.folds is None or not recipe.frozen:
        return found
    # All folds of one division are kept at once: one made later, from other data, would belong to another division.
    others = [replace(recipe, fold=fold) for fold in range(recipe.folds) if fold != recipe.fold]
    return replace(found, companions=tuple(_written_or_new(timeline, build(timeline, other)) for other in others))


def keep_split(split: Split, timeline: Timeline) -> None:
    """Write a split, and those that belong with it, into its timeline folder unless they are there.

    Raises:
        InputError: a frozen split cannot be written.
    """
    for each in (*split.companions, split):
        _keep(each, timeline.root)


def reopen_split(timeline: Timeline, record: Mapping[str, Any]) -> Split:
    """The split of a run or checkpoint: the written one or, where a hash decided, one made again.

    Whether it is still the same is for the caller to check, by the fingerprint.

    Args:
        timeline: the data.
        record: `Split.record`, as the run or checkpoint holds it.

    Raises:
        InputError: the file is gone and cannot be made again, or it does not fit the data.
    """
    name = str(record["name"])
    if not split_file(timeline.root, name).is_file() and record["rule"] in RULES and record["rule"] != "file":
        given = {"seed": record["seed"], "fractions": record.get("fractions", DEFAULT_FRACTIONS)}
        parameters = dict(record.get("parameters", {}))
        if not {"few_shot", "stratify", "together"} & parameters.keys():
            return replace(build(timeline, Recipe.of({"by": record["rule"], **given, **parameters})), name=name)
    return load_split(timeline.root, name, timeline)


def _written_or_new(timeline: Timeline, made: Split) -> Split:
    path = split_file(timeline.root, made.name)
    if not path.is_file():
        return made
    written = load_split(timeline.root, made.name, timeline)
    _check_same_way(made, written, path)
    if made.basis is None:
        _check_same_rows(made, written, path)
    else:
        _check_same_basis(made, written, path)
    return replace(written, companions=made.companions)


def _check_same_way(made: Split, written: Split, path: Path) -> None:
    """The written split was made by the same rule, with the same parameters."""
    if _way(made) != _way(written):
        raise InputError(
            f"a split by {_way(made)}",
            f"one by {_way(written)}",
            str(path),
            f"Remove {path} to have it made again, use another seed, or give the new one another name.",
        )


def _way(split: Split) -> str:
    parameters = [f"{key} {value}" for key, value in sorted(split.parameters.items())]
    shares = tuple(round(share, 6) for share in split.fractions)
    return ", ".join([split.rule, f"seed {split.seed}", f"fractions {shares}", *parameters])


def _check_same_rows(made: Split, written: Split, path: Path) -> None:
    if written.fingerprint != made.fingerprint:
        raise InputError(
            f"a split of the folder's {made.frame['sequence_id'].nunique()} sequences",
            f"one of {written.frame['sequence_id'].nunique()}, made before the data changed",
            str(path),
            f"Remove {path} to have it made again, or use another seed. Nobody who was there moves to another subset.",
        )


def _check_same_basis(made: Split, written: Split, path: Path) -> None:
    now, then = made.basis, written.basis
    assert now is not None
    if now == then:
        return
    found = f"{now.patients} patients with {now.sequences} sequences"
    if then is not None and (now.patients, now.sequences) == (then.patients, then.sequences):
        found = "as many, but other ids, lengths, attributes or groups"
    raise InputError(
        f"the {then.patients} patients with {then.sequences} sequences" if then else "a record of the data",
        found if then else f"none in {path.with_suffix('.json').name}",
        str(path),
        "This split is frozen: made again it would move patients between subsets. To go on with it, and leave out "
        f"those who are new, read it as a file (by=file name={written.name}); for a new division give another name "
        "or seed, and train anew whatever was trained on the old one.",
    )


def _keep(split: Split, root: Path) -> None:
    path = split_file(root, split.name)
    if path.is_file() and path.with_suffix(".json").is_file():
        return
    try:
        if path.is_file():
            save_about(split, root)
        else:
            save_split(split, root)
    except OSError as error:
        if split.basis is not None:
            remedy = "Make it once where you may write, with `temmed data split`, and copy it into splits/."
            raise InputError("a folder to freeze the split in", str(error.strerror), str(path), remedy) from error
        # A shared, read-only folder: a hash gives everyone the same split all the same, and an official one is there.
        _LOG.warning("The split is not kept, as %s cannot be written: %s", path, error.strerror)
