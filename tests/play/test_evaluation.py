"""Evaluation counts whole episodes: returns of modes are the games' own, metrics reduce as declared, broken episodes start anew."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.algorithm import Algorithm
from marlstone.architectures import Decentralized, Mlp
from marlstone.core.records import replace
from marlstone.core.types import Metric
from marlstone.credit import Individual
from marlstone.envs.make import make
from marlstone.envs.vectorized import Vectorized
from marlstone.learners import PolicyGradient
from marlstone.play.action_selectors import Alone
from marlstone.play.evaluator import add, finish, init_episodes, play
from tests.batches import begun, quick, rollout

DECLARED = {"score": Metric("up", "sum"), "level": Metric("down", "mean"), "end": Metric("up", "last")}


def test_mode_of_a_policy_that_always_says_zero_earns_the_climbing_games_best() -> None:
    env = make("proving:climbing")
    it = Algorithm(env.spec, Decentralized(Mlp((4,))), Individual(), PolicyGradient())
    train = begun(it)
    actor = jax.tree.map(jnp.zeros_like, train.nets.actor[0])
    actor = replace(actor, head=replace(actor.head, b=jnp.array([1.0, 0.0, 0.0])))
    policy = replace(train.policy, actor=(actor,))
    by_mode = quick(lambda key: play(Vectorized(env, 6), 6, Alone(it), policy, key, 0.0)[0])(jax.random.key(0))
    assert (np.asarray(by_mode.team_return) == 44).all() and np.asarray(by_mode.ended).all() and (np.asarray(by_mode.length) == 4).all()
    assert (np.asarray(by_mode.agent_return) == 22).all()
    sampled = quick(lambda key: play(Vectorized(env, 64), 64, Alone(it), policy, key, 1.0)[0])(jax.random.key(0))
    assert len(np.unique(sampled.team_return)) > 5


def counted(step: Any) -> Any:
    """Rows `[b t]` counted one by one."""
    b, said = step.first.shape[0], {"one": jnp.ones(step.first.shape[0], bool)}
    so_far, count = init_episodes(b, step.reward.shape[-1], DECLARED, said), jax.jit(lambda e, row: add(e, row, DECLARED, said))
    for t in range(step.first.shape[1]):
        so_far = count(so_far, jax.tree.map(lambda x: x[:, t], step))  # noqa: B023
    return jax.device_get(finish(so_far, DECLARED))


def rows() -> Any:
    step, _, _ = rollout("proving:pair", 4, 40)
    score = np.asarray(step.metrics["score"])
    return jax.tree.map(lambda x: x[:, 1:9], replace(step, metrics={"score": score, "level": score * 2, "end": score + 10}))


def test_the_first_episode_is_counted_and_nothing_after_it() -> None:
    step = rows()
    out = counted(step)
    assert (out.length == 5).all() and out.ended.all() and (out.told["one"] == 5).all()
    np.testing.assert_allclose(out.team_return, step.team_reward[:, :5].sum(1), rtol=1e-5)
    np.testing.assert_allclose(out.agent_return, step.reward[:, :5].sum(1), rtol=1e-5)
    np.testing.assert_allclose(out.metrics["level"], step.metrics["level"][:, :5].mean(1), rtol=1e-5)
    np.testing.assert_allclose(out.metrics["end"], step.metrics["end"][:, 4], rtol=1e-5)


def test_an_episode_broken_off_is_begun_anew() -> None:
    """A worker was lost after two rows: a reset row comes without an end before it, and only what follows it counts."""
    step = rows()
    step = replace(step, first=np.zeros_like(step.first), last=np.zeros_like(step.last))
    step.first[:, 2] = True
    step.last[:, 6] = True
    out = counted(step)
    assert (out.length == 4).all() and out.ended.all() and (out.told["one"] == 4).all() and (out.broke == 1).all()
    np.testing.assert_allclose(out.team_return, step.team_reward[:, 3:7].sum(1), rtol=1e-5)
    np.testing.assert_allclose(out.metrics["score"], step.metrics["score"][:, 3:7].sum(1), rtol=1e-5)
