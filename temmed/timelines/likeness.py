"""Find pairs of like pictures and of like texts among many, in time that grows about linearly.

Both work in two steps: keys that like items share with near certainty and unlike ones rarely, then an exact
comparison of the few pairs that share one.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
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
#: Hashes are counted in so many shares, in tables of at most so many places: together 2 ** 27 places.
_SHARE_BITS, _SLOT_BITS = 3, 24
#: Share of the runs that are left by a round of leaving out, beyond which another round is not worth its time.
_SETTLED = 0.9
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
    codes = _sorted(low * count + high)
    return codes // max(count, 1), codes % max(count, 1)


def _sorted(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The distinct values, sorted; for millions of them many times quicker than :func:`numpy.unique`."""
    values = np.sort(values)
    return values[np.concatenate([np.ones(len(values[:1]), bool), values[1:] != values[:-1]])]


def _parts(count: int) -> list[slice]:
    return [slice(start, start + _CHUNK) for start in range(0, count, _CHUNK)]


def normalised_texts(texts: pd.Series) -> pd.Series:
    """Texts in lower case with single blanks between their words, and nothing but letters and digits in words."""
    array = _plain(_arrow(texts))
    # Patterns of Unicode classes are slow to look for, and most texts have none of those characters.
    other = pc.invert(pc.fill_null(pc.string_is_ascii(array), True))
    letters = pc.replace_substring_regex(pc.utf8_lower(array.filter(other)), r"[^\pL\pN]+", " ")
    array = pc.replace_substring_regex(pc.replace_with_mask(array, other, letters), " {2,}", " ")
    array = pc.utf8_trim_whitespace(array)
    return pd.Series(array.to_pandas(), dtype="str").set_axis(texts.index)


#: What each byte of UTF-8 becomes: ASCII letters those in lower case, the rest of ASCII but digits a blank.
_PLAIN = bytes(ord(chr(byte).lower()) if chr(byte).isalnum() else ord(" ") for byte in range(128)) + bytes(
    range(128, 256)
)


def _plain(array: pa.LargeStringArray) -> pa.LargeStringArray:
    """Texts with their ASCII characters in lower case and nothing but letters, digits and blanks among those."""
    valid, offsets, characters = array.buffers()
    if characters is None:
        return array
    plain = pa.py_buffer(characters.to_pybytes().translate(_PLAIN))
    return pa.LargeStringArray.from_buffers(len(array), offsets, plain, valid, -1, array.offset)


def words_of(texts: pd.Series) -> pd.Series:
    """How many words each text has, for texts as :func:`normalised_texts` gives them."""
    return pd.Series(pc.count_substring(_arrow(texts), " ").to_numpy() + 1, index=texts.index)


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
    documents, runs, frequency = _shingles(texts, fewest, threshold)
    sizes = np.bincount(documents, minlength=len(texts))
    starts = np.concatenate([[0], np.cumsum(sizes)])
    place = np.arange(len(documents)) - starts[documents]
    own = sizes[documents]
    telling = (frequency[runs] > 1) & (frequency[runs] <= _COMMON)
    early = (place <= _spare(own, threshold)) & telling
    prefix = np.lexsort((own[early], runs[early]))
    first, second = _neighbours(runs[early][prefix])
    holders = documents[early][prefix]
    firsts, seconds = _distinct(holders[first], holders[second], len(texts))
    small, large = np.sort(np.stack([sizes[firsts], sizes[seconds]]), axis=0)
    fitting = small >= threshold * large - 1e-9
    firsts, seconds = firsts[fitting], seconds[fitting]
    held = sparse.csr_matrix((np.ones(len(runs), np.int32), runs, starts), shape=(len(texts), len(frequency)))
    shared = np.concatenate(
        [np.asarray(held[firsts[p]].multiply(held[seconds[p]]).sum(axis=1)).ravel() for p in _parts(len(firsts))]
        or [np.zeros(0)]
    )
    ratio = shared / np.maximum(sizes[firsts] + sizes[seconds] - shared, 1)
    keep = ratio >= threshold - 1e-9
    return firsts[keep], seconds[keep], ratio[keep]


