"""Agents that deserve nothing: one without effect, one that only makes noise."""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.core.types import Array, Metric, Spec, Step
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.proving.symbols import SYMBOLS, WRONG, SymbolState, shares, show, speakers, symbol_step, workers, worth

NOISE = 3  # the noise agent's place


@dataclass(frozen=True)
class Dummy:
    """Two workers as in `additive`, a dummy whose actions change nothing, and an agent whose actions add a coin's noise.

        team_reward = c_0 + c_1 + sigma / rows * coin * [a_noise != 0],   coin = +-1,   w = (1, 2) / (3 rows)

    `contribution` = (c_0, c_1, 0, 0), the noise agent's in expectation, and so are the Shapley values. The best expected
    team return is 1; an episode terminates after `rows` steps. `metrics` has "score", the team's reward without noise.
    """

    rows: int = 8
    sigma: float = 0.1

    def __post_init__(self) -> None:
        if self.sigma < 0:
            raise UnknownEnvironment(f"proving:dummy: option 'sigma' is {self.sigma}: give at least 0")

    @cached_property
    def spec(self) -> Spec:
        """Two workers, a dummy and the noise agent in one group."""
        group = speakers((*workers(2), "dummy", "noise"), ("worker", "worker", "dummy", "noise"))
        return Spec(
            (group,),
            state=4 * SYMBOLS + 1,
            horizon=self.rows,
            metrics={"score": Metric("up", "sum")},
            return_bounds=(-WRONG - self.sigma, 1.0 + self.sigma),
        )

    def _step(self, state: SymbolState, score: Array, noise: Array, first: bool = False) -> Step:
        beside = jnp.stack([state.t / self.rows])
        return symbol_step(state.symbol, beside, score + noise, over=state.t >= self.rows, first=first, metrics={"score": score})

    def init(self, key: Array) -> tuple[SymbolState, Step]:
        """The first symbols are drawn."""
        state, zero = SymbolState(jnp.zeros((), jnp.int32), show(key, 4)), jnp.zeros((), jnp.float32)
        return state, self._step(state, zero, zero, first=True)

    def step(self, state: SymbolState, action: tuple[Array, ...], key: Array) -> tuple[SymbolState, Step]:
        """The workers' worth, and the noise agent's coin."""
        k1, k2 = jax.random.split(key)
        score = jnp.sum(self.contribution(state, action))
        noise = self.sigma / self.rows * jax.random.rademacher(k2, (), jnp.float32) * (action[0][NOISE] != 0)
        state = SymbolState(state.t + 1, show(k1, 4))
        return state, self._step(state, score, noise)

    def contribution(self, state: SymbolState, action: tuple[Array, ...]) -> Array:
        """`[n]`: (c_0, c_1, 0, 0): the noise agent's in expectation."""
        return worth(action[0], state.symbol, np.pad(shares(2, self.rows), (0, 2)))

    def shapley(self, state: SymbolState, action: tuple[Array, ...]) -> Array:
        """`[n]`: As `contribution`, since the reward is a sum."""
        return self.contribution(state, action)
