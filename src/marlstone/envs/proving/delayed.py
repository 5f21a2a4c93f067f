"""Credit over time: the last row pays for all of them."""

from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp

from marlstone.core.records import record
from marlstone.core.types import Array, Metric, Spec, Step
from marlstone.envs.proving.symbols import SYMBOLS, WRONG, shares, show, speakers, symbol_step, workers, worth

AGENTS = 4


@record
class DelayedState:
    """Row number `t`, the symbols shown `[n]`, and the sum the team has earned so far."""

    t: Array
    symbol: Array
    owed: Array


@dataclass(frozen=True)
class Delayed:
    """Four workers as in `additive`, but nothing is paid until the last row, which pays the whole sum.

        team_reward_t = 0 for t < rows,   team_reward_rows = sum_t sum_i c_it,   w_i = i / (10 rows), i = 1..4

    `contribution_i` of row t = c_it, and so is its Shapley value. The sum owed is in `state`, never in an observation.
    The best team return is 1; an episode terminates after `rows` rows. `metrics` has "score", what each row was worth.
    """

    rows: int = 8

    @cached_property
    def spec(self) -> Spec:
        return Spec(
            (speakers(workers(AGENTS)),),
            state=AGENTS * SYMBOLS + 2,
            horizon=self.rows,
            metrics={"score": Metric("up", "sum")},
            return_bounds=(-WRONG, 1.0),
        )

    def _row(self, state: DelayedState, score: Array, first: bool = False) -> Step:
        over = state.t >= self.rows
        beside = jnp.stack([state.t / self.rows, state.owed])
        pay = jnp.where(over, state.owed, 0.0)
        return symbol_step(state.symbol, beside, pay, over=over, first=first, metrics={"score": score})

    def init(self, key: Array) -> tuple[DelayedState, Step]:
        state = DelayedState(jnp.zeros((), jnp.int32), show(key, AGENTS), jnp.zeros((), jnp.float32))
        return state, self._row(state, jnp.zeros((), jnp.float32), first=True)

    def step(self, state: DelayedState, action: tuple[Array, ...], key: Array) -> tuple[DelayedState, Step]:
        score = jnp.sum(self.contribution(state, action))
        state = DelayedState(state.t + 1, show(key, AGENTS), state.owed + score)
        return state, self._row(state, score)

    def contribution(self, state: DelayedState, action: tuple[Array, ...]) -> Array:
        return worth(action[0], state.symbol, shares(AGENTS, self.rows))

    def shapley(self, state: DelayedState, action: tuple[Array, ...]) -> Array:
        return self.contribution(state, action)
