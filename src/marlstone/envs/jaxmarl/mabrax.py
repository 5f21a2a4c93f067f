"""MABrax (Rutherford et al. 2024): one robot of Brax, a few joints an agent, after MAMuJoCo."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from marlstone.core.types import Array, Metric
from marlstone.envs.jaxmarl.game import Game, Turn, registered
from marlstone.envs.names import UnknownEnvironment


@dataclass(frozen=True)
class MaBrax(Game):
    """A robot that falls is a termination, `episode_length` a truncation. The team's reward is the robot's; agents have equal shares.

    Brax's state is the global state. `speed` is the velocity along x, a step's mean.
    """

    names: ClassVar[tuple[str, ...]] = ("ant_4x2", "halfcheetah_6x1", "hopper_3x1", "humanoid_9|8", "walker2d_2x3")
    metrics: ClassVar[dict[str, Metric]] = {"speed": Metric("up", "mean")}
    shared: ClassVar[bool] = True

    def create(self, name: str, options: Mapping[str, Any]) -> Any:
        """Without Brax's own autoreset. Raises `UnknownEnvironment` where Brax is missing."""
        if importlib.util.find_spec("brax") is None:
            raise UnknownEnvironment(f"jaxmarl:{name} needs brax: pip install marlstone[mabrax]")
        return registered(name, {"auto_reset": False, **options})

    def horizon(self, env: Any) -> int | None:
        """`episode_length`, in Brax's steps."""
        return int(env.episode_length // env.action_repeat)

    def world_state(self, env: Any, observation: Any, state: Any) -> Array | None:
        """What Brax observes of the whole robot."""
        return state.obs

    def terminated(self, env: Any, turn: Turn) -> Array:
        """It fell before, or as, time ran out."""
        return turn.after.info["truncation"] == 0

    def measure(self, env: Any, turn: Turn) -> dict[str, Array]:
        """Along x, the direction that is rewarded."""
        return {"speed": jnp.asarray(turn.after.metrics["x_velocity"], jnp.float32)}
