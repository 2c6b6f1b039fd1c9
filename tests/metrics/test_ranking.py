from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score, roc_auc_score

from temmed.errors import InputError
from temmed.metrics.functional.ranking import (
    first_relevant_ranks,
    macro_auprc,
    macro_auroc,
    mean_reciprocal_rank,
    recall_at_k,
)

CASES = 1000


def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cosine similarities, most of them negative, and one relevant candidate per query."""
    queries, candidates = int(rng.integers(1, 12)), int(rng.integers(2, 12))
    similarities = rng.uniform(-1, 0.2, (queries, candidates))
    return similarities, np.eye(candidates, dtype=bool)[rng.integers(0, candidates, queries)]


def test_ranks_equal_scipy_and_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    for _ in range(CASES):
        similarities, relevant = draw(rng)
        ranks = first_relevant_ranks(similarities, relevant)
        np.testing.assert_array_equal(ranks, rankdata(-similarities, axis=1)[relevant])
        # With one relevant candidate, average precision is the reciprocal rank.
        expected = label_ranking_average_precision_score(relevant, similarities)
        assert mean_reciprocal_rank(ranks) == pytest.approx(expected, abs=1e-9)
        k = int(rng.integers(1, 6))
        first = np.argsort(-similarities, axis=1)[:, :k]
        assert recall_at_k(ranks, k) == pytest.approx(np.take_along_axis(relevant, first, axis=1).any(axis=1).mean())


def test_ties_are_taken_pessimistically() -> None:
    rng = np.random.default_rng(1)
    for _ in range(CASES):
        similarities, relevant = draw(rng)
        similarities = similarities.round(1)
        expected = rankdata(-similarities, axis=1, method="max")[relevant]
        np.testing.assert_array_equal(first_relevant_ranks(similarities, relevant), expected)


def test_several_relevant_candidates_count_by_the_best() -> None:
    similarities = [[-0.9, -0.2, -0.3, -0.2], [0.5, 0.4, 0.4, 0.1], [-np.inf, -1.0, -1.0, -1.0]]
    relevant = [[True, False, True, False], [False, True, True, False], [True, False, False, False]]
    assert first_relevant_ranks(similarities, relevant).tolist() == [3, 2, 4]


def test_queries_without_a_right_candidate_are_left_out() -> None:
    ranks = first_relevant_ranks([[0.3, 0.1], [0.3, 0.1]], [[False, False], [True, False]])
    assert np.isnan(ranks[0])
    assert recall_at_k(ranks, 1) == mean_reciprocal_rank(ranks) == 1
    assert np.isnan(recall_at_k(ranks[:1], 1))
    assert np.isnan(mean_reciprocal_rank([]))
    assert first_relevant_ranks(np.zeros((0, 3)), np.zeros((0, 3))).shape == (0,)


def test_what_is_no_table_of_similarities_is_refused() -> None:
    with pytest.raises(InputError, match="similarity of every pair"):
        first_relevant_ranks([[np.nan, 1.0]], [[True, False]])
    with pytest.raises(InputError, match="queries, candidates"):
        first_relevant_ranks([[0.5, 1.0]], [[True]])


@given(st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_only_the_order_counts(seed: int) -> None:
    similarities, relevant = draw(np.random.default_rng(seed))
    ranks = first_relevant_ranks(similarities, relevant)
    np.testing.assert_array_equal(first_relevant_ranks(3 * similarities - 7, relevant), ranks)
    candidates = np.random.default_rng(seed).permutation(similarities.shape[1])
    np.testing.assert_array_equal(first_relevant_ranks(similarities[:, candidates], relevant[:, candidates]), ranks)


def test_areas_equal_pairs_and_steps() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        n, k = int(rng.integers(5, 30)), int(rng.integers(2, 5))
        probabilities, truth = rng.dirichlet(np.ones(k), n).round(1), rng.integers(0, k, n)
        areas, precisions = [], []
        for place in range(k):
            positive = truth == place
            if positive.all() or not positive.any():
                continue
            ours, others = probabilities[positive, place], probabilities[~positive, place]
            pairs = ours[:, None] - others[None, :]
            areas.append(((pairs > 0) + 0.5 * (pairs == 0)).mean())
            above = probabilities[:, place][None, :] >= ours[:, None]
            precisions.append((above[:, positive].sum(axis=1) / above.sum(axis=1)).mean())
        assert macro_auroc(probabilities, truth) == pytest.approx(np.mean(areas) if areas else np.nan, nan_ok=True)
        expected = np.mean(precisions) if precisions else np.nan
        assert macro_auprc(probabilities, truth) == pytest.approx(expected, nan_ok=True)


def test_areas_equal_scikit_learn_where_every_class_occurs() -> None:
    rng = np.random.default_rng(3)
    for _ in range(CASES):
        truth = np.concatenate([np.arange(3), rng.integers(0, 3, 20)])
        probabilities = rng.dirichlet(np.ones(3), len(truth))
        expected = roc_auc_score(truth, probabilities, multi_class="ovr", average="macro")
        assert macro_auroc(probabilities, truth) == pytest.approx(expected, abs=1e-9)
        expected = average_precision_score(np.eye(3)[truth], probabilities, average="macro")
        assert macro_auprc(probabilities, truth) == pytest.approx(expected, abs=1e-9)


def test_one_class_has_no_area() -> None:
    assert np.isnan(macro_auroc([[0.9, 0.1], [0.2, 0.8]], [1, 1]))
    assert np.isnan(macro_auprc(np.zeros((0, 2)), np.zeros(0, dtype=int)))
