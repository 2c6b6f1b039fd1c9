"""Find pairs of like pictures and of like texts among many, in time that grows about linearly.

Both work in two steps: keys that like items share with near certainty and unlike ones rarely, then an exact
comparison of the few pairs that share one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import ndimage, sparse

Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]

#: Items of one key that are compared with each item: beyond, a key says little.
_WINDOW = 12
#: Texts that share a run, beyond which it says nothing.
_COMMON = 64
#: Words of a shingle, the unit in which texts are compared.
_SHINGLE = 3
#: Bands of bits that pictures are hashed to. Two pictures with correlation 0.95 share one of them in 9 of 10 cases.
_BANDS = 16
#: Side, in points of a thumbnail, of the square whose mean is taken off: large shapes are alike in all heads.
_DETAIL = 9
#: Groups with fewer owners have no mean that says what is common to them.
_FEW = 20
#: By how much less such pictures may differ: what is common to all of them makes them alike.
_STRICTER = 4.0
_CHUNK = 8192


def like_pictures(thumbnails: NDArray[np.uint8], groups: NDArray[Any], owners: NDArray[Any], threshold: float) -> Pairs:
    """Pairs of pictures of different owners with nearly the same content.

    Size, brightness, contrast and compression do not matter. What all pictures of a group have in common is taken off
    before they are compared; where a group has too few owners for that, they must be the more alike.

    Args:
        thumbnails: (N, side, side).
        groups: of each, such as its channel.
        owners: of each, such as its patient.
        threshold: least correlation, 0 to 1.

    Returns:
        First and second index and correlation of each pair.
    """
    details = np.concatenate(
        [_details(thumbnails[start : start + _CHUNK]) for start in range(0, len(thumbnails), _CHUNK)]
        or [np.zeros((0, 1), np.float32)]
    )
    centred, is_centred = details.copy(), np.zeros(len(details), bool)
    for _, rows in pd.Series(np.arange(len(groups))).groupby(groups):
        if len(set(owners[rows])) >= _FEW:
            centred[rows] = _normalised(details[rows] - details[rows].mean(axis=0))
            is_centred[rows] = True
    firsts, seconds = _candidates(centred, pd.factorize(owners)[0])
    alike = np.concatenate(
        [np.einsum("nd,nd->n", centred[firsts[part]], centred[seconds[part]]) for part in _parts(len(firsts))]
        or [np.zeros(0)]
    )
    alike = np.where(is_centred[firsts] & is_centred[seconds], alike, 1 - _STRICTER * (1 - alike))
    keep = alike >= threshold
    return firsts[keep], seconds[keep], alike[keep].astype(np.float64)


def _details(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    pictures = thumbnails.astype(np.float32)
    coarse = ndimage.uniform_filter(pictures, size=(0, _DETAIL, _DETAIL), mode="nearest")
    flat = (pictures - coarse).reshape(len(pictures), -1)
    return _normalised(flat - flat.mean(axis=1, keepdims=True))


def _normalised(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 1e-6)


def _candidates(vectors: NDArray[np.float32], owners: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """Pairs that share all bits of a band: on which side of some random planes they lie."""
    bits = min(max(12, math.ceil(math.log2(len(vectors) + 1)) + 2), 30)
    rng = np.random.default_rng(0)
    weights = (1 << np.arange(bits, dtype=np.int64)).astype(np.float64)
    firsts, seconds = [], []
    for _ in range(_BANDS):
        planes = rng.standard_normal((vectors.shape[1], bits)).astype(np.float32)
        keys = np.concatenate(
            [((vectors[part] @ planes) > 0) @ weights for part in _parts(len(vectors))] or [np.zeros(0)]
        )
        # One picture per owner and key: what matters is whose pictures are alike.
        table = pd.DataFrame({"key": keys.astype(np.int64), "owner": owners}).drop_duplicates()
        table = table[table.duplicated("key", keep=False)].sort_values("key", kind="stable")
        first, second = _neighbours(table["key"].to_numpy())
        rows = table.index.to_numpy()
        firsts.append(rows[first])
        seconds.append(rows[second])
    return _distinct(np.concatenate(firsts), np.concatenate(seconds), len(vectors))


def _neighbours(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places in sorted keys that are at most a window apart and hold the same key."""
    firsts, seconds = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for step in range(1, min(_WINDOW, len(keys) - 1) + 1):
        same = np.flatnonzero(keys[:-step] == keys[step:])
        firsts.append(same)
        seconds.append(same + step)
    return np.concatenate(firsts), np.concatenate(seconds)


