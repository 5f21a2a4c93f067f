"""Shares sum to the return, know no future and no names, and leave nothing to whoever does nothing."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.core.records import replace
from marlstone.core.types import Trajectory, Views
from marlstone.credit import Attention
from marlstone.envs.make import make
from marlstone.envs.proving.symbols import shares, worth
from marlstone.learners.optimizer import Adam, clip_by_set
from tests.batches import quick, rollout

GROUNDS = pytest.mark.parametrize("name", ["proving:dummy?rows=4", "proving:saboteur?rows=4", "proving:dials"])
IT = Attention(hidden=16)


def known(name: str, b: int = 4, t: int = 14) -> Trajectory:
    """Random play as credit sees it, `[b t]`: actions encoded, and paid at random, so that every row counts."""
    step, action, logp = rollout(name, b, t)
    pay = np.random.default_rng(1).normal(size=step.team_reward.shape).astype(np.float32)
    encoded = tuple(np.asarray(g.space.encode(jnp.asarray(a))) for g, a in zip(make(name).spec.groups, action, strict=True))
    return Trajectory(replace(step, team_reward=pay), encoded, logp, None)


def parameters(name: str, credit: Attention = IT) -> Any:
    """Random everywhere: nothing is zero."""
    rng, spec = np.random.default_rng(0), make(name).spec
    shapes = jax.eval_shape(lambda k: credit.init(spec, k), jax.random.key(0))
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape, scale=0.3), jnp.float32), shapes)


@functools.cache
def _compiled(question: str, name: str, credit: Attention) -> Any:
    views = lambda: Views(scale=jnp.linspace(0.5, 1.0, make(name).spec.n), team=make(name).spec)
    return quick(lambda p, trajectory: jax.vmap(lambda c: getattr(credit, question)(p, views(), c))(trajectory))


def each(question: str, name: str, p: Any, trajectory: Trajectory, credit: Attention = IT) -> np.ndarray:
    """The answer to a question for every environment of a batch."""
    return np.asarray(_compiled(question, name, credit)(p, jax.tree.map(jnp.asarray, trajectory)))


def windows(trajectory: Trajectory) -> list[tuple[int, np.ndarray]]:
    """Every episode's rows within the trajectories: environment and places."""
    first, real = np.asarray(trajectory.step.first)[:, :-1], np.asarray(trajectory.real)
    number = np.cumsum(first, -1)
    return [(b, np.flatnonzero((number[b] == k) & real[b])) for b in range(len(first)) for k in np.unique(number[b][real[b]])]


@GROUNDS
def test_shares_sum_to_the_return(name: str) -> None:
    """Of every episode's rows within a trajectory, and resets get none."""
    trajectory = known(name)
    said, paid = each("contribution", name, parameters(name), trajectory), np.asarray(trajectory.step.team_reward)[:, 1:]
    assert len(windows(trajectory)) > 4
    for b, rows in windows(trajectory):
        np.testing.assert_allclose(said[b, rows].sum(), paid[b, rows].sum(), rtol=1e-4, atol=1e-4)
    assert (said[~np.asarray(trajectory.real)] == 0).all()


