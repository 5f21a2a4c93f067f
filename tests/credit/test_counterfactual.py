"""Counterfactual baselines: exactly zero in expectation under the agent's own policy, or at its default action."""

import functools
import itertools
from dataclasses import replace as configured
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Ctde, Gru, Mlp
from marlstone.core.distributions import Box
from marlstone.core.records import replace
from marlstone.core.types import Trajectory, Views
from marlstone.credit import Counterfactual, Credit, Difference, Team
from marlstone.envs.make import make
from marlstone.learners import PolicyGradient
from tests.batches import begun, quick, trajectories_of

PAIR = "proving:pair"
STARTS = (0, 2, 3)
METHODS = pytest.mark.parametrize("method", [Counterfactual, Difference])


class Claims:
    """One credit method in `pair`: its advantages and contributions for any recorded actions, compiled once."""

    def __init__(self, credit: Credit, body: Any) -> None:
        self.it = it = Algorithm(make(PAIR).spec, Ctde(body), credit, PolicyGradient())
        self.trajectory, self.train = trajectories_of(it, PAIR), begun(it)
        self._ask = quick(self._ask)

    def _ask(self, trajectory: Trajectory) -> Any:
        it, t = self.it, self.train
        views = it.views(t.nets, t.seen, t.targets, trajectory)
        return it.asked(t.nets).advantage(views, trajectory, jnp.zeros_like(trajectory.logp)), views.logp, it.contribution(t, trajectory)

    def __call__(self, group: int, agent: int, action: Any) -> tuple[np.ndarray, ...]:
        """Advantage, log-prob and contribution `[b t]` of that agent had it taken this action on every row."""
        changed = np.array(self.trajectory.action[group])
        changed[:, :, agent] = action
        actions = (*self.trajectory.action[:group], changed, *self.trajectory.action[group + 1 :])
        return tuple(np.asarray(x)[..., STARTS[group] + agent] for x in self._ask(replace(self.trajectory, action=actions)))


claims = functools.cache(Claims)


def every(space: Any) -> list[Any]:
    sizes = getattr(space, "sizes", None)
    return list(range(space.size)) if sizes is None else list(itertools.product(*map(range, sizes)))


# ---- expectations
@pytest.mark.parametrize("body", [Mlp((6, 5), "tanh"), Gru(6, 5, (4,), "tanh")], ids=["mlp", "gru"])
@pytest.mark.parametrize(("group", "agent"), [(0, 0), (0, 1), (2, 0)], ids=["player_0", "player_1", "late_0"])
def test_advantages_are_zero_in_expectation_under_the_agents_own_policy(body: Any, group: int, agent: int) -> None:
    """By enumeration, illegal actions having no probability: the gradient keeps its expectation."""
    ask = claims(Counterfactual(trust=1.0), body)
    each = [ask(group, agent, a)[:2] for a in every(ask.it.spec.groups[group].space)]
    p, advantage = np.exp([logp for _, logp in each]), np.array([a for a, _ in each])
    np.testing.assert_allclose(p.sum(0), 1, atol=1e-5)
    np.testing.assert_allclose((p * advantage).sum(0), 0, atol=1e-5)
    assert np.abs(advantage).mean() > 0.02


def test_a_boxs_advantages_are_zero_over_its_points() -> None:
    ask = claims(Counterfactual(trust=1.0), Mlp((6, 5), "tanh"))
    trajectory, train = ask.trajectory, ask.train
    head = ask.it.architecture.policy(ask.it.spec, train.nets.actor, train.seen, trajectory.step, trajectory.memory)[0][1][:, :-1]
    advantage = np.array([ask(1, 0, p[:, :, 0])[0] for p in np.asarray(Box(1).points(head))])
    np.testing.assert_allclose(advantage.mean(0), 0, atol=1e-5)
    assert np.abs(advantage).mean() > 0.005


