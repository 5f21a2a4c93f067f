"""Shaping: its gradient is that of the team's return one real step ahead, nobody else's parameters feel it, and it finds what helps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.algorithm.lookahead import BatchLookahead
from marlstone.architectures import Ctde, Gru, Mlp
from marlstone.core.records import replace
from marlstone.core.seeds import component_key
from marlstone.core.types import Trajectory
from marlstone.credit import Shaping, Team
from marlstone.envs.make import make
from marlstone.learners import PolicyGradient
from tests.batches import begun, quick, trajectories_of

ADDITIVE, PAIR = "proving:additive?rows=3", "proving:pair"
MLP, GRU = Mlp((6, 5), "tanh"), Gru(6, 5, (4,), "tanh")
BODIES = pytest.mark.parametrize("body", [MLP, GRU], ids=["mlp", "gru"])


class Shaped:
    """Shaping on one batch of random play: its questions, asked as an update asks them."""

    def __init__(self, name: str, body: Any, b: int = 4, hidden: int = 7, **fields: Any) -> None:
        self.it = Algorithm(make(name).spec, Ctde(body), Shaping(hidden=hidden, **fields), PolicyGradient())
        self.trajectory, self.train = jax.tree.map(jnp.asarray, trajectories_of(self.it, name, b)), begun(self.it)
        train = self.train
        self.views = quick(self.it.views)(train.nets, train.seen, train.targets, self.trajectory)

    def meta(self, nets: Any, views: Any = None) -> Any:
        it, seen = self.it, self.train.seen
        acts = it.sets.count(self.trajectory.acts)
        known = it.problem.encoded(seen, self.trajectory)
        beyond = it.asked(nets).beyond(views or self.views, known)
        ahead = BatchLookahead(it.spec, it.architecture, it.learner, it.sets, nets.actor, seen, self.trajectory, acts, beyond)
        return it.asked(nets).meta(views or self.views, known, ahead).mean()


@BODIES
def test_the_gradient_goes_through_a_real_step(body: Any) -> None:
    """Along any direction of eta it is the slope of the objective itself, the inner step taken anew at either side."""
    it = Shaped(PAIR, body, inner_lr=1.0, weight=1.0)
    with jax.enable_x64(True):
        wide = lambda tree: jax.tree.map(lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)
        it.trajectory, it.views, nets = wide(it.trajectory), wide(it.views), wide(it.train.nets)
        loss = lambda credit: it.meta(replace(nets, credit=credit))
        value, slope = quick(loss), quick(jax.grad(loss))(nets.credit)
        rng, h = np.random.default_rng(0), 1e-5
        for _ in range(3):
            way = {k: jax.tree.map(lambda x, k=k: rng.normal(size=x.shape) * (k != "critic"), v) for k, v in nets.credit.items()}
            at = lambda s: value(jax.tree.map(lambda x, d: x + s * h * d, nets.credit, way))  # noqa: B023
            along = sum((x * d).sum() for x, d in zip(jax.tree.leaves(slope), jax.tree.leaves(way), strict=True))
            assert abs(along) > 1e-4
            np.testing.assert_allclose((at(1) - at(-1)) / (2 * h), along, rtol=1e-3)


@BODIES
def test_only_its_own_parameters_learn_from_it(body: Any) -> None:
    it = Shaped(PAIR, body)
    nets = it.train.nets

    def loss(nets: Any) -> Any:
        return it.meta(nets, it.it.views(nets, it.train.seen, it.train.targets, it.trajectory))

    slope = quick(jax.grad(loss))(nets)
    assert not any(np.asarray(x).any() for part in (slope.actor, slope.critic) for x in jax.tree.leaves(part))
    assert all(np.asarray(x).any() for x in jax.tree.leaves(slope.credit))  # and none of them is dead


def test_pay_is_the_teams_and_at_most_the_weight_more() -> None:
    it = Shaped(PAIR, MLP, weight=0.3)
    paid, discount = it.it.asked(it.train.nets).reward(it.views, it.it.problem.encoded(it.train.seen, it.trajectory))
    team, until = Algorithm(it.it.spec, it.it.architecture, Team(), it.it.learner).asked(it.train.nets).reward(it.views, it.trajectory)
    more = np.asarray(paid - team)
    assert (np.abs(more) <= 0.3 + 1e-6).all() and np.abs(more).max() > 0.01
    assert not more[~np.asarray(it.trajectory.acts)].any()
    np.testing.assert_array_equal(discount, until)


@pytest.mark.slow
def test_it_finds_what_helps_the_team() -> None:
    """On random play with policies held still, saying the symbol shown comes to be paid more than saying another."""
    it = Shaped(ADDITIVE, Mlp((32,)), b=64, hidden=32, weight=0.05)
    nets = quick(it.it.init)(component_key(0, "init")).nets
    slope = jax.grad(lambda credit: it.meta(replace(nets, credit=credit)))

    @quick
    def learned(credit: Any) -> Any:
        step = lambda _, c: jax.tree.map(lambda p, g: p - 3e-3 * jnp.sign(g), c, slope(c))
        return jax.lax.fori_loop(0, 200, step, credit)

    credit = learned(nets.credit)
    known: Trajectory = it.it.problem.encoded(it.train.seen, it.trajectory)
    paid, _ = it.it.asked(replace(nets, credit=credit)).reward(it.views, known)
    more = np.asarray(paid - it.trajectory.step.team_reward[:, 1:, None])
    shown, said = it.trajectory.step.obs[0]["symbol"][:, :-1].argmax(-1), it.trajectory.action[0]
    right, wrong = it.trajectory.acts & (said == shown + 1), it.trajectory.acts & (said > 0) & (said != shown + 1)
    heavy = np.arange(8) >= 4  # whose weight in the team's reward stands out of the others' noise
    better = [more[..., i][right[..., i]].mean() - more[..., i][wrong[..., i]].mean() for i in np.flatnonzero(heavy)]
    assert min(better) > 0.005, better


def test_a_batch_that_devices_share_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Shaping looks a step ahead .* use rollout\.shards = 1"):
        Algorithm(make(ADDITIVE).spec, Ctde(), Shaping(), PolicyGradient(), shards=2)


@pytest.mark.slow
def test_the_step_ahead_is_clipped_as_the_learners_is() -> None:
    """Agents that share no parameters are clipped apart: how much one of them moves says nothing of how much another does."""
    it = Algorithm(make(PAIR).spec, Ctde(MLP, sharing="none"), Shaping(hidden=7), PolicyGradient(max_grad_norm=1e-3))
    trajectory, train = jax.tree.map(jnp.asarray, trajectories_of(it, PAIR)), begun(it)
    beyond = jnp.ones(trajectory.logp.shape, bool)
    acts = it.sets.count(trajectory.acts)
    ahead = BatchLookahead(it.spec, it.architecture, it.learner, it.sets, train.nets.actor, train.seen, trajectory, acts, beyond)
    advantage = jnp.asarray(np.random.default_rng(0).normal(size=trajectory.logp.shape), jnp.float32)
    after = quick(lambda a: ahead.step(a, 1.0))
    small, large = after(advantage), after(advantage.at[..., 1].multiply(1e4))
    np.testing.assert_allclose(small, large, atol=2e-5)
    grads = jax.grad(lambda a: ahead.step(a, 1.0).sum())(0 * advantage)
    assert np.isfinite(np.asarray(grads)).all(), "also where nothing moves"
