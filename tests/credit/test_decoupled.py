"""Partial reward decoupling: pay is one's own and that of those one can change, learned from what is paid, and nothing else."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Decentralized, Mlp
from marlstone.core.records import replace
from marlstone.core.types import Spec, Trajectory, Views
from marlstone.credit import Asked, Decoupled
from marlstone.envs.make import make
from marlstone.learners import PolicyGradient
from tests.batches import begun, combination, quick, rollout, trajectories_of

PAIR, SWARM = "proving:pair", "proving:swarm?agents=4&rows=3&sigma=0"
BODY = Decentralized(Mlp((6, 5), "tanh"))


def asked(credit: Decoupled, name: str = PAIR) -> tuple[Any, Views, Trajectory, Any]:
    """The method's own parameters at random, what it is given of one environment's random play, and its algorithm."""
    it = Algorithm(make(name).spec, BODY, credit, PolicyGradient())
    trajectories, train = trajectories_of(it, name), begun(it)
    known = it.problem.encoded(train.seen, trajectories)
    one = jax.tree.map(lambda x: jnp.asarray(x[0]), known)
    return train.nets.credit, Views(scale=jnp.full(it.spec.n, 2.0), team=it.spec), one, it


# ---- pay
def test_pay_is_ones_own_and_that_of_those_one_can_change() -> None:
    """And lasts to the team's end for whoever is told of others; the absent pay nobody."""
    p, views, trajectory, it = asked(Decoupled(threshold=0.1, hidden=5))
    table = np.zeros((2, 4, 4), np.float32)
    table[0, 1, 0], table[1, 3, 0], table[0, 2, 1], table[0, 2, 2] = 50.0, -50.0, 1e-4, 50.0
    p = p | {"acts": jnp.asarray(table)}
    pay, discount = it.credit.reward(p, views, trajectory)
    own, there = np.asarray(trajectory.step.reward[1:]), np.asarray(trajectory.step.present[:-1])
    expected = own.copy()
    expected[:, 0] += np.where(there, own, 0)[:, [1, 3]].sum(1)
    np.testing.assert_allclose(pay, expected, atol=1e-6)
    np.testing.assert_array_equal(discount[:, 1:], trajectory.step.discount[1:, 1:])
    np.testing.assert_array_equal(discount[:, 0], np.maximum(trajectory.step.discount[1:, 0], trajectory.step.team_discount[1:]))


def test_relevance_is_what_the_prediction_changes_by() -> None:
    """Its root mean square over everything an agent could do in place of its default, asked of the predictor one by one."""
    p, views, trajectory, it = asked(Decoupled(hidden=5), SWARM)
    p, encode, shape = {**p, "acts": p["acts"] * 3}, it.spec.groups[0].space.encode, trajectory.logp.shape

    def changes(action: int) -> Any:
        step = replace(trajectory, action=(encode(jnp.full(shape, action)),))
        f, _, rest = it.credit._changes(p, views, step)
        return jnp.einsum("dji,tjd,sid->stji", p["acts"], rest[..., 2:], f[..., 1:])

    episode = np.cumsum(trajectory.step.first[:-1])
    some = np.asarray(trajectory.acts[:, 0]) & (episode == episode[4])
    each = np.stack([np.asarray(changes(a)) for a in range(5)])[:, some][:, :, some]
    expected = np.sqrt((each**2).mean((0, 1, 2))) * (1 - np.eye(4))
    for w in np.asarray(it.credit.relevance(p, views, trajectory))[some]:
        np.testing.assert_allclose(w, expected, rtol=1e-4, atol=1e-6)


def test_relevance_passes_no_gradient() -> None:
    """Pay is the same number wherever the predictor stands within a threshold, and what the method learns moves no other network."""
    p, views, trajectory, it = asked(Decoupled(hidden=5))
    slope = quick(jax.grad(lambda p: (it.credit.reward(p, views, trajectory)[0] ** 2).sum()))(p)
    assert not any(np.asarray(x).any() for x in jax.tree.leaves(slope))

    train, trajectories = begun(it), jax.tree.map(jnp.asarray, trajectories_of(it, PAIR))

    def learned(nets: Any) -> Any:
        views = it.views(nets, train.seen, train.targets, trajectories)
        return it.asked(nets).loss(views, it.problem.encoded(train.seen, trajectories)).mean()

    slope = quick(jax.grad(learned))(train.nets)
    assert not any(np.asarray(x).any() for part in (slope.actor, slope.critic) for x in jax.tree.leaves(part))
    assert all(np.asarray(x).any() for x in jax.tree.leaves(slope.credit))


# ---- outcomes
@pytest.mark.parametrize("rows", [1, 2, 3, 99])
def test_outcomes_reach_as_many_rows_ahead_as_asked_within_an_episode(rows: int) -> None:
    _, _, trajectory, _ = asked(Decoupled())
    own, first, real = (np.asarray(x) for x in (trajectory.step.reward[1:], trajectory.step.first[:-1], trajectory.real))
    episode, t = np.cumsum(first), len(real)
    assert episode[-1] > 1
    expected = [sum(own[s] * real[s] for s in range(i, min(i + rows, t)) if episode[s] == episode[i]) for i in range(t)]
    np.testing.assert_allclose(Decoupled(rows=rows)._outcome(trajectory), expected, atol=1e-5)