def _spare(sizes: NDArray[np.int64], threshold: float) -> NDArray[np.int64]:
    """How many of so many runs another text may lack and still be like this one."""
    # Rounded down, for a product such as 0.8 * 10 may come out a little above the true one.
    return sizes - np.ceil(threshold * sizes - 1e-9).astype(np.int64)


def _shingles(
    texts: pd.Series, fewest: int, threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The runs of three words of the texts that may be like another one.

    Returns:
        Text and run of each distinct pair of them, by text and the rarest run first, and how many texts each run has;
        runs are numbers from 0, the rarest first.
    """
    with ThreadPoolExecutor() as pool:
        parts = list(pool.map(lambda part: _hashed_runs(texts.iloc[part], part.start, fewest), _parts(len(texts))))
    owners, hashes = (np.concatenate(arrays) for arrays in zip(*parts, strict=True)) if parts else _NO_RUNS
    owners, hashes = _close(owners, hashes, _spare(np.bincount(owners, minlength=len(texts)), threshold))
    runs, values = pd.factorize(hashes)
    pairs = _sorted(owners * len(values) + runs)
    documents, runs = np.divmod(pairs, max(len(values), 1))
    frequency = np.bincount(runs, minlength=len(values))
    order = np.argsort(frequency, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    documents, runs = np.divmod(np.sort(documents * len(values) + rank[runs]), max(len(values), 1))
    return documents, runs, frequency[order]


_NO_RUNS = (np.zeros(0, np.int64), np.zeros(0, np.uint64))


def _close(
    owners: NDArray[np.int64], hashes: NDArray[np.uint64], spare: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """The runs of texts that may be like another one; most texts are not, and need not be looked at closely.

    A text with more runs of its own than it may have is like no other. Without it others may have more of their own.
    """
    share_left = 0.0
    while share_left < _SETTLED:
        alone = np.bincount(owners[~_repeated(hashes)], minlength=len(spare))
        close = (alone <= spare)[owners]
        share_left = close.mean() if len(close) else 1.0
        owners, hashes = owners[close], hashes[close]
    return owners, hashes


def _hashed_runs(texts: pd.Series, start: int, fewest: int) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """The place of a text, counted from ``start``, and a hash for each of its runs of three words."""
    words = pc.split_pattern(_arrow(texts), " ")
    lengths = pc.list_value_length(words).to_numpy().astype(np.int64)
    flat = pc.list_flatten(words).dictionary_encode()
    hashes = pd.util.hash_array(flat.dictionary.to_numpy(zero_copy_only=False))[flat.indices.to_numpy()]
    last = len(hashes) - _SHINGLE + 1
    if last <= 0:
        return _NO_RUNS
    mixed = np.zeros(last, np.uint64)
    for step in range(_SHINGLE):
        # 64 bits, so that two runs of one text collection hardly ever meet.
        mixed = (mixed ^ hashes[step : last + step]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    documents = np.repeat(np.arange(len(texts)), lengths)
    owner = documents[:last]
    whole = (owner == documents[_SHINGLE - 1 :]) & (lengths[owner] >= max(fewest, _SHINGLE))
    return owner[whole] + start, mixed[whole]


def _repeated(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which hashes are there more than once, and a few others besides."""
    # At least as many places in all as there are hashes, eight times over.
    bits = min(len(hashes).bit_length(), _SLOT_BITS)
    shares, slots = (hashes >> np.uint64(shift) for shift in (64 - _SHARE_BITS, 64 - _SHARE_BITS - bits))
    slots &= np.uint64((1 << bits) - 1)
    repeated = np.zeros(len(hashes), bool)
    for share in range(1 << _SHARE_BITS):
        # A share at a time, for a table of counts that is small.
        mine = np.flatnonzero(shares == share)
        slot = slots[mine].astype(np.int64)
        repeated[mine] = (np.bincount(slot, minlength=1) > 1)[slot]
    return repeated