@METHODS
def test_the_default_is_worth_nothing(method: Any) -> None:
    """A contribution of either method, and Difference's advantage, exactly; any other action's is not nothing."""
    ask = claims(method(trust=1.0), Mlp((6, 5), "tanh"))
    acts = np.asarray(ask.trajectory.acts)
    for group, agent, default, other in ((0, 0, 0, 1), (0, 1, 0, 2), (1, 0, 0.0, 0.8), (2, 0, (0, 0), (1, 2))):
        here = acts[..., STARTS[group] + agent]
        advantage, _, contribution = ask(group, agent, default)
        np.testing.assert_array_equal(contribution, 0)
        assert (advantage == 0).all() == (method is Difference)
        advantage, _, contribution = ask(group, agent, other)
        assert (contribution[here] != 0).all() and (contribution[~here] == 0).all(), "who does not act is worth nothing"
        if method is Difference:
            np.testing.assert_allclose(advantage[here], contribution[here], atol=1e-6)


@METHODS
def test_trust_weighs_the_critic_against_what_followed(method: Any) -> None:
    """trust = 0: the lambda-return v + td less the baseline; 1: the critic's value less the baseline; linear in between."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    views = Views(value=draw(6, 3), q_chosen=draw(5, 3), q_expected=draw(5, 3), q_default=draw(5, 3))
    td, baseline = draw(5, 3), views.q_expected if method is Counterfactual else views.q_default
    for trust in (0.0, 0.3, 1.0):
        worth = trust * views.q_chosen + (1 - trust) * (views.value[:-1] + td)
        np.testing.assert_allclose(method(trust=trust).advantage(None, views, None, td), worth - baseline, atol=1e-6)
    np.testing.assert_array_equal(method(trust=0.0).contribution(None, views, None), views.q_chosen - views.q_default)


# ---- exploration
@METHODS
@pytest.mark.parametrize("explore", [0.0, 0.05, 0.5])
def test_every_legal_action_keeps_being_tried(method: Any, explore: float) -> None:
    """The acting policy, however settled: explore / 2 is spread over whatever is legal, nothing else, as much again goes to the declared
    default, or is spread too where that is illegal; learning corrects for it, since log-probs of learning are the policy's own."""
    ask = claims(method(trust=1.0), Mlp((6, 5), "tanh"))
    it = configured(ask.it, credit=method(explore=explore))
    assert float(it._explore(jnp.ones(()))) == pytest.approx(explore)
    actor = jax.tree.map(lambda x: 30 * x, ask.train.nets.actor)  # policies that have settled
    policy = replace(ask.train.policy, actor=actor, explore=it._explore(jnp.zeros(())))
    rows = jax.tree.map(lambda x: x[:, 1], ask.trajectory.step)
    heads, _ = it.heads(policy, rows, it.memory(len(rows.first)))
    raw = it.architecture.policy(it.spec, actor, policy.seen, rows, it.memory(len(rows.first)))[0]
    legal = np.asarray(rows.legal[0])
    chance = lambda head: np.exp(it.spec.groups[0].space.log_prob(head[..., None, :], legal[..., None, :], np.arange(3)))
    p, settled = chance(heads[0]), chance(raw[0])
    assert settled[legal].min() < 1e-3 and (p[legal] >= explore / 4 - 1e-6).all() and set(legal[..., 0].flat) == {False, True}
    spread, default = legal / 2, legal * (np.arange(3) == 0)
    tried = np.where(legal[..., :1], (spread + default) / 2, spread)
    np.testing.assert_allclose(p, (1 - explore) * settled + explore * tried, atol=1e-5)
    np.testing.assert_array_equal(heads[1], raw[1])
    assert not float(Algorithm(it.spec, Ctde(), Team(), PolicyGradient())._explore(jnp.zeros(())))


@METHODS
@pytest.mark.parametrize(("field", "bad"), [("trust", 1.5), ("trust", -0.1), ("explore", 1.0), ("explore", -0.1)])
def test_fields_out_of_range_are_refused(method: Any, field: str, bad: float) -> None:
    with pytest.raises(ValueError, match=rf"{method.__name__}\.{field} is {bad}: give a number from 0"):
        method(**{field: bad})
