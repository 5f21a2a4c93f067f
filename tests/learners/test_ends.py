"""When an agent ends before its team does: what its return holds, computed by hand, in every learner and for every kind of reward."""

from itertools import product
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.core.types import Step, Trajectory, Views
from marlstone.credit import Credit, Individual, Team
from marlstone.credit.contract import Asked
from marlstone.envs.make import make
from marlstone.learners import Batch, PolicyGradient, Pqn, QLearning

SPEC = make("proving:dummy?rows=3").spec
GAMMA, END, LENGTH, OTHERS = 0.9, 3, 9, 10.0 * (SPEC.n - 1)
LEARNERS = [PolicyGradient(gamma=GAMMA, lam=1.0), QLearning(gamma=GAMMA, lam=1.0), Pqn(gamma=GAMMA, lam=1.0)]
CASES = list(product(("terminated", "truncated", "away"), (1, 2, 3), ("terminated", "truncated")))
learners = pytest.mark.parametrize("learner", LEARNERS, ids=[x.kind for x in LEARNERS])


def episodes() -> Trajectory:
    """One episode a row of `CASES`: agent 0 ends at step `END` (truncated: with its final observation) or is away from there on, the
    team's episode ends `gap` steps later, and the next one begins. Rewards are 1 for agent 0 while it is there, 10 for the others."""
    b, n, t = len(CASES), SPEC.n, LENGTH
    present, reward, discount = np.ones((b, t + 1, n), bool), np.full((b, t + 1, n), 10.0, np.float32), np.ones((b, t + 1, n), np.float32)
    first, last, team_discount = np.zeros((b, t + 1), bool), np.zeros((b, t + 1), bool), np.ones((b, t + 1), np.float32)
    reward[..., 0], first[:, 0] = 1, True
    for i, (leaves, gap, team) in enumerate(CASES):
        over = END + gap
        present[i, END : over + 1, 0], reward[i, END + 1 : over + 1, 0] = False, 0
        discount[i, END, 0] = leaves != "terminated"
        discount[i, END + 1 : over + 1, 0] = leaves == "away"
        last[i, over], first[i, over + 1], reward[i, over + 1] = True, True, 0
        if team == "terminated":
            team_discount[i, over] = discount[i, over] = 0
    step = Step(({},), np.zeros((b, t + 1, 0)), reward, reward.sum(-1), discount, team_discount, first, last, (None,), present, present, {})
    return Trajectory(step, (np.zeros((b, t, n)),), np.zeros((b, t, n), np.float32), None)


def returns(learner: Any, credit: Credit, value: np.ndarray) -> np.ndarray:
    """Agent 0's targets before its end, `[case END]`; its value is 100 where it left, or where its team ended, as `value` says."""
    asked, x, trajectory = Asked(credit, None, SPEC), jnp.asarray(value), episodes()
    views = Views(logp=jnp.asarray(trajectory.logp), entropy=x[:, 1:], value=x, q_best=x, q_greedy=x)
    batch = Batch(trajectory, views, asked)
    return np.asarray(learner.targets(batch, batch).target)[:, :END, 0]


def values(at: Any) -> np.ndarray:
    """Random, and 100 for agent 0 at the step `at(gap)` of each case."""
    value = np.random.default_rng(0).normal(size=(len(CASES), LENGTH + 1, SPEC.n)).astype(np.float32)
    for i, (_, gap, _) in enumerate(CASES):
        value[i, at(gap), 0] = 100
    return value


@learners
def test_own_reward_ends_with_the_agent_however_soon_the_team_does(learner: Any) -> None:
    """y_t = sum_k gamma^k r + gamma^(END - t) V(final observation), and no V where it terminated; no later value counts."""
    found = returns(learner, Individual(), values(lambda gap: END))
    for i, (leaves, *_) in enumerate(CASES):
        if leaves != "away":
            worth = 100.0 if leaves == "truncated" else 0.0
            wanted = [sum(GAMMA**k for k in range(END - t)) + GAMMA ** (END - t) * worth for t in range(END)]
            np.testing.assert_allclose(found[i], wanted, rtol=1e-4, err_msg=str(CASES[i]))


@learners
@pytest.mark.parametrize("share", [1.0, 0.5], ids=["team", "half"])
def test_the_teams_reward_goes_on_until_the_team_ends(learner: Any, share: float) -> None:
    """However the agent left: what the team earns until its end, and V only where that was a truncation."""
    found = returns(learner, Team() if share == 1 else Individual(team=share), values(lambda gap: END + gap))
    for i, (_, gap, team) in enumerate(CASES):
        end, worth = END + gap, 100.0 if team == "truncated" else 0.0
        pay = [0, *(share * (OTHERS + (k <= END)) + (1 - share) * (k <= END) for k in range(1, end + 1))]
        wanted = [sum(GAMMA ** (k - t - 1) * pay[k] for k in range(t + 1, end + 1)) + GAMMA ** (end - t) * worth for t in range(END)]
        np.testing.assert_allclose(found[i], wanted, rtol=1e-4, err_msg=str(CASES[i]))


@learners
def test_an_agent_expected_back_earns_nothing_more_once_the_team_terminates(learner: Any) -> None:
    """Absent for more than a step at discount 1, it was not truncated: nothing is bootstrapped over the team's termination."""
    found = returns(learner, Individual(), np.full((len(CASES), LENGTH + 1, SPEC.n), 100.0, np.float32))
    which = [i for i, (leaves, gap, team) in enumerate(CASES) if leaves == "away" and gap > 1 and team == "terminated"]
    assert len(which) == 2
    np.testing.assert_allclose(found[which], [[sum(GAMMA**k for k in range(END - t)) for t in range(END)]] * 2, rtol=1e-4)


def test_whose_reward_goes_on_is_seen_in_what_credit_answers() -> None:
    """A method of anybody's that rewards some agents by themselves and others by the team is told apart, agent by agent."""

    class Mixed(Individual):
        def reward(self, p: Any, views: Views, trajectory: Trajectory) -> Any:
            own, team = Individual().reward(p, views, trajectory), Team().reward(p, views, trajectory)
            return tuple(jnp.where(np.arange(SPEC.n) % 2 == 1, a, b) for a, b in zip(team, own, strict=True))

    trajectory, gone = episodes(), np.array([leaves != "away" for leaves, *_ in CASES])
    for credit, wanted in ((Individual(), [False] * SPEC.n), (Team(), [True] * SPEC.n), (Mixed(), [k % 2 == 1 for k in range(SPEC.n)])):
        found = np.asarray(Asked(credit, None, SPEC).beyond(Views(), trajectory))
        assert (found[gone, END, 0] == wanted[0]).all()
        ended = [i for i, (_, _, team) in enumerate(CASES) if team == "terminated"]
        at = [END + CASES[i][1] - 1 for i in ended]
        assert (found[ended, at] == wanted).all()
