"""SMAX: StarCraft-like battles written in JAX (Rutherford et al. 2024), with SMAC's and SMACv2's scenarios by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from marlstone.core.errors import suggest
from marlstone.core.types import Array, Metric
from marlstone.envs.jaxmarl.game import Game, Turn, registered
from marlstone.envs.names import UnknownEnvironment

STOP = 4  # the order to stand still: the only one that a dead unit may give


@dataclass(frozen=True)
class Smax(Game):
    """A battle: over with termination where a side is dead, with truncation where time is up. Dead units are absent.

    A side's reward is the health that the other lost plus 1 for the battle won, at most 2 a battle; units have equal shares of it. An
    episode of `max_steps=100` has 101 steps. JaxMARL's `world_state` (every unit's health, place, cooldown and type) is the global state.

    In `SMAX` both sides are agents, and the team is `ally`; in `HeuristicEnemySMAX` JaxMARL's script plays the enemy.
    """

    names: ClassVar[tuple[str, ...]] = ("SMAX", "HeuristicEnemySMAX")
    metrics: ClassVar[dict[str, Metric]] = {"win_rate": Metric("up", "last")}
    shared: ClassVar[bool] = True

    def create(self, name: str, options: Mapping[str, Any]) -> Any:
        """`scenario` is a scenario's name. Raises `UnknownEnvironment` for one that does not exist."""
        from jaxmarl.environments.smax.smax_env import MAP_NAME_TO_SCENARIO

        own = dict(options)
        if "scenario" in own:
            scenario = own["scenario"]
            if scenario not in MAP_NAME_TO_SCENARIO:
                known = suggest(str(scenario), sorted(MAP_NAME_TO_SCENARIO))
                raise UnknownEnvironment(f"jaxmarl:{name}: option 'scenario' is {scenario!r}: {known}")
            own["scenario"] = MAP_NAME_TO_SCENARIO[scenario]
        return registered(name, own)

    def idle(self, name: str) -> int:
        """To stand still."""
        return STOP

    def team(self, name: str) -> str:
        """Our side."""
        return "ally"

    def horizon(self, env: Any) -> int | None:
        """One more than its option says: JaxMARL counts the step after it has looked at the limit."""
        return int(env.max_steps) + 1

    def world_state(self, env: Any, observation: Any, state: Any) -> Array | None:
        """JaxMARL's, `[12 u]` of u units."""
        return observation["world_state"]

    def terminated(self, env: Any, turn: Turn) -> Array:
        """A side is dead."""
        ours, theirs = _sides(env, turn.after)
        return ~jnp.any(ours) | ~jnp.any(theirs)

    def gone(self, env: Any, state: Any) -> Array | None:
        """The dead."""
        return ~_alive(state)[: env.num_agents]

    def measure(self, env: Any, turn: Turn) -> dict[str, Array]:
        """`win_rate`: 1 where the enemy is dead and an ally lives, for the allies' side."""
        ours, theirs = _sides(env, turn.after)
        return {"win_rate": (jnp.any(ours) & ~jnp.any(theirs)).astype(jnp.float32)}


def _alive(state: Any) -> Array:
    """`[u]`, allies first; the game with a scripted enemy keeps the battle within its own state."""
    return getattr(state, "state", state).unit_alive


def _sides(env: Any, state: Any) -> tuple[Array, Array]:
    alive = _alive(state)
    return alive[: env.num_allies], alive[env.num_allies :]
