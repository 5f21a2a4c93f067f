"""Credit over time: the reward of all steps comes at the last one."""

from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp

from marlstone.core.records import record
from marlstone.core.types import Array, Metric, Spec, Step
from marlstone.envs.proving.symbols import SYMBOLS, WRONG, shares, show, speakers, symbol_step, workers, worth

AGENTS = 4


@record
class DelayedState:
    """Step number `t`, the symbols shown `[n]`, and the sum `owed`, which the team has earned so far."""

    t: Array
    symbol: Array
    owed: Array


@dataclass(frozen=True)
class Delayed:
    """Four workers as in `additive`, but without reward until the last step, which brings the whole sum.

        team_reward_t = 0 for t < rows,   team_reward_rows = sum_t sum_i c_it,   w_i = i / (10 rows), i = 1..4

    `contribution_i` of step t = c_it, and so is its Shapley value. The sum owed is in `state`, never in an observation.
    The best team return is 1; an episode terminates after `rows` steps. `metrics` has "score", what each step was worth.
    """

    rows: int = 8

    @cached_property
    def spec(self) -> Spec:
        """One group of four workers; `state` also holds the sum owed."""
        return Spec(
            (speakers(workers(AGENTS)),),
            state=AGENTS * SYMBOLS + 2,
            horizon=self.rows,
            metrics={"score": Metric("up", "sum")},
            return_bounds=(-WRONG, 1.0),
        )

    def _step(self, state: DelayedState, score: Array, first: bool = False) -> Step:
        over = state.t >= self.rows
        beside = jnp.stack([state.t / self.rows, state.owed])
        reward = jnp.where(over, state.owed, 0.0)
        return symbol_step(state.symbol, beside, reward, over=over, first=first, metrics={"score": score})

    def init(self, key: Array) -> tuple[DelayedState, Step]:
        """The first symbols, nothing owed."""
        state = DelayedState(jnp.zeros((), jnp.int32), show(key, AGENTS), jnp.zeros((), jnp.float32))
        return state, self._step(state, jnp.zeros((), jnp.float32), first=True)

    def step(self, state: DelayedState, action: tuple[Array, ...], key: Array) -> tuple[DelayedState, Step]:
        """What the step is worth is added to the sum owed, which the last step brings."""
        score = jnp.sum(self.contribution(state, action))
        state = DelayedState(state.t + 1, show(key, AGENTS), state.owed + score)
        return state, self._step(state, score)

    def contribution(self, state: DelayedState, action: tuple[Array, ...]) -> Array:
        """`[n]`: c_it of every worker."""
        return worth(action[0], state.symbol, shares(AGENTS, self.rows))

    def shapley(self, state: DelayedState, action: tuple[Array, ...]) -> Array:
        """`[n]`: As `contribution`, since the return is a sum."""
        return self.contribution(state, action)
