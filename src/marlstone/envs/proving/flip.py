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
    """Step number `t` of the episode, steps `lived` by this copy over all its episodes, the symbols shown `[n]`."""

    t: Array
    lived: Array
    symbol: Array


@dataclass(frozen=True)
class Flip:
    """Four workers as in `additive`, until the step `at` of the environment's life, from which on the next symbol is right.

        right_i = shown_i before,   (shown_i + 1) mod 4 from then on;   w_i = i / (10 rows), i = 1..4

    Steps of a life are counted from 1 over all episodes of one environment copy, reset steps left out: `at` = 1 is flipped
    from the start, `at` = 0 never. Neither observation nor `state` shows it. `contribution_i` = c_i under the rule in
    force, and so is its Shapley value. The best team return is 1; an episode terminates after `rows` steps.
    """

    rows: int = 8
    at: int = 0

    def __post_init__(self) -> None:
        if self.at < 0:
            raise UnknownEnvironment(f"proving:flip: option 'at' is {self.at}: give the first flipped step, or 0 for never")

    @cached_property
    def spec(self) -> Spec:
        """One group of four workers."""
        return Spec((speakers(workers(AGENTS)),), state=AGENTS * SYMBOLS + 1, horizon=self.rows, return_bounds=(-WRONG, 1.0))

    def _step(self, state: FlipState, reward: Array, first: bool = False) -> Step:
        return symbol_step(state.symbol, jnp.stack([state.t / self.rows]), reward, over=state.t >= self.rows, first=first)

    def init(self, key: Array) -> tuple[FlipState, Step]:
        """A fresh copy that has lived no step."""
        zero = jnp.zeros((), jnp.int32)
        state = FlipState(zero, zero, show(key, AGENTS))
        return state, self._step(state, jnp.zeros((), jnp.float32), first=True)

    def again(self, state: FlipState, key: Array) -> tuple[FlipState, Step]:
        """A fresh episode of the same life."""
        fresh, step = self.init(key)
        return replace(fresh, lived=state.lived), step

    def step(self, state: FlipState, action: tuple[Array, ...], key: Array) -> tuple[FlipState, Step]:
        """Worth by the rule in force; new symbols are drawn."""
        reward = jnp.sum(self.contribution(state, action))
        state = FlipState(state.t + 1, state.lived + 1, show(key, AGENTS))
        return state, self._step(state, reward)

    def contribution(self, state: FlipState, action: tuple[Array, ...]) -> Array:
        """`[n]`: c_i under the rule in force at this step of the copy's life."""
        flipped = (self.at > 0) & (state.lived + 1 >= self.at)
        return worth(action[0], (state.symbol + flipped) % SYMBOLS, shares(AGENTS, self.rows))

    def shapley(self, state: FlipState, action: tuple[Array, ...]) -> Array:
        """`[n]`: As `contribution`, since the reward is a sum."""
        return self.contribution(state, action)
