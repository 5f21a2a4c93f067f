"""The loss is decoupled PPO, element by element; gradients are clipped within a parameter set."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.architectures import Decentralized, Mlp
from marlstone.architectures.network import Network
from marlstone.core.distributions import Box, Discrete, MultiDiscrete
from marlstone.core.layers import Dense
from marlstone.core.types import Views
from marlstone.credit import Individual
from marlstone.learners import Batch, LearningTargets, PolicyGradient
from marlstone.learners.optimizer import clip_by_set
from tests.batches import begun, combination, trajectories_of

PAIR = "proving:pair"


def batch():
    it = combination(PAIR, Decentralized(Mlp((4,))), Individual(), PolicyGradient()).it
    trajectory = trajectories_of(it, PAIR)
    rng, shape = np.random.default_rng(0), trajectory.logp.shape
    draw = lambda *s: rng.normal(size=s).astype(np.float32)
    value = draw(shape[0], shape[1] + 1, shape[2])
    views = Views(trajectory.logp + 0.4 * draw(*shape), np.abs(draw(*shape)), value)
    prox, advantage, target = trajectory.logp + 0.5 * draw(*shape), draw(*shape), draw(*shape)
    fixed = LearningTargets(target, np.ones(shape, bool), prox, advantage)
    return it, trajectory, views, fixed, np.array([1.0, 2.0, 3.0, 4.0], np.float32)


def test_loss_is_the_equation() -> None:
    """L = min(pi_prox/mu, c) min(ratio A, clip(ratio) A) + bonus, written for one element at a time."""
    it, trajectory, views, fixed, sigma = batch()
    asked, learner = it.asked(begun(it).nets), PolicyGradient(clip=0.2, cap=1.3, entropy=0.05, value=0.7)
    losses, metrics = learner.loss(Batch(trajectory, views, asked, sigma), fixed, 0.0)
    kinds = set()
    for at in np.ndindex(trajectory.logp.shape):
        ratio = np.exp(views.logp[at] - fixed.logp[at])
        stale = np.exp(fixed.logp[at] - trajectory.logp[at])
        a = fixed.advantage[at]
        surrogate = min(stale, 1.3) * min(ratio * a, np.clip(ratio, 0.8, 1.2) * a)
        np.testing.assert_allclose(losses.deciding[at], -surrogate - 0.05 * views.entropy[at], rtol=1e-4, atol=1e-5)
        error = (views.value[at] - fixed.target[at]) / sigma[at[-1]]
        np.testing.assert_allclose(losses.predicting[at], 0.7 * error**2, rtol=1e-4, atol=1e-5)
        kinds.add((bool(ratio > 1.2), bool(ratio < 0.8), bool(a > 0), bool(stale > 1.3)))
    assert len(kinds) == 12 and set(metrics) == {"value_loss", "entropy", "kl", "clipped", "staleness"}


def test_fresh_data_is_the_case_of_equal_policies() -> None:
    """Ratios and staleness are one, so the gradient is the plain policy gradient's."""
    it, trajectory, views, fixed, sigma = batch()
    asked, fresh = it.asked(begun(it).nets), LearningTargets(fixed.target, fixed.predicted, jnp.asarray(trajectory.logp), fixed.advantage)
    read = lambda logp: Batch(trajectory, Views(logp, views.entropy, views.value), asked, sigma)
    loss = lambda logp: PolicyGradient(entropy=0.0).loss(read(logp), fresh, 0.0)[0].deciding.sum()
    np.testing.assert_allclose(jax.grad(loss)(jnp.asarray(trajectory.logp)), -fixed.advantage, rtol=1e-5)


