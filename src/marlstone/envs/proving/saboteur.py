"""An agent that can only harm, however well it learns."""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.core.distributions import Discrete
from marlstone.core.records import record
from marlstone.core.types import Array, Group, Leaf, Spec, Step
from marlstone.envs.proving.symbols import SYMBOLS, WRONG, shares, show, speakers, workers, worth
from marlstone.envs.team_games import team_step

WORKERS = 3
FREE = 0.8  # on this part of the steps the saboteur must harm
HARM = np.array([0.0, 0.125, 0.25, 0.5], np.float32)  # by its action, in a step's best reward: a quarter, half, all of its weight


@record
class SaboteurState:
    """Step number `t`, the workers' symbols `[3]`, and whether the saboteur is `free`."""

    t: Array
    symbol: Array
    free: Array


@dataclass(frozen=True)
class Saboteur:
    """Three workers as in `additive`, and a saboteur as heavy as the heaviest of them.

        team_reward = sum_i c_i - h(a_saboteur),   h = (0, 1/4, 1/2, 1) / (2 rows),   w = (1, 2, 3) / (6 rows)

    A coin says on which steps the saboteur is free (80%): there its default, 0, is illegal; on the others nothing else is
    legal. Neither it nor any critic is shown the coin: what it does when held back teaches what its default is worth when
    it is free. Whatever it chooses is executed, so that its default can be asked for on any step.
    `contribution` = (c_0, c_1, c_2, -h), and so are the Shapley values. An episode terminates
    after `rows` steps; the best team return is 1 - (free steps) / (8 rows), 0.9 in expectation.
    """

    rows: int = 8

    @cached_property
    def spec(self) -> Spec:
        """Three workers, and a saboteur in a group of its own."""
        saboteur = Group("saboteurs", ("saboteur",), {"time": Leaf("vector", (2,))}, Discrete(len(HARM)))
        return Spec(
            (speakers(workers(WORKERS)), saboteur),
            state=WORKERS * SYMBOLS + 1,
            horizon=self.rows,
            return_bounds=(-WRONG - float(HARM.max()), 1.0),
        )

    def _step(self, state: SaboteurState, reward: Array, first: bool = False) -> Step:
        symbol, time = jax.nn.one_hot(state.symbol, SYMBOLS), jnp.asarray(state.t / self.rows, jnp.float32)
        legal = (np.arange(len(HARM)) != 0) == state.free
        return team_step(
            ({"symbol": symbol}, {"time": jnp.stack([time, 1.0])[None]}),
            jnp.concatenate([symbol.reshape(-1), time[None]]),
            jnp.broadcast_to(reward / (WORKERS + 1), (WORKERS + 1,)),
            (None, legal[None]),
            terminated=state.t >= self.rows, first=first, team_reward=reward,
        )  # fmt: skip

    def _draw(self, t: Array, key: Array) -> SaboteurState:
        k1, k2 = jax.random.split(key)
        return SaboteurState(t, show(k1, WORKERS), jax.random.bernoulli(k2, FREE))

    def init(self, key: Array) -> tuple[SaboteurState, Step]:
        """The first symbols and the first coin are drawn."""
        state = self._draw(jnp.zeros((), jnp.int32), key)
        return state, self._step(state, jnp.zeros((), jnp.float32), first=True)

    def step(self, state: SaboteurState, action: tuple[Array, ...], key: Array) -> tuple[SaboteurState, Step]:
        """The workers' worth minus the harm; new symbols and a new coin are drawn."""
        reward = jnp.sum(self.contribution(state, action))
        state = self._draw(state.t + 1, key)
        return state, self._step(state, reward)

    def contribution(self, state: SaboteurState, action: tuple[Array, ...]) -> Array:
        """`[n]`: (c_0, c_1, c_2, -h)."""
        harm = jnp.asarray(HARM)[action[1]] / self.rows
        return jnp.concatenate([worth(action[0], state.symbol, shares(WORKERS, self.rows)), -harm])

    def shapley(self, state: SaboteurState, action: tuple[Array, ...]) -> Array:
        """`[n]`: As `contribution`, since the reward is a sum."""
        return self.contribution(state, action)
