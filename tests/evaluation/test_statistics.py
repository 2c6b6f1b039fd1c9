from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score

from temmed.evaluation.statistics import (
    Estimate,
    PatientResampler,
    Replicates,
    holm,
    mcnemar_test,
    permutation_test,
)
from temmed.metrics.functional.classification import macro_f1, weighted_f1


def clustered(rng: np.random.Generator, patients: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Right or wrong, with patients that are easier or harder: the answers of one are alike."""
    sizes = rng.integers(1, 12, patients)
    codes = np.repeat(np.arange(patients), sizes)
    ease = rng.beta(1.2, 0.8, patients)
    return (rng.random(len(codes)) < ease[codes]).astype(float), codes


def only(replicates: Replicates) -> Estimate:
    (estimate,) = replicates.estimates()
    return estimate


def test_independent_data_agree_with_scipy() -> None:
    values = np.random.default_rng(0).normal(3, 1, 150)
    ours = only(PatientResampler(np.arange(150), 4000, seed=1).means(values))
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs), abs=0.02)
    assert ours.n == 150


def test_clustered_means_equal_resampling_patients_one_by_one() -> None:
    values, codes = clustered(np.random.default_rng(0))
    resampler = PatientResampler(codes, 40, seed=3)
    samples = resampler.means(values).samples[:, 0]
    for weights, sample in zip(resampler.weights, samples, strict=True):
        drawn = [values[codes == patient] for patient in np.repeat(np.arange(len(weights)), weights)]
        assert sample == pytest.approx(np.concatenate(drawn).mean())
    assert (resampler.weights.sum(axis=1) == 60).all()


def test_macro_f1_of_resamples_equals_sklearn() -> None:
    rng = np.random.default_rng(0)
    _, codes = clustered(rng, 20)
    truth, predicted = rng.integers(0, 3, len(codes)), rng.integers(0, 3, len(codes))
    resampler = PatientResampler(codes, 25, seed=0)
    keep = np.stack([np.ones(len(codes), bool), truth != predicted, np.zeros(len(codes), bool)], axis=1)
    found = resampler.macro_f1(truth, predicted, 3, keep)
    assert found.value[0] == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert found.value[1] == 0
    assert np.isnan(found.value[2])
    for weights, sample in zip(resampler.weights, found.samples[:, 0], strict=True):
        reference = f1_score(truth, predicted, average="macro", sample_weight=weights[codes])
        assert sample == pytest.approx(reference)


def test_several_scores_of_confusion_are_those_of_sklearn() -> None:
    rng = np.random.default_rng(1)
    _, codes = clustered(rng, 12)
    truth, predicted = rng.integers(0, 3, len(codes)), rng.integers(0, 3, len(codes))
    resampler = PatientResampler(codes, 10, seed=0)
    macro, weighted = resampler.of_confusion([macro_f1, weighted_f1], truth, predicted, 3, np.ones(len(codes), bool))
    assert macro.value[0] == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert weighted.value[0] == pytest.approx(f1_score(truth, predicted, average="weighted"))
    for weights, sample in zip(resampler.weights, weighted.samples[:, 0], strict=True):
        reference = f1_score(truth, predicted, average="weighted", sample_weight=weights[codes])
        assert sample == pytest.approx(reference)


def test_means_of_groups_equal_means_of_columns() -> None:
    rng = np.random.default_rng(2)
    values, codes = clustered(rng, 25)
    values = np.where(rng.random(len(codes)) < 0.1, np.nan, values)
    groups = rng.integers(-1, 4, len(codes))
    resampler = PatientResampler(codes, 20, seed=0)
    columns = np.stack([np.where(groups == group, values, np.nan) for group in range(5)], axis=1)
    found, expected = resampler.group_means(values, groups, 5), resampler.means(columns)
    for name in ("value", "samples", "n", "n_patients"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), err_msg=name)
    assert found.n[4] == 0


def test_sums_of_groups_equal_counting_resampled_items() -> None:
    rng = np.random.default_rng(3)
    values, codes = clustered(rng, 8)
    groups = rng.integers(-1, 3, len(codes))
    resampler = PatientResampler(codes, 15, seed=0)
    sums, samples = resampler.group_sums(values, groups, 3)
    for group in range(3):
        inside = groups == group
        assert sums[group] == pytest.approx(values[inside].sum())
        expected = [(weights[codes] * values)[inside].sum() for weights in resampler.weights]
        np.testing.assert_allclose(samples[:, group], expected)


def test_medians_of_resamples_equal_sorting_them() -> None:
    values, codes = np.random.default_rng(0).exponential(size=80), np.arange(80) % 13
    resampler = PatientResampler(codes, 30, seed=0)
    masked = np.where(np.arange(80) < 50, values, np.nan)
    found = resampler.medians(np.stack([values, masked], axis=1))
    assert found.value[0] == np.sort(values)[39]
    assert found.n.tolist() == [80, 50]
    for weights, samples in zip(resampler.weights, found.samples, strict=True):
        for column, sample in zip((values, masked), samples, strict=True):
            drawn = np.sort(np.repeat(column, weights[codes]))
            drawn = drawn[~np.isnan(drawn)]
            assert sample == drawn[(len(drawn) - 1) // 2]


def test_intervals_of_alike_answers_are_wider_than_if_they_were_independent() -> None:
    values, codes = clustered(np.random.default_rng(0))
    apart = only(PatientResampler(np.arange(len(codes))).means(values))
    together = only(PatientResampler(codes).means(values))
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


def test_coverage_is_near_its_nominal_level() -> None:
    truth = 1.2 / 2.0
    covered = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        values, codes = clustered(rng)
        estimate = only(PatientResampler(codes, 400, seed).means(values))
        covered.append(estimate.low <= truth <= estimate.high)
    # Binomial spread of 200 trials is 1.5 points; percentile intervals of 60 patients are a little short.
    assert 0.89 <= np.mean(covered) <= 0.99


@given(st.integers(0, 2**16), st.integers(2, 12))
@settings(max_examples=25, deadline=None)
def test_names_and_order_of_items_change_nothing(seed: int, patients: int) -> None:
    rng = np.random.default_rng(seed)
    values, codes = clustered(rng, patients)
    order = rng.permutation(len(codes))
    first = only(PatientResampler(codes, 50, 0).means(values))
    second = only(PatientResampler([f"{code:03d}" for code in codes[order]], 50, 0).means(values[order]))
    assert second.value == pytest.approx(first.value)
    assert (second.low, second.high) == pytest.approx((first.low, first.high))


def test_equal_seeds_give_equal_intervals_and_others_do_not() -> None:
    values, codes = clustered(np.random.default_rng(0))
    first, again, other = (only(PatientResampler(codes, 100, seed).means(values)) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_missing_values_take_items_out() -> None:
    values, codes = clustered(np.random.default_rng(0))
    holes = np.where(np.arange(len(values)) % 3 == 0, np.nan, values)
    found = PatientResampler(codes, 100).means(np.stack([holes, np.full(len(values), np.nan)], axis=1))
    assert found.value[0] == pytest.approx(np.nanmean(holes))
    assert found.n.tolist() == [np.isfinite(holes).sum(), 0]
    assert np.isnan(found.value[1])


def test_one_patient_gives_no_interval() -> None:
    estimate = only(PatientResampler(["p"] * 5, 100).means([1, 0, 1, 1, 1]))
    assert estimate.value == 0.8
    assert np.isnan([estimate.low, estimate.high]).all()


def test_intervals_over_runs_are_of_patients_and_of_runs() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(100), 5)
    resampler = PatientResampler(patients, 2000)
    low, high = (resampler.means((rng.random(500) < share).astype(float)) for share in (0.3, 0.7))
    assert Replicates.over_runs([low]).estimates() == low.estimates()
    both = Replicates.over_runs([low, high]).estimates()[0]
    assert both.value == pytest.approx((low.value[0] + high.value[0]) / 2)
    # Of two runs both may be the lower one, or the higher one.
    assert both.low < low.estimates()[0].high
    assert both.high > high.estimates()[0].low
    same = Replicates.over_runs([low, low]).estimates()[0]
    assert (same.low, same.high) == pytest.approx((low.estimates()[0].low, low.estimates()[0].high))


def test_intervals_over_runs_have_the_variance_of_both_levels() -> None:
    """With many runs: variance over patients, and over runs divided by their number."""
    rng = np.random.default_rng(1)
    shared = rng.normal(size=400)
    resampler = PatientResampler(np.arange(400), 4000)
    shifts = rng.normal(scale=0.3, size=40)
    found = Replicates.over_runs([resampler.means(shared + shift) for shift in shifts])
    expected = shared.var() / 400 + shifts.var() / 40
    assert found.samples.var() == pytest.approx(expected, rel=0.1)


def test_a_wide_difference_is_significant_and_none_is_not() -> None:
    rng = np.random.default_rng(0)
    values, codes = clustered(rng)
    worse = np.where(rng.random(len(values)) < 0.4, 0.0, values)
    assert permutation_test(values - worse, codes, permutations=2000) < 0.01
    assert permutation_test(np.zeros(20), np.arange(20), permutations=500) == 1.0


def test_permutation_agrees_with_scipy_on_independent_data() -> None:
    differences = np.random.default_rng(0).normal(0.2, 1, 60)
    theirs = stats.permutation_test(
        (differences,),
        lambda sample, axis: np.mean(sample, axis=axis),
        permutation_type="samples",
        n_resamples=10_000,
        vectorized=True,
        rng=np.random.default_rng(1),
    ).pvalue
    assert permutation_test(differences, np.arange(60)) == pytest.approx(theirs, abs=0.02)


def test_permutation_equals_going_through_all_signs() -> None:
    differences, patients = np.array([1.0, 1.0, -1.0, 1.0, 0.0, 1.0]), np.array([0, 0, 1, 2, 2, 3])
    sums = np.array([2.0, -1.0, 1.0, 1.0])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 4)).reshape(4, -1)
    exact = (np.abs(sums @ signs) >= abs(sums.sum())).mean()
    assert permutation_test(differences, patients, permutations=20_000) == pytest.approx(exact, abs=0.015)


def test_false_alarms_of_the_permutation_test_are_as_rare_as_promised() -> None:
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(200):
        values, codes = clustered(rng, 30)
        swap = rng.random(30)[codes] < 0.5
        other = (rng.random(len(codes)) < 0.6).astype(float)
        p_values.append(permutation_test(np.where(swap, values - other, other - values), codes, permutations=200))
    assert 0.01 <= (np.array(p_values) <= 0.05).mean() <= 0.10


def test_mcnemar_by_hand() -> None:
    first, second = [True] * 9 + [False], [False] * 9 + [True]
    # 9 of 10 disagreements in favour of the first: 2 * (C(10, 0) + C(10, 1)) / 2^10.
    assert mcnemar_test(first, second) == pytest.approx(22 / 1024)
    assert mcnemar_test([True, False], [True, False]) == 1.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(max_examples=60)
def test_holm_equals_its_definition(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    # Rejected at a level, step by step, exactly when the adjusted value is at most that level.
    for level in (0.01, 0.05, 0.3):
        order = np.argsort(p_values, kind="stable")
        rejected = set()
        for rank, index in enumerate(order):
            if p_values[index] * (len(p_values) - rank) > level:
                break
            rejected.add(int(index))
        assert {index for index, value in enumerate(adjusted) if value <= level} == rejected
    assert all(given_ <= ours <= 1 for given_, ours in zip(p_values, adjusted, strict=True))
