"""What makes a game a proving ground for credit: the truth about every agent is known in closed form.

The estimand, and its sign: `contribution_i` is the expected team return with the actions as taken, minus that from the same
state with the same keys when agent i's action, on this step only, becomes its group's declared default. Helping is positive.
Shapley values share `v(S)`, the expected team return when the agents outside S play their default on this step.
"""

from typing import Any, Protocol

import jax.numpy as jnp

from marlstone.core.types import Array
from marlstone.envs.protocol import Env


class Ground(Env, Protocol):
    """An environment that knows its own truth. `state` and `action` are what `step` takes, of one environment."""

    def contribution(self, state: Any, action: tuple[Array, ...]) -> Array:
        """`[n]`: what each agent's action is worth; a step's actions change later steps only where the game says so."""

    def shapley(self, state: Any, action: tuple[Array, ...]) -> Array:
        """`[n]`: shares of `v(N) - v(nobody)`, summing to it."""


def pair_contribution(v: Array) -> Array:
    """`[2]` from `v[a, b]`, the return when player 0 acts (a = 1) or defaults (a = 0), and player 1 likewise."""
    return v[1, 1] - jnp.stack([v[0, 1], v[1, 0]])


def pair_shapley(v: Array) -> Array:
    """`[2]` from `v[a, b]`: phi_i = (v(i) - v(nobody) + v(both) - v(j)) / 2."""
    alone = jnp.stack([v[1, 0], v[0, 1]])
    return (alone - v[0, 0] + v[1, 1] - alone[::-1]) / 2
