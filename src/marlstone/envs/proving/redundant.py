"""Where contribution and fair share part: two agents of whom one suffices."""

from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp

from marlstone.core.types import Array, Spec, Step
from marlstone.envs.proving.symbols import SYMBOLS, WRONG, SymbolState, show, speakers, symbol_step, worth

TWINS = 2  # the twins come first, then as many workers


@dataclass(frozen=True)
class Redundant:
    """Two twins, shown one symbol, of whom either suffices; two workers as in `additive`, exchangeable, with equal weights.

        team_reward = w max(x_0, x_1) + c_2 + c_3,   x_i = 1 where twin i says the symbol, else 0,   w = 1 / (3 rows)

    `contribution_i` of a twin = w x_i (1 - x_j): nothing where both work. Its Shapley value = w x_i (1 - x_j / 2): half
    each. A worker's are both c_i. The best team return is 1; an episode terminates after `rows` steps.
    """

    rows: int = 8

    @cached_property
    def spec(self) -> Spec:
        """Two twins and two workers in one group."""
        group = speakers(("twin_0", "twin_1", "worker_0", "worker_1"), ("twin", "twin", "worker", "worker"))
        return Spec((group,), state=4 * SYMBOLS + 1, horizon=self.rows, return_bounds=(-WRONG, 1.0))

    def _draw(self, t: Array, key: Array) -> SymbolState:
        symbol = show(key, 4)
        return SymbolState(t, symbol.at[1].set(symbol[0]))

    def _step(self, state: SymbolState, reward: Array, first: bool = False) -> Step:
        return symbol_step(state.symbol, jnp.stack([state.t / self.rows]), reward, over=state.t >= self.rows, first=first)

    def init(self, key: Array) -> tuple[SymbolState, Step]:
        """The first symbols are drawn, the twins' the same."""
        state = self._draw(jnp.zeros((), jnp.int32), key)
        return state, self._step(state, jnp.zeros((), jnp.float32), first=True)

    def step(self, state: SymbolState, action: tuple[Array, ...], key: Array) -> tuple[SymbolState, Step]:
        """The better twin's worth and both workers'."""
        twins, own = self._terms(state, action)
        reward = jnp.max(twins) + jnp.sum(own)
        state = self._draw(state.t + 1, key)
        return state, self._step(state, reward)

    def _terms(self, state: SymbolState, action: tuple[Array, ...]) -> tuple[Array, Array]:
        """`w x [2]` of the twins and `c [2]` of the workers."""
        share, chosen, right = 1 / (3 * self.rows), action[0], state.symbol
        return share * (chosen[:TWINS] == right[:TWINS] + 1), worth(chosen[TWINS:], right[TWINS:], share)

    def contribution(self, state: SymbolState, action: tuple[Array, ...]) -> Array:
        """`[n]`: A twin's is w x_i (1 - x_j), a worker's c_i."""
        twins, own = self._terms(state, action)
        return jnp.concatenate([jnp.where(twins[::-1] > 0, 0.0, twins), own])

    def shapley(self, state: SymbolState, action: tuple[Array, ...]) -> Array:
        """`[n]`: A twin's is w x_i (1 - x_j / 2), a worker's c_i."""
        twins, own = self._terms(state, action)
        return jnp.concatenate([jnp.where(twins[::-1] > 0, twins / 2, twins), own])
