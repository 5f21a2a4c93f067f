"""Truth measured by playing on is the truth the proving grounds state; Shapley values are theirs by definition."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Ctde, Gru, Mlp
from marlstone.core.episodes import whole_episodes
from marlstone.credit import Team
from marlstone.envs.make import make
from marlstone.envs.vectorized import Vectorized
from marlstone.evaluation.credit.truth import (
    EXACT,
    PERMUTATIONS,
    choose,
    coalition_returns,
    continued,
    decisions_worth,
    default_chances,
    gather,
    recorded_play,
    shapley,
)
from marlstone.learners import PolicyGradient
from marlstone.rollout.counterfactuals import without
from marlstone.rollout.sides import Sides
from tests.batches import quick

MLP, GRU = Mlp((4,), "tanh"), Gru(4, 4, (), "tanh")
SAMPLES = 24


def untrained(name: str, body: Any = MLP) -> tuple[Algorithm, Any]:
    algorithm = Algorithm(make(name).spec, Ctde(body), Team(), PolicyGradient())
    return algorithm, quick(algorithm.init)(jax.random.key(0)).policy


# ---- decisions
@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("proving:additive?rows=2", MLP),
        ("proving:saboteur?rows=3", MLP),
        ("proving:redundant?rows=3", GRU),
        ("proving:climbing?rows=2", GRU),
    ],
    ids=["additive", "saboteur", "redundant", "climbing"],
)
def test_what_decisions_are_worth_is_what_the_game_says(name: str, body: Any) -> None:
    """Row by row and agent by agent, without noise: all later rows cancel to the bit, since nothing in them depends on the action."""
    env, (algorithm, policy) = make(name), untrained(name, body)
    who = np.arange(algorithm.spec.n)

    def measured(key: Any) -> Any:
        it = gather(Vectorized(env, 6), algorithm, policy, key, 7)
        worth = decisions_worth(env, algorithm, policy, it, SAMPLES, who, jax.random.key(1))
        flat = lambda tree: jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[worth.at], tree)
        trajectories, then = it.trajectories, jax.tree.map(lambda x: x[:, 1:], it.trajectories.step)
        rows = trajectories.real, then.last, then.team_reward
        return worth, jax.vmap(env.contribution)(flat(it.states), flat(trajectories.action)), flat(rows)

    worth, truth, (real, last, pay) = jax.device_get(quick(measured)(jax.random.key(0)))
    assert real.all() and len(set(worth.at)) > 10
    np.testing.assert_allclose(worth.worth, truth, atol=1e-5)
    assert (np.abs(truth).max(0) > 0.01).all() and 0 < last.mean() < 1
    np.testing.assert_allclose(worth.team_return[last], pay[last], atol=1e-6)  # nothing counts beyond the end


def test_noise_that_no_action_makes_cancels() -> None:
    """A swarm pays itself Gaussian noise, twice what its agents earn: variants of a decision share it. The audited may be a few."""
    name = "proving:swarm?agents=6&rows=3&sigma=10"
    env, (algorithm, policy) = make(name), untrained(name)
    who = np.array([1, 4])

    def measured(key: Any) -> Any:
        it = gather(Vectorized(env, 4), algorithm, policy, key, 4)
        worth = decisions_worth(env, algorithm, policy, it, SAMPLES, who, jax.random.key(1))
        flat = lambda tree: jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[worth.at], tree)
        return worth, jax.vmap(env.contribution)(flat(it.states), flat(it.trajectories.action))

    worth, truth = jax.device_get(quick(measured)(jax.random.key(0)))
    np.testing.assert_allclose(worth.worth, truth[:, who], atol=1e-5)
    assert np.std(worth.team_return) > 0.5


def test_swapped_agents_play_their_groups_default() -> None:
    spec, out = make("proving:pair").spec, np.array([[True, False, True, False], [False, True, False, True]])
    action = (jnp.full((2, 2), 2), jnp.full((2, 1, 1), 0.5), jnp.ones((2, 1, 2), jnp.int32))
    players, arm, late = without(spec, action, out)
    np.testing.assert_array_equal(players, [[0, 2], [2, 0]])
    np.testing.assert_array_equal(arm[..., 0, 0], [0.0, 0.5])
    np.testing.assert_array_equal(late[:, 0], [[1, 1], [0, 0]])


# ---- coalitions
def test_coalitions_play_paired_episodes() -> None:
    """The same beginning and noise for all: in `additive`, v(S) is the sum of its members' v less nobody's, episode by episode; a
    coalition's return is the same whatever stands beside it; and all play what `gather`ed play earns on average."""
    name = "proving:additive?rows=2"
    env, (algorithm, policy) = make(name), untrained(name)
    n, rng = algorithm.spec.n, np.random.default_rng(0)
    sets = np.concatenate([np.zeros((1, n), bool), np.eye(n, dtype=bool), np.ones((1, n), bool), rng.random((3, n)) < 0.5])
    play = quick(lambda sets: coalition_returns(env, algorithm, policy, 300, sets, jax.random.key(2)))
    v = np.asarray(play(sets))
    np.testing.assert_array_equal(v[:, 0], 0)
    np.testing.assert_allclose(v, v[:, 1 : n + 1] @ sets.T.astype(np.float32), atol=1e-5)
    np.testing.assert_array_equal(np.asarray(play(sets[::-1].copy()))[:, ::-1], v)
    gathered = quick(lambda key: gather(Vectorized(env, 300), algorithm, policy, key, 2).trajectories.step.team_reward[:, 1:].sum(1))
    returns = np.asarray(gathered(jax.random.key(3)))
    assert abs(v[:, n + 1].mean() - returns.mean()) < 4 * np.hypot(v[:, n + 1].std(), returns.std()) / 300**0.5


