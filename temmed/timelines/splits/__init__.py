"""Which questions train, choose and test a model, decided once and kept beside the data."""

from temmed.timelines.recipe import DEFAULT_FRACTIONS, PLAIN_RULES, RULES, SUBSETS, Recipe
from temmed.timelines.splits.division import Split, overlapping, seen_before
from temmed.timelines.splits.files import (
    FOLDER,
    EditedSplitError,
    complete,
    load_split,
    read_about,
    read_split_frame,
    save_split,
)
from temmed.timelines.splits.groups import with_duplicates
from temmed.timelines.splits.hashing import TOLERANCE, assign
from temmed.timelines.splits.kept import find_split, get_split, keep_split, reopen_split
from temmed.timelines.splits.make import CUTS, make_split

__all__ = [
    "CUTS",
    "DEFAULT_FRACTIONS",
    "FOLDER",
    "PLAIN_RULES",
    "RULES",
    "SUBSETS",
    "TOLERANCE",
    "EditedSplitError",
    "Recipe",
    "Split",
    "assign",
    "complete",
    "find_split",
    "get_split",
    "keep_split",
    "load_split",
    "make_split",
    "overlapping",
    "read_about",
    "read_split_frame",
    "reopen_split",
    "save_split",
    "seen_before",
    "with_duplicates",
]
