"""JaxNav (Rutherford et al. 2024): robots drive to their goals by lidar, among walls and each other."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from marlstone.core.types import Array, Metric
from marlstone.envs.jaxmarl.game import Game, Turn


@dataclass(frozen=True)
class JaxNav(Game):
    """Over with termination once everybody has arrived or crashed, with truncation where time is up.

    Who has crashed stands there and decides nothing; with `evaporating=true` whoever is done disappears and is absent. Each robot's
    reward mixes its own and the mean (`rew_lambda`); the team's is their sum. The global state is walls, places, goals and velocities.
    """

    names: ClassVar[tuple[str, ...]] = ("jaxnav",)
    metrics: ClassVar[dict[str, Metric]] = {"success_rate": Metric("up", "sum"), "collision_rate": Metric("down", "sum")}
    masks: ClassVar[bool] = False  # a placeholder of another size than the actions

    def world_state(self, env: Any, observation: Any, state: Any) -> Array | None:
        """The part that JaxMARL's world states of all agents share: without an agent's number and its own observation."""
        each = env.get_world_state(state)[0]
        return each[env.num_agents : each.size - observation[env.agents[0]].size]

    def terminated(self, env: Any, turn: Turn) -> Array:
        """Everybody has arrived or crashed."""
        state = turn.after
        finished = state.goal_reached | state.move_term
        if env.evaporating:  # these two flags are then of this step alone
            finished = finished | turn.before.done
        return jnp.all(finished)

    def gone(self, env: Any, state: Any) -> Array | None:
        """The evaporated."""
        return state.done if env.evaporating else None

    def deciding(self, env: Any, state: Any) -> Array | None:
        """Who has not crashed."""
        return ~(state.done | state.move_term)

    def measure(self, env: Any, turn: Turn) -> dict[str, Array]:
        """Shares of the robots that arrive or crash on this step."""
        before, after = turn.before, turn.after
        new = lambda k: jnp.mean((getattr(after, k) & ~getattr(before, k) & ~before.done).astype(jnp.float32))
        return {"success_rate": new("goal_reached"), "collision_rate": new("move_term")}