@GROUNDS
def test_scores_see_no_later_row_and_no_other_episode(name: str) -> None:
    """Nor what the others do in the same row: all that is later, and the others' actions, are drawn anew."""
    trajectory, p, cut = known(name), parameters(name), 6
    other = jax.tree.map(lambda x: x[::-1], trajectory)
    later = lambda x, y, at: np.concatenate([np.asarray(x)[:, :at], np.asarray(y)[:, at:]], 1)
    step = trajectory.step
    obs = jax.tree.map(lambda x, y: later(x, y, cut + 1), step.obs, other.step.obs)
    action = [later(a, b, cut) for a, b in zip(trajectory.action, other.action, strict=True)]
    action[0][:, cut, 0] = trajectory.action[0][:, cut, 0]
    changed = replace(trajectory, step=replace(step, obs=obs), action=tuple(action))
    before, after = (each("_scores", name, p, c) for c in (trajectory, changed))
    np.testing.assert_allclose(after[:, :cut], before[:, :cut], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(after[:, cut, 0], before[:, cut, 0], rtol=1e-5, atol=1e-6)
    assert not np.allclose(after[:, cut + 1 :], before[:, cut + 1 :], atol=1e-3)
    begun = [(b, rows) for b, rows in windows(trajectory) if rows[0] > 0]
    assert begun
    shaken = replace(trajectory, step=replace(step, obs=jax.tree.map(np.array, step.obs)))
    for b, rows in begun[:1]:
        for x in jax.tree.leaves(shaken.step.obs):
            x[b, : rows[0]] += np.ones((), x.dtype)
        again = each("_scores", name, p, shaken)
        np.testing.assert_allclose(again[b, rows], before[b, rows], rtol=1e-5, atol=1e-6)
        assert not np.allclose(again[b, : rows[0]], before[b, : rows[0]], atol=1e-3)


@GROUNDS
def test_scores_see_the_past_and_the_others(name: str) -> None:
    """Of its own episode an earlier row, and what the others observed, make a difference."""
    trajectory, p = known(name), parameters(name)
    before, whole = each("_scores", name, p, trajectory), [w for w in windows(trajectory) if len(w[1]) > 1]
    late = np.array([(b, rows[-1]) for b, rows in whole]).T
    for agents, at in ((slice(None), np.array([rows[0] for _, rows in whole])), (slice(1, None), late[1])):
        obs = jax.tree.map(np.array, trajectory.step.obs)
        for x in jax.tree.leaves(obs[0]):
            x[late[0], at, agents] += np.ones((), x.dtype)
        after = each("_scores", name, p, replace(trajectory, step=replace(trajectory.step, obs=obs)))
        assert np.abs(after[*late, 0] - before[*late, 0]).max() > 1e-4


def test_agents_of_one_type_are_interchangeable() -> None:
    """Agents and their own weights in another order: the same shares in that order."""
    name, order = "proving:dummy?rows=4", np.array([2, 0, 3, 1])
    trajectory, p = known(name), parameters(name)
    step = trajectory.step
    obs = jax.tree.map(lambda x: x[:, :, order], step.obs)
    swapped = replace(trajectory, step=replace(step, obs=obs), action=(trajectory.action[0][:, :, order],))
    q = p | {"see": tuple(replace(s, agent=s.agent[order]) for s in p["see"]), "worth": p["worth"][order]}
    ask = lambda p, c: np.asarray(quick(jax.vmap(lambda c: IT.contribution(p, Views(scale=jnp.ones(4), team=make(name).spec), c)))(c))
    np.testing.assert_allclose(ask(q, swapped), ask(p, trajectory)[:, :, order], rtol=1e-4, atol=1e-5)


@GROUNDS
def test_the_default_scores_nothing(name: str) -> None:
    """Whatever is observed and whatever the others do; any other action scores something."""
    trajectory, p, spec = known(name), parameters(name), make(name).spec
    plain = lambda g: np.asarray(g.space.encode(g.default_like(g.space.mode(jnp.zeros((g.count, g.space.head)), None))))
    action = [np.array(a) for a in trajectory.action]
    action[0][:, :, 0] = plain(spec.groups[0])[0]
    score = each("_scores", name, p, replace(trajectory, action=tuple(action)))
    assert (score[..., 0] == 0).all()
    assert (np.abs(score[..., 1:]).max((0, 1)) > 1e-3).all()


@GROUNDS
def test_the_loss_reaches_every_parameter(name: str) -> None:
    trajectory, p = known(name), parameters(name)
    views = Views(scale=jnp.ones(make(name).spec.n), team=make(name).spec)
    loss = lambda p: jax.vmap(lambda c: IT.loss(p, views, c))(trajectory).mean()
    for path, slope in jax.tree_util.tree_leaves_with_path(quick(jax.grad(loss))(p)):
        assert np.abs(slope).max() > 0, path


@pytest.mark.slow
def test_idle_agents_get_nothing_though_everyone_is_always_busy() -> None:
    """Two agents earn, two do nothing that counts, and all of them act as a settled policy does, one time in ten by their defaults.
    The whole return is paid in an episode's last row."""
    name, rows, b, t = "proving:dummy?rows=3", 3, 1024, 4
    step, _, logp = rollout(name, b, t)
    rng, symbol = np.random.default_rng(0), np.asarray(step.obs[0]["symbol"]).argmax(-1)[:, :-1]
    action = np.where(rng.random(symbol.shape) < 0.1, 0, symbol + 1)
    real, last = ~np.asarray(step.first)[:, 1:], np.asarray(step.last)[:, 1:]
    earned = np.where(real[..., None], worth(jnp.asarray(action), jnp.asarray(symbol), np.pad(shares(2, rows), (0, 2))), 0)
    number = np.cumsum(np.asarray(step.first)[:, :-1], -1)
    total = np.stack([earned[i].sum(-1) @ (number[i][:, None] == number[i]) for i in range(b)])
    pay = np.concatenate([np.zeros((b, 1)), np.where(last, total, 0)], 1).astype(np.float32)
    trajectory = Trajectory(replace(step, team_reward=pay), (np.eye(5, dtype=np.float32)[action],), logp, None)

    credit, spec = Attention(hidden=16), make(name).spec
    views = Views(scale=jnp.full(4, 0.07), team=spec)
    p = credit.init(spec, jax.random.key(0))
    loss = lambda p, c: jax.vmap(lambda c: credit.loss(p, views, c))(c).mean()

    def improved(carry: Any, now: Any) -> Any:
        (p, opt), (key, rate) = carry, now
        some = jax.tree.map(lambda x: x[jax.random.randint(key, (32,), 0, b)], trajectory)
        slopes, _ = clip_by_set(jax.grad(loss)(p, some), False, 0.5)
        return Adam().step(slopes, opt, p, jax.tree.map(lambda _: rate, p)), None

    steps, trajectory = 300, jax.tree.map(jnp.asarray, trajectory)
    rates = jnp.linspace(5e-3, 0, steps)
    fit = jax.jit(lambda p: jax.lax.scan(improved, (p, Adam().init(p)), (jax.random.split(jax.random.key(1), steps), rates))[0][0])
    fitted = fit(p)
    said = np.asarray(quick(jax.vmap(lambda c: credit.contribution(fitted, views, c)))(trajectory)).sum((0, 1)) / pay.sum()
    print(said)
    assert (np.abs(said[2:]) < 0.02).all()
    np.testing.assert_allclose(said[:2], earned.sum((0, 1))[:2] / pay.sum(), atol=0.03)
