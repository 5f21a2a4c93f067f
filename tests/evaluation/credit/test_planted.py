"""Planted agents are what they are called: who sleeps changes nothing then, who blocks costs what the others would have done."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Ctde, Mlp
from marlstone.core.errors import UserError
from marlstone.core.user_code import load
from marlstone.credit import Team
from marlstone.envs.faults import with_faults
from marlstone.envs.make import make
from marlstone.envs.vectorized import Vectorized
from marlstone.evaluation.credit.truth import decisions_worth, gather
from marlstone.learners import PolicyGradient
from tests.batches import quick

planted: Any = load(str(Path(__file__).parents[3] / "benchmarks" / "planted.py"))
WHO = "worker_1"


def audited(fault: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of decisions in `additive`: what each was worth `[s n]`, what the planted agent did `[s]`, and its legal actions `[s a]`."""
    env = with_faults((fault,), make("proving:additive?rows=4"))
    algorithm = Algorithm(env.spec, Ctde(Mlp((4,))), Team(), PolicyGradient())
    policy = quick(algorithm.init)(jax.random.key(0)).policy

    def measured(key: Any) -> Any:
        it = gather(Vectorized(env, 16), algorithm, policy, key, 10)
        worth = decisions_worth(env, algorithm, policy, it, 64, np.arange(env.spec.n), jax.random.key(1))
        flat = lambda x: x.reshape(-1, *x.shape[2:])[worth.at]
        (action,), (legal,) = it.trajectories.action, it.trajectories.step.legal
        return worth.worth, flat(action)[:, 1], flat(action if legal is None else legal[:, :-1])[:, 1]

    worth, action, legal = jax.device_get(quick(measured)(jax.random.key(0)))
    return worth, action, legal


@pytest.mark.parametrize("sleeps", ["episode", "step"])
def test_who_sleeps_changes_nothing_then(sleeps: str) -> None:
    worth, action, _ = audited(planted.Asleep(agent=WHO, rate=0.5, sleeps=sleeps))
    others = np.delete(worth, 1, 1)
    assert 0.25 < (worth[action != 0, 1] != 0).mean() < 0.75, "half of what it does is lost"
    assert (np.abs(others) > 1e-6).mean() > 0.5, "nobody else's is"


def test_who_blocks_is_worth_the_negative_of_what_it_blocked() -> None:
    """Where it must, whatever it does but its default costs all that the others would have earned, whose actions are lost anyway."""
    worth, action, legal = audited(planted.Blocking(agent=WHO, rate=0.5))
    others, blocks = np.delete(worth, 1, 1), ~legal[:, 0]
    assert 0.25 < blocks.mean() < 0.75 and (legal[~blocks] == (np.arange(legal.shape[1]) == 0)).all(), "else only its default is legal"
    np.testing.assert_array_equal(action != 0, blocks)
    np.testing.assert_array_equal(worth[~blocks, 1], 0)
    np.testing.assert_allclose(others[blocks], 0, atol=1e-6)
    assert (np.abs(worth[blocks, 1]) > 1e-3).mean() > 0.9 and (np.abs(others[~blocks]) > 1e-6).mean() > 0.5


def test_who_is_planted_must_be_there() -> None:
    with pytest.raises(UserError, match="agent is 'nobody': name one of worker_0, worker_1"):
        with_faults((planted.Asleep(agent="nobody"),), make("proving:additive"))
    with pytest.raises(UserError, match="choose one of episode, step"):
        with_faults((planted.Asleep(agent=WHO, sleeps="never"),), make("proving:additive"))
    with pytest.raises(UserError, match="rate is 2"):
        with_faults((planted.Blocking(agent=WHO, rate=2),), make("proving:additive"))
