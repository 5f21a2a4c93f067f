"""Running moments are the moments of everything at once; masks hold; value targets are followed per parameter set."""

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.core.normalize import CLIP, init_ema_moments, init_moments, merge_moments, normalize, update_moments


def test_merged_moments_are_those_of_everything_at_once() -> None:
    rng = np.random.default_rng(0)
    m, parts = init_moments((3,)), []
    for size in (1, 7, 40, 5):
        x = rng.normal(loc=3, scale=(0.1, 1, 20), size=(size, 2, 3)).astype(np.float32)
        w = (rng.random((size, 2, 1)) < 0.7).astype(np.float32)
        m = merge_moments(m, x, w, (0, 1))
        parts.append(x[w[..., 0] > 0])
    everything = np.concatenate(parts)
    np.testing.assert_allclose(m.mean, everything.mean(0), rtol=1e-4)
    np.testing.assert_allclose(m.var, everything.var(0), rtol=1e-3)
    np.testing.assert_array_equal(m.count, np.full(3, len(everything)))


def test_nothing_seen_changes_nothing() -> None:
    m = merge_moments(init_moments((2,)), np.full((4, 2), 9.0, np.float32), np.zeros((4, 1), np.float32), (0,))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), m, init_moments((2,))))
    seen = merge_moments(m, np.arange(8.0).reshape(4, 2), np.ones((4, 1)), (0,))
    again = merge_moments(seen, np.full((4, 2), 9.0), np.zeros((4, 1)), (0,))
    for a, b in zip(jax.tree.leaves(seen), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_masked_features_count_for_themselves() -> None:
    """A feature that only some agents have is averaged over those alone."""
    x = np.array([[[1.0, 5.0], [3.0, 100.0]]])
    m = merge_moments(init_moments((2,)), x, np.array([[[1.0, 1.0], [1.0, 0.0]]]), (0, 1))
    np.testing.assert_allclose(m.mean, [2.0, 5.0])
    np.testing.assert_allclose(m.count, [2.0, 1.0])


def test_normalized_is_standard_and_clipped() -> None:
    x = np.random.default_rng(1).normal(5, 2, (1000, 1)).astype(np.float32)
    m = merge_moments(init_moments((1,)), x, np.ones((1000, 1), np.float32), (0,))
    z = np.asarray(normalize(m, jnp.asarray(x)))
    assert abs(z.mean()) < 1e-3 and abs(z.std() - 1) < 1e-3
    assert float(normalize(m, jnp.array([1e9]))[0]) == CLIP and float(normalize(m, jnp.array([-1e9]))[0]) == -CLIP


def test_value_targets_follow_their_own_set() -> None:
    members = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    x = np.random.default_rng(2).normal((1.0, 1.0, -7.0), (1.0, 1.0, 3.0), (50, 20, 3)).astype(np.float32)
    mask = np.ones(x.shape, bool)
    mask[:, :10, 1] = False
    t = update_moments(init_ema_moments(2), x, mask, members, 0.05)
    first = np.concatenate([x[..., 0].ravel(), x[:, 10:, 1].ravel()])
    np.testing.assert_allclose(t.mu, [first.mean(), x[..., 2].mean()], rtol=1e-4)
    np.testing.assert_allclose(t.sigma, [first.std(), x[..., 2].std()], rtol=1e-3)
    mask[..., 2] = False
    again = update_moments(t, x + 5, mask, members, 0.05)
    np.testing.assert_array_equal(again.mu[1], t.mu[1])
    assert float(again.mu[0]) > float(t.mu[0])
    assert np.array_equal(init_ema_moments(2).mu, [0, 0]) and np.array_equal(init_ema_moments(2).sigma, [1, 1])


def test_moving_targets_are_caught_up_with() -> None:
    t, ones = init_ema_moments(1), np.ones((4, 4, 1), bool)
    for _ in range(200):
        t = update_moments(t, np.full((4, 4, 1), 3.0, np.float32), ones, np.ones((1, 1), np.float32), 0.05)
    np.testing.assert_allclose(t.mu, 3.0, rtol=1e-4)
    assert float(t.sigma[0]) >= 1e-3