def test_targets_are_corrected_by_the_acting_log_probs() -> None:
    """Doubting what acted changes targets, on rows of decisions only; agreeing with it gives the case rho = 1."""
    it, trajectory, views, _, _ = batch()
    learner, asked = PolicyGradient(), it.asked(begun(it).nets)
    targets = lambda logp: learner.targets(Batch(trajectory, Views(logp, views.entropy, views.value), asked))
    fresh, stale = targets(trajectory.logp), targets(trajectory.logp - 1.0)
    assert not np.allclose(fresh.target, stale.target)
    np.testing.assert_array_equal(stale.logp, trajectory.logp - 1.0)
    idle = np.asarray(~trajectory.acts)
    noise = np.where(idle, 3.0, 0.0).astype(np.float32)
    again = targets(trajectory.logp + noise)
    np.testing.assert_array_equal(again.target, fresh.target)


def test_clipping_scales_each_set_alone() -> None:
    grads = {"w": jnp.array([[3.0, 0.0], [300.0, 0.0]]), "b": jnp.array([[4.0], [400.0]])}
    clipped, norm = clip_by_set(grads, True, 10.0)
    np.testing.assert_allclose(norm, [5.0, 500.0])
    np.testing.assert_allclose(clipped["w"], [[3.0, 0.0], [6.0, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(clipped["b"], [[4.0], [8.0]], rtol=1e-6)
    together, norm = clip_by_set(grads, False, 10.0)
    np.testing.assert_allclose(norm, np.sqrt(5.0**2 + 500.0**2), rtol=1e-6)
    np.testing.assert_allclose(np.sqrt(sum((x**2).sum() for x in jax.tree.leaves(together))), 10.0, rtol=1e-5)
    still, _ = clip_by_set(jax.tree.map(jnp.zeros_like, grads), True, 10.0)
    assert all((np.asarray(x) == 0).all() for x in jax.tree.leaves(still))


@pytest.mark.parametrize(("anneal", "rates"), [(True, [1.0, 0.5, 0.0]), (False, [1.0, 1.0, 1.0])])
def test_rate_follows_progress(anneal: bool, rates: list[float]) -> None:
    learner = PolicyGradient(lr=2e-3, credit_lr=4e-3, anneal=anneal)
    both = np.array([learner.rate(jnp.float32(p)) for p in (0.0, 0.5, 1.0)])
    np.testing.assert_allclose(both, np.outer(rates, [2e-3, 4e-3]), atol=1e-9)


def test_sharpening_multiplies_logits_in_all_by_what_is_asked_and_divides_the_spread_of_boxes() -> None:
    """Over a whole budget, however it is cut into updates; nothing in the first and the last quarter."""
    learner, spaces = PolicyGradient(sharpen=20.0), (Discrete(3), MultiDiscrete((2, 2)), Box(2))
    rng = np.random.default_rng(0)
    dense = lambda space: Dense(
        jnp.asarray(rng.normal(size=(4, space.head)), jnp.float32), jnp.asarray(rng.normal(size=space.head), jnp.float32)
    )
    start = tuple(Network(None, None, (), dense(space)) for space in spaces)
    for total in (8, 100):
        actor, still = start, 0
        for version in range(total):
            after = learner.sharpened(spaces, actor, jnp.float32(version / total), jnp.int32(version))
            still += np.array_equal(after[0].head.w, actor[0].head.w)
            actor = after
        assert still == total // 2
        for old, new in zip(start[:2], actor[:2], strict=True):
            np.testing.assert_allclose(new.head.w, 20 * old.head.w, rtol=1e-4)
            np.testing.assert_allclose(new.head.b, 20 * old.head.b, rtol=1e-4)
        np.testing.assert_array_equal(actor[2].head.w, start[2].head.w)
        np.testing.assert_allclose(start[2].head.b - actor[2].head.b, [0, 0, np.log(20), np.log(20)], atol=1e-4)
    assert PolicyGradient().sharpened(spaces, start, jnp.float32(0.5), jnp.int32(4)) is start
    with pytest.raises(ValueError, match=r"sharpen is 0\.5"):
        PolicyGradient(sharpen=0.5)
