"""The plainest truth: everybody's worth is their own, and no two are alike."""

from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp

from marlstone.core.types import Array, Spec, Step
from marlstone.envs.proving.symbols import SYMBOLS, WRONG, SymbolState, shares, show, speakers, symbol_step, workers, worth

AGENTS = 8


@dataclass(frozen=True)
class Additive:
    """Eight workers, each shown its own symbol, drawn anew every step; the team earns the sum of what each is worth.

        team_reward = sum_i c_i,   c_i = w_i right_i - w_i / 4 wrong_i,   w_i = i / (36 rows), i = 1..8

    `contribution_i` = c_i, and so is its Shapley value. The best team return is 1; an episode terminates after `rows` steps.
    """

    rows: int = 8

    @cached_property
    def spec(self) -> Spec:
        """One group of eight workers."""
        return Spec((speakers(workers(AGENTS)),), state=AGENTS * SYMBOLS + 1, horizon=self.rows, return_bounds=(-WRONG, 1.0))

    def _step(self, state: SymbolState, reward: Array, first: bool = False) -> Step:
        return symbol_step(state.symbol, jnp.stack([state.t / self.rows]), reward, over=state.t >= self.rows, first=first)

    def init(self, key: Array) -> tuple[SymbolState, Step]:
        """The first symbols are drawn."""
        state = SymbolState(jnp.zeros((), jnp.int32), show(key, AGENTS))
        return state, self._step(state, jnp.zeros((), jnp.float32), first=True)

    def step(self, state: SymbolState, action: tuple[Array, ...], key: Array) -> tuple[SymbolState, Step]:
        """Every worker's worth is added; new symbols are drawn."""
        reward = jnp.sum(self.contribution(state, action))
        state = SymbolState(state.t + 1, show(key, AGENTS))
        return state, self._step(state, reward)

    def contribution(self, state: SymbolState, action: tuple[Array, ...]) -> Array:
        """`[n]`: c_i of every worker."""
        return worth(action[0], state.symbol, shares(AGENTS, self.rows))

    def shapley(self, state: SymbolState, action: tuple[Array, ...]) -> Array:
        """`[n]`: As `contribution`, since the reward is a sum."""
        return self.contribution(state, action)
