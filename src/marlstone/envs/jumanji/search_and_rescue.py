"""SearchAndRescue: searchers fly over a wrapped square and find moving targets."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from marlstone.core.distributions import ActionSpace, Box
from marlstone.core.types import Array, Leaf, Metric
from marlstone.envs.jumanji.task import Task, each, flat


@dataclass(frozen=True)
class SearchAndRescue(Task):
    """Each searcher is rewarded 1 for a target found, shared by who finds it at once, and falling to 0 at the time limit.

    A searcher sees, along `vision` rays ahead, how far other searchers, targets found and targets to be found are, and the share of targets
    that remains. It turns and accelerates. All targets found terminates.

    Attributes:
      agents: how many searchers.
      time_limit: steps until truncation.
      targets: how many.
      vision: rays.
    """

    agents: int = 2
    time_limit: int = 400
    targets: int = 40
    vision: int = 128

    metrics: ClassVar[dict[str, Metric]] = {"targets_found": Metric("up", "last")}

    def create(self) -> Any:
        """With targets anywhere."""
        from jumanji.environments import SearchAndRescue as Theirs
        from jumanji.environments.swarms.search_and_rescue.generator import RandomGenerator
        from jumanji.environments.swarms.search_and_rescue.observations import AgentAndTargetObservationFn

        generator = RandomGenerator(num_targets=self.targets, num_searchers=self.agents)
        seen = AgentAndTargetObservationFn(
            num_vision=self.vision,
            searcher_vision_range=0.4,
            target_vision_range=0.1,
            view_angle=0.4,
            agent_radius=0.02,
            env_size=generator.env_size,
        )
        return Theirs(generator=generator, observation=seen, time_limit=self.time_limit)

    @property
    def space(self) -> ActionSpace:
        """Turn and accelerate."""
        return Box(2)

    @property
    def leaves(self) -> dict[str, Leaf]:
        """Three numbers a ray, and the share of targets that remains."""
        return {"view": Leaf("vector", (3 * self.vision + 1,))}

    def views(self, state: Any, observation: Any) -> dict[str, Array]:
        """-1 along a ray that meets nothing."""
        remain = jnp.broadcast_to(jnp.asarray(observation.targets_remaining, jnp.float32), (self.agents, 1))
        return {"view": each(self.agents, observation.searcher_views, remain)}

    def world_state(self, state: Any, observation: Any) -> Array:
        """Searchers' places, headings and speeds; targets' places, and which are found; the clock."""
        s, t = state.searchers, state.targets
        return flat(s.pos, jnp.sin(s.heading), jnp.cos(s.heading), s.speed, t.pos, t.found, state.step / self.time_limit)

    def legal(self, observation: Any) -> Array | None:
        """Everything is."""
        return None

    def finished(self, state: Any) -> Array:
        """All targets are found."""
        return jnp.all(state.targets.found)

    def measure(self, before: Any, after: Any) -> dict[str, Array]:
        """How many so far."""
        return {"targets_found": jnp.sum(after.targets.found).astype(jnp.float32)}
