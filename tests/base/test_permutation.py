"""Permutation tests against brute force over all permutations, scipy's own, and planted effects."""

import tracemalloc
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from msxai.base import permutation
from msxai.base.errors import ParameterError


def brute(values, labels):
    """All labellings one by one, with scipy's Welch t: t, p and max-T p."""

    def t(chosen):
        chosen = np.isin(np.arange(len(values)), chosen)
        return stats.ttest_ind(values[chosen], values[~chosen], equal_var=False).statistic

    observed = np.abs(t(np.flatnonzero(labels)))
    result = np.abs([t(chosen) for chosen in combinations(range(len(values)), int(labels.sum()))])
    return (
        observed,
        (result >= observed - 1e-9).mean(0),
        (result.max(1)[:, None] >= observed - 1e-9).mean(0),
    )


def test_max_t_is_brute_force_over_all_labellings(rng):
    values, labels = (
        rng.normal(size=(8, 5)) * [1, 1e-6, 1e3, 1, 1] + [0, 0, 5, 100, 0],
        np.array([1, 0, 1, 1, 0, 0, 0, 1]),
    )
    values[labels == 1, 3] += 3
    t, p, family = brute(values, labels)
    result = permutation.two_groups(values, labels, n=70)
    assert np.abs(result["t"].to_numpy()) == pytest.approx(t)
    assert result["p"].to_numpy() == pytest.approx(p)
    assert result["p_fwe"].to_numpy() == pytest.approx(family)
    assert result["p_fdr"].to_numpy() == pytest.approx(stats.false_discovery_control(p))
    assert result["difference"].to_numpy() == pytest.approx(
        values[labels == 1].mean(0) - values[labels == 0].mean(0)
    )
    drawn = permutation.two_groups(values, labels, n=69, seed=3)  # one too few to take all: drawn
    assert drawn["p_fwe"].to_numpy() == pytest.approx(family, abs=0.2)
    assert (drawn["p_fwe"] >= 1 / 70).all()


def test_sign_flips_are_brute_force(rng):
    values = rng.normal(0.4, 1, size=(7, 4))
    observed = np.abs(stats.ttest_1samp(values, 0).statistic)
    flips = [
        np.abs(stats.ttest_1samp(values * np.array(signs)[:, None], 0).statistic)
        for signs in product([1, -1], repeat=7)
    ]
    result = permutation.paired(values, n=128)
    assert np.abs(result["t"].to_numpy()) == pytest.approx(observed)
    assert result["p"].to_numpy() == pytest.approx((np.array(flips) >= observed - 1e-9).mean(0))
    assert result["p_fwe"].to_numpy() == pytest.approx(
        (np.max(flips, axis=1)[:, None] >= observed - 1e-9).mean(0)
    )


def test_a_region_without_spread_is_no_finding(rng):
    values = rng.normal(size=(10, 3))
    values[:, 1] = 7.3
    result = permutation.two_groups(values, [1] * 5 + [0] * 5)
    assert result.loc[1, ["t", "p", "p_fwe"]].tolist() == [0, 1, 1]


def test_a_planted_effect_is_found_and_only_that(rng):
    values, labels = rng.normal(size=(40, 61)), np.repeat([1, 0], 20)
    values[labels == 1, 17] += 2
    result = permutation.two_groups(values, labels, 2000)
    assert np.flatnonzero(result["p_fwe"] <= 0.05).tolist() == [17]


def test_a_null_cohort_is_rejected_no_more_often_than_it_may(rng):
    """Permute labels 200 times; regions are correlated.

    10 rejections are expected, and at most 17 have probability 0.988.
    """
    values = rng.normal(size=(24, 1)) + rng.normal(size=(24, 22))
    labels = np.repeat([1, 0], 12)
    result = [
        permutation.two_groups(values, rng.permutation(labels), 300, seed)["p_fwe"].min()
        for seed in range(200)
    ]
    assert 1 <= np.sum(np.array(result) <= 0.05) <= 17


