"""STORM (Khan et al. 2022): players collect coins of two kinds and then meet in a matrix game; three implementations."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from marlstone.core.types import Array
from marlstone.envs.jaxmarl.game import Game

STAY = {"storm": 4, "storm_2p": 4, "storm_np": 3}


@dataclass(frozen=True)
class Storm(Game):
    """A social dilemma: everybody has an own reward, and the team's is their sum. It ends after `num_inner_steps` x `num_outer_steps`.

    `storm` (JaxMARL's `InTheGrid`) and `storm_2p` show an agent planes and an inventory, `storm_np` (`InTheMatrix`) planes alone. Who is
    frozen after a meeting stands still whatever it does.
    """

    names: ClassVar[tuple[str, ...]] = ("storm", "storm_2p", "storm_np")

    def idle(self, name: str) -> int:
        """To stay."""
        return STAY[name]

    def horizon(self, env: Any) -> int | None:
        """All episodes of a trial."""
        return int(env.num_inner_steps * env.num_outer_steps)

    def joint_action(self, env: Any, actions: dict[Any, Array]) -> Any:
        """A tuple: `storm_2p` unpacks it, and of a dict would take the keys for actions."""
        return tuple(actions[agent] for agent in env.agents)

    def by_agent(self, env: Any, values: Any) -> dict[Any, Any]:
        """Arrays and tuples are in agents' order; `storm` gives one dict, in which inventories have one column an agent."""
        if isinstance(values, dict) and "inventory" in values:
            inventory = values["inventory"]
            return {
                a: {
                    "observation": values["observations"][i],
                    "inventory": jnp.concatenate([inventory[:2, i], jnp.roll(inventory[2:], -i, axis=1).reshape(-1)]),
                }
                for i, a in enumerate(env.agents)
            }
        return {a: values[i] for i, a in enumerate(env.agents)}
