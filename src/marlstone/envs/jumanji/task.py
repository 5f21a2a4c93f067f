"""The contract of a Jumanji task that is played through the package: which agents it has, what each sees, how it ends, what is counted."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from marlstone.core.distributions import ActionSpace
from marlstone.core.types import Array, Leaf, Metric


@dataclass(frozen=True)
class Task:
    """A frozen dataclass whose fields are the options, with the package's defaults.

    Attributes:
      agents: how many.
      time_limit: steps until truncation.
    """

    agents: int
    time_limit: int

    metrics: ClassVar[dict[str, Metric]] = {}
    """Declared true metrics."""

    def create(self) -> Any:
        """Jumanji's object. Its assertions and errors about options pass through."""
        raise NotImplementedError

    @property
    def space(self) -> ActionSpace:
        """What each agent does."""
        raise NotImplementedError

    @property
    def leaves(self) -> dict[str, Leaf]:
        """What each agent sees."""
        raise NotImplementedError

    def views(self, state: Any, observation: Any) -> dict[str, Array]:
        """The leaves of all agents, `[n ...]`."""
        raise NotImplementedError

    def world_state(self, state: Any, observation: Any) -> Array:
        """The global state `[s]`."""
        raise NotImplementedError

    @property
    def horizon(self) -> int:
        """Steps until the time limit."""
        return self.time_limit

    def legal(self, observation: Any) -> Array | None:
        """Legal actions `[n a]` (None: all)."""
        return observation.action_mask

    def deciding(self, state: Any) -> Array | None:
        """Who still has something to do `[n]` (None: everybody)."""
        return None

    def finished(self, state: Any) -> Array:
        """Whether an episode that is over has ended by its rules; else its time was up."""
        raise NotImplementedError

    def measure(self, before: Any, after: Any) -> dict[str, Array]:
        """The declared metrics of a step."""
        return {}


def flat(*parts: Array) -> Array:
    """`[...]` of any shapes and types as one float32 vector."""
    return jnp.concatenate([jnp.asarray(p, jnp.float32).reshape(-1) for p in parts])


def each(count: int, *parts: Array) -> Array:
    """`[n ...]` parts as one float32 vector an agent; what has no leading axis of `count` agents is repeated for each."""
    rows = [jnp.asarray(p, jnp.float32) for p in parts]
    rows = [r.reshape(count, -1) if r.ndim > 1 else jnp.broadcast_to(r.reshape(-1), (count, r.size)) for r in rows]
    return jnp.concatenate(rows, axis=1)
