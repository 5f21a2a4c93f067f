"""MultiCVRP: vehicles of limited capacity serve customers within soft time windows and return to the depot."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from marlstone.core.distributions import ActionSpace, Discrete
from marlstone.core.types import Array, Leaf, Metric
from marlstone.envs.jumanji.task import Task, each, flat
from marlstone.envs.team_games import others


@dataclass(frozen=True)
class MultiCvrp(Task):
    """The team loses the distance driven and what early and late arrivals cost; vehicles have equal shares.

    A vehicle sees itself, the other vehicles, and every customer's place, demand, window and penalties. It chooses the next customer, or
    the depot. Everybody served and every vehicle back terminates; so many steps as two a customer truncate.

    Attributes:
      agents: how many vehicles.
      time_limit: 0: the package's own, two steps a customer.
      customers: how many.
    """

    agents: int = 2
    time_limit: int = 0
    customers: int = 20

    metrics: ClassVar[dict[str, Metric]] = {
        "distance": Metric("down", "last"),
        "time_penalty": Metric("down", "last"),
        "demand_left": Metric("down", "last"),
    }

    def create(self) -> Any:
        """With customers anywhere. Raises `ValueError` for another time limit than the package's."""
        from jumanji.environments import MultiCVRP as Theirs
        from jumanji.environments.routing.multi_cvrp.generator import UniformRandomGenerator

        if self.time_limit:
            raise ValueError("its time limit is two steps a customer: leave time_limit out")
        return Theirs(generator=UniformRandomGenerator(num_customers=self.customers, num_vehicles=self.agents))

    @property
    def space(self) -> ActionSpace:
        """The depot, 0, or a customer."""
        return Discrete(self.customers + 1)

    @property
    def leaves(self) -> dict[str, Leaf]:
        """Four numbers a vehicle, and seven a customer and the depot."""
        return {"view": Leaf("vector", (4 * self.agents + 7 * (self.customers + 1),))}

    @property
    def horizon(self) -> int:
        """The package stops after the step that is one too many."""
        return 2 * self.customers + 1

    def views(self, state: Any, observation: Any) -> dict[str, Array]:
        """Itself first."""
        fleet = self._fleet(observation)
        return {"view": each(self.agents, fleet, others(fleet), self._map(observation))}

    def world_state(self, state: Any, observation: Any) -> Array:
        """All vehicles and customers."""
        return flat(self._fleet(observation), self._map(observation))

    def _fleet(self, observation: Any) -> Array:
        """`[n 4]`: place, local time, capacity left."""
        v = observation.vehicles
        rest = [jnp.asarray(x, jnp.float32)[:, None] for x in (v.local_times, v.capacities)]
        return jnp.concatenate([v.coordinates, *rest], axis=1)

    def _map(self, observation: Any) -> Array:
        """`[7 (c + 1)]`: places, demands, windows, penalties."""
        o = observation
        return flat(o.nodes.coordinates, o.nodes.demands, o.windows.start, o.windows.end, o.coeffs.early, o.coeffs.late)

    def finished(self, state: Any) -> Array:
        """Nothing is demanded, and everybody is at the depot."""
        return (jnp.sum(state.nodes.demands) == 0) & jnp.all(state.vehicles.positions == 0)

    def measure(self, before: Any, after: Any) -> dict[str, Array]:
        """So far, of all vehicles together."""
        v = after.vehicles
        sums = {"distance": v.distances, "time_penalty": v.time_penalties, "demand_left": after.nodes.demands}
        return {name: jnp.sum(x).astype(jnp.float32) for name, x in sums.items()}
