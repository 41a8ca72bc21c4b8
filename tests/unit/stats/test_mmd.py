import math

import numpy as np
import pytest
from scipy import stats

from monitoring.stats.mmd import FeatureMoments, mmd_moments_test, mmd_rff_test
from monitoring.stats.random_features import RandomFeatures, median_bandwidth

DIMENSION = 16


@pytest.fixture
def features(rng):
    return RandomFeatures.make(
        DIMENSION, 64, bandwidth=median_bandwidth(rng.normal(size=(300, DIMENSION)), rng), rng=rng
    )


def topics(rng, n, new=0.0):
    """Four clusters, and a share `new` of a fifth."""
    centres = np.eye(DIMENSION)[rng.integers(0, 4, n)] * 4
    centres[rng.random(n) < new] = np.eye(DIMENSION)[9] * 4
    return centres + rng.normal(size=(n, DIMENSION)) * 0.7


def test_features_approximate_the_gaussian_kernel(rng):
    a, b = rng.normal(size=(2, 20, DIMENSION))
    features = RandomFeatures.make(DIMENSION, 20_000, bandwidth=3.0, rng=rng)
    kernel = np.exp(-np.square(a[:, None] - b).sum(axis=2) / (2 * 3.0**2))
    assert np.allclose(features.transform(a) @ features.transform(b).T, kernel, atol=0.05)
    assert np.allclose(np.square(features.transform(a)).sum(axis=1), 1)


def test_whitened_features_vary_alike_in_all_directions(rng, features):
    white = features.whitened(topics(rng, 2000)).transform(topics(rng, 2000))
    plain = features.transform(topics(rng, 2000))
    assert np.var(white, axis=0).max() < 1.5
    assert white.mean() == pytest.approx(0, abs=0.05)
    spread = [np.linalg.eigvalsh(np.cov(part, rowvar=False)) for part in (white, plain)]
    assert spread[0][-1] / np.median(spread[0]) < spread[1][-1] / np.median(spread[1]) / 3


def test_sums_can_be_whitened_at_the_end(rng, features):
    embeddings = topics(rng, 500)
    for made in (features, features.whitened(topics(rng, 2000))):
        turned = made.turned(made.plain(embeddings).sum(axis=0), len(embeddings))
        assert np.allclose(turned, made.transform(embeddings).sum(axis=0))


def test_the_median_bandwidth_is_the_median_distance(rng):
    assert median_bandwidth([[0.0, 0.0], [3.0, 4.0]], rng) == 5.0
    assert median_bandwidth(rng.normal(size=(5000, 8)), rng) == pytest.approx(math.sqrt(2 * 8), rel=0.1)
    assert median_bandwidth(np.ones((10, 3)), rng) == 1.0
    assert median_bandwidth(np.empty((0, 3)), rng) == 1.0


def test_permutation_p_values_are_uniform_under_the_null(rng, features):
    pool = features.transform(topics(rng, 4000))
    p_values = []
    for _ in range(200):
        rows = pool[rng.choice(len(pool), 130, replace=False)]
        p_values.append(mmd_rff_test(rows[:100], rows[100:], rng, permutations=99).p_value)
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


@pytest.mark.parametrize("whiten", [False, True])
def test_moments_p_values_are_uniform_under_the_null(rng, features, whiten):
    kept = features.whitened(topics(rng, 1000)) if whiten else features
    pool = kept.transform(topics(rng, 20_000))
    p_values = []
    for _ in range(150):
        rows = pool[rng.integers(0, len(pool), 600)]
        p_values.append(mmd_moments_test(FeatureMoments.of(rows[:500]), rows[500:].sum(axis=0), 100).p_value)
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_moments_agree_with_permutation(rng, features):
    x, y = features.transform(topics(rng, 500)), features.transform(topics(rng, 300, new=0.03))
    permuted = mmd_rff_test(x, y, rng, permutations=2000)
    moments = mmd_moments_test(FeatureMoments.of(x), y.sum(axis=0), len(y))
    assert moments.statistic == pytest.approx(permuted.statistic)
    assert moments.p_value == pytest.approx(permuted.p_value, abs=0.03)
    assert moments.effect == pytest.approx(permuted.effect, abs=0.02)


def test_a_new_topic_is_found_and_its_effect_grows_with_its_share(rng, features):
    baseline = FeatureMoments.of(features.transform(topics(rng, 2000)))
    results = [
        mmd_moments_test(baseline, features.transform(topics(rng, 1000, new)).sum(axis=0), 1000)
        for new in (0.1, 0.3, 1.0)
    ]
    assert max(result.p_value for result in results) < 1e-4
    assert 0 < results[0].effect < results[1].effect < results[2].effect < 1


def test_dependence_inside_a_block_does_no_harm_when_blocks_are_permuted(rng):
    """Rows that come in bursts of twenty alike: permuting rows rejects the null, permuting block means does not."""

    def bursts(blocks):
        return np.repeat(rng.normal(size=(blocks, 4)), 20, axis=0)

    by_row, by_block = [], []
    for _ in range(60):
        x, y = bursts(30), bursts(15)
        by_row.append(mmd_rff_test(x, y, rng, permutations=99).p_value)
        means = [rows.reshape(-1, 20, 4).mean(axis=1) for rows in (x, y)]
        by_block.append(mmd_rff_test(*means, rng, permutations=99).p_value)
    assert np.mean(np.array(by_row) <= 0.05) > 0.5
    assert np.mean(np.array(by_block) <= 0.05) < 0.15


def test_degenerate_input_is_undefined_or_named(rng, features):
    assert math.isnan(mmd_rff_test(np.empty((0, 4)), np.ones((3, 4)), rng).p_value)
    assert mmd_rff_test(np.ones((3, 4)), np.ones((2, 4)), rng, permutations=19).p_value == 1.0
    constant = FeatureMoments.of(np.ones((10, 4)))
    assert mmd_moments_test(constant, np.full(4, 5.0), 5).p_value == 1.0
    assert mmd_moments_test(constant, np.full(4, 6.0), 5).effect == 1.0
    assert math.isnan(mmd_moments_test(constant, np.zeros(4), 0).effect)
    with pytest.raises(ValueError, match="n of 2 or more"):
        FeatureMoments.of(np.ones((1, 4)))
    with pytest.raises(ValueError, match="even number"):
        RandomFeatures.make(4, 7, 1.0, rng)
    with pytest.raises(ValueError, match="bandwidth"):
        RandomFeatures.make(4, 8, 0.0, rng)
    with pytest.raises(ValueError, match="whitening needs"):
        features.whitened(np.ones((1, DIMENSION)))
