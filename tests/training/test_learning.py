"""Agents learn: every kind of action and body, in seconds, to thresholds that chance does not reach."""

from typing import Any

import jax
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Ctde, Decentralized, Gru, Mlp
from marlstone.credit import Individual, Team
from marlstone.encoders.image import Image
from marlstone.envs.make import make
from marlstone.envs.vectorized import Vectorized
from marlstone.learners import PolicyGradient
from marlstone.play.action_selectors import Alone
from marlstone.play.evaluator import play
from marlstone.training.fused import Fused
from tests.batches import quick

LEARNER = PolicyGradient(lr=3e-3, epochs=4, minibatches=2)
SMALL, MEMORY = Mlp((32,)), Gru(32, 32, ())


def learned(name: str, architecture: Any, credit: Any, updates: int, length: int = 16, seed: int = 0) -> tuple[float, float]:
    """Mean team return of the policy's modes before and after."""
    env = Vectorized(make(name), 32)
    algorithm = Algorithm(env.spec, architecture, credit, LEARNER)
    runtime = Fused(env, algorithm, length, updates, (seed,))
    judged = quick(
        lambda policy: play(Vectorized(make(name), 200), 200, Alone(algorithm), policy, jax.random.key(1), 0.0)[0].team_return.mean()
    )
    state = quick(runtime.begin)(seed)
    before = float(judged(state.train.policy))
    state, _ = quick(lambda s: runtime.advance(s, updates, 1))(state)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.train))
    return before, float(judged(state.train.policy))


@pytest.mark.parametrize("architecture", [Decentralized(SMALL, trunk="shared"), Ctde(SMALL, "none")], ids=["decentralized", "ctde"])
def test_climbing_settles_on_an_equilibrium(architecture: Any) -> None:
    """Random play earns -14; the safe equilibrium 20."""
    _, after = learned("proving:climbing", architecture, Team(), 60)
    assert after >= 20


@pytest.mark.slow
def test_only_memory_solves_match() -> None:
    _, with_memory = learned("proving:match", Decentralized(MEMORY), Individual(), 80)
    _, without = learned("proving:match", Decentralized(SMALL), Individual(), 80)
    assert with_memory > 0.95
    assert without < 0.6


@pytest.mark.slow
def test_dials_are_read_from_pictures() -> None:
    """The best return is 4; dials left in the middle, the best without looking, earn 2.7."""
    _, after = learned("proving:dials", Ctde(SMALL, image=Image((4,))), Team(), 30)
    assert after > 3.6


@pytest.mark.parametrize("credit", [Individual(), Team()], ids=["individual", "team"])
def test_pair_is_learned_by_all_its_kinds_of_agents(credit: Any) -> None:
    """Discrete, Box and MultiDiscrete side by side, dying and arriving: the best return is 11."""
    before, after = learned("proving:pair", Decentralized(SMALL), credit, 80)
    assert after > (10.5 if isinstance(credit, Individual) else 8.0)
    assert after > before + 2