def test_spearman_and_its_interval(rng):
    x = rng.normal(size=30)
    values = np.c_[x, -x, rng.normal(size=30), np.ones(30)]
    covariate = x + rng.normal(size=30)
    covariate[3] = np.nan
    result = permutation.correlations(values, covariate)
    complete = np.isfinite(covariate)
    r, p = stats.spearmanr(x[complete], covariate[complete])
    half = 1.959964 * np.sqrt((1 + r**2 / 2) / 26)
    assert result.loc[0, ["n", "r", "p"]].tolist() == pytest.approx([29, r, p])
    assert result.loc[0, ["low", "high"]].tolist() == pytest.approx(
        [np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half)]
    )
    assert result.loc[1, "r"] == pytest.approx(-r)
    assert result.loc[3, ["r", "low", "p_fdr"]].isna().all()
    assert result.loc[:2, "p_fdr"].to_numpy() == pytest.approx(
        stats.false_discovery_control(result.loc[:2, "p"])
    )


def test_the_interval_of_spearman_covers(rng):
    """Of 400 samples of 20 with a known rank correlation about 95 % hold it."""
    rho = 0.5
    truth = 6 / np.pi * np.arcsin(rho / 2)  # Pearson 1907, for the normal distribution
    x = rng.normal(size=(20, 400))
    y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=x.shape)
    result = permutation.correlations(x, y)
    assert 0.91 <= ((result["low"] <= truth) & (truth <= result["high"])).mean() <= 0.98


@pytest.mark.parametrize("missing", [np.nan, np.inf])
def test_a_region_with_a_missing_value_is_left_out_and_the_others_are_as_without_it(rng, missing):
    values = rng.normal(size=(12, 4))
    labels = np.repeat([0, 1], 6)
    values[labels == 1, 1] += 3
    gap = values.copy()
    gap[3, 2] = missing
    others = [0, 1, 3]
    compare = {
        "two_groups": lambda table: permutation.two_groups(table, labels, n=500),
        "paired": lambda table: permutation.paired(table, n=500),
    }
    for name, test in compare.items():
        table = test(gap)
        assert table.loc[2].isna().all(), name
        expected = test(values[:, others]).to_numpy()
        np.testing.assert_array_equal(table.loc[others].to_numpy(), expected)
        assert test(np.full((12, 2), np.nan)).isna().all(axis=None), name


def test_many_permutations_of_many_subjects_take_one_byte_each(rng):
    """As 64-bit numbers, 10,000 permutations of 10,000 subjects took 1.7 GB."""
    values = rng.normal(size=(600, 2))
    labels = np.arange(600) % 2
    for test in (
        lambda: permutation.two_groups(values, labels),
        lambda: permutation.paired(values),
    ):
        tracemalloc.start()
        test()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 * 10_000 * 600


@pytest.mark.parametrize("factor", [2.0**700, 2.0**-700])
def test_very_large_and_very_small_values_are_tested_as_others(rng, factor):
    values = rng.normal(size=(8, 3))
    labels = np.arange(8) % 2
    for table, scaled in (
        (permutation.two_groups(values, labels), permutation.two_groups(values * factor, labels)),
        (permutation.paired(values), permutation.paired(values * factor)),
    ):
        assert (table["t"] != 0).all()
        tests = ["t", "p", "p_fwe", "p_fdr"]
        pd.testing.assert_frame_equal(scaled[tests], table[tests], check_exact=True)
        assert (scaled["difference"] == table["difference"] * factor).all()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 0, 0, 0], "found 0 of patients (1), 4 of controls (0), 0 others; expected at least "),
        ([0, 0, 0, 1], "found 1 of patients (1), 3 of controls (0), 0 others"),
        ([1, 1, 2, 2], "found 2 of patients (1), 0 of controls (0), 2 others"),
        ([0, 0, 1, np.nan], "found 1 of patients (1), 2 of controls (0), 1 others"),
    ],
)
def test_a_group_of_fewer_than_two_is_refused(rng, labels, words):
    with pytest.raises(ParameterError) as caught:
        permutation.two_groups(rng.normal(size=(4, 2)), labels)
    assert f"labels: {words}" in str(caught.value)


def test_one_subject_has_no_paired_test(rng):
    with pytest.raises(ParameterError, match="values: found 1 subjects; expected at least two"):
        permutation.paired(rng.normal(size=(1, 2)))


def test_no_region_has_no_correlation():
    table = permutation.correlations(np.empty((8, 0)), np.arange(8))
    assert table.columns.tolist() == ["n", "r", "low", "high", "p", "p_fdr"]
    assert table.empty
