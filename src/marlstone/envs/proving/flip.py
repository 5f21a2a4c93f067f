"""Drift: one day, what was right is wrong."""

from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp

from marlstone.core.records import record, replace
from marlstone.core.types import Array, Spec, Step
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.proving.symbols import SYMBOLS, WRONG, shares, show, speakers, symbol_step, workers, worth

AGENTS = 4


@record
class FlipState:
    """Row number `t` of the episode, rows `lived` by this copy over all its episodes, the symbols shown `[n]`."""

    t: Array
    lived: Array
    symbol: Array


@dataclass(frozen=True)
class Flip:
    """Four workers as in `additive`, until the row `at` of the environment's life, from which on the next symbol is right.

        right_i = shown_i before,   (shown_i + 1) mod 4 from then on;   w_i = i / (10 rows), i = 1..4

    Rows of a life are counted from 1 over all episodes of one environment copy, reset rows left out: `at` = 1 is flipped
    from the start, `at` = 0 never. Neither observation nor `state` shows it. `contribution_i` = c_i under the rule in
    force, and so is its Shapley value. The best team return is 1; an episode terminates after `rows` rows.
    """

    rows: int = 8
    at: int = 0

    def __post_init__(self) -> None:
        if self.at < 0:
            raise UnknownEnvironment(f"proving:flip: option 'at' is {self.at}: give the first flipped row, or 0 for never")

    @cached_property
    def spec(self) -> Spec:
        return Spec((speakers(workers(AGENTS)),), state=AGENTS * SYMBOLS + 1, horizon=self.rows, return_bounds=(-WRONG, 1.0))

    def _row(self, state: FlipState, pay: Array, first: bool = False) -> Step:
        return symbol_step(state.symbol, jnp.stack([state.t / self.rows]), pay, over=state.t >= self.rows, first=first)

    def init(self, key: Array) -> tuple[FlipState, Step]:
        zero = jnp.zeros((), jnp.int32)
        state = FlipState(zero, zero, show(key, AGENTS))
        return state, self._row(state, jnp.zeros((), jnp.float32), first=True)

    def again(self, state: FlipState, key: Array) -> tuple[FlipState, Step]:
        """A fresh episode of the same life."""
        fresh, row = self.init(key)
        return replace(fresh, lived=state.lived), row

    def step(self, state: FlipState, action: tuple[Array, ...], key: Array) -> tuple[FlipState, Step]:
        pay = jnp.sum(self.contribution(state, action))
        state = FlipState(state.t + 1, state.lived + 1, show(key, AGENTS))
        return state, self._row(state, pay)

    def contribution(self, state: FlipState, action: tuple[Array, ...]) -> Array:
        flipped = (self.at > 0) & (state.lived + 1 >= self.at)
        return worth(action[0], (state.symbol + flipped) % SYMBOLS, shares(AGENTS, self.rows))

    def shapley(self, state: FlipState, action: tuple[Array, ...]) -> Array:
        return self.contribution(state, action)
