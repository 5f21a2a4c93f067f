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
    """Recall: two agents each see one of two symbols, drawn anew every step, and are rewarded for saying the one of the step before.

    Each correct answer earns its agent 1 / (2 (rows - 1)); the first step's answer earns nothing. The best team return is
    1, for a policy with one step of memory; without memory no policy expects more than 0.5. Truncated after `rows` steps.
    """

    rows: int = 8

    @cached_property
    def spec(self) -> Spec:
        """Two speakers with one of two symbols each."""
        group = Group("speakers", ("speaker_0", "speaker_1"), {"symbol": Leaf("vector", (2,))}, Discrete(2))
        return Spec((group,), state=4, horizon=self.rows, return_bounds=(0.0, 1.0))

    def _step(self, t: Array, shown: Array, reward: Array, first: bool = False) -> Step:
        symbol = jax.nn.one_hot(shown, 2)
        return team_step(({"symbol": symbol},), symbol.reshape(-1), reward, (None,), truncated=t >= self.rows, first=first)

    def init(self, key: Array) -> tuple[tuple[Array, Array, Array], Step]:
        """The first symbols are drawn; there is nothing to repeat yet."""
        shown = jax.random.randint(key, (2,), 0, 2)
        t = jnp.zeros((), jnp.int32)
        return (t, shown, shown), self._step(t, shown, jnp.zeros(2, jnp.float32), first=True)

    def step(self, state: tuple[Array, Array, Array], action: tuple[Array, ...], key: Array) -> tuple[tuple[Array, Array, Array], Step]:
        """Right is the symbol of the step before; new symbols are drawn."""
        t, shown, before = state
        right = (action[0] == before) & (t > 0)
        fresh = jax.random.randint(key, (2,), 0, 2)
        reward = right.astype(jnp.float32) / (2 * max(self.rows - 1, 1))
        return (t + 1, fresh, shown), self._step(t + 1, fresh, reward)
