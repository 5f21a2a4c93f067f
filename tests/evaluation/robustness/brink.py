"""Two walkers on ice that read its thickness: whoever goes on earns 1 / rows, or, where it is thinner than nothing, loses 10 / rows."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from marlstone.core.distributions import Discrete
from marlstone.core.types import Group, Leaf, Spec, Step
from marlstone.envs.team_games import team_step


@dataclass(frozen=True)
class Brink:
    """Thickness follows an AR(1) about `ice` with spread 0.5; the wind, of spread 1, is of no interest. Actions: 0 stay, 1 go."""

    ice: float = 3.0
    rows: int = 6

    @cached_property
    def spec(self) -> Spec:
        leaves = {"ice": Leaf("vector", (1,)), "wind": Leaf("vector", (1,))}
        return Spec((Group("walkers", ("left", "right"), leaves, Discrete(2)),), state=2, horizon=self.rows)

    def _row(self, state: Any, pay: Any, first: bool = False) -> Step:
        t, ice, wind = state
        obs = {"ice": ice[:, None], "wind": wind[:, None]}
        return team_step((obs,), ice, pay, (None,), truncated=t >= self.rows, first=first)

    def init(self, key: Any) -> Any:
        drawn = jax.random.normal(key, (2, 2))
        state = jnp.zeros((), jnp.int32), self.ice + 0.5 * drawn[0], drawn[1]
        return state, self._row(state, jnp.zeros(2), True)

    def step(self, state: Any, action: Any, key: Any) -> Any:
        (t, ice, wind), drawn = state, jax.random.normal(key, (2, 2))
        pay = action[0] * jnp.where(ice > 0, 1.0, -10.0) / self.rows
        after = t + 1, self.ice + 0.8 * (ice - self.ice) + 0.3 * drawn[0], 0.8 * wind + 0.6 * drawn[1]
        return after, self._row(after, pay)


def make(**options: Any) -> Brink:
    return Brink(**options)
