"""The switch riddle (Foerster et al. 2016): one prisoner at a time sees a light bulb, and somebody must say when all have been there."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from marlstone.core.types import Array, Metric
from marlstone.envs.jaxmarl.game import Game, Turn

TELL = 2


@dataclass(frozen=True)
class SwitchRiddle(Game):
    """Only the prisoner in the room decides. Telling terminates; otherwise the time limit, 4n - 6 steps, truncates.

    The team's reward is the prisoners' common fate: 1 where all have been in the room when somebody tells, else -1.
    """

    names: ClassVar[tuple[str, ...]] = ("switch_riddle",)
    metrics: ClassVar[dict[str, Metric]] = {"solved": Metric("up", "last")}
    shared: ClassVar[bool] = True

    def terminated(self, env: Any, turn: Turn) -> Array:
        """Somebody told."""
        return _told(env, turn)

    def deciding(self, env: Any, state: Any) -> Array | None:
        """The one in the room."""
        return jnp.arange(env.num_agents) == state.agent_in_room

    def measure(self, env: Any, turn: Turn) -> dict[str, Array]:
        """Told, and rightly."""
        return {"solved": (_told(env, turn) & jnp.all(turn.after.has_been > 0)).astype(jnp.float32)}


def _told(env: Any, turn: Turn) -> Array:
    action = jnp.stack([turn.actions[a] for a in env.agents])
    return jnp.any((action == TELL) & (jnp.arange(env.num_agents) == turn.before.agent_in_room))
