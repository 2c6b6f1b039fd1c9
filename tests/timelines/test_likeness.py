from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from temmed.timelines.duplicates import duplicate_groups, linked
from temmed.timelines.folder import Timeline
from temmed.timelines.likeness import like_pictures, like_texts, normalised_texts

Tables = dict[str, pd.DataFrame]
THRESHOLD = 0.6


def runs(text: str) -> set[tuple[str, ...]]:
    words = text.split(" ")
    return {tuple(words[place : place + 3]) for place in range(len(words) - 2)}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcde"), min_size=3, max_size=9).map(" ".join), max_size=12, unique=True))
def test_like_texts_are_those_of_all_pairs_compared(texts: list[str]) -> None:
    expected = {
        (i, j): len(runs(a) & runs(b)) / len(runs(a) | runs(b))
        for j, b in enumerate(texts)
        for i, a in enumerate(texts[:j])
        if len(runs(a) & runs(b)) >= THRESHOLD * len(runs(a) | runs(b))
    }
    firsts, seconds, ratios = like_texts(pd.Series(texts, dtype="str"), THRESHOLD)
    assert dict(zip(zip(firsts.tolist(), seconds.tolist(), strict=True), ratios, strict=True)) == pytest.approx(
        expected
    )


def test_texts_are_compared_without_case_and_punctuation() -> None:
    texts = pd.Series(["  No  Lesion, in the LEFT lobe.", "no lesion in the left lobe"])
    assert normalised_texts(texts).nunique() == 1


@given(st.lists(st.text(max_size=20)))
def test_texts_in_any_script_are_normalised(texts: list[str]) -> None:
    plain = pd.Series(texts, dtype="str")
    lowered = pc.utf8_lower(pa.array(texts, pa.large_string()))
    expected = pc.utf8_trim_whitespace(pc.replace_substring_regex(lowered, r"[^\pL\pN]+", " ")).to_pylist()
    assert normalised_texts(plain).tolist() == expected
    assert normalised_texts(plain.iloc[1:]).tolist() == expected[1:]


def head(rng: np.random.Generator) -> np.ndarray:
    """A common shape with a texture of its own, 128 × 128."""
    rows, columns = np.mgrid[-1:1:128j, -1:1:128j]
    texture = ndimage.gaussian_filter(rng.normal(size=(128, 128)), 4)
    return (rows**2 + columns**2 < 0.7) * (100 + 500 * texture)


def thumbnail(image: np.ndarray) -> np.ndarray:
    small = np.asarray(Image.fromarray(image.astype(np.float32)).resize((32, 32), Image.Resampling.BOX))
    return ((small - small.min()) / np.ptp(small) * 255).astype(np.uint8)


def recompressed(image: np.ndarray) -> np.ndarray:
    stream = io.BytesIO()
    scaled = (image - image.min()) / np.ptp(image) * 255
    Image.fromarray(scaled.astype(np.uint8)).save(stream, "JPEG", quality=60)
    return np.asarray(Image.open(stream)).astype(float)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "darker": lambda image: image * 0.5 + 30,
    "smaller": lambda image: np.asarray(Image.fromarray(image.astype(np.float32)).resize((96, 96))),
    "recompressed": recompressed,
    "noisy": lambda image: image + np.random.default_rng(5).normal(0, 3, image.shape),
}


@pytest.mark.parametrize("patients", [6, 60])
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(change: str, patients: int) -> None:
    rng = np.random.default_rng(1)
    images = [head(rng) for _ in range(patients)]
    pictures = np.stack([thumbnail(image) for image in [*images, CHANGES[change](images[3])]])
    owners = np.arange(patients + 1)
    firsts, seconds, likeness = like_pictures(pictures, np.full(patients + 1, "t1", object), owners, 0.95)
    assert list(zip(firsts.tolist(), seconds.tolist(), strict=True)) == [(3, patients)]
    assert likeness[0] <= 1.0 + 1e-6
    owners[patients] = 3
    assert len(like_pictures(pictures, np.full(patients + 1, "t1", object), owners, 0.95)[0]) == 0


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=20))
def test_linked_patients_are_the_components_of_the_graph(edges: list[tuple[int, int]]) -> None:
    groups = linked([(str(a), str(b)) for a, b in edges])
    assert sorted(name for group in groups for name in group) == sorted({str(end) for edge in edges for end in edge})
    assert all(any({str(a), str(b)} <= group for group in groups) for a, b in edges)
    assert len(groups) == len({min(group) for group in groups}), "groups are disjoint"


def test_duplicate_groups_link_by_images_and_by_reports(tables: Tables, build: Callable[..., Path]) -> None:
    text = " ".join(f"word{number}" for number in range(40))
    tables["reports"].loc[[0, 4], "text"] = text
    root = build(tables)
    assert duplicate_groups(Timeline.open(root)) == [{"p0", "p1"}]
    assert duplicate_groups(Timeline.open(root), reports=False) == []
    copied = np.load(root / "images" / "s1_t1.npy")
    copied[0] = np.load(root / "images" / "s2_flair.npy")[4]
    np.save(root / "images" / "s1_t1.npy", copied)
    assert duplicate_groups(Timeline.open(root)) == [{"p0", "p1", "p2"}]
    assert duplicate_groups(Timeline.open(root), reports=False) == [{"p1", "p2"}]
