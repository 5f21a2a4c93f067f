"""Connector: agents draw paths on a grid from their starts to their targets, without crossing."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from marlstone.core.distributions import ActionSpace, Discrete
from marlstone.core.types import Array, Leaf, Metric
from marlstone.envs.jumanji.task import Task, flat
from marlstone.envs.names import UnknownEnvironment


@dataclass(frozen=True)
class Connector(Task):
    """Each agent is rewarded 1 for connecting and -0.03 for every step before; the team's reward is their sum.

    An agent sees six planes: its own path, head and target, and everybody else's. It decides until it is connected or blocked; once all
    are, the episode terminates.

    Attributes:
      agents: how many pairs of points.
      time_limit: steps until truncation.
      grid: cells a side.
    """

    agents: int = 10
    time_limit: int = 50
    grid: int = 10

    metrics: ClassVar[dict[str, Metric]] = {"connections": Metric("up", "last"), "connected": Metric("up", "last")}

    def __post_init__(self) -> None:
        if 2 * self.agents > self.grid**2:
            raise UnknownEnvironment(
                f"jumanji:Connector: {self.agents} agents do not fit a grid of {self.grid}x{self.grid}: take at most {self.grid**2 // 2}"
            )

    def create(self) -> Any:
        """With the generator by random walks, whose grids can all be solved."""
        from jumanji.environments import Connector as Theirs
        from jumanji.environments.routing.connector.generator import RandomWalkGenerator

        return Theirs(generator=RandomWalkGenerator(grid_size=self.grid, num_agents=self.agents), time_limit=self.time_limit)

    @property
    def space(self) -> ActionSpace:
        """Stay, up, right, down, left."""
        return Discrete(5)

    @property
    def leaves(self) -> dict[str, Leaf]:
        """Six planes."""
        return {"grid": Leaf("image", (self.grid, self.grid, 6))}

    def views(self, state: Any, observation: Any) -> dict[str, Array]:
        """A cell holds 1 + 3i for agent i's path, 2 + 3i for its head and 3 + 3i for its target; 0 is empty."""
        grid = state.grid
        taken = grid > 0
        owner, what = (grid - 1) // 3, (grid - 1) % 3
        kinds = taken[..., None] & (what[..., None] == np.arange(3))  # [g g 3]
        own = (owner == np.arange(self.agents)[:, None, None])[..., None]
        return {"grid": jnp.concatenate([kinds & own, kinds & ~own], axis=-1).astype(jnp.float32)}

    def world_state(self, state: Any, observation: Any) -> Array:
        """Three planes of owners (from 1, as a share of all): of paths, heads and targets."""
        grid = state.grid
        owner, what = ((grid - 1) // 3 + 1) / self.agents, (grid - 1) % 3
        return flat(jnp.where((grid > 0)[..., None] & (what[..., None] == np.arange(3)), owner[..., None], 0.0))

    def deciding(self, state: Any) -> Array | None:
        """Neither connected nor blocked."""
        return ~self._finished(state)

    def finished(self, state: Any) -> Array:
        """Everybody is connected or blocked."""
        return jnp.all(self._finished(state))

    def _finished(self, state: Any) -> Array:
        return state.agents.connected | ~jnp.any(state.action_mask[:, 1:], axis=1)

    def measure(self, before: Any, after: Any) -> dict[str, Array]:
        """How many are connected, and which share of all."""
        count = jnp.sum(after.agents.connected).astype(jnp.float32)
        return {"connections": count, "connected": count / self.agents}
