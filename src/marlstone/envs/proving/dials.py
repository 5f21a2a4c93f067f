"""Continuous actions and an image."""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp

from marlstone.core.distributions import Box
from marlstone.core.types import Array, Group, Leaf, Spec, Step
from marlstone.envs.team_games import team_step


@dataclass(frozen=True)
class Dials:
    """Two agents turn dials (Box(1), in (-1, 1)) until they match a target; agent 0 sees its own in an image.

    Each sees an 8x8x1 image with one bright column (uint8), whose place is its target in [-0.875, 0.875], beside a vector
    leaf with the row's time. The team earns 1 minus the mean squared error of both dials, shared equally; an episode
    has `rows` rows and is truncated. The best team return is `rows`; random Gaussian dials earn about a third of it.
    """

    rows: int = 4

    @cached_property
    def spec(self) -> Spec:
        leaves = {"picture": Leaf("image", (8, 8, 1), "uint8"), "time": Leaf("vector", (2,))}
        return Spec(
            (Group("dials", ("dial_0", "dial_1"), leaves, Box(1)),),
            state=4,
            horizon=self.rows,
            return_bounds=(-((1.875**2) - 1) * self.rows, float(self.rows)),
        )

    @staticmethod
    def _target(column: Array) -> Array:
        return (column.astype(jnp.float32) - 3.5) / 4

    def _row(self, t: Array, column: Array, pay: Array, first: bool = False) -> Step:
        bright = (jnp.arange(8) == column[:, None]) * jnp.uint8(255)
        picture = jnp.broadcast_to(bright[:, None, :, None], (2, 8, 8, 1)).astype(jnp.uint8)
        time = jnp.stack([t / self.rows, 1.0])
        obs = {"picture": picture, "time": jnp.stack([time, time])}
        state = jnp.concatenate([self._target(column), time])
        return team_step((obs,), state, jnp.stack([pay, pay]) / 2, (None,), truncated=t >= self.rows, first=first, team_reward=pay)

    def init(self, key: Array) -> tuple[tuple[Array, Array], Step]:
        state = (jnp.zeros((), jnp.int32), jax.random.randint(key, (2,), 0, 8))
        return state, self._row(*state, jnp.zeros((), jnp.float32), first=True)

    def step(self, state: tuple[Array, Array], action: tuple[Array, ...], key: Array) -> tuple[tuple[Array, Array], Step]:
        t, column = state
        pay = 1 - jnp.mean(jnp.square(action[0][:, 0] - self._target(column)))
        state = (t + 1, jax.random.randint(key, (2,), 0, 8))
        return state, self._row(*state, pay)