def test_a_recorded_play_is_the_whole_teams() -> None:
    """Its returns are v(N); plays share a beginning and nothing else; nothing counts behind an end."""
    name = "proving:additive?rows=3"
    env, (algorithm, policy) = make(name), untrained(name, GRU)
    everybody = np.ones((1, algorithm.spec.n), bool)

    def both(play: Any) -> Any:
        key = jax.random.key(2)
        v = coalition_returns(env, algorithm, policy, 20, everybody, key, play=play)
        return v, recorded_play(env, algorithm, policy, 20, 7, key, play=play)

    (v, one), (w, other) = (jax.device_get(quick(both)(np.uint32(k))) for k in range(2))
    whole = whole_episodes(one.step, one.logp, {})
    np.testing.assert_array_equal(whole.env, np.arange(20))
    np.testing.assert_allclose(whole.team_return, v[:, 0], atol=1e-6)
    assert (whole.length == 3).all() and (one.real.sum(1) == 3).all() and one.real[:, :3].all()
    first = lambda x: x.step.obs[0]["symbol"][:, 0]
    np.testing.assert_array_equal(first(one), first(other))
    assert (v != w).mean() > 0.5


# ---- Shapley values
def game(n: int, episodes: int, seed: int) -> Any:
    """Random values of every coalition, nobody's 0."""
    table = np.random.default_rng(seed).normal(size=(episodes, 2**n))
    table[:, 0] = 0
    return lambda coalitions: table[:, coalitions @ (1 << np.arange(n))]


def test_exact_shapley_values_are_means_over_all_orders() -> None:
    value, n = game(4, 3, 0), 4
    by_order = np.zeros((3, n))
    orders = list(itertools.permutations(range(n)))
    for order in orders:
        inside = np.zeros(n, bool)
        for i in order:
            joined = inside.copy()
            joined[i] = True
            by_order[:, i] += (value(joined[None]) - value(inside[None]))[:, 0] / len(orders)
            inside = joined
    said = shapley(value, n, np.random.default_rng(1))
    np.testing.assert_allclose(said, by_order, atol=1e-12)
    np.testing.assert_allclose(said.sum(-1), value(np.ones((1, n), bool))[:, 0], atol=1e-12)


def test_sampled_shapley_values_are_efficient_and_exact_where_worth_is_additive() -> None:
    """Ten agents: above the exact. Of an additive game every order is right; pairs' games too, since each order comes with its reverse;
    of any game the shares sum to v(N)."""
    n, rng = 10, np.random.default_rng(0)
    assert n > EXACT
    own, pairs = rng.normal(size=(2, n)), np.triu(rng.normal(size=(n, n)), 1)
    additive = lambda s: own @ s.T
    np.testing.assert_allclose(shapley(additive, n, np.random.default_rng(1)), own, atol=1e-12)
    paired = lambda s: np.einsum("ci,ij,cj->c", s, pairs, s)[None] + own[:1] @ s.T
    np.testing.assert_allclose(shapley(paired, n, np.random.default_rng(2)), own[:1] + (pairs.sum(0) + pairs.sum(1)) / 2, atol=1e-12)
    anything = game(n, 2, 3)
    said = shapley(anything, n, np.random.default_rng(4))
    np.testing.assert_allclose(said.sum(-1), anything(np.ones((1, n), bool))[:, 0], atol=1e-12)
    assert PERMUTATIONS >= 16


