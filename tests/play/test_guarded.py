"""Whatever numbers an environment answers, parameters stay numbers, faults are counted to the element, and refusing names the first."""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Ctde, Gru
from marlstone.core.records import replace
from marlstone.credit import Individual
from marlstone.envs.guards import Guards
from marlstone.envs.proving import Climbing
from marlstone.envs.vectorized import Vectorized
from marlstone.learners import PolicyGradient
from marlstone.training.fused import Fused
from tests.batches import quick

B, T, UPDATES = 4, 10, 3
ALGORITHM = Algorithm(Climbing().spec, Ctde(Gru(6, 5, (4,))), Individual(), PolicyGradient(epochs=2, minibatches=2))


@dataclass(frozen=True)
class Broken:
    """Climbing, whose row 1 shows player_1 one `bad` number, and whose row 2 pays player_0 that number."""

    bad: Any
    seen: Any = True
    paid: Any = True
    game: Climbing = Climbing()

    @property
    def spec(self) -> Any:
        return self.game.spec

    def init(self, key: Any) -> Any:
        return self.game.init(key)

    def step(self, state: Any, action: Any, key: Any) -> Any:
        t, row = self.game.step(state, action, key)
        look = jnp.where(self.seen & (t == 1), row.obs[0]["time"].at[1, 0].set(self.bad), row.obs[0]["time"])
        pay = jnp.where(self.paid & (t == 2), row.reward.at[0].set(self.bad), row.reward)
        return t, replace(row, obs=({"time": look},), reward=pay, team_reward=pay.sum())


def rows(kind: int) -> int:
    """How many of the rows that were stepped are an episode's row `kind`: episodes are rows 0..4, over and over."""
    return B * sum(row % 5 == kind for row in range(T * UPDATES + 1))


@functools.cache
def compiled(guards: Guards) -> tuple[Fused, Any]:
    """A whole training run as a function of what is bad, and where."""
    runtime = lambda *bad: Fused(Vectorized(Broken(*bad), B, guards), ALGORITHM, T, UPDATES, (0,))
    return runtime(0.0), quick(lambda *bad: runtime(*bad).advance(runtime(*bad).begin(0), UPDATES, 1)[0])


def trained(guards: Guards, bad: float, seen: bool = True, paid: bool = True) -> tuple[Fused, Any]:
    runtime, run = compiled(guards)
    state = run(jnp.float32(bad), jnp.bool_(seen), jnp.bool_(paid))
    return runtime, jax.device_get(jax.tree.map(lambda x: x[None], state))


def counts(runtime: Fused, state: Any) -> dict[str, int]:
    return runtime.faults(state)[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38, -1e30, 1e13])
def test_parameters_stay_finite_and_faults_are_counted(bad: float) -> None:
    runtime, state = trained(Guards(), bad)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.train))
    assert counts(runtime, state) == {"nan_observation": rows(1), "nan_reward": rows(2), "reward_bounds": 0}
    assert np.isfinite(np.asarray(state.tally.team_return)).all() and runtime.refusal(state) is None


@pytest.mark.parametrize("bad", [1e12, -9e11, 1e-38])
def test_the_largest_numbers_that_pass_leave_parameters_finite(bad: float) -> None:
    runtime, state = trained(Guards(), bad)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.train)) and not any(counts(runtime, state).values())


def test_rewards_out_of_bounds_are_clipped_and_counted() -> None:
    runtime, state = trained(Guards(reward_bounds=(-20.0, 20.0)), 1e6, seen=False)
    assert counts(runtime, state) == {"nan_observation": 0, "nan_reward": 0, "reward_bounds": rows(2)}
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.train))


@pytest.mark.parametrize(
    ("bad", "seen", "bounds", "words"),
    [
        (np.nan, True, None, ("nan_observation", "player_1", "observation 'time'", "nan")),
        (-1e30, True, None, ("nan_observation", "player_1", "observation 'time'", "-1e+30")),
        (np.inf, False, None, ("nan_reward", "player_0", "reward", "inf")),
        (1e6, False, (-20.0, 20.0), ("reward_bounds", "player_0", "reward", "1e+06")),
    ],
    ids=["observation", "too_large", "reward", "bounds"],
)
def test_refusing_names_agent_field_and_value(bad: float, seen: bool, bounds: Any, words: tuple[str, ...]) -> None:
    runtime, state = trained(Guards(on_bad="refuse", reward_bounds=bounds), bad, seen)
    fault = runtime.refusal(state)
    assert fault is not None and (fault.fault, fault.agent) == words[:2]
    for word in words:
        assert word in str(fault)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.train)), "what was learned until the host looked is sound"


def test_refusing_lets_a_sound_environment_pass() -> None:
    runtime, state = trained(Guards(on_bad="refuse", reward_bounds=(-20.0, 20.0)), np.nan, seen=False, paid=False)
    assert runtime.refusal(state) is None and not any(counts(runtime, state).values())
