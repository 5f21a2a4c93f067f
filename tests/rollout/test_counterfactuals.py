"""Worth measured while training: it is what playing the same state on without the action gives, with the rollout's own noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Ctde, Gru, Mlp
from marlstone.core.records import replace
from marlstone.credit import Measured
from marlstone.credit.contract import Measuring
from marlstone.envs.make import make
from marlstone.envs.vectorized import Vectorized
from marlstone.learners import PolicyGradient
from marlstone.rollout.counterfactuals import Snapshots, draw, measure, state_values, without
from marlstone.rollout.unroll import RolloutState, draw_noise, unroll

B, LENGTH, WINDOW = 3, 16, 4


def rollout(name="proving:additive", window=WINDOW, share=0.2, body=Mlp(hidden=(8,))):
    env = make(name)
    algorithm = Algorithm(env.spec, Ctde(body=body), Measured(share=share, window=window), PolicyGradient(minibatches=1))
    many = Vectorized(env, B)

    @jax.jit
    def made():
        train = algorithm.init(jax.random.key(0))
        state, step = many.init(jax.random.split(jax.random.key(1), B))
        noise, keys = draw_noise(algorithm, jax.random.key(2), LENGTH, B)
        drawn = draw(algorithm.credit.measures, jax.random.key(3), LENGTH, B, env.spec.team.n)
        snapshots = Snapshots(drawn.times)
        begin = RolloutState(state, step, algorithm.memory(B))
        _, trajectories = unroll(many, algorithm, train.policy, begin, noise, keys, snapshots.scan)
        return train, begin, noise, keys, drawn, measure(many, algorithm, train, trajectories, snapshots.kept, drawn, noise, keys, window)

    return many, algorithm, *made()


def by_hand(act, go, algorithm, train, begin, noise, keys, t, env, agent, window):
    """The team's discounted rewards after step `t` of one environment, with and without an agent's action: the rollout, made again
    step by step; and what its value says after the window, where the episode goes on."""
    out = np.zeros((B, algorithm.spec.n), bool)
    out[env, agent] = True
    found = []
    for leave in (False, True):
        state, step, memory = begin.env.env, begin.step, begin.memory
        over, total, going, steps = begin.env.over, 0.0, True, []
        for u in range(min(t + window, LENGTH)):
            steps.append(step)
            action, _, _, memory = act(train.policy, step, memory, tuple(x[u] for x in noise))
            if leave and u == t:
                action = without(algorithm.spec, action, jnp.asarray(out))
            after = go(replace(begin.env, env=state, over=over), algorithm.emit(action), keys[u])
            state, over, step = after[0].env, after[0].over, after[1]
            if u >= t and going:
                total += algorithm.learner.gamma ** (u - t) * float(step.team_reward[env])
                going = not bool(step.last[env])
        if going:
            seen = jax.tree.map(lambda *xs: jnp.stack(xs, 1), *steps, step)
            total += algorithm.learner.gamma ** (min(t + window, LENGTH) - t) * float(
                state_values(algorithm, train, seen, begin.memory)[env, -1]
            )
        found.append(total)
    return found[0] - found[1]


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("proving:additive", Mlp(hidden=(8,))),
        ("proving:saboteur", Mlp(hidden=(8,))),
        ("proving:delayed", Gru(before=8, hidden=8, after=(8,))),
    ],
)
def test_measured_worth_is_the_difference_of_two_rollouts_that_differ_in_one_action(name, body):
    many, algorithm, *rest, _, after = rollout(name, body=body)
    parts = jax.jit(algorithm.act), jax.jit(many.step), algorithm, *rest
    known = np.argwhere(np.asarray(after.measured.known))
    assert len(known) >= 3
    for env, t, agent in known[:6]:
        expected = by_hand(*parts, int(t), int(env), int(agent), WINDOW)
        np.testing.assert_allclose(after.measured.worth[env, t, agent], expected, atol=1e-5)
    assert float(np.abs(after.measured.worth).max()) > 0


def test_no_step_is_spent_on_an_agent_that_took_its_default_and_one_is_on_every_environment_where_somebody_did_not():
    _, algorithm, *_, drawn, after = rollout()
    default = np.asarray(algorithm.spec.groups[0].recorded_defaults)
    other = (np.asarray(after.action[0]) != default) & np.asarray(after.acts)
    known = np.asarray(after.measured.known)
    assert not (known & ~other).any() and not other.all()
    times = np.zeros(LENGTH, bool)
    times[np.asarray(drawn.times)] = True
    np.testing.assert_array_equal(known.any(-1), other.any(-1) & times)
    assert (np.asarray(after.measured.worth)[~known] == 0).all() and (known.sum(-1) <= 1).all()


def test_times_lie_apart_and_leave_a_whole_window():
    measuring = Measuring(share=0.25, window=8)
    for k in range(20):
        times = np.asarray(draw(measuring, jax.random.key(k), 32, 4, 2).times)
        assert len(times) == measuring.times(32) == 8 and (np.diff(times) > 0).all() and times[-1] <= 32 - 8
    assert Measuring(share=1.0, window=8).times(10) == 5  # never more than there are steps to measure at


def test_the_rollout_is_the_same_whether_or_not_it_is_measured():
    many, algorithm, train, begin, noise, keys, _, after = rollout()
    _, plain = jax.jit(lambda: unroll(many, algorithm, train.policy, begin, noise, keys))()
    jax.tree.map(np.testing.assert_array_equal, plain, replace(after, measured=None))
