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
    leaf with the step's time. The team earns 1 minus the mean squared error of both dials, shared equally; an episode
    has `rows` steps and is truncated. The best team return is `rows`; random Gaussian dials earn about a third of it.
    """

    rows: int = 4

    @cached_property
    def spec(self) -> Spec:
        """Two agents with an image, a time and a Box(1) action."""
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

    def _step(self, t: Array, column: Array, reward: Array, first: bool = False) -> Step:
        bright = (jnp.arange(8) == column[:, None]) * jnp.uint8(255)
        picture = jnp.broadcast_to(bright[:, None, :, None], (2, 8, 8, 1)).astype(jnp.uint8)
        time = jnp.stack([t / self.rows, 1.0])
        obs = {"picture": picture, "time": jnp.stack([time, time])}
        state = jnp.concatenate([self._target(column), time])
        return team_step((obs,), state, jnp.stack([reward, reward]) / 2, (None,), truncated=t >= self.rows, first=first, team_reward=reward)

    def init(self, key: Array) -> tuple[tuple[Array, Array], Step]:
        """Both targets are drawn."""
        state = (jnp.zeros((), jnp.int32), jax.random.randint(key, (2,), 0, 8))
        return state, self._step(*state, jnp.zeros((), jnp.float32), first=True)

    def step(self, state: tuple[Array, Array], action: tuple[Array, ...], key: Array) -> tuple[tuple[Array, Array], Step]:
        """One minus the mean squared error; new targets are drawn."""
        t, column = state
        reward = 1 - jnp.mean(jnp.square(action[0][:, 0] - self._target(column)))
        state = (t + 1, jax.random.randint(key, (2,), 0, 8))
        return state, self._step(*state, reward)
