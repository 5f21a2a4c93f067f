"""MMST, multiple minimum spanning trees: each agent connects its own nodes of one graph, without using another's."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from marlstone.core.distributions import ActionSpace, Discrete
from marlstone.core.types import Array, Leaf, Metric
from marlstone.envs.jumanji.task import Task, each, flat
from marlstone.envs.names import UnknownEnvironment


@dataclass(frozen=True)
class Mmst(Task):
    """The team is rewarded 10 for a node connected and loses 1 for a step that connects none, and 1 more for an invalid one, per agent.

    An agent sees the graph, every node's kind from its own point of view (its own, another's, nobody's; connected or not), and where
    agents are. It chooses the next node; the legal ones are its neighbors. Once all have connected theirs, the episode terminates.

    Attributes:
      agents: how many.
      time_limit: steps until truncation.
      nodes: of the graph.
      edges: of the graph.
      degree: edges that a node has at most.
      own: nodes that each agent is to connect.
    """

    agents: int = 3
    time_limit: int = 70
    nodes: int = 36
    edges: int = 72
    degree: int = 5
    own: int = 4

    metrics: ClassVar[dict[str, Metric]] = {"connections": Metric("up", "last"), "connected": Metric("up", "last")}

    def __post_init__(self) -> None:
        if self.nodes // max(1, self.agents) < self.own:
            raise UnknownEnvironment(
                f"jumanji:MMST: {self.agents} agents with {self.own} own nodes do not fit {self.nodes}: take nodes={self.agents * self.own}"
            )

    def create(self) -> Any:
        """With a graph that can be solved."""
        from jumanji.environments import MMST as Theirs
        from jumanji.environments.routing.mmst.generator import SplitRandomGenerator

        generator = SplitRandomGenerator(
            num_nodes=self.nodes,
            num_edges=self.edges,
            max_degree=self.degree,
            num_agents=self.agents,
            num_nodes_per_agent=self.own,
            max_step=self.time_limit,
        )
        return Theirs(generator=generator, time_limit=self.time_limit)

    @property
    def space(self) -> ActionSpace:
        """A node."""
        return Discrete(self.nodes)

    @property
    def leaves(self) -> dict[str, Leaf]:
        """Seven flags a node, and the graph."""
        return {"nodes": Leaf("vector", (7 * self.nodes,)), "graph": Leaf("vector", (self.nodes**2,))}

    def views(self, state: Any, observation: Any) -> dict[str, Array]:
        """Jumanji gives the kinds as agent 0 sees them: 2k + 1 a node that agent k is to connect, 2k one that it has, -1 nobody's."""
        kind = observation.node_types
        owned, done = kind >= 0, kind % 2 == 0
        mine = (kind // 2 == np.arange(self.agents)[:, None]) & owned
        here = state.positions[:, None] == np.arange(self.nodes)
        free = jnp.broadcast_to(~owned, mine.shape)
        others = owned & ~mine
        flags = (mine & ~done, mine & done, others & ~done, others & done, free, here, jnp.any(here, axis=0) & ~here)
        graph = jnp.broadcast_to(state.adj_matrix.astype(jnp.float32).reshape(-1), (self.agents, self.nodes**2))
        return {"nodes": each(self.agents, jnp.stack(flags, axis=-1)), "graph": graph}

    def world_state(self, state: Any, observation: Any) -> Array:
        """The graph, whose each node is, whether it is connected, and where agents are."""
        kind = observation.node_types
        whose = (kind // 2 == np.arange(self.agents)[:, None]) & (kind >= 0)
        return flat(state.adj_matrix, whose, whose & (kind % 2 == 0), state.positions[:, None] == np.arange(self.nodes))

    def legal(self, observation: Any) -> Array | None:
        """An agent that is done, or cannot go anywhere, has the first node alone."""
        mask = observation.action_mask
        return jnp.where(jnp.any(mask, axis=1, keepdims=True), mask, np.arange(self.nodes) == 0)

    def deciding(self, state: Any) -> Array | None:
        """Not done yet, and able to go somewhere."""
        return ~state.finished_agents & jnp.any(state.action_mask, axis=1)

    def finished(self, state: Any) -> Array:
        """Everybody's nodes are connected."""
        return jnp.all(state.finished_agents)

    def measure(self, before: Any, after: Any) -> dict[str, Array]:
        """Nodes connected beyond those that agents started on, and their share."""
        found = jnp.any(after.nodes_to_connect[:, :, None] == after.connected_nodes[:, None], axis=-1)
        count = (jnp.sum(found) - self.agents).astype(jnp.float32)
        return {"connections": count, "connected": count / (self.agents * (self.own - 1))}