def _distinct(firsts: NDArray[np.int64], seconds: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], ...]:
    low, high = np.minimum(firsts, seconds), np.maximum(firsts, seconds)
    codes = np.unique(low * count + high)
    return codes // max(count, 1), codes % max(count, 1)


def _parts(count: int) -> list[slice]:
    return [slice(start, start + _CHUNK) for start in range(0, count, _CHUNK)]


def normalised_texts(texts: pd.Series) -> pd.Series:
    """Texts in lower case with single blanks between their words, and nothing but letters and digits in words."""
    array = pc.utf8_lower(_arrow(texts))
    array = pc.utf8_trim_whitespace(pc.replace_substring_regex(array, r"[^\pL\pN]+", " "))
    return pd.Series(array.to_pandas(), dtype="str").set_axis(texts.index)


def _arrow(texts: pd.Series) -> pa.Array:
    array = pa.array(texts, pa.large_string(), from_pandas=True)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def like_texts(texts: pd.Series, threshold: float, fewest: int = 1) -> Pairs:
    """Pairs of texts that share most of their runs of three words.

    With the runs of each text sorted by rarity, two that share the fraction ``threshold`` of all their runs must share
    one of the first (prefix filtering). Pairs are missed only where more than a dozen texts have each of those.

    Args:
        texts: distinct texts, as :func:`normalised_texts` gives them.
        threshold: least ratio of the runs that two share to the runs that either has, above 0.
        fewest: shorter texts, in words, take no part.

    Returns:
        First and second place in ``texts`` and that ratio, for each pair.
    """
    documents, runs, count = _shingles(texts, fewest)
    sizes = np.bincount(documents, minlength=len(texts))
    frequency = np.bincount(runs, minlength=count)
    order = np.lexsort((runs, frequency[runs], documents))
    documents, runs = documents[order], runs[order]
    place = np.arange(len(documents)) - np.concatenate([[0], np.cumsum(sizes)])[documents]
    # Rounded down, for a product such as 0.8 * 10 may come out a little above the true one.
    own = sizes[documents]
    telling = (frequency[runs] > 1) & (frequency[runs] <= _COMMON)
    early = (place < own - np.ceil(threshold * own - 1e-9) + 1) & telling
    prefix = np.lexsort((own[early], runs[early]))
    first, second = _neighbours(runs[early][prefix])
    holders = documents[early][prefix]
    firsts, seconds = _distinct(holders[first], holders[second], len(texts))
    small, large = np.sort(np.stack([sizes[firsts], sizes[seconds]]), axis=0)
    fitting = small >= threshold * large - 1e-9
    firsts, seconds = firsts[fitting], seconds[fitting]
    held = sparse.csr_matrix((np.ones(len(runs), np.int32), (documents, runs)), shape=(len(texts), count))
    shared = np.concatenate(
        [np.asarray(held[firsts[p]].multiply(held[seconds[p]]).sum(axis=1)).ravel() for p in _parts(len(firsts))]
        or [np.zeros(0)]
    )
    ratio = shared / np.maximum(sizes[firsts] + sizes[seconds] - shared, 1)
    keep = ratio >= threshold - 1e-9
    return firsts[keep], seconds[keep], ratio[keep]


def _shingles(texts: pd.Series, fewest: int) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Text and run of three words of each distinct pair of them, both as numbers from 0, and the number of runs."""
    words = pc.split_pattern(_arrow(texts), " ")
    lengths = pc.list_value_length(words).to_numpy().astype(np.int64)
    codes = pc.list_flatten(words).dictionary_encode().indices.to_numpy().astype(np.uint64)
    documents = np.repeat(np.arange(len(texts)), lengths)
    last = len(codes) - _SHINGLE + 1
    if last <= 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), 0
    mixed = np.zeros(last, np.uint64)
    for step in range(_SHINGLE):
        # FNV-1a over the words: 64 bits, so that two runs of one text collection hardly ever meet.
        mixed = (mixed ^ (codes[step : last + step] + np.uint64(0x9E3779B97F4A7C15))) * np.uint64(0x100000001B3)
        mixed ^= mixed >> np.uint64(29)
    owner = documents[:last]
    whole = (owner == documents[_SHINGLE - 1 :]) & (lengths[owner] >= max(fewest, _SHINGLE))
    runs, values = pd.factorize(mixed[whole])
    codes_of = np.unique(owner[whole].astype(np.int64) * max(len(values), 1) + runs)
    return codes_of // max(len(values), 1), codes_of % max(len(values), 1), len(values)