# ---- laws
def test_agents_that_swap_places_swap_their_pay_and_leave_the_loss() -> None:
    """In a group of four: everything that has one entry per agent is swapped along."""
    p, views, trajectory, it = asked(Decoupled(threshold=0.15, hidden=5, rows=2), SWARM)
    told = np.asarray(it.credit.relevance(p, views, trajectory)) > 0.15
    assert 2 <= told.any(0).sum() <= 10, "some are told of others, and not all of all"
    order = np.array([2, 0, 3, 1])
    swap = lambda tree: jax.tree.map(lambda x: x[..., order], tree)
    step = trajectory.step
    each = ("reward", "discount", "present", "deciding")
    obs = ({"symbol": step.obs[0]["symbol"][:, order]},)
    step = replace(step, obs=obs, **{k: swap(getattr(step, k)) for k in each})
    moved = replace(trajectory, step=step, action=(trajectory.action[0][:, order],), logp=swap(trajectory.logp))
    pairs = lambda x: x[..., order, :][..., order]
    q = p | {"acts": pairs(p["acts"]), "sees": pairs(p["sees"])} | {k: p[k][order] for k in ("spread", "center")}
    q["see"] = (replace(p["see"][0], agent=p["see"][0].agent[order]),)
    before, after = it.credit.reward(p, views, trajectory), it.credit.reward(q, views, moved)
    np.testing.assert_allclose(np.asarray(before[0])[:, order], after[0], atol=1e-6)
    np.testing.assert_allclose(it.credit.loss(p, views, trajectory), it.credit.loss(q, views, moved), rtol=1e-4)
    assert not np.allclose(before[0], after[0], atol=1e-3)


def test_every_parameter_learns() -> None:
    it = combination(PAIR, BODY, Decoupled(hidden=5), PolicyGradient(lr=1e-2, epochs=2, minibatches=2))
    start, end = begun(it.it), it.updated(it.trajectories(), 2)
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(start.nets.credit), jax.tree.leaves(end.nets.credit), strict=True):
        assert (np.asarray(x) != y).any(), f"{jax.tree_util.keystr(path)} did not move"


# ---- what it finds out
@functools.cache
def fitted(name: str, steps: int = 300) -> np.ndarray:
    """Relevances `[n n]` after fitting to random play, policies held out of it."""
    spec, credit = make(name).spec, Decoupled(hidden=16)
    step, action, logp = rollout(name, 128, 14)
    encoded = tuple(g.space.encode(a) for g, a in zip(spec.groups, action, strict=True))
    trajectories = jax.tree.map(jnp.asarray, Trajectory(step, encoded, logp, None))
    views = Views(scale=jnp.full((128, spec.n), 0.1))
    adam = optax.adam(1e-2)

    @quick
    def fit(p: Any) -> Any:
        def one(_: Any, carry: Any) -> Any:
            p, opt = carry
            slope = jax.grad(lambda p: Asked(credit, p, spec).loss(views, trajectories).mean())(p)
            change, opt = adam.update(slope, opt)
            return optax.apply_updates(p, change), opt

        return jax.lax.fori_loop(0, steps, one, (p, adam.init(p)))[0]

    p = fit(quick(lambda k: credit.init(spec, k))(jax.random.key(0)))
    of = lambda views, trajectory: credit.relevance(p, replace(views, team=spec), trajectory)
    return np.asarray(quick(jax.vmap(of))(views, trajectories).mean((0, 1)))


def test_a_neighbor_is_found_and_nobody_else() -> None:
    """On the swarm's ring agent i + 1 can change agent i's reward, and no other can."""
    w, others = fitted("proving:swarm?agents=6&sigma=1"), np.arange(6)
    relevant = np.zeros((6, 6), bool)
    relevant[others, (others + 1) % 6] = True
    assert w[relevant].min() > 2 * Decoupled().threshold
    assert w[~relevant].max() < Decoupled().threshold


def test_who_changes_nothing_drops_out_of_the_others_pay() -> None:
    """Everybody is paid a part of the team's reward: the workers earn it, the dummy does not, and noise has no expectation."""
    w = fitted("proving:dummy")
    worker, idle = [0, 1], [2, 3]
    apart = ~np.eye(4, dtype=bool)
    assert w[:, worker][apart[:, worker]].min() > 2 * Decoupled().threshold
    assert w[:, idle].max() < Decoupled().threshold


# ---- refusals
@pytest.mark.parametrize(
    ("field", "bad"), [("threshold", 0.0), ("rows", 0), ("hidden", 0), ("explore", 1.0), ("explore", -0.1)]
)  # fmt: skip
def test_fields_out_of_range_are_refused(field: str, bad: Any) -> None:
    with pytest.raises(ValueError, match=rf"Decoupled\.{field} is {bad}: give "):
        Decoupled(**{field: bad})


def test_a_team_too_large_for_tables_of_pairs_is_refused() -> None:
    group = make(SWARM).spec.groups[0]
    spec = Spec((replace(group, agents=tuple(map(str, range(257))), types=()),), state=1)
    with pytest.raises(ValueError, match=r"257 are more than 256: use credit = 'individual'"):
        Decoupled().init(spec, jax.random.key(0))
