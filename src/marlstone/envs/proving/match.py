"""Recall: what only a policy with memory solves."""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp

from marlstone.core.distributions import Discrete
from marlstone.core.types import Array, Group, Leaf, Spec, Step
from marlstone.envs.team_games import team_step


@dataclass(frozen=True)
class Match:
    """Recall: two agents each see one of two symbols, drawn anew every row, and are paid for saying the one of the row before.

    Each correct answer earns its agent 1 / (2 (rows - 1)); the first row's answer earns nothing. The best team return is
    1, for a policy with one row of memory; without memory no policy expects more than 0.5. Truncated after `rows` rows.
    """

    rows: int = 8

    @cached_property
    def spec(self) -> Spec:
        group = Group("speakers", ("speaker_0", "speaker_1"), {"symbol": Leaf("vector", (2,))}, Discrete(2))
        return Spec((group,), state=4, horizon=self.rows, return_bounds=(0.0, 1.0))

    def _row(self, t: Array, shown: Array, reward: Array, first: bool = False) -> Step:
        symbol = jax.nn.one_hot(shown, 2)
        return team_step(({"symbol": symbol},), symbol.reshape(-1), reward, (None,), truncated=t >= self.rows, first=first)

    def init(self, key: Array) -> tuple[tuple[Array, Array, Array], Step]:
        shown = jax.random.randint(key, (2,), 0, 2)
        t = jnp.zeros((), jnp.int32)
        return (t, shown, shown), self._row(t, shown, jnp.zeros(2, jnp.float32), first=True)

    def step(self, state: tuple[Array, Array, Array], action: tuple[Array, ...], key: Array) -> tuple[tuple[Array, Array, Array], Step]:
        t, shown, before = state
        right = (action[0] == before) & (t > 0)
        fresh = jax.random.randint(key, (2,), 0, 2)
        reward = right.astype(jnp.float32) / (2 * max(self.rows - 1, 1))
        return (t + 1, fresh, shown), self._row(t + 1, fresh, reward)
