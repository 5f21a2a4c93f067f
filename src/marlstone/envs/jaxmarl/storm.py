"""STORM (Khan et al. 2022): players collect coins of two kinds and then meet in a matrix game; three implementations."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from marlstone.core.types import Array
from marlstone.envs.jaxmarl.game import Game, registered
from marlstone.envs.names import UnknownEnvironment

STAY = {"storm": 4, "storm_2p": 4, "storm_np": 3}


@dataclass(frozen=True)
class Storm(Game):
    """A social dilemma: everybody has an own reward, and the team's is their sum. It ends after `num_inner_steps` x `num_outer_steps`.

    Of more than two, `storm` rewards an agent only by the last of the pairs it is in, as JaxMARL goes through them: the others' rewards are
    overwritten by 0. `storm_np` counts every meeting.

    `storm` (JaxMARL's `InTheGrid`) and `storm_2p` show an agent planes and an inventory, `storm_np` (`InTheMatrix`) planes alone. Who is
    frozen after a meeting stands still whatever it does.
    """

    names: ClassVar[tuple[str, ...]] = ("storm", "storm_2p", "storm_np")

    def create(self, name: str, options: Mapping[str, Any]) -> Any:
        """As registered. Raises `UnknownEnvironment` for two agents in `storm`, whom JaxMARL never rewards: its loop over pairs takes the
        only one twice, and the second time undoes the meeting."""
        env = registered(name, options)
        if name == "storm" and env.num_agents == 2:
            raise UnknownEnvironment(
                "jaxmarl:storm never rewards two agents, its default (JaxMARL looks at the only pair twice, and the second time undoes "
                "their meeting): take jaxmarl:storm_2p, or jaxmarl:storm_np?num_agents=2"
            )
        return env

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
