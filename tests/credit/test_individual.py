"""Own and team pay: what is not asked for reaches nobody, bit for bit, and all of the team's pay is Team."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Decentralized, Mlp
from marlstone.core.records import replace
from marlstone.core.types import Spec, Trajectory
from marlstone.credit import Counterfactual, Decoupled, Individual, Team
from marlstone.envs.make import make
from marlstone.learners import PolicyGradient
from tests.batches import begun, combination

PAIR = "proving:pair"
ALONE = Decentralized(Mlp((6, 5), "tanh"), "none")
LEARNER = PolicyGradient(lr=1e-2, epochs=2, minibatches=2)


def richer(trajectories: Trajectory, team: bool, agents: Any = ()) -> Trajectory:
    """The same batch with other rewards: the team's, and these agents'."""
    rng, step = np.random.default_rng(2), trajectories.step
    reward = np.array(step.reward)
    for i in agents:
        reward[..., i] = rng.normal(size=reward.shape[:2])
    paid = rng.normal(size=step.team_reward.shape).astype(np.float32) if team else step.team_reward
    return replace(trajectories, step=replace(step, reward=reward, team_reward=paid))


def moved(team: float, change: Any) -> list[bool]:
    """Per agent of `pair` (its first two share a group): whether any of its parameters end up different."""
    it = combination(PAIR, ALONE, Individual(team=team), LEARNER)
    trajectories = it.trajectories()
    nets = [it.updated(c, 2).nets for c in (trajectories, change(trajectories))]
    differ = lambda g, i: any(
        not np.array_equal(x[i], y[i]) if it.it.spec.groups[g].count > 1 else not np.array_equal(x, y)
        for part in ("actor", "critic")
        for x, y in zip(*(jax.tree.leaves(getattr(n, part)[g]) for n in nets), strict=True)
    )
    return [differ(g, i) for g, group in enumerate(it.it.spec.groups) for i in range(group.count)]


def test_without_weight_nothing_of_the_teams_reward_reaches_any_parameter() -> None:
    assert not any(moved(0.0, lambda c: richer(c, team=True)))
    assert moved(0.0, lambda c: richer(c, team=True, agents=(1, 2, 3))) == [False, True, True, True], "others' rewards are their own"


def test_with_weight_the_teams_reward_reaches_everybody() -> None:
    assert all(moved(0.1, lambda c: richer(c, team=True)))


def test_all_of_the_teams_reward_is_team() -> None:
    updated = []
    for credit in (Individual(team=1.0), Team()):
        it = combination(PAIR, ALONE, credit, LEARNER)
        updated.append(it.updated(it.trajectories(), 2).nets)
    for x, y in zip(*map(jax.tree.leaves, updated), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)


def test_pay_is_the_weighted_mean_until_the_teams_end() -> None:
    it = combination(PAIR, ALONE, Individual(team=0.25), LEARNER)
    trajectories, train = it.trajectories(), begun(it.it)
    views = it.it.views(train.nets, train.seen, train.targets, jax.tree.map(jnp.asarray, trajectories))
    pay, discount = it.it.asked(train.nets).reward(views, trajectories)
    step = trajectories.step
    np.testing.assert_allclose(pay, 0.75 * step.reward[:, 1:] + 0.25 * step.team_reward[:, 1:, None], atol=1e-6)
    np.testing.assert_array_equal(discount, np.broadcast_to(step.team_discount[:, 1:, None], discount.shape))
    assert (np.asarray(step.discount[:, 1:]) < np.asarray(discount)).any(), "somebody's own end comes before the team's"


def test_opponents_learn_by_their_own_pay_only() -> None:
    """An environment with opponents accepts pay without any of the team's, and refuses what pays of it."""
    spec: Spec = replace(make(PAIR).spec, opponents=("late_0",))
    Algorithm(spec, ALONE, Individual(), LEARNER)
    for credit in (Individual(team=0.01), Team(), Decoupled()):
        with pytest.raises(ValueError, match=rf"{type(credit).__name__} gives .* late_0 play against the team: use credit = 'individual'"):
            Algorithm(spec, ALONE, credit, LEARNER)


def test_what_others_answer_does_not_depend_on_individual() -> None:
    assert Individual().answers() == frozenset() and Individual(team=0.5).answers() == {"reward"}
    assert "reward" in Counterfactual().answers()
    assert [Individual(team=w).splits for w in (0.0, 0.5, 1.0)] == [True, False, Team().splits]


@pytest.mark.parametrize("bad", [-0.1, 1.1])
def test_a_weight_out_of_range_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=rf"Individual\.team is {bad}: give a weight from 0"):
        Individual(team=bad)
