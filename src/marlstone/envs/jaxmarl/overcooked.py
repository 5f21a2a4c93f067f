"""Overcooked and OvercookedV2 (Carroll et al. 2019, Gessler et al. 2025): two cooks, layouts by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from marlstone.core.errors import suggest
from marlstone.core.types import Array, Metric
from marlstone.envs.jaxmarl.game import Game, Turn, registered
from marlstone.envs.names import UnknownEnvironment

STAY = 4
SOUP = 20  # what one is worth


@dataclass(frozen=True)
class Overcooked(Game):
    """A kitchen that closes when time is up. A delivered soup is worth 20 to the team, of which cooks have equal shares.

    `score` is that true reward and `deliveries` the soups, whatever is trained on.

    Attributes:
      shaping: this many times JaxMARL's shaped reward (an onion in a pot 3, a useful plate 3, a soup picked up 5) is added to the reward
        of the cook who earned it, and so to the team's.
    """

    shaping: float = 0.0

    names: ClassVar[tuple[str, ...]] = ("overcooked", "overcooked_v2")
    metrics: ClassVar[dict[str, Metric]] = {"deliveries": Metric("up", "sum"), "score": Metric("up", "sum")}
    shared: ClassVar[bool] = True

    def create(self, name: str, options: Mapping[str, Any]) -> Any:
        """`layout` is a layout's name. Raises `UnknownEnvironment` for one that does not exist."""
        from jaxmarl.environments import overcooked_layouts, overcooked_v2_layouts

        known = overcooked_layouts if name == "overcooked" else overcooked_v2_layouts
        layout = options.get("layout", "cramped_room")
        if layout not in known:
            raise UnknownEnvironment(f"jaxmarl:{name}: option 'layout' is {layout!r}: {suggest(str(layout), sorted(known))}")
        return registered(name, {**options, "layout": known[layout]})

    def idle(self, name: str) -> int:
        """To stay."""
        return STAY

    def reward(self, env: Any, turn: Turn) -> Array:
        """The deliveries' share, and what shaping adds to it."""
        if not self.shaping:
            return turn.reward
        shaped = turn.info["shaped_reward"]
        return turn.reward + self.shaping * jnp.stack([jnp.asarray(shaped[a], jnp.float32) for a in env.agents])

    def measure(self, env: Any, turn: Turn) -> dict[str, Array]:
        """Of the true reward, before shaping."""
        score = jnp.sum(turn.reward)
        soups = turn.after.new_correct_delivery if hasattr(turn.after, "new_correct_delivery") else jnp.round(score / SOUP)
        return {"deliveries": soups.astype(jnp.float32), "score": score}
