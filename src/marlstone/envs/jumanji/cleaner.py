"""Cleaner: agents walk through a maze whose tiles are dirty until somebody has stood on them."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from marlstone.core.distributions import ActionSpace, Discrete
from marlstone.core.types import Array, Leaf, Metric
from marlstone.envs.jumanji.task import Task, flat
from marlstone.envs.names import UnknownEnvironment

DIRTY, CLEAN, WALL = 0, 1, 2


@dataclass(frozen=True)
class Cleaner(Task):
    """The team is rewarded 1 for a tile and loses `penalty` on every step; agents have equal shares.

    An agent sees four planes: dirty tiles, walls, itself, and the others. A clean maze terminates.

    Attributes:
      agents: how many.
      time_limit: steps until truncation; 0: as many as there are cells.
      grid: cells a side.
      penalty: what a step costs the team.
    """

    agents: int = 3
    time_limit: int = 0
    grid: int = 10
    penalty: float = 0.5

    metrics: ClassVar[dict[str, Metric]] = {"tiles_cleaned": Metric("up", "sum"), "clean": Metric("up", "last")}

    def __post_init__(self) -> None:
        if self.grid < 3:
            raise UnknownEnvironment(f"jumanji:Cleaner: option 'grid' is {self.grid}: a maze needs at least 3 cells a side")

    def create(self) -> Any:
        """With a random maze."""
        from jumanji.environments import Cleaner as Theirs
        from jumanji.environments.routing.cleaner.generator import RandomGenerator

        generator = RandomGenerator(num_rows=self.grid, num_cols=self.grid, num_agents=self.agents)
        return Theirs(generator=generator, time_limit=self.time_limit or None, penalty_per_timestep=self.penalty)

    @property
    def space(self) -> ActionSpace:
        """Up, right, down, left."""
        return Discrete(4)

    @property
    def leaves(self) -> dict[str, Leaf]:
        """Four planes."""
        return {"grid": Leaf("image", (self.grid, self.grid, 4))}

    @property
    def horizon(self) -> int:
        """As many steps as cells, where nothing else is said."""
        return self.time_limit or self.grid**2

    def views(self, state: Any, observation: Any) -> dict[str, Array]:
        """Where agents share a cell, its plane of others counts them."""
        here = self._here(state)
        others = jnp.sum(here, axis=0) - here
        dirt, walls = (jnp.broadcast_to((state.grid == kind).astype(jnp.float32), here.shape) for kind in (DIRTY, WALL))
        return {"grid": jnp.stack([dirt, walls, here, others], axis=-1)}

    def world_state(self, state: Any, observation: Any) -> Array:
        """Dirt and walls, and everybody's place."""
        return flat(state.grid == DIRTY, state.grid == WALL, state.agents_locations / self.grid)

    def _here(self, state: Any) -> Array:
        """`[n g g]`, 1 where each agent stands."""
        cell = state.agents_locations[:, 0] * self.grid + state.agents_locations[:, 1]
        return (cell[:, None] == np.arange(self.grid**2)).astype(jnp.float32).reshape(self.agents, self.grid, self.grid)

    def finished(self, state: Any) -> Array:
        """No dirt is left; or an illegal move, which ends an episode before its time."""
        return ~jnp.any(state.grid == DIRTY) | (state.step_count < self.horizon)

    def measure(self, before: Any, after: Any) -> dict[str, Array]:
        """Tiles cleaned now, and the share of all tiles that is clean."""
        now = jnp.sum((before.grid == DIRTY) & (after.grid == CLEAN)).astype(jnp.float32)
        return {"tiles_cleaned": now, "clean": jnp.sum(after.grid == CLEAN) / jnp.sum(after.grid != WALL)}