@pytest.mark.parametrize("n", [1, 5, 9])
def test_who_changes_nothing_has_no_share_and_equals_share_alike(n: int) -> None:
    """Agent 0 is a dummy; all others are exchangeable, which sampling meets up to its error."""
    value = lambda s: (s[:, 1:].sum(-1) ** 1.5)[None].astype(float)
    said = shapley(value, n, np.random.default_rng(0))[0]
    np.testing.assert_allclose(said[0], 0, atol=1e-12)
    np.testing.assert_allclose(said[1:], (n - 1) ** 0.5, rtol=1e-9 if n <= EXACT else 0.25)


# ---- one decision, continued again and again
def test_continuations_share_a_beginning_and_nothing_else() -> None:
    """The swarm's noise differs from one to the next, and cancels within each; what an action earns there it earns at once."""
    name = "proving:swarm?agents=3&rows=4&sigma=10"
    env, (algorithm, policy) = make(name), untrained(name)
    who = np.arange(3)

    def measured(key: Any) -> Any:
        chosen = choose(gather(Vectorized(env, 4), algorithm, policy, key, 4), SAMPLES, jax.random.key(1))
        again = [continued(env, algorithm, policy, chosen, who, jax.random.key(k)) for k in (2, 2, 3)]
        return again, continued(env, algorithm, policy, chosen, who, jax.random.key(2), window=1), chosen.at

    (one, same, other), short, at = jax.device_get(quick(measured)(jax.random.key(0)))
    np.testing.assert_array_equal(one.team_return, same.team_return)
    assert (one.team_return != other.team_return).mean() > 0.9
    np.testing.assert_array_equal(one.at, at)
    np.testing.assert_allclose(one.worth, other.worth, atol=1e-5)  # the noise cancels within each
    assert (np.abs(short.team_return - one.team_return) > 1e-3).mean() > 0.5  # one step, not all
    np.testing.assert_allclose(short.worth, one.worth, atol=1e-5)  # what an action earns here it earns at once
    np.testing.assert_allclose(one.discounted, one.worth, atol=1e-5)


@pytest.mark.parametrize("act", ["mode", "sample"])
def test_a_policy_is_continued_as_it_is_deployed(act: str) -> None:
    """`climbing` draws nothing itself: by the mode every continuation is the same, sampled they differ."""
    name = "proving:climbing?rows=6"
    env, (algorithm, policy) = make(name), untrained(name)

    def measured(key: Any) -> Any:
        chosen = choose(gather(Vectorized(env, 4), algorithm, policy, key, 8, act), SAMPLES, jax.random.key(1))
        return [continued(env, algorithm, policy, chosen, np.arange(2), jax.random.key(k), act=act).team_return for k in (2, 3)]

    one, other = jax.device_get(quick(measured)(jax.random.key(0)))
    assert (one == other).all() == (act == "mode")


def test_an_opponent_that_remembers_nothing_is_continued_too() -> None:
    """One that plays at random, whose memory has no size, is part of the environment, and its draws are shared by all variants."""
    env = Sides("", {"blue": "random"}).over(make("proving:rps?rows=4"))
    algorithm = Algorithm(env.spec, Ctde(MLP), Team(), PolicyGradient())
    policy = quick(algorithm.init)(jax.random.key(0)).policy

    def measured(key: Any) -> Any:
        it = gather(Vectorized(env, 4), algorithm, policy, key, 6)
        return it.states, decisions_worth(env, algorithm, policy, it, SAMPLES, np.arange(1), jax.random.key(1))

    states, worth = jax.device_get(quick(measured)(jax.random.key(0)))
    assert any(x.size == 0 for x in jax.tree.leaves(states)), "or nothing is tested here"
    assert worth.worth.shape == (SAMPLES, 1) and np.isin(4 * worth.worth, np.arange(-3, 4)).all() and worth.worth.any()


def test_how_likely_a_default_was() -> None:
    name = "proving:additive?rows=2"
    env, (algorithm, policy) = make(name), untrained(name)

    def measured(key: Any) -> Any:
        chosen = choose(gather(Vectorized(env, 4), algorithm, policy, key, 6), SAMPLES, jax.random.key(1))
        return default_chances(algorithm, policy, chosen.step, chosen.memory, chosen.action)

    chances = np.asarray(quick(measured)(jax.random.key(0)))
    assert chances.shape == (SAMPLES, algorithm.spec.n) and (chances > 0.02).all() and (chances < 0.98).all()
